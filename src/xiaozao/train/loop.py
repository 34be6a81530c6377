"""The training loop.

    for each step:  for each micro-batch:  loss / units of the whole step  ->  backward
                    finite?  ->  clip  ->  optimizer  ->  Step            (update.py: also in the middle of backward)
                    now and then: validation -> Evaluated, checkpoint -> Saved

The loss is the mean over the units of the step (target tokens; pairs or answers where preferences are learned), so any
split into micro-batches gives the same gradient.
Nothing but weights, the optimizer's states and Progress changes from step to step.

Where memory runs out in a window, all its gradients are thrown away and it is computed again, with the micro-batches
that were too large in parts (recover.py). The bound that decides which those are is in Progress, and in the journal.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from xiaozao.data.order import Order, in_order, largest
from xiaozao.data.prepare import Samples
from xiaozao.errors import TrainingError
from xiaozao.events import Evaluated, Event, Noticed, Saved, Split, Step
from xiaozao.machine.heap import give_back
from xiaozao.models.blocks import Decoder
from xiaozao.models.precision import computing
from xiaozao.train.batches import PackedRow
from xiaozao.train.losses import Loss, Mean, mean_over
from xiaozao.train.optim.engine import Optimizer
from xiaozao.train.preference_losses import Preference, packed_rows
from xiaozao.train.ranks import ALONE, Ranks
from xiaozao.train.recover import Gauge, Lack, Short, attempt, halved, lowest, watched
from xiaozao.train.scaler import Scaler
from xiaozao.train.schedules import learning_rate
from xiaozao.train.state import Keeper, Position
from xiaozao.train.timeleft import REMEMBERED, time_left
from xiaozao.train.update import Fused, Update, Whole


@dataclass(frozen=True)
class Settings:
    """The numbers of the loop."""

    learning_rate: float
    schedule: str
    warmup: int  # steps
    weight_decay: float
    clip: float
    eval_every: int  # steps
    save_every: int  # steps
    patience: int | None  # validations
    compute: torch.dtype
    fused: bool = False  # whether weights move in the middle of backward


@dataclass(frozen=True)
class Loop:
    """One training run; `run` is the loop itself."""

    decoder: Decoder
    loss: Loss
    order: Order
    validation: Samples | None
    settings: Settings
    keeper: Keeper
    on_event: Callable[[Event], object]
    should_stop: Callable[[], bool]
    peak_bytes: Callable[[], int]
    clock: Callable[[], float] = time.perf_counter
    ranks: Ranks = ALONE  # the processes that share this run; what is decided here they decide alike
    gauge: Gauge | None = None  # None: only the allocator says when memory has run out
    known: tuple[Split, ...] = ()  # of an earlier life of this run; they hold again when their step comes

    def run(self, optimizer: Optimizer, progress: Position) -> tuple[Position, bool]:
        """Train from `progress` to the end. Returns the progress and whether it was stopped on request."""
        with watched(self.decoder, self.gauge):
            self.set_mode()
            if progress.step == 0:
                self._validate(progress)
            update = self.update(optimizer)
            try:
                return self._run(optimizer, update, progress)
            finally:
                update.close()

    def set_mode(self) -> None:
        """Preferences are small differences of large numbers, which dropout would drown; so it is off for them."""
        self.decoder.model.train(not isinstance(self.loss, Preference))

    def update(self, optimizer: Optimizer) -> Update:
        """The way from gradients to an update; must be closed."""
        return (Fused if self.settings.fused else Whole)(optimizer, self.settings.clip, self.ranks)

    def _run(self, optimizer: Optimizer, update: Update, progress: Position) -> tuple[Position, bool]:
        opened = self.clock()
        before, first = progress.seconds, progress.step
        recent: list[float] = []
        training = 0.0  # seconds of the steps alone
        while progress.step < self.order.steps and not self._exhausted(progress):
            begun = self.clock()
            row = self._step(update, progress)
            recent = [*recent[1 - REMEMBERED :], self.clock() - begun]
            training += recent[-1]
            beside = (self.clock() - opened - training) / (progress.step - first)
            left = time_left(recent, beside, self.order.steps - progress.step)
            self.on_event(self._tell(progress, row, recent[-1], left))
            improved = self._due(self.settings.eval_every, progress) and self._validate(progress)
            progress.seconds = before + self.clock() - opened
            stopping = self.should_stop()
            if improved or stopping or self._due(self.settings.save_every, progress):
                self._save(optimizer, progress)
            if stopping and progress.step < self.order.steps:
                return progress, True
        return progress, False

    def _step(self, update: Update, progress: Position) -> "_Row":
        """One optimizer step. Nothing is updated when a loss or gradient is not finite, unless the update is fused."""
        rate = learning_rate(
            progress.step, self.order.steps, self.settings.warmup, self.settings.learning_rate, self.settings.schedule
        )
        scaler = Scaler(self.settings.compute)
        update.begin(progress.step, rate)
        while True:
            scale = scaler.scale(progress)
            done = self._window(update, progress, scale)
            norm = update.norm(scale)
            if math.isfinite(norm):
                break
            if not scaler.active:
                raise self._not_finite("gradient", norm, progress.step, done.samples)
            update.drop()
            scaler.overflowed(progress)
            self.on_event(Noticed("fp16_overflow", {"step": progress.step + 1, "scale": progress.loss_scale}))
        update.apply(norm, scale)
        scaler.succeeded(progress)
        give_back()
        progress.step += 1
        progress.tokens += done.tokens
        progress.target_tokens += done.targets
        progress.last_loss = done.loss
        return _Row(done.tokens, done.targets, rate, norm)

    def _window(self, update: Update, progress: Position, scale: float) -> "_Window":
        """The window's gradients. Where memory runs out they are thrown away and computed again in smaller parts.

        Raises OutOfMemory where no part can be smaller.
        """
        progress.most = lowest(progress.most, self.known, progress.step + 1, ("rehearsal", "training"))
        while True:
            done = self._backward(self.order.window(progress.step, progress.most), scale, progress.step)
            if not isinstance(done, Short):
                return done
            progress.most = self._smaller(done, progress.step + 1, "training", self.order.samples)
            update.drop()

    def _backward(self, micros: list[list[int]], scale: float, step: int) -> "_Window | Short":
        """Forward and backward of a window's micro-batches: gradients `scale` times those of the mean, and the mean."""
        rows = attempt(partial(self.rows, micros))
        if isinstance(rows, Short):  # it happened to one of them; which one, nobody knows
            return replace(rows, samples=tuple(largest(micros, self.order.samples)))
        units, total = sum(row.units for row in rows), 0.0
        for piece in self.ranks.share(rows):
            weight = piece.weight * scale / units
            value = attempt(partial(self.pass_over, piece.item, weight, step, piece.number))
            if isinstance(value, Short):
                return replace(value, samples=piece.item.samples)
            total += piece.weight * value
        return _Window(
            self.ranks.sum(total)[0] / units, [one for row in rows for one in row.samples],
            sum(len(row.ids) for row in rows), sum(len(row.labels) for row in rows),
        )  # fmt: skip

    def rows(self, micros: list[list[int]]) -> list[PackedRow]:
        """The tensors of a window's micro-batches."""
        with self._compute():
            return packed_rows(self.loss, self.decoder, self.order.samples, micros, self.ranks)

    def pass_over(self, row: PackedRow, weight: float, step: int, number: int) -> float:
        """Forward and backward of one micro-batch, whose loss has this weight.

        Returns its loss, a sum over its units.
        """
        torch.manual_seed(_mix(self.order.seed, step, number))  # dropout, the same after a resume
        with self._compute(), self.decoder.attention.segments(row.lengths):
            loss = self.loss(self.decoder, row)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self._not_finite("loss", value, step, list(row.samples))
            (loss * weight).backward()
        return value

    def _smaller(self, short: Short, step: int, where: str, samples: Samples) -> int:
        """The largest number of tokens that a micro-batch may have from now on; also emits a Split.

        Raises OutOfMemory where it cannot be computed again in smaller parts.
        """
        lengths = samples.lengths
        tokens = int(sum(lengths[one] for one in short.samples))
        lack = Lack(step, tokens, samples.where(short.samples[0]), self.ranks.rank, self.peak_bytes(), self.limit)
        if self.settings.fused and where == "training":  # weights have moved already
            raise lack.error("out_of_memory_fused", short)
        if self.ranks.world > 1:  # the others wait for this one in the middle of a block
            raise lack.error("out_of_memory_ranks", short)
        if len(short.samples) == 1:
            raise lack.error("out_of_memory_sample", short)
        most = halved(tokens, int(lengths.max()))
        self.on_event(Split(step, tokens, most, where, lack.peak, self.limit))
        return most

    @property
    def limit(self) -> int | None:
        return None if self.gauge is None else self.gauge.limit

    def _validate(self, progress: Position) -> bool:
        """The validation loss; whether it is the best so far. Training is not touched by it."""
        if self.validation is None:
            return False
        mean = self._mean(self.validation, progress)
        best = progress.step > 0 and math.isfinite(mean.loss)  # before the first step there is nothing to keep
        best = best and (progress.best_loss is None or mean.loss < progress.best_loss)
        if best:
            progress.best_loss, progress.best_step, progress.without_gain = mean.loss, progress.step, 0
        elif progress.step:
            progress.without_gain += 1
        self.on_event(Evaluated(progress.step, mean.loss, mean.targets, best, mean.accuracy, mean.margin))
        return best

    def _mean(self, samples: Samples, progress: Position) -> Mean:
        """The mean over the validation set. Where memory runs out its own micro-batches are split, not training's."""
        progress.most_validating = lowest(progress.most_validating, self.known, progress.step, ("validation",))
        while True:
            micros = in_order(samples, self.order.size, progress.most_validating)
            mean = attempt(partial(self.validated, samples, micros))
            if not isinstance(mean, Short):
                return mean
            short = replace(mean, samples=tuple(largest(micros, samples)))
            progress.most_validating = self._smaller(short, progress.step, "validation", samples)

    def validated(self, samples: Samples, micros: list[list[int]]) -> Mean:
        """The loss over these micro-batches of a validation set."""
        with self._compute():
            return mean_over(self.decoder, self.loss, samples, micros, self.ranks)

    def _save(self, optimizer: Optimizer, progress: Position) -> None:
        size = self.keeper.save(optimizer, progress)
        self.on_event(Saved(progress.step, self.keeper.path(progress.step).name, size))

    def _due(self, every: int, progress: Position) -> bool:
        return progress.step % every == 0 or progress.step == self.order.steps

    def _exhausted(self, progress: Position) -> bool:
        return self.settings.patience is not None and progress.without_gain >= self.settings.patience

    def _compute(self) -> torch.autocast:
        return computing(self.decoder, self.settings.compute)

    def _not_finite(self, what: str, value: float, step: int, samples: list[int]) -> TrainingError:
        lines = ", ".join(str(self.order.samples.where(one)) for one in samples[:16])
        return TrainingError("not_finite", what=what, value=value, step=step + 1, lines=lines)

    def _tell(self, progress: Position, row: "_Row", seconds: float, left: float) -> Step:
        assert progress.last_loss is not None
        return Step(
            step=progress.step, steps=self.order.steps, epoch=progress.step / self.order.steps_per_epoch,
            loss=progress.last_loss, learning_rate=row.rate, grad_norm=row.norm, tokens=row.tokens,
            target_tokens=row.targets, seconds=seconds, tokens_per_second=row.tokens / seconds,
            peak_bytes=self.peak_bytes(), eta_seconds=left,
        )  # fmt: skip


@dataclass(frozen=True)
class _Window:
    """The result of a window's backward passes: the mean loss, and the numbers of samples, tokens and targets."""

    loss: float
    samples: list[int]
    tokens: int
    targets: int


@dataclass(frozen=True)
class _Row:
    """The measurements of a step."""

    tokens: int
    targets: int
    rate: float
    norm: float


def _mix(seed: int, step: int, number: int) -> int:
    """A generator seed that differs for each micro-batch of each step (a 64-bit multiplicative hash)."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + number * 0x94D049BB133111EB) % 2**63
