"""The loop.

    for each step:  for each micro-batch:  loss / units of the whole step  ->  backward
                    finite?  ->  clip  ->  optimizer  ->  Step            (update.py: also in the middle of backward)
                    now and then: validation -> Evaluated, checkpoint -> Saved

The loss is the mean over the units of the step (target tokens; pairs or answers where preferences are learned), so any
split into micro-batches gives the same gradient.
Nothing but weights, the optimizer's states and Progress changes from step to step.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from xiaozao.data.prepare import Samples
from xiaozao.errors import TrainingError
from xiaozao.events import Evaluated, Event, Noticed, Saved, Step
from xiaozao.models.blocks import Decoder
from xiaozao.models.heap import give_back
from xiaozao.train.batches import Order, PackedRow
from xiaozao.train.losses import Loss, mean_loss
from xiaozao.train.optim_engine import Optimizer
from xiaozao.train.preferences import Preference, packed_rows
from xiaozao.train.ranks import ALONE, Ranks
from xiaozao.train.scaler import Scaler
from xiaozao.train.schedules import learning_rate
from xiaozao.train.state import Keeper, Progress
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

    def run(self, optimizer: Optimizer, progress: Progress) -> tuple[Progress, bool]:
        """Train from `progress` to the end. Returns the progress and whether it was stopped on request."""
        # Preferences are small differences of large numbers, which dropout would drown; so it is off for them.
        self.decoder.model.train(not isinstance(self.loss, Preference))
        if progress.step == 0:
            self._validate(progress)
        update = (Fused if self.settings.fused else Whole)(optimizer, self.settings.clip, self.ranks)
        try:
            return self._run(optimizer, update, progress)
        finally:
            update.close()

    def _run(self, optimizer: Optimizer, update: Update, progress: Progress) -> tuple[Progress, bool]:
        started = self.clock() - progress.seconds
        recent: list[float] = []
        while progress.step < self.order.steps and not self._exhausted(progress):
            begun = self.clock()
            row = self._step(update, progress)
            recent = [*recent[-19:], self.clock() - begun]
            self.on_event(self._tell(progress, row, recent))
            improved = self._due(self.settings.eval_every, progress) and self._validate(progress)
            progress.seconds = self.clock() - started
            stopping = self.should_stop()
            if improved or stopping or self._due(self.settings.save_every, progress):
                self._save(optimizer, progress)
            if stopping and progress.step < self.order.steps:
                return progress, True
        return progress, False

    def _step(self, update: Update, progress: Progress) -> "_Row":
        """One optimizer step. Nothing is updated when a loss or gradient is not finite, unless the update is fused."""
        micros = self.order.window(progress.step)
        with self._compute():
            rows = packed_rows(self.loss, self.decoder, self.order.samples, micros, self.ranks)
        rate = learning_rate(
            progress.step, self.order.steps, self.settings.warmup, self.settings.learning_rate, self.settings.schedule
        )
        scaler = Scaler(self.settings.compute)
        update.begin(progress.step, rate)
        while True:
            scale = scaler.scale(progress)
            loss = self._window(rows, scale, progress.step)
            norm = update.norm(scale)
            if math.isfinite(norm):
                break
            if not scaler.active:
                raise self._not_finite("gradient", norm, progress.step, [one for row in rows for one in row.samples])
            update.drop()
            scaler.overflowed(progress)
            self.on_event(Noticed("fp16_overflow", {"step": progress.step + 1, "scale": progress.loss_scale}))
        update.apply(norm, scale)
        scaler.succeeded(progress)
        give_back()
        tokens, targets = sum(len(row.ids) for row in rows), sum(len(row.labels) for row in rows)
        progress.step += 1
        progress.tokens += tokens
        progress.target_tokens += targets
        progress.last_loss = loss
        return _Row(tokens, targets, rate, norm)

    def _window(self, rows: list[PackedRow], scale: float, step: int) -> float:
        """Forward and backward of a window's micro-batches: gradients `scale` times those of the mean, and the mean."""
        units, total = sum(row.units for row in rows), 0.0
        for piece in self.ranks.share(rows):
            row = piece.item
            torch.manual_seed(_mix(self.order.seed, step, piece.number))  # dropout, the same after a resume
            with self._compute(), self.decoder.attention.segments(row.lengths):
                loss = self.loss(self.decoder, row)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise self._not_finite("loss", value, step, list(row.samples))
                (loss * (piece.weight * scale / units)).backward()
            total += piece.weight * value
        return self.ranks.sum(total)[0] / units

    def _validate(self, progress: Progress) -> bool:
        """The validation loss; whether it is the best so far. Training is not touched by it."""
        if self.validation is None:
            return False
        with self._compute():
            mean = mean_loss(self.decoder, self.loss, self.validation, self.order.micro_batch, self.ranks)
        best = math.isfinite(mean.loss) and (progress.best_loss is None or mean.loss < progress.best_loss)
        if best and progress.step:  # before the first step there is nothing to keep
            progress.best_loss, progress.best_step, progress.without_gain = mean.loss, progress.step, 0
        elif progress.step:
            progress.without_gain += 1
        self.on_event(Evaluated(progress.step, mean.loss, mean.targets, best, mean.accuracy, mean.margin))
        return best and progress.step > 0

    def _save(self, optimizer: Optimizer, progress: Progress) -> None:
        size = self.keeper.save(optimizer, progress)
        self.on_event(Saved(progress.step, self.keeper.path(progress.step).name, size))

    def _due(self, every: int, progress: Progress) -> bool:
        return progress.step % every == 0 or progress.step == self.order.steps

    def _exhausted(self, progress: Progress) -> bool:
        return self.settings.patience is not None and progress.without_gain >= self.settings.patience

    def _compute(self) -> torch.autocast:
        return computing(self.decoder, self.settings.compute)

    def _not_finite(self, what: str, value: float, step: int, samples: list[int]) -> TrainingError:
        lines = ", ".join(str(self.order.samples.lines[one]) for one in samples[:16])
        return TrainingError("not_finite", what=what, value=value, step=step + 1, lines=lines)

    def _tell(self, progress: Progress, row: "_Row", recent: list[float]) -> Step:
        assert progress.last_loss is not None
        remaining = self.order.steps - progress.step
        return Step(
            step=progress.step, steps=self.order.steps, epoch=progress.step / self.order.steps_per_epoch,
            loss=progress.last_loss, learning_rate=row.rate, grad_norm=row.norm, tokens=row.tokens,
            target_tokens=row.targets, seconds=recent[-1], tokens_per_second=row.tokens / recent[-1],
            peak_bytes=self.peak_bytes(), eta_seconds=remaining * statistics.median(recent),
        )  # fmt: skip


@dataclass(frozen=True)
class _Row:
    """What a step has to tell."""

    tokens: int
    targets: int
    rate: float
    norm: float


def computing(decoder: Decoder, compute: torch.dtype) -> torch.autocast:
    """Weights that are already in the compute dtype need no autocast; fp32 masters of a bf16 run do."""
    differs = all(one.dtype != compute for one in decoder.model.parameters())
    return torch.autocast(decoder.device.type, dtype=compute, enabled=differs)


def _mix(seed: int, step: int, number: int) -> int:
    """A generator seed that differs for each micro-batch of each step (a 64-bit multiplicative hash)."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + number * 0x94D049BB133111EB) % 2**63
