"""Real runs of the Hugging Face stack on GPUs (a CSV): what ran, and what was measured.

The file is named by $ZAO_TRUTH. Its columns: the run (model, arch as JSON, mode, quant, precision, batch, seq, attn,
lora_rank, grad_ckpt, gpu, transformers) and bytes (weights_bytes, peak_forward_bytes ... peak_reserved_bytes).
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozao.plan.hf.step import HfRun, Replay, replay
from xiaozao.plan.workload import ModelShape

TURING = ("T4",)  # GPUs without flash attention
PHASES = ("forward", "backward", "optimizer")


@dataclass(frozen=True)
class Row:
    """One measured run. `measured` are bytes by name: weights, forward, backward, optimizer, allocated, reserved."""

    name: str
    model: str
    gpu: str
    setting: str
    eager: bool
    run: HfRun
    measured: dict[str, int]


def read_truth(path: Path) -> list[Row]:
    """All rows of the file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(fields) for fields in csv.DictReader(file)]


def _row(fields: dict[str, str]) -> Row:
    run = run_of(fields)
    columns = {"weights": "weights_bytes", "allocated": "peak_allocated_bytes", "reserved": "peak_reserved_bytes"}
    columns |= {phase: f"peak_{phase}_bytes" for phase in PHASES}
    measured = {name: int(fields[column]) for name, column in columns.items() if fields.get(column)}
    checkpoints = ", checkpoints" if run.checkpointing else ""
    what = f"{run.task}, {fields['quant']}, {fields['precision']}, {fields['attn']}{checkpoints}"
    setting = f"{what}, {run.batch} x {run.length}"
    gpu = fields["gpu"].split()[-1]
    return Row(fields["source"], fields["model"].split("/")[-1], gpu, setting, fields["attn"] == "eager", run, measured)


def run_of(fields: dict[str, str]) -> HfRun:
    """A row's run. Full fine-tuning and LoRA under autocast load fp32; inference loads the 16-bit type.

    Two programs measured. The one on the T4 set gradients to None after each step and held the output meanwhile; the
    other (files without phases) let gradients be, and had let go of the output when the optimizer stepped.
    """
    arch: dict[str, Any] = json.loads(fields["arch"])
    shape = _shape(arch)
    added = arch.get("num_params", shape.parameters) - shape.parameters
    biases, norms = (shape.query + 2 * shape.key) * shape.blocks, 2 * shape.head_size * shape.blocks
    trains, precision = fields["mode"] == "train", fields["precision"].split(":")
    autocast, wide = trains and precision[0] == "amp", precision[-1] == "fp32"
    old, turing = int(fields["transformers"].split(".")[0]) < 5, fields["gpu"].endswith(TURING)
    # Grouped heads stay grouped only where no mask is made; Turing has the efficient kernel alone.
    fused = "efficient" if turing or wide or (old and trains) else "flash"
    return HfRun(
        shape, int(fields["batch"]), int(fields["seq"]),
        task="inference" if not trains else "lora" if fields["lora_rank"] else "full",
        rank=int(fields["lora_rank"] or 1), targets=_targets(fields["lora_targets"]), base=fields["quant"],
        stored=4 if autocast or wide else 2, compute=4 if wide else 2, half=precision[-1] == "fp16", autocast=autocast,
        attention="eager" if fields["attn"] == "eager" else fused, checkpointing=fields["grad_ckpt"] == "True",
        optimizer=_optimizer(fields["optimizer"].lower()), accumulates=trains and not fields.get("peak_forward_bytes"),
        keeps_logits=bool(fields.get("peak_forward_bytes")) or not trains,
        bias=arch.get("attention_bias", added == biases), qk_norm=added == norms, transformers=4 if old else 5,
    )  # fmt: skip


def _shape(arch: dict[str, Any]) -> ModelShape:
    return ModelShape(
        hidden=arch["hidden_size"], blocks=arch["num_layers"], kv_heads=arch["num_kv_heads"],
        heads=arch.get("num_attention_heads") or arch["num_heads"], head_size=arch["head_dim"],
        width=arch["intermediate_size"], vocabulary=arch["vocab_size"], tied=arch["tie_word_embeddings"],
    )  # fmt: skip


def _optimizer(name: str) -> str:
    return "adamw8bit" if "8bit" in name else "sgd" if name == "sgd" else "adamw"


def _targets(names: str) -> tuple[str, ...]:
    return tuple(name if name.endswith("_proj") else f"{name}_proj" for name in names.split("+") if name)


@dataclass(frozen=True)
class Scored:
    """A row and what the plan says; `errors` are relative, by what was measured."""

    row: Row
    planned: dict[str, int]

    @property
    def errors(self) -> dict[str, float]:
        return {name: self.planned[name] / bytes_ - 1 for name, bytes_ in self.row.measured.items() if bytes_}


def score(rows: list[Row]) -> list[Scored]:
    """Replay every run; equal runs once."""
    found: dict[HfRun, Replay] = {}
    for row in rows:
        if row.run not in found:
            found[row.run] = replay(row.run)
    return [Scored(row, planned(found[row.run])) for row in rows]


def planned(found: Replay) -> dict[str, int]:
    """A replay's bytes under the names of what was measured."""
    phases = {phase.name: phase.allocated for phase in found.phases}
    return {"weights": found.weights, "allocated": found.allocated, "reserved": found.reserved, **phases}


def summary(scored: list[Scored], name: str) -> tuple[int, float, float]:
    """How many rows measured it, the mean and the worst relative error."""
    errors = [abs(one.errors[name]) for one in scored if name in one.errors]
    return len(errors), sum(errors) / len(errors) if errors else 0.0, max(errors, default=0.0)
