"""A budget and what the user left open -> a plan with the micro-batch that suits both."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xiaozao.models.config import read_config
from xiaozao.plan.hardware import Hardware, look
from xiaozao.plan.load import Load, ModelShape
from xiaozao.plan.memory import RUNTIME_CPU, RUNTIME_CUDA, plan
from xiaozao.spec.objectives import sequences
from xiaozao.spec.parts import MethodSpec, ModelSpec, TrainSpec
from xiaozao.spec.plan import MemoryPlan
from xiaozao.spec.run import RunSpec

COMPUTE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
ENOUGH_TOKENS = {"cpu": 1024, "cuda": 8192}  # in a micro-batch; more is hardly faster and only takes memory
SAFE = 0.85  # of the budget: above it a plan is tight


def fit(
    config: Mapping[str, Any],
    method: MethodSpec,
    train: TrainSpec,
    tokens: Callable[[int], int],
    device: str,
    runtime: int,
    answered: int = 0,
    model: ModelSpec | None = None,
) -> MemoryPlan:
    """The plan with the given micro-batch, or with the largest of batch, batch/2, batch/4 ... that fits and suffices.

    `tokens(micro_batch)` is the size of the largest micro-batch; precision and budget must be decided.
    """
    assert train.budget is not None and method.precision != "auto"
    base, stream = (model.base, model.stream == "disk") if model else ("none", False)
    shape = ModelShape.from_config(config)
    share = -(-train.batch // train.devices)
    sizes = [train.micro_batch] if train.micro_batch else [share] if train.fused_update else _halvings(share)
    for size in sizes:
        load = Load(
            method=method.method, rank=method.rank, targets=method.targets,
            compute_bytes=COMPUTE_BYTES[method.precision], checkpointing=train.checkpointing,
            micro_batch=size, tokens=tokens(size), accumulates=size * train.devices < train.batch, runtime=runtime,
            cpu=device == "cpu", answered=answered, adapter=method.adapter, also=method.also,
            last_blocks=method.last_blocks, base=base, devices=train.devices, optimizer=train.optimizer,
            projection=train.projection_rank, fused=train.fused_update,
            wide=2 if method.weights == "bf16" else 4, stream=stream,
        )  # fmt: skip
        found = plan(shape, load, train.budget)
        if found.tokens <= ENOUGH_TOKENS[device] and found.peak_bytes <= SAFE * train.budget:
            return found
    return found


def plan_command(spec: RunSpec, model_folder: Path) -> MemoryPlan:
    """The plan of a run whose data is not known: every sample as long as `length` allows."""
    hardware = look()
    device = "cuda" if spec.model.device != "cpu" and hardware.gpus else "cpu"
    precision = spec.method.precision
    if precision == "auto":
        precision = "bf16" if hardware.fast_bf16 else "fp32"
        if device == "cuda":
            precision = "bf16" if hardware.gpus[0].bf16 else "fp16"
    sharing = spec.train.devices if device == "cpu" else 1  # a GPU is one process's own
    budget = spec.train.budget or free_memory(device, hardware) // sharing
    method = spec.method.model_copy(update={"precision": precision})
    train = spec.train.model_copy(update={"budget": budget})
    runtime = RUNTIME_CUDA if device == "cuda" else RUNTIME_CPU
    config = read_config(model_folder).values
    longest = sequences(method.objective) * spec.data.length  # of one sample
    if spec.model.stream == "disk" and train.checkpointing == "none":  # as worker/resolve.py decides it
        train = train.model_copy(update={"checkpointing": "block"})
    return fit(config, method, train, lambda size: size * longest, device, runtime, 0, spec.model)


def free_memory(device: str, hardware: Hardware) -> int:
    """What a run may take when no budget is given: what is free now."""
    return hardware.gpus[0].memory_free if device == "cuda" and hardware.gpus else hardware.memory_available


def _halvings(batch: int) -> list[int]:
    sizes = [batch]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes
