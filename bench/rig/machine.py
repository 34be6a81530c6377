"""What the figures were measured on, and the floor under them: the matrix products alone at the rate measured here."""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import psutil

from bench.rig.measure import Machine
from xiaozao.measure.multiply import product_rates


def describe(machine: Machine) -> str:
    """The processor or the card, and what of it was used."""
    if machine.device == "cuda":
        return str(_ask("import torch, json; print(json.dumps(torch.cuda.get_device_name()))"))
    used = "all cores" if machine.core is None else "one pinned core, one thread"
    return f"{_processor()}, {used}, {psutil.virtual_memory().total / 1e9:.0f} GB"


def has_card() -> bool:
    """Whether torch sees a CUDA card."""
    return bool(_ask("import torch, json; print(json.dumps(torch.cuda.is_available()))"))


def card_has_bf16() -> bool:
    """Whether the card multiplies bf16 in hardware."""
    code = "import torch, json; print(json.dumps(torch.cuda.is_bf16_supported(including_emulation=False)))"
    return bool(_ask(code))


def measured_gflops(machine: Machine, precision: str) -> float:
    """The rate of one product on this core, in a process of its own."""
    command = machine.command([sys.executable, "-m", "bench.rig.gemm", precision])
    done = subprocess.run(command, env=machine.variables(), check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def fast_precision(device: str) -> str:
    """What the processor or the card multiplies fast: bf16, or on older ones fp32 and fp16."""
    if device == "cpu":
        rates = product_rates()
        return "bf16" if rates["bf16"] > rates["fp32"] else "fp32"
    return "bf16" if card_has_bf16() else "fp16"


def flops_per_token(model: Path, method: str, rank: int, target_share: float) -> float:
    """Matrix products of one trained token, attention's own left out.

    Frozen weights: forward and the gradient of the input, 4 P. Trained ones: also their own gradient, 6 P. The head
    is needed at targets alone.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    keys = head * config.get("num_key_value_heads", heads)
    shapes = [(width, head * heads), (width, keys), (width, keys), (head * heads, width)]
    shapes += [(width, inner), (width, inner), (inner, width)]
    blocks, vocabulary = config["num_hidden_layers"], config["vocab_size"]
    dense = blocks * sum(one * other for one, other in shapes)
    adapters = blocks * sum(rank * (one + other) for one, other in shapes)
    logits = width * vocabulary * target_share
    return float(4 * dense + 6 * adapters + 4 * logits if method == "lora" else 6 * dense + 6 * logits)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _ask(code: str) -> object:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])
