"""One optimizer step under fake tensors -> a Profile: what a model and a method allocate, at any size.

The engine's own code runs: decoder, loss, backward, optimizer. Only the shapes are real, so a model of any size is
traced on any machine, in seconds. Three blocks stand for all where all are alike; else every block is traced.

    warm up            a window and an update, after which the optimizer has its states
    five sizes         base; fewer tokens in the same padding; less padding; more targets; a smaller chunk of logits
      fresh            forward and backward with no gradients from before
      accumulating     the same on top of all gradients, then the optimizer's step, then a validation

Their work is counted at one size more, with three chunks of logits where the others have two.
The i-th allocation is the same one at every size, so its level is a plane through five points: its coefficients.
"""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from transformers import PreTrainedConfig

from xiaozao.errors import UnsupportedModel
from xiaozao.measure.ledger import Ledger, Seen
from xiaozao.measure.skeleton import TracedAttention, are_alike, build, config_of, held_by_loading
from xiaozao.measure.work import BETWEEN, LOSS, UPDATE, VALIDATION, Further, Phase, Tally, pieces
from xiaozao.models.blocks import blocks_of
from xiaozao.models.layers.attention import layout
from xiaozao.models.layers.bases import parameter_count
from xiaozao.models.layers.quantize import ready as ready_base
from xiaozao.models.load import DTYPES
from xiaozao.models.loading.architecture import FAILURES, reason
from xiaozao.models.precision import computing
from xiaozao.models.trainable import is_tied
from xiaozao.spec.objectives import KINDS
from xiaozao.spec.profile import VERSION, Amount, Line, Profile, Stretch, TraceRequest, Work
from xiaozao.train.head import head_loss, token_losses
from xiaozao.train.optim.engine import Optimizer, Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.optim.names import ready as ready_optimizer
from xiaozao.train.update import gradient_norm

FEW = 3  # blocks that stand for all: a first, a last, and one between


class Size(NamedTuple):
    """A row, and how many of its logits are made at a time."""

    lengths: tuple[int, ...]
    targets: int
    chunk: int


# Each differs from the first in one thing: tokens, padded tokens, targets, the chunk. There are two chunks of logits,
# of which the second is not full and grows with the targets: it is left out, since the first is the larger.
SIZES = (
    Size((48, 48), 150, 128), Size((40, 40), 150, 128), Size((32, 32, 32), 150, 128), Size((48, 48), 200, 128),
    Size((48, 48), 150, 96),
)  # fmt: skip
FINER = Size((48, 48), 150, 64)
WORKED = (*SIZES[:4], FINER)  # the sizes at which work is counted
ON_TOP = {"": (0.0, 0.0), "forward": (1.0, 0.0), "backward": (0.0, 1.0)}
Heard = dict[Phase, list[Seen]]


class Window(NamedTuple):
    """What was heard in a micro-batch, and the work of it and what follows it."""

    heard: Heard
    work: dict[Phase, Tally]


def trace(question: TraceRequest) -> Profile:
    """The profile of a model and a method. Raises UnsupportedModel for a model that cannot be traced."""
    with translated(question):
        alike = are_alike(question)
        blocks = int(config_of(question.config).get_text_config(decoder=True).num_hidden_layers)
        traced = min(FEW, blocks) if alike else blocks
        with FakeTensorMode(allow_non_fake_inputs=True):
            tracer = Tracer(question, config_of(question.config, traced))
            return tracer.profile(blocks, alike and traced == FEW)


@contextmanager
def translated(question: TraceRequest) -> Iterator[None]:
    """Where something is traced: nothing is collected meanwhile, and what fails is UnsupportedModel."""
    ready_optimizer(question.optimizer)
    ready_base(question.base)
    gc.disable()  # when a collection frees what it frees would differ from one size to the next
    try:
        yield
    except FAILURES as error:
        detail = reason(error)
        raise UnsupportedModel("trace", model=question.config.get("model_type"), detail=detail) from error
    finally:
        gc.enable()


