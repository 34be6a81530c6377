"""What the user left open -> numbers. Decided once, at a run's first start, and frozen in resolved.yaml."""

from collections.abc import Mapping
from typing import Any

import torch

from xiaozao.data.prepare import PreparedData
from xiaozao.models.load import ATTENTION
from xiaozao.plan.fit import fit, free_memory
from xiaozao.plan.hardware import Hardware
from xiaozao.spec.plan import MemoryPlan
from xiaozao.spec.run import RunSpec
from xiaozao.train.batches import Order

LEARNING_RATES = {"lora": 2e-4, "full": 2e-5}
VALIDATION_SHARE = 0.15  # of the run's time, at most
VALIDATIONS = 10


def resolve(spec: RunSpec, data: PreparedData, config: Mapping[str, Any], device: str, hardware: Hardware) -> RunSpec:
    """The same run with every open option decided."""
    spec = spec.with_options(
        device=device,
        precision=_precision(spec, device, hardware),
        attention=ATTENTION[device] if spec.model.attention == "auto" else spec.model.attention,
        threads=spec.train.threads or hardware.cores,
        learning_rate=spec.train.learning_rate or LEARNING_RATES[spec.method.method],
        alpha=(spec.method.alpha or 2 * spec.method.rank) if spec.method.method == "lora" else None,
        budget=spec.train.budget or free_memory(device, hardware),
    )
    spec = spec.with_options(micro_batch=memory_plan(spec, data, config, runtime=0).micro_batch)
    every = spec.train.eval_every or _eval_every(spec, data)
    return spec.with_options(eval_every=every, save_every=spec.train.save_every or every)


def order_of(spec: RunSpec, data: PreparedData, micro_batch: int | None = None) -> Order:
    """The order of samples that a spec describes."""
    size = micro_batch or spec.train.micro_batch
    assert size is not None
    return Order(data.train, spec.train.batch, size, spec.train.epochs, spec.train.seed)


def memory_plan(
    spec: RunSpec, data: PreparedData, config: Mapping[str, Any], runtime: int, answered: int = 0
) -> MemoryPlan:
    """The plan of a run on its real data: the largest micro-batch that will come."""

    def largest(micro_batch: int) -> int:
        return order_of(spec, data, micro_batch).largest()

    return fit(config, spec.method, spec.train, largest, spec.model.device, runtime, answered)


def _precision(spec: RunSpec, device: str, hardware: Hardware) -> str:
    if spec.method.precision != "auto":
        return spec.method.precision
    fast = torch.cuda.is_bf16_supported() if device == "cuda" else hardware.fast_bf16
    return "bf16" if fast else "fp32"


def _eval_every(spec: RunSpec, data: PreparedData) -> int:
    """About ten validations in a run, fewer where they would take more than their share of the time."""
    steps = order_of(spec, data).steps
    if data.validation is None:
        return max(1, steps // VALIDATIONS)
    cost = int(sum(data.validation.lengths)) / 3  # a forward pass is a third of a training step
    per_step = int(sum(data.train.lengths)) * spec.train.epochs / steps
    return min(steps, max(1, steps // VALIDATIONS, round(cost / (VALIDATION_SHARE * per_step))))
