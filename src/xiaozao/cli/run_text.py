"""What `zao train` and `zao runs watch` print of a run: a sentence for each event, and the live line of progress.

The functions are pure: events in, renderables and text out. cli/watch.py decides where the output goes and how often.
"""

import math
import time
from collections.abc import Callable, Sequence

from rich.console import RenderableType
from rich.text import Text

from xiaozao.cli.ladder_view import ladder_view
from xiaozao.cli.memory_bar import memory_view
from xiaozao.events import (
    Answered,
    Ended,
    Evaluated,
    Event,
    Loaded,
    Noticed,
    Planned,
    Prepared,
    Progress,
    Rehearsed,
    Reported,
    Split,
    Started,
    Step,
)
from xiaozao.runs.memory_facts import of_event
from xiaozao.runs.sentences import left_out, notice_text, stage_name
from xiaozao.texts.catalogue import Language, say
from xiaozao.texts.numbers import duration, gigabytes, millions, number

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
PATIENCE = 3  # times the longest step so far; a step that takes longer says that the pace has changed
ENOUGH_STEPS = 3  # before that, the time left is a guess about warm-up


class Story:
    """The state of a watched run, built up from its events."""

    def __init__(self, language: Language, unicode: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.language: Language = language
        self.unicode = unicode
        self.step: Step | None = None
        self.stage: Progress | None = None
        self.waiting = "watch.starting"
        self.validation: float | None = None
        self.ended: Ended | None = None
        self.losses: list[tuple[int, float]] = []  # step and loss
        self.report = ""
        self.clock = clock
        self.heard_at = 0.0  # when the last step was heard of
        self.longest = 0.0  # seconds between two steps, with what comes between them

    def remember(self, event: Event) -> None:
        """Take in an event from before the watch began, without printing it."""
        if isinstance(event, Step):
            self.losses.append((event.step, event.loss))
        elif isinstance(event, Started):
            self._taken_back(event)

    def _taken_back(self, event: Started) -> None:
        """Forget the steps after the checkpoint, because a resumed run computes them again."""
        last = event.resumed_from or 0
        self.losses = [(step, loss) for step, loss in self.losses if step <= last]

    def hear(self, event: Event) -> list[RenderableType]:
        """What to print, once, for this event."""
        match event:
            case Progress():
                self.stage = None if event.total and event.done >= event.total else event
                return []
            case Step():
                now = self.clock()
                if self.step is not None:
                    self.longest = max(self.longest, now - self.heard_at)
                self.step, self.stage, self.heard_at = event, None, now
                self.losses.append((event.step, event.loss))
                return []
            case Evaluated():
                self.validation = event.loss
                return [self._evaluated(event)]
            case Planned():
                memory = memory_view(of_event(event), self.language, self.unicode)
                return [memory, *ladder_view(event.ladder, self.language), ""]
            case Rehearsed():
                self.stage = None
                return [self._rehearsed(event)]
            case Split():
                how = {"step": event.step, "tokens": f"{event.tokens:,}", "most": f"{event.most:,}"}
                return [f"! {self._say(f'watch.split_{event.where}', **how)}"]
            case Noticed():
                return [f"! {notice_text(event, self.language)}"]
            case Reported():
                self.report = event.html
                return []
            case Ended():
                self.ended = event
                return []
        return self._milestone(event)

    def line(self) -> str:
        """The live line: the current stage, or the last step with its numbers."""
        if self.stage is not None:
            share = f" {self.stage.done / self.stage.total:.0%}" if self.stage.total else ""
            return stage_name(self.stage.stage, self.language) + share
        step = self.step
        if step is None:
            return self._say(self.waiting)
        parts = [
            self._say("watch.step", step=step.step, steps=step.steps, share=f"{step.step / max(step.steps, 1):.0%}"),
            self.numbers(),
        ]
        return " · ".join(parts)

    def numbers(self) -> str:
        """Loss, validation loss, learning rate, speed, peak memory and time left of the last step."""
        step = self.step
        if step is None:
            return ""
        parts = [self._say("watch.loss", loss=number(step.loss))]
        if self.validation is not None:
            parts.append(self._say("watch.validation", loss=number(self.validation)))
        parts.append(self._say("watch.rate", rate=f"{step.learning_rate:.1e}"))
        parts.append(self._say("watch.speed", speed=f"{step.tokens_per_second:,.0f}"))
        parts.append(self._say("watch.peak", peak=gigabytes(step.peak_bytes)))
        if step.step >= ENOUGH_STEPS or step.step == step.steps:
            parts.append(self._say("watch.eta", time=duration(self._left(step), self.language)))
        return " · ".join(parts)

    def _left(self, step: Step) -> float:
        """The seconds left: what the last event said, less the time since then.

        More if a step takes far longer than any before.
        """
        waited = self.clock() - self.heard_at
        if waited > PATIENCE * max(step.seconds, self.longest):
            return (step.steps - step.step) * waited
        return max(0.0, step.eta_seconds - waited)

    def curve(self, width: int = 40) -> str:
        """The training loss so far, as a line of blocks."""
        return sparkline([loss for _, loss in self.losses], width, self.unicode)

    def _milestone(self, event: Event) -> list[RenderableType]:
        """What to print for an event that ends a stage."""
        self.stage = None
        if isinstance(event, Started):
            self._taken_back(event)
        self.waiting = "watch.first_step" if isinstance(event, Loaded) else "watch.preparing"
        match event:
            case Started(resumed_from=int(step)):
                return [self._say("watch.resumed", step=step)]
            case Prepared():
                many = left_out(event.dropped, event.rows_read, self.language)
                return [self._prepared(event), *([Text(f"! {many}", style="yellow")] if many else [])]
            case Loaded():
                share = event.trainable / event.parameters if event.parameters else 0.0
                return [
                    self._say(
                        "watch.loaded", model=event.model, parameters=millions(event.parameters),
                        trainable=millions(event.trainable), share=f"{share:.1%}",
                        device=event.device, precision=event.precision,
                    )
                ]  # fmt: skip
            case Answered():
                return [self._answered(event)]
        return []

    def _prepared(self, event: Prepared) -> str:
        text = self._say(
            "watch.prepared", read=event.rows_read, used=event.rows_used, validation=event.rows_validation,
            tokens=f"{event.tokens:,}", longest=event.longest,
        )  # fmt: skip
        if event.dropped:
            text += " · " + self._say("watch.dropped", reasons=event.dropped)
        return text

    def _rehearsed(self, event: Rehearsed) -> str:
        limit = "-" if event.limit_bytes is None else f"{event.limit_bytes / 1e9:.2f}"
        return self._say(
            "watch.rehearsed", samples=event.samples, tokens=f"{event.tokens:,}", peak=f"{event.peak_bytes / 1e9:.2f}",
            planned=f"{event.planned_bytes / 1e9:.2f}", limit=limit,
        )  # fmt: skip

    def _evaluated(self, event: Evaluated) -> str:
        mark = f" {self._say('watch.best')}" if event.best else ""
        text = self._say("watch.evaluated", step=event.step, loss=number(event.loss))
        if event.accuracy is not None:
            share, margin = f"{event.accuracy:.0%}", number(event.margin)
            text += " · " + self._say("watch.preferred", share=share, margin=margin)
        return text + mark

    def _answered(self, event: Answered) -> str:
        valid = (
            "" if event.valid_json is None else " · " + self._say("watch.valid_json", share=f"{event.valid_json:.0%}")
        )
        who = self._say("watch.base" if event.who == "base" else "watch.tuned")
        return self._say("watch.answered", who=who, n=event.n, exact=f"{event.exact:.0%}") + valid

    def _say(self, key: str, /, **params: object) -> str:
        return say(key, self.language, **params)


def sparkline(values: Sequence[float], width: int = 40, unicode: bool = True) -> str:
    """The values as blocks of eight heights, each the mean of an equal share of them.

    Values that are not finite are left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    columns = min(width, len(finite))
    edges = [place * len(finite) // columns for place in range(columns + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, high = min(means), max(means)
    blocks = BLOCKS if unicode else ASCII_BLOCKS
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(blocks[round((mean - low) * scale)] for mean in means)