class Tracer:
    """A model under fake tensors, its optimizer, and the ledger of what they allocate."""

    def __init__(self, question: TraceRequest, config: PreTrainedConfig) -> None:
        self.question, self.ledger = question, Ledger()
        self.decoder = build(question, config, self.ledger)
        self.blocks = blocks_of(self.decoder.model)
        self.optimizer = self._optimizer()
        self.backward = False  # whether blocks are on their way back
        for number, block in enumerate(self.blocks):
            block.register_forward_pre_hook(partial(self._begins, number))
            block.register_forward_hook(partial(self._ends, number))

    def profile(self, blocks: int, alike: bool) -> Profile:
        """Run the sizes and write down what was heard; `alike`: a block stands for those that are not here."""
        model, traced = self.decoder.model, len(self.blocks)
        learning = self.decoder.trainable()
        embedding = model.get_input_embeddings()
        if isinstance(embedding, nn.Embedding) and embedding.weight.requires_grad and is_tied(self.decoder):
            self.ledger.twice.add(embedding.weight.shape)
        with self.ledger:
            tensors = [*model.parameters(), *model.buffers()]
            self.ledger.count(tensors)
            self.begin()
            now = self.decoder.trainable()  # of `learning` what learns in this step
            self.micro(SIZES[0])
            self.update()
            *sizes, finer = [self._window(size) for size in (*SIZES, FINER)]
            behind = [self._turn(step) for step in self.optimizer.heavy_turns()[1:]]

        def amount(everything: float, block: float) -> Amount:
            return Amount(everything - traced * block, block) if alike else Amount(everything, 0.0)

        inside = {id(one) for one in (*self.blocks[-1].parameters(), *self.blocks[-1].buffers())}
        own = [one for one in learning.values() if id(one) in inside]
        states = {name: _bytes(state.values()) for name, state in self.optimizer.states.items()}
        own_states = sum(size for name, size in states.items() if id(self.optimizer.parameters[name]) in inside)
        own_now = [one for one in now.values() if id(one) in inside]
        self.gradients = amount(_bytes(now.values()), _bytes(own_now))
        attention = self.decoder.attention
        assert isinstance(attention, TracedAttention)
        return Profile(
            version=VERSION, blocks=blocks, traced=traced if alike else blocks,
            parameters=amount(parameter_count(model), parameter_count(self.blocks[-1])),
            trainable=amount(sum(one.numel() for one in learning.values()), sum(one.numel() for one in own)),
            weights=amount(_bytes(tensors), _bytes(one for one in tensors if id(one) in inside)),
            states=amount(sum(states.values()), own_states), largest=held_by_loading(model, self.question),
            bytes=DTYPES[self.question.precision].itemsize, attention=tuple(sorted(attention.met, key=repr)),
            fresh=(*self._stretches([one.heard for one, _ in sizes], False, alike), *(one for one, _ in behind)),
            accumulating=(*self._stretches([one.heard for _, one in sizes], True, alike), *(one for _, one in behind)),
            work=self._works([*sizes[:4], finer], Further(blocks - traced, _bytes(own_now) / _bytes(now.values()))),
        )  # fmt: skip

    def _optimizer(self) -> Optimizer:
        options = Options(rank=self.question.projection_rank, every=1 if self.question.optimizer == "badam" else 10**6)
        optimizer = OPTIMIZERS[self.question.optimizer](self.decoder.trainable(), options)
        if self.question.fused_update:
            for name, parameter in optimizer.parameters.items():
                parameter.register_post_accumulate_grad_hook(partial(self._arrived, name))
        return optimizer

    def _arrived(self, name: str, parameter: Tensor) -> None:
        self.optimizer.update([name], 0.0)

    def begin(self) -> None:
        """Say which step comes: where parameters take turns, that of the group that keeps most."""
        self.optimizer.begin(self.optimizer.heavy_turns()[0])

    def _turn(self, step: int) -> tuple[Stretch, Stretch]:
        """The turn of what lies behind the blocks, in a step's first micro-batch and in a later one. No block keeps
        anything then, and none is on its way back: all that is heard after the last one's forward is the loss."""
        self.optimizer.begin(step)
        self.micro(SIZES[0])
        self.update()
        own, name = _bytes(self.decoder.trainable().values()), Phase("forward", len(self.blocks) - 1)
        windows = [self._window(size) for size in SIZES]
        gradients = Amount(0.0 if self.question.fused_update else own, 0.0)
        stretches = []
        for heard in ([one.heard for one, _ in windows], [one.heard for _, one in windows]):
            lines = self._lines([one[name] for one in heard])
            stretches.append(Stretch("loss", _highest(lines), (0.0,) * len(lines[0]), gradients))
        return stretches[0], stretches[1]

    def _window(self, size: Size) -> tuple[Window, Window]:
        """What is heard in a step's first micro-batch, and in a later one and after it; weights and states left out."""
        self.ledger.enter(BETWEEN)
        resting = self.ledger.now
        windows = []
        for work in ("fresh", "accumulating"):
            self.ledger.start_over()
            self.micro(size)
            if work == "accumulating" or self.question.fused_update:
                self.ledger.enter(UPDATE)
                self.update()
                self.ledger.enter(VALIDATION)
                with torch.no_grad():
                    self.loss(size)
                self.ledger.enter(BETWEEN)
            heard = {name: [(now - resting, kind) for now, kind in all_] for name, all_ in self.ledger.heard.items()}
            windows.append(Window(heard, self.ledger.work))
        return windows[0], windows[1]

    def micro(self, size: Size) -> None:
        """Forward and backward of a micro-batch."""
        with computing(self.decoder, DTYPES[self.question.precision]):
            loss = self.loss(size)
            (loss * (1.0 / size.targets)).backward()
        self.ledger.enter(BETWEEN)

    def loss(self, size: Size) -> Tensor:
        """Forward alone, with the loss."""
        tokens, attention = sum(size.lengths), self.decoder.attention
        with unset_fake_temporarily():
            attention.layout = layout(size.lengths)
        ids, positions = (torch.zeros(tokens, dtype=torch.long) for _ in range(2))
        sources, labels = (torch.zeros(size.targets, dtype=torch.long) for _ in range(2))
        states = self.decoder.hidden(ids, positions).index_select(0, sources)
        head = replace(self.decoder.head, chunk=size.chunk)
        if KINDS[self.question.method.objective] in ("pairs", "verdicts"):
            return token_losses(head, states, labels).sum()
        return head_loss(head, states, labels)

    def update(self) -> None:
        """The optimizer's step, unless it happened in the backward pass."""
        if not self.question.fused_update:
            gradient_norm(self.optimizer.parameters.values())
            self.optimizer.step(0.0)

    def _begins(self, number: int, *_: object) -> None:
        if torch.is_grad_enabled():
            self.ledger.enter(Phase("forward", number))

    def _ends(self, number: int, module: nn.Module, inputs: object, output: object) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if isinstance(states, Tensor) and states.requires_grad:
            states.register_hook(lambda grad: self.ledger.enter(Phase("backward", number)))
            if number == len(self.blocks) - 1:
                self.ledger.enter(LOSS)

    def _works(self, windows: list[tuple[Window, Window]], further: Further) -> tuple[Work, ...]:
        numbers = [(1.0, sum(one.lengths), _padded(one), one.targets, -(-one.targets // one.chunk)) for one in WORKED]
        fresh, later = ([one[place].work for one in windows] for place in (0, 1))
        return pieces(fresh, later, numbers, further)

    def _lines(self, sizes: list[list[Seen]]) -> list[Line]:
        """Of the allocations at the five sizes, without those of one more chunk of the head."""
        row = self.decoder.head.linear.out_features * DTYPES[self.question.precision].itemsize
        return [one for one in _lines(sizes) if one[3] < row]

    def _stretches(self, sizes: list[Heard], accumulating: bool, alike: bool) -> tuple[Stretch, ...]:
        """The moments of a micro-batch as lines; see Stretch."""
        lines = {phase: self._lines([one[phase] for one in sizes]) for phase in sizes[0]}
        starts = {phase: lines_[0] for phase, lines_ in lines.items()}
        last, nothing = len(self.blocks) - 1, Amount(0.0, 0.0)
        whole = self.gradients if not self.question.fused_update else nothing
        none: Line = (0.0,) * len(starts[LOSS])
        kept = _less(starts[Phase("forward", 2)], starts[Phase("forward", 1)]) if alike else none
        left = _less(starts[Phase("backward", 0)], starts[Phase("backward", 1)]) if alike else none
        before = whole if accumulating else nothing
        if accumulating:  # those of the blocks that are not here
            kept = (kept[0] + whole.block, *kept[1:])
        numbers = (last,) if alike else range(len(self.blocks))

        def highest(*phases: Phase) -> tuple[Line, ...]:
            return _highest(line for phase in phases for line in lines.get(phase, ()))

        stretches = [
            Stretch("forward", highest(*(Phase("forward", number) for number in numbers)), kept, before),
            Stretch("loss", highest(LOSS), kept, before),
            Stretch("backward", highest(*(Phase("backward", number) for number in numbers)), kept, before),
        ]
        if alike:
            stretches.append(Stretch("end of backward", highest(Phase("backward", 0)), _more(kept, left), whole))
        if UPDATE in lines:
            stretches.append(Stretch("optimizer step", highest(UPDATE), (whole.block, *none[1:]), whole))
            stretches.append(Stretch("validation", highest(VALIDATION), none, nothing))
        return tuple(stretches)


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Of different storages."""
    return sum({one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}.values())


def _lines(sizes: list[list[Seen]]) -> list[Line]:
    """The same allocations at the five sizes -> their coefficients. Raises RuntimeError where they are not the same."""
    if len({tuple(kind for _, kind in one) for one in sizes}) > 1:
        raise RuntimeError(f"the sizes make {sorted({len(one) for one in sizes})} allocations")
    base, few, split, more, thin = SIZES
    lines: list[Line] = []
    for (level, kind), (fewer, _), (narrower, _), (longer, _), (thinner, _) in zip(*sizes, strict=True):
        slopes = (
            (level - fewer) / (sum(base.lengths) - sum(few.lengths)),
            (level - narrower) / (_padded(base) - _padded(split)),
            (longer - level) / (more.targets - base.targets),
            (level - thinner) / (base.chunk - thin.chunk),
        )
        values = sum(base.lengths), _padded(base), base.targets, base.chunk
        rest = level - sum(slope * value for slope, value in zip(slopes, values, strict=True))
        lines.append((rest, *slopes, *ON_TOP[kind]))
    return lines


def _padded(size: Size) -> int:
    """The tokens of attention's buckets."""
    with unset_fake_temporarily():
        return sum(one.numel() for one in layout(size.lengths).buckets)


def _highest(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Without those that another line is above at every size."""
    different = list(dict.fromkeys(lines))
    return tuple(
        one for one in different
        if not any(other is not one and all(a >= b for a, b in zip(other, one, strict=True)) for other in different)
    )  # fmt: skip


def _more(one: Line, other: Line) -> Line:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _less(one: Line, other: Line) -> Line:
    return tuple(a - b for a, b in zip(one, other, strict=True))
