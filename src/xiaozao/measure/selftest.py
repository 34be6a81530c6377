"""`zao doctor --selftest`: what the engine would do on this machine, done small, with the numbers.

    kernels    each product, loss, attention and optimizer against a reference in float64, per device and precision
    training   a small random model learns; stopped and resumed it ends with the same bits (on a GPU: the same loss)
    plan       a real worker trains a model of 25 million parameters; its measured peak against the plan's interval

`python -P -m xiaozao.measure.selftest` prints one JSON line per check. It is what tells us about hardware we do not
have, so a line says what was compared and both numbers, not only whether it passed.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from xiaozao.data.order import Order
from xiaozao.data.samples import Samples
from xiaozao.events import Ended, Planned
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder, Head, distance, run, view
from xiaozao.models.families import check
from xiaozao.models.generate import Sampling, generate
from xiaozao.models.layers.bases import DenseBase
from xiaozao.models.layers.linear import Adapter, adapt, lora_linear, matching
from xiaozao.runs.launch import launch
from xiaozao.spec.parts import ATTENTION
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import read_events
from xiaozao.train.head import head_loss
from xiaozao.train.loop import Loop, Settings
from xiaozao.train.losses import sft
from xiaozao.train.optim.engine import Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.state import Keeper, Position

PLAN_BOUND = 0.02  # how far outside the interval that the plan names the measured peak may lie, relative to the peak
PLAN_ALONE = 0.15  # half of the interval, relative to the peak, where the plan names none
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # relative distance from the float64 reference
SHAPE = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 2048, "tie_word_embeddings": True,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
SMALL = {**SHAPE, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 384}
MEDIUM = {**SHAPE, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "vocab_size": 384}
SPECIAL = ["<|pad|>", "<|start|>", "<|end|>"]
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Check:
    """The result of one check: passed if `measured` is at most `bound`."""

    name: str
    device: str
    precision: str
    passed: bool
    measured: float
    bound: float
    seconds: float
    detail: str = ""


def places() -> Iterator[tuple[torch.device, torch.dtype]]:
    """Every device and precision that the engine would use here."""
    yield torch.device("cpu"), torch.float32
    yield torch.device("cpu"), torch.bfloat16
    if torch.cuda.is_available():
        yield torch.device("cuda"), torch.float32
        if torch.cuda.is_bf16_supported():
            yield torch.device("cuda"), torch.bfloat16


def lora_product(device: torch.device, dtype: torch.dtype) -> float:
    """The adapted linear and its three gradients."""
    x, weight, a, b = _drawn((33, 48), (24, 48), (4, 48), (24, 4))

    def mine(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return lora_linear(x.to(dtype), DenseBase(weight.to(device, dtype)), None, Adapter(a, b, 0.5))

    def reference(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return F.linear(x, weight) + 0.5 * (x @ a.t()) @ b.t()

    return _compare(mine, reference, (x, a, b), device)


def chunked_loss(device: torch.device, dtype: torch.dtype) -> float:
    """The head and cross-entropy in chunks, and the gradient of the states."""
    states, weight = _drawn((600, 48), (96, 48))
    labels = torch.arange(600) % 96
    linear = nn.Linear(48, 96, bias=False).to(device, dtype)
    linear.weight = nn.Parameter(weight.to(device, dtype), requires_grad=False)
    head = Head(linear, 1.0, None)

    def mine(states: Tensor) -> Tensor:
        return head_loss(head, states.to(dtype), labels.to(device))

    def reference(states: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(states, weight), labels, reduction="sum")

    return _compare(mine, reference, (states,), device)


def packed_attention(device: torch.device, dtype: torch.dtype) -> float:
    """A sample packed behind another, against the same sample alone, through a whole small model."""
    decoder = _decoder(SMALL, device, dtype, rank=None)
    decoder.model.eval()
    ids = (torch.arange(60) * 7 % 380).to(device)
    with torch.no_grad():
        packed, alone = run(decoder, [ids[:20], ids[20:]])[20:], run(decoder, [ids[20:]])
    return distance(packed.float(), alone.float())


def cached_answers(device: torch.device, dtype: torch.dtype) -> float:
    """The share of greedy tokens that differ between a key-value cache and computing everything anew."""
    decoder = _decoder({**SMALL, "initializer_range": 0.3}, device, dtype, rank=None)
    decoder.model.eval()
    prompts = [[5, 6, 7, 8, 9], [11, 12]]
    cached = generate(decoder, prompts, frozenset(), Sampling(12))
    wrong = 0
    for prompt, answer in zip(prompts, cached, strict=True):
        ids = torch.tensor([*prompt, *answer], device=device)
        with torch.no_grad():
            logits = decoder.head.logits(run(decoder, [ids]))
        best = logits.max(1).values - logits.gather(1, ids.roll(-1)[:, None]).squeeze(1)
        wrong += int((best[len(prompt) - 1 : -1] > 0.1).sum())  # a tie within rounding is no fault
    return wrong / 24


def adamw(device: torch.device, dtype: torch.dtype) -> float:
    """Five steps of AdamW on fp32 weights."""
    start, *grads = _drawn((40, 7), *[(40, 7)] * 5)
    weight = nn.Parameter(start.float().to(device))
    optimizer = OPTIMIZERS["adamw"]({"weight": weight}, Options(weight_decay=0.1))
    expected, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step, grad in enumerate(grads, 1):
        weight.grad = grad.float().to(device)
        optimizer.step(0.01)
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        expected = expected * (1 - 0.01 * 0.1) - 0.01 * update
    return distance(weight.detach().cpu().double(), expected)


KERNELS: dict[str, Callable[[torch.device, torch.dtype], float]] = {
    "lora_product": lora_product,
    "chunked_loss": chunked_loss,
    "packed_attention": packed_attention,
    "cached_answers": cached_answers,
    "adamw": adamw,
}


def kernel_checks() -> Iterator[Check]:
    """Every kernel on every device in every precision."""
    for device, dtype in places():
        for name, kernel in KERNELS.items():
            begun = time.perf_counter()
            gap, bound = kernel(device, dtype), BOUNDS[dtype]
            yield Check(name, device.type, _name(dtype), gap <= bound, gap, bound, time.perf_counter() - begun)


def resume_checks() -> Iterator[Check]:
    """Twelve steps in one go, and six and six with everything read back from disk in between."""
    for device, dtype in places():
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            whole = _train(device, dtype, Path(folder) / "whole", stop=99)
            _train(device, dtype, Path(folder) / "parts", stop=6)
            parts = _train(device, dtype, Path(folder) / "parts", stop=99)
        gap = max(float((one - other).abs().max()) for one, other in zip(whole, parts, strict=True))
        bound = 0.0 if device.type == "cpu" else BOUNDS[dtype]
        yield Check("resume", device.type, _name(dtype), gap <= bound, gap, bound, time.perf_counter() - begun)


def plan_checks() -> Iterator[Check]:
    """A worker of its own trains a real, if random, model; the plan against what the system measured."""
    for device in dict.fromkeys(device.type for device, _ in places()):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            planned, ended = _whole_run(Path(folder), device)
        if planned is None or ended is None or ended.state != "succeeded":
            detail = ended.message if ended else "the worker ended without a word"
            yield Check("plan", device, "auto", False, 1.0, PLAN_BOUND, time.perf_counter() - begun, detail)
            continue
        low = planned.low_bytes or (1 - PLAN_ALONE) * planned.peak_bytes
        high = planned.high_bytes or (1 + PLAN_ALONE) * planned.peak_bytes
        measured = ended.peak_rss_bytes
        gap = max(low - measured, measured - high, 0) / measured
        detail = f"predicted {planned.peak_bytes}, between {low:.0f} and {high:.0f}; measured {measured} bytes"
        yield Check("plan", device, "auto", gap <= PLAN_BOUND, gap, PLAN_BOUND, time.perf_counter() - begun, detail)


def main() -> int:
    """Print a JSON line per check; 0 if all passed."""
    passed = True
    for checks in (kernel_checks(), resume_checks(), plan_checks()):
        for outcome in checks:
            passed = passed and outcome.passed
            sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
            sys.stdout.flush()
    return 0 if passed else 1


def _drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def _compare(
    mine: Callable[..., Tensor], reference: Callable[..., Tensor], inputs: tuple[Tensor, ...], device: torch.device
) -> float:
    """The largest relative distance of the output and of each gradient."""
    ours = [one.float().to(device).requires_grad_() for one in inputs]
    theirs = [one.clone().requires_grad_() for one in inputs]
    out, expected = mine(*ours), reference(*theirs)
    grads = torch.autograd.grad(out.float().square().sum(), ours)
    wanted = torch.autograd.grad(expected.square().sum(), theirs)
    pairs = [(out.detach(), expected.detach()), *zip(grads, wanted, strict=True)]
    return max(distance(one.cpu().double(), other) for one, other in pairs)


def _decoder(shape: Mapping[str, object], device: torch.device, dtype: torch.dtype, rank: int | None) -> Decoder:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **shape), dtype=dtype)
    decoder = check(view(model.to(device), ATTENTION[device.type]))
    if rank:
        adapt(decoder.model, matching(decoder.model, decoder.head.linear, ("all-linear",)), rank, 2.0 * rank, 0)
    return decoder


def _train(device: torch.device, dtype: torch.dtype, folder: Path, stop: int) -> list[Tensor]:
    """The trained weights after at most `stop` steps of 12, going on from the newest checkpoint."""
    decoder = _decoder(SMALL, device, dtype, rank=4)
    lengths = [9 + number * 5 % 23 for number in range(24)]
    ids = np.arange(sum(lengths), dtype=np.int32) * 13 % 380
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    samples = Samples(ids, np.ones_like(ids, dtype=np.uint8), offsets, np.arange(24))
    settings = Settings(5e-3, "cosine", 2, 0.01, 1.0, 4, 4, None, dtype)
    keeper = Keeper(folder, {}, 2)
    seen: list[object] = []
    loop = Loop(
        decoder, sft, Order(samples, 6, 3, 3, 0), None, settings, keeper, seen.append,
        lambda: sum(type(event).__name__ == "Step" for event in seen) >= stop, lambda: 0,
    )  # fmt: skip
    optimizer = OPTIMIZERS["adamw"](decoder.trainable(), Options(weight_decay=0.01))
    newest = checkpoint.newest(folder).folder
    loop.run(optimizer, keeper.load(newest, decoder, optimizer) if newest else Position())
    return [one.detach().float().cpu() for one in decoder.trainable().values()]


def _whole_run(folder: Path, device: str) -> tuple[Planned | None, Ended | None]:
    """A run as a user would start it, on a random model and chats: its last plan and its end, None if missing."""
    model = folder / "model"
    torch.manual_seed(0)
    disable_progress_bar()
    config = AutoConfig.for_model("llama", **MEDIUM)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(model)
    _tokenizer().save(str(model / "tokenizer.json"))
    (model / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tokens = {"bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "pad_token": SPECIAL[0]}
    (model / "tokenizer_config.json").write_text(json.dumps(tokens), encoding="utf-8")
    draw = random.Random(0)
    with (folder / "data.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(32):
            words = ["".join(draw.choices("abcdefgh", k=draw.randrange(2, 9))) for _ in range(90)]
            turns = [("user", " ".join(words[:30])), ("assistant", " ".join(words[30:]))]
            row = {"messages": [{"role": role, "content": content} for role, content in turns]}
            file.write(json.dumps(row) + "\n")
    run_folder = RunFolder(folder / "run")
    run_folder.path.mkdir()
    spec = RunSpec.from_options(
        {"model": str(model), "data": str(folder / "data.jsonl"), "validation": "none", "epochs": 1, "batch": 4,
         "device": device, "output": str(run_folder.path)}
    )  # fmt: skip
    run_folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
    launch(run_folder).wait()
    events = list(read_events(run_folder.events))
    planned = [event for event in events if isinstance(event, Planned)]
    ended = [event for event in events if isinstance(event, Ended)]
    return planned[-1] if planned else None, ended[-1] if ended else None


def _tokenizer() -> Tokenizer:
    """One token per byte, after the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def _name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


if __name__ == "__main__":
    sys.exit(main())
