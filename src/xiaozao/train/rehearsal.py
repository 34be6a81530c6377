"""The rehearsal: before step 1 the largest micro-batch goes through every phase of the run, and nothing of it is kept.

    states of the optimizer are made; of parameters that take turns, those of each turn that may take most
    forward, backward        of the micro-batch with the most tokens, and of that with the widest attention; gradients
                             of other micro-batches are there too, where a step has several
    update                   at a rate of 0: the optimizer does all its work, and adds nothing
    validation               of its largest micro-batch
    checkpoint               written, synced and removed
    result                   of weights that learn on disk: written and removed
    states and gradients are let go; generators stand where they stood

No copy of the weights is needed: x - 0 * update is x, bit for bit, unless x is -0.0, and those are put back by place.
Not rehearsed: the load before it, reference log-probabilities, the answers after it, and the result of weights that lie
in memory, which takes a rounded copy of one matrix when gradients and states are gone.

What is measured corrects the plan. Where it is more than the limit, micro-batches are halved before the run begins.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from xiaozao.data.order import in_order, largest
from xiaozao.errors import DoesNotFit, TrainingError
from xiaozao.events import Rehearsed, Split
from xiaozao.models.loading.trainstore import PagedStore
from xiaozao.train.batches import PackedRow
from xiaozao.train.loop import Loop
from xiaozao.train.optim.engine import Optimizer, local
from xiaozao.train.recover import Gauge, Lack, Short, attempt, gigabytes, halved, watched
from xiaozao.train.scaler import Scaler
from xiaozao.train.state import Position
from xiaozao.train.update import Update


def rehearse(
    loop: Loop, gauge: Gauge, optimizer: Optimizer, progress: Position, finish: Callable[[], object] | None = None
) -> None:
    """Rehearse until the largest micro-batch fits; `progress` then holds how large it may be, and nothing else changed.

    finish: writes the result and removes it, where that is rehearsed.
    Raises DoesNotFit, with what was measured, where it cannot be made small enough.
    """
    with watched(loop.decoder, gauge), torch.random.fork_rng(devices=_devices(loop)):
        loop.set_mode()
        if gauge.limit is not None and gauge.peak() > gauge.limit:  # that was the load; it would hide what comes
            gauge.reset()
        while (most := _once(loop, gauge, optimizer, progress, finish)) is not None:
            progress.most = most
            gauge.reset()


def _once(
    loop: Loop, gauge: Gauge, optimizer: Optimizer, progress: Position, finish: Callable[[], object] | None
) -> int | None:
    """Run one rehearsal. Returns the next bound to try, or None if it fits."""
    begun = time.perf_counter()
    worst = loop.order.worst(progress.most)
    update = loop.update(optimizer)
    failed: list[int] | None = None
    try:
        with standing(optimizer.parameters, optimizer.options.store):
            failed = _passes(loop, gauge, optimizer, update, worst, several=_several(loop, progress))
            if failed is None:
                _rest(loop, gauge, optimizer, progress)
                _finish(loop, gauge, finish)
    finally:
        update.close()
        put_back(optimizer)
    row = worst[0] if failed is None else failed
    tokens, peak = int(loop.order.samples.lengths[row].sum()), int(loop.ranks.maximum(gauge.peak()))
    loop.on_event(Rehearsed(tokens, len(row), peak, gauge.planned, gauge.limit, time.perf_counter() - begun))
    if failed is None:
        return None
    if len(row) == 1 or loop.settings.fused:
        line = loop.order.samples.where(row[0])
        raise _does_not_fit("rehearsal_sample", gauge, peak, tokens, line)
    most = halved(tokens, int(loop.order.samples.lengths.max()))
    loop.on_event(Split(1, tokens, most, "rehearsal", peak, gauge.limit))
    return most


def _passes(
    loop: Loop, gauge: Gauge, optimizer: Optimizer, update: Update, worst: Sequence[list[int]], several: bool
) -> list[int] | None:
    """Forward, backward and update of each of the worst micro-batches; the one that was too much, or None."""
    for row, step in product(worst, optimizer.heavy_turns()):
        if _short(loop, partial(_forth_and_back, loop, optimizer, update, row, step, several)) or _passed(loop, gauge):
            drop_gradients(optimizer)
            return row
    return None


def _forth_and_back(loop: Loop, optimizer: Optimizer, update: Update, row: list[int], step: int, several: bool) -> None:
    """A window of one micro-batch, with the gradients of others there already where a step has several."""
    scale = Scaler(loop.settings.compute).scale(Position())
    update.begin(step, 0.0)
    optimizer.prepare()
    if several:
        for parameter in optimizer.parameters.values():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    packed: PackedRow = loop.rows([row])[0]
    try:
        for piece in loop.ranks.share([packed]):
            loop.pass_over(piece.item, scale / packed.units, 0, piece.number)
    except TrainingError:  # what is not finite is told by the step that meets it, with weights that have learned
        return
    norm = update.norm(scale)
    if math.isfinite(norm):  # in fp16 the first scales may be too large, and 0 * inf is not 0
        update.apply(norm, scale)
    drop_gradients(optimizer)


def _rest(loop: Loop, gauge: Gauge, optimizer: Optimizer, progress: Position) -> None:
    """Rehearse what comes between steps: validation and a checkpoint.

    Raises DoesNotFit if the checkpoint does not fit.
    """
    while loop.validation is not None:
        micros = in_order(loop.validation, loop.order.size, progress.most_validating)
        row = largest(micros, loop.validation)
        if not _short(loop, partial(loop.validated, loop.validation, [row])) and not _passed(loop, gauge):
            break
        lengths, peak = loop.validation.lengths, int(loop.ranks.maximum(gauge.peak()))
        tokens = int(lengths[row].sum())
        if len(row) == 1:
            raise _does_not_fit("rehearsal_sample", gauge, peak, tokens, loop.validation.where(row[0]))
        progress.most_validating = halved(tokens, int(lengths.max()))
        loop.on_event(Split(0, tokens, progress.most_validating, "validation", peak, gauge.limit))
        gauge.reset()
    loop.keeper.forget(0)  # a rehearsal that was killed may have left it
    short = _short(loop, partial(loop.keeper.save, optimizer, Position()))
    loop.keeper.forget(0)
    if short or _passed(loop, gauge):
        raise _does_not_fit("rehearsal_checkpoint", gauge, int(loop.ranks.maximum(gauge.peak())))


def _finish(loop: Loop, gauge: Gauge, finish: Callable[[], object] | None) -> None:
    """The result, written and removed. Raises DoesNotFit where that is too much."""
    if finish is not None and (_short(loop, finish) or _passed(loop, gauge)):
        raise _does_not_fit("rehearsal_result", gauge, int(loop.ranks.maximum(gauge.peak())))


def _short(loop: Loop, work: Callable[[], object]) -> bool:
    """Whether memory runs out. Raises OutOfMemory on several ranks, where the others wait for this one."""
    tried = attempt(work)
    if isinstance(tried, Short) and loop.ranks.world > 1:
        tokens = int(loop.order.samples.lengths[loop.order.worst()[0]].sum())
        raise Lack(1, tokens, "-", loop.ranks.rank, loop.peak_bytes(), loop.limit).error("out_of_memory_ranks", tried)
    return isinstance(tried, Short)


def _passed(loop: Loop, gauge: Gauge) -> bool:
    """Whether the peak went over the limit on any rank."""
    peak = loop.ranks.maximum(gauge.peak())
    return gauge.limit is not None and peak > gauge.limit


def _several(loop: Loop, progress: Position) -> bool:
    """Whether a step has more than one micro-batch, so that gradients wait for others."""
    together = loop.order.size * loop.ranks.world
    return not loop.settings.fused and (together < loop.order.batch or progress.most is not None)


def _does_not_fit(key: str, gauge: Gauge, peak: int, tokens: int = 0, line: int | str = 0) -> DoesNotFit:
    numbers = gigabytes(peak), gigabytes(gauge.limit), gigabytes(gauge.planned)
    return DoesNotFit(key, tokens=tokens, line=line, peak=numbers[0], limit=numbers[1], planned=numbers[2])


def _devices(loop: Loop) -> list[int]:
    return [loop.decoder.device.index or 0] if loop.decoder.device.type == "cuda" else []


def put_back(optimizer: Optimizer) -> None:
    """Undo a rehearsal: drop states and gradients."""
    drop_gradients(optimizer)
    optimizer.release()


def drop_gradients(optimizer: Optimizer) -> None:
    """Forget all gradients."""
    for parameter in optimizer.parameters.values():
        parameter.grad = None


@contextmanager
def standing(parameters: Mapping[str, nn.Parameter], store: PagedStore | None = None) -> Iterator[None]:
    """Updates at a rate of 0 leave weights as they are, bit for bit: x - 0 * u is x, but -0.0 may become 0.0."""
    places = {}
    for name, parameter in parameters.items():
        places[name] = _negative_zeros(local(parameter.detach()))
        if store is not None:
            store.leave([parameter])
    try:
        yield
    finally:
        for name, place in places.items():
            if place is not None:
                local(parameters[name].detach())[place] = -0.0


def _negative_zeros(value: Tensor) -> tuple[Tensor, ...] | None:
    """Where they are, as an index; None where there are none."""
    zeros = torch.signbit(value).logical_and_(value == 0)
    return zeros.nonzero(as_tuple=True) if bool(zeros.any()) else None
