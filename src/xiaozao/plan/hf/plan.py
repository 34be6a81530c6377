"""`zao plan --engine hf`: the memory that the same run takes in the Hugging Face stack. No torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xiaozao.errors import Problem, UnsupportedModel, UsageError
from xiaozao.hub.folder import read_config
from xiaozao.machine.hardware import Gpu, look
from xiaozao.plan.hf.step import HfRun, Phase, Replay, replay
from xiaozao.plan.workload import ModelShape
from xiaozao.spec.plan import PARTS, MemoryPlan, Moment
from xiaozao.spec.run import RunSpec

FAMILIES: dict[str, dict[str, bool]] = {  # decoders of Llama's plan: biases of query, key and value; norms of heads
    "llama": {},
    "mistral": {},
    "qwen2": {"bias": True},
    "qwen3": {"qk_norm": True},
}
# What a process holds outside the allocator: CUDA's context, modules, cuBLAS. Measured, by compute capability:
# Tesla T4 (CUDA 13), RTX A6000 (CUDA 13). Elsewhere it was 0.1 to 1.4 GB; then the A6000's is taken.
CONTEXT = {(7, 5): 147_718_144, (8, 6): 744_685_568}
CONTEXT_LOW, CONTEXT_HIGH = 105_000_000, 1_400_000_000
HOPPER = (9, 0)
HOPPER_WORKSPACE = 32 << 20
MOMENTS = {"load": "load", "forward": "loss", "backward": "backward", "optimizer": "optimizer step"}


@dataclass(frozen=True)
class HfPlan:
    """A plan for `zao plan`, and what it was made from. Bytes."""

    plan: MemoryPlan
    run: HfRun
    replay: Replay
    context: int
    context_known: bool

    @property
    def process(self) -> tuple[int, int, int]:
        """The memory of the process as the system counts it: the least, the likely and the most."""
        reserved = self.replay.reserved
        if self.context_known:
            return reserved + self.context, reserved + self.context, reserved + self.context
        return reserved + CONTEXT_LOW, reserved + self.context, reserved + CONTEXT_HIGH


def plan_hf(spec: RunSpec, model_folder: Path) -> HfPlan:
    """The plan with the given micro-batch, or with the largest of batch, batch/2, batch/4 ... that fits.

    Raises UsageError for options that stack is not described with, UnsupportedModel for another family.
    """
    gpu = next(iter(look().gpus), None)
    problems = list(_problems(spec))
    if problems:
        raise UsageError("hf_options", problems, count=len(problems))
    config = read_config(model_folder).values
    if config["model_type"] not in FAMILIES:
        raise UnsupportedModel("hf_family", model=config["model_type"], known=", ".join(FAMILIES))
    run = run_of(spec, config, gpu)
    budget = spec.train.budget or (gpu.memory_free if gpu else 0)
    while True:
        planned = plan_of_run(run, budget, gpu)
        if spec.train.micro_batch or run.batch == 1 or planned.plan.fits:
            return planned
        run = replace(run, batch=-(-run.batch // 2), accumulates=True)


def _problems(spec: RunSpec) -> Iterator[Problem]:
    """The problems of options that this model of the stack does not cover."""
    train, method = spec.train, spec.method
    wrong = {
        "device": (spec.model.device == "cpu", "cpu"),
        "attention": (spec.model.attention == "batched", spec.model.attention),
        "objective": (method.objective not in ("sft", "pretrain"), method.objective),
        "adapter": (method.method == "lora" and method.adapter not in ("lora", "rslora"), method.adapter),
        "also": (bool(method.also), ",".join(method.also)),
        "last_blocks": (method.last_blocks is not None, method.last_blocks),
        "optimizer": (train.optimizer not in ("adamw", "adamw8bit"), train.optimizer),
        "fused_update": (train.fused_update, "true"),
        "checkpointing": (train.checkpointing not in ("none", "block"), train.checkpointing),
        "devices": (train.devices > 1, train.devices),
    }
    for name, (is_wrong, value) in wrong.items():
        if is_wrong:
            yield Problem("hf_option", {"name": name, "value": value})


def run_of(spec: RunSpec, config: Mapping[str, Any], gpu: Gpu | None) -> HfRun:
    """The run in that stack: weights in the compute type, or in fp32 under autocast for full fine-tuning."""
    method, train = spec.method, spec.train
    modern = gpu.bf16 if gpu else method.precision != "fp16"  # Ampere or later
    precision = ("bf16" if modern else "fp16") if method.precision == "auto" else method.precision
    compute = 4 if precision == "fp32" else 2
    full = method.method == "full"
    autocast = full and compute == 2 and method.weights == "fp32"
    eager, fused = spec.model.attention == "eager", "flash" if modern and compute == 2 else "efficient"
    hopper = gpu is not None and gpu.compute_capability is not None and gpu.compute_capability >= HOPPER
    batch = train.micro_batch or train.batch
    run = HfRun(
        ModelShape.from_config(config), batch, spec.data.length, task="full" if full else "lora", rank=method.rank,
        targets=method.targets, base=spec.model.base, stored=4 if autocast else compute, compute=compute,
        half=precision == "fp16", autocast=autocast, attention="eager" if eager else fused,
        checkpointing=train.checkpointing == "block", optimizer=train.optimizer, accumulates=batch < train.batch,
    )  # fmt: skip
    family = {"bias": bool(config.get("attention_bias", False)), **FAMILIES[config["model_type"]]}
    run = replace(run, bias=family["bias"], qk_norm=family.get("qk_norm", False))
    return replace(run, workspace=HOPPER_WORKSPACE) if hopper else run


def plan_of_run(run: HfRun, budget: int, gpu: Gpu | None = None) -> HfPlan:
    """Replay a run; the plan's runtime is the context, the libraries' workspaces and what the cache holds unused."""
    replayed = replay(run)
    capability = gpu.compute_capability if gpu else None
    context = CONTEXT.get(capability, CONTEXT[8, 6]) if capability else CONTEXT[8, 6]
    moments = tuple(_moment(phase, context) for phase in replayed.phases)
    shape, added = run.shape, replayed.trainable if run.task == "lora" else 0
    parameters = shape.parameters + added
    plan = MemoryPlan(moments, budget, run.batch, run.batch * run.length, parameters, replayed.trainable, cpu=False)
    return HfPlan(plan, run, replayed, context, capability in CONTEXT)


def _moment(phase: Phase, context: int) -> Moment:
    parts = dict(zip(PARTS, phase.parts, strict=True))
    parts["runtime"] += context + phase.reserved - phase.allocated
    return Moment(MOMENTS[phase.name], parts)


def document(planned: HfPlan) -> dict[str, Any]:
    """The fields of this engine's plan that differ or are added, for a program.

    On a GPU the peak is what is allocated.
    """
    least, likely, most = planned.process
    return {
        "engine": "hf",
        "peak_bytes": planned.replay.allocated,
        "reserved_bytes": planned.replay.reserved,
        "process_bytes": likely,
        "process_interval": [least, most],
        "context_bytes": planned.context,
        "phases": [
            {"name": phase.name, "allocated": phase.allocated, "requested": phase.requested, "reserved": phase.reserved}
            for phase in planned.replay.phases
        ],
    }
