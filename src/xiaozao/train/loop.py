"""The loop.

    for each step:  for each micro-batch:  loss / target tokens of the whole step  ->  backward
                    finite?  ->  clip  ->  AdamW  ->  Step
                    now and then: validation -> Evaluated, checkpoint -> Saved

The loss is the mean over the target tokens of the step, so any split into micro-batches gives the same gradient.
Nothing but weights, moments and Progress changes from step to step.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from xiaozao.data.prepare import Samples
from xiaozao.errors import TrainingError
from xiaozao.events import Evaluated, Event, Saved, Step
from xiaozao.models.blocks import Decoder
from xiaozao.models.heap import give_back
from xiaozao.train.batches import Order, PackedRow, packed_row
from xiaozao.train.losses import Loss, mean_loss
from xiaozao.train.optim import AdamW, clip, gradient_norm, learning_rate
from xiaozao.train.state import Keeper, Progress


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

    def run(self, optimizer: AdamW, progress: Progress) -> tuple[Progress, bool]:
        """Train from `progress` to the end. Returns the progress and whether it was stopped on request."""
        started = self.clock() - progress.seconds
        recent: list[float] = []
        self.decoder.model.train()
        if progress.step == 0:
            self._validate(progress)
        while progress.step < self.order.steps and not self._exhausted(progress):
            begun = self.clock()
            row = self._step(optimizer, progress)
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

    def _step(self, optimizer: AdamW, progress: Progress) -> "_Row":
        """One optimizer step. Nothing is updated when a loss or gradient is not finite."""
        micros = self.order.window(progress.step)
        rows = [packed_row(self.order.samples, micro, self.decoder.device) for micro in micros]
        targets = sum(len(row.labels) for row in rows)
        units = sum(row.units for row in rows)
        total = 0.0
        for number, row in enumerate(rows):
            torch.manual_seed(_mix(self.order.seed, progress.step, number))  # dropout, the same after a resume
            total += self._backward(row, units, progress.step)
        parameters = list(optimizer.parameters.values())
        norm = gradient_norm(parameters)
        if not math.isfinite(float(norm)):
            raise self._not_finite("gradient", float(norm), progress.step, [one for row in rows for one in row.samples])
        clip(parameters, norm, self.settings.clip)
        rate = learning_rate(
            progress.step, self.order.steps, self.settings.warmup, self.settings.learning_rate, self.settings.schedule
        )
        optimizer.step(rate)
        give_back()
        tokens = sum(len(row.ids) for row in rows)
        progress.step += 1
        progress.tokens += tokens
        progress.target_tokens += targets
        progress.last_loss = total / units
        return _Row(tokens, targets, rate, float(norm))

    def _backward(self, row: PackedRow, units: int, step: int) -> float:
        with self._compute(), self.decoder.attention.segments(row.lengths):
            loss = self.loss(self.decoder, row)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self._not_finite("loss", value, step, list(row.samples))
            (loss / units).backward()
        return value

    def _validate(self, progress: Progress) -> bool:
        """The validation loss; whether it is the best so far. Training is not touched by it."""
        if self.validation is None:
            return False
        with self._compute():
            loss, targets = mean_loss(self.decoder, self.loss, self.validation, self.order.micro_batch)
        best = math.isfinite(loss) and (progress.best_loss is None or loss < progress.best_loss)
        if best and progress.step:  # before the first step there is nothing to keep
            progress.best_loss, progress.best_step, progress.without_gain = loss, progress.step, 0
        elif progress.step:
            progress.without_gain += 1
        self.on_event(Evaluated(progress.step, loss, targets, best))
        return best and progress.step > 0

    def _save(self, optimizer: AdamW, progress: Progress) -> None:
        size = self.keeper.save(self.decoder, optimizer, progress)
        self.on_event(Saved(progress.step, self.keeper.path(progress.step).name, size))

    def _due(self, every: int, progress: Progress) -> bool:
        return progress.step % every == 0 or progress.step == self.order.steps

    def _exhausted(self, progress: Progress) -> bool:
        return self.settings.patience is not None and progress.without_gain >= self.settings.patience

    def _compute(self) -> torch.autocast:
        """Weights that are already in the compute dtype need no autocast; fp32 masters of a bf16 run do."""
        differs = self.decoder.model.dtype != self.settings.compute
        return torch.autocast(self.decoder.device.type, dtype=self.settings.compute, enabled=differs)

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


def _mix(seed: int, step: int, number: int) -> int:
    """A generator seed that differs for each micro-batch of each step (a 64-bit multiplicative hash)."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + number * 0x94D049BB133111EB) % 2**63
