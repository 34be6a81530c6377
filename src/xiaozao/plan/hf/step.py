"""The memory of a run in the Hugging Face stack: transformers, PEFT, bitsandbytes, a plain training loop. No torch.

    load -> [forward -> backward -> optimizer step] x 2          the second step has the optimizer's states

Every tensor of it is allocated and freed in the CUDA caching allocator (plan/allocator.py), by a tape that holds memory
as torch's autograd does (plan/hf/tape.py), under the model as transformers writes it (plan/hf/model.py). No number here
was fitted to a measurement.
"""

from collections.abc import Callable
from dataclasses import dataclass

from xiaozao.plan.allocator import WORKSPACE, CachingAllocator
from xiaozao.plan.hf.attention import Heads
from xiaozao.plan.hf.load import Loading, load
from xiaozao.plan.hf.model import Forward, Model, Setting
from xiaozao.plan.hf.tape import OPTIMIZER, Tape, Tensor
from xiaozao.plan.workload import ModelShape

STEPS = 2
STATE_BLOCK = 256  # values that share a scale in bitsandbytes' 8-bit optimizers
STATE_LEAST = 4096  # a parameter smaller than this keeps its states in fp32


@dataclass(frozen=True)
class HfRun:
    """A run of that stack. Bytes of a type: 2 or 4."""

    shape: ModelShape
    batch: int
    length: int
    task: str = "lora"  # lora | full | inference
    rank: int = 16
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    base: str = "none"  # none | nf4 | int8
    stored: int = 2  # weights that are not quantised, as they are loaded
    compute: int = 2  # of 4-bit products, and of autocast
    half: bool = False  # the 16-bit type is fp16
    autocast: bool = False
    attention: str = "flash"  # eager | efficient | flash
    checkpointing: bool = False
    optimizer: str = "adamw"  # adamw | adamw8bit | sgd
    accumulates: bool = False  # gradients of an earlier micro-batch are there
    bias: bool = False
    qk_norm: bool = False
    transformers: int = 5  # the major version; 4 made a mask without need, and checkpoints that are reentrant
    workspace: int = WORKSPACE
    expandable: bool = False
    keeps_logits: bool = True  # whether the loop still holds the model's output while the optimizer steps

    @property
    def trains(self) -> bool:
        return self.task != "inference"


@dataclass(frozen=True)
class Phase:
    """Peaks of one phase in bytes; `parts` are the allocated ones at the peak, in the order of spec/plan.py's PARTS."""

    name: str  # load | forward | backward | optimizer
    allocated: int
    requested: int
    reserved: int
    parts: tuple[int, ...]


@dataclass(frozen=True)
class Replay:
    """The result of a replay: the memory of the loaded model, and the phases of the load and of the last step."""

    weights: int
    phases: tuple[Phase, ...]
    trainable: int  # parameters

    @property
    def allocated(self) -> int:
        """The peak of the steps."""
        return max(phase.allocated for phase in self.phases[1:])

    @property
    def reserved(self) -> int:
        """The peak of reserved memory over all phases: the cache never shrinks by itself."""
        return max(phase.reserved for phase in self.phases)


def replay(run: HfRun) -> Replay:
    """Load, and steps until they repeat."""
    allocator = CachingAllocator(expandable=run.expandable, kinds=5)
    tape = Tape(allocator, run.workspace)
    model = load(tape, _loading(run))
    weights = allocator.allocated
    phases = [_phase("load", allocator)]
    ids = tape.empty(run.batch * run.length, 8)
    setting = _setting(run)
    if not run.trains:
        tape.recording = False
        result = Forward(tape, model, setting).run(ids, None)
        phases.append(_phase("forward", allocator))
        del result
        return Replay(weights, tuple(phases), 0)
    states: list[Tensor] = []
    for _ in range(STEPS):
        phases[1:] = _step(tape, model, setting, ids, states, run)
    return Replay(weights, tuple(phases), sum(one.numel for one in model.trainable()))


def _step(
    tape: Tape, model: Model, setting: Setting, ids: Tensor, states: list[Tensor], run: HfRun
) -> tuple[Phase, Phase, Phase]:
    """The loss lives until the step is over, and the logits where the loop keeps them."""
    loss, logits, _cache = Forward(tape, model, setting).run(ids, ids)
    assert loss is not None
    forward = _phase("forward", tape.allocator)
    tape.backward(loss)
    kept = logits if run.keeps_logits else None
    del logits
    backward = _phase("backward", tape.allocator)
    OPTIMIZERS[run.optimizer](tape, model.trainable(), states)
    optimizer = _phase("optimizer", tape.allocator)
    del kept
    if not run.accumulates:
        for parameter in model.trainable():
            parameter.grad = None
    return forward, backward, optimizer


def _adamw(tape: Tape, parameters: list[Tensor], states: list[Tensor]) -> None:
    """torch's AdamW, foreach: two states of the parameter's type, and in a step the roots of all second moments."""
    if not states:
        states += [tape.empty(one.numel, one.item, OPTIMIZER) for one in parameters for _ in range(2)]
    roots = [tape.empty(one.numel, one.item) for one in parameters]
    del roots


def _adamw8bit(tape: Tape, parameters: list[Tensor], states: list[Tensor]) -> None:
    """bitsandbytes' AdamW8bit: a byte a state and a scale per 256; two tables of 256 values; small ones in fp32."""
    if states:
        return
    states += [tape.empty(256, 4, OPTIMIZER) for _ in range(2)]
    for parameter in parameters:
        item = 4 if parameter.numel < STATE_LEAST else 1
        states += [tape.empty(parameter.numel, item, OPTIMIZER) for _ in range(2)]
        if item == 1:
            states += [tape.empty(-(-parameter.numel // STATE_BLOCK), 4, OPTIMIZER) for _ in range(2)]


def _sgd(tape: Tape, parameters: list[Tensor], states: list[Tensor]) -> None:
    """torch's SGD without momentum: in place."""


OPTIMIZERS: dict[str, Callable[[Tape, list[Tensor], list[Tensor]], None]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "sgd": _sgd,
}


def _loading(run: HfRun) -> Loading:
    rank = run.rank if run.task == "lora" else 0
    return Loading(
        run.shape, run.stored, run.base, run.task == "full", run.bias, run.qk_norm, rank, run.targets,
        buffers=1 if run.transformers < 5 else 2, trains=run.trains,
    )  # fmt: skip


def _setting(run: HfRun) -> Setting:
    shape, checkpoint = run.shape, run.checkpointing and run.trains
    return Setting(
        heads=Heads(run.batch, run.length, shape.heads, shape.kv_heads, shape.head_size),
        attention=run.attention,
        half=run.half,
        compute=run.compute,
        autocast=run.autocast and run.trains,
        checkpoint="" if not checkpoint else "reentrant" if run.transformers < 5 else "saved",
        inputs_want=checkpoint and run.task == "lora",
        # Before version 5 positions that count up were taken for a packed row, where there was no cache.
        mask=run.trains and run.transformers < 5,
        cache=not run.trains,
    )


def _phase(name: str, allocator: CachingAllocator) -> Phase:
    phase = Phase(name, allocator.peak_allocated, allocator.peak_requested, allocator.peak_reserved,
                  tuple(allocator.held_at_peak))  # fmt: skip
    allocator.reset_peaks()
    return phase
