"""Which model for a job, a language and a budget? Rules that can be read, over the kept catalogue. No torch.

The order, first to last:
  1. what fits with room to spare, then what fits tightly, then what does not fit
  2. what business may use, then what only research may
  3. what has the language as its makers' own, then what only names it
  4. the larger size class, up to the one that the job gains from; beyond it the smaller
  5. what was made for the job, and last what was made for another; a licence without conditions; the newer
Quality is not in it: nobody has measured these models on the user's own task.
"""

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xiaozao.plan.fit import Setup, every_sample, fit
from xiaozao.plan.memory import RUNTIMES
from xiaozao.plan.modelcatalogue import Entry, Thinking
from xiaozao.spec.parts import MethodSpec, TrainSpec
from xiaozao.spec.plan import MemoryPlan

Device = Literal["cpu", "cuda"]
Precision = Literal["bf16", "fp16", "fp32"]
Base = Literal["none", "nf4"]
Checkpointing = Literal["none", "block"]
State = Literal["fits", "nf4", "tight", "too_big"]

# Sizes as they are made: about 0.3, 0.6, 1.5, 4, 8, 14, 32 and 70 billion parameters.
CLASSES = (0.45e9, 1.1e9, 2.7e9, 5e9, 10e9, 20e9, 40e9)
# What is tried, the least harm first: computing activations again costs time, four bits cost some quality.
WAYS: tuple[tuple[Base, Checkpointing], ...] = (("none", "none"), ("none", "block"), ("nf4", "none"), ("nf4", "block"))
ORDER: dict[State, int] = {"fits": 0, "nf4": 0, "tight": 1, "too_big": 2}


@dataclass(frozen=True)
class Job:
    """What matters for a kind of job. Sizes are numbers of parameters."""

    least: float  # below it answers are often weak
    enough: float  # beyond it tuning on one task seldom gains
    thinking: tuple[Thinking, ...] = ("none", "switchable")  # a model that always thinks aloud keeps people waiting


JOBS: dict[str, Job] = {
    "support": Job(1.5e9, 8e9),
    "extract": Job(0.5e9, 4e9),
    "classify": Job(0.3e9, 1.5e9),
    "write": Job(3e9, 14e9),
    "code": Job(1.5e9, 14e9),
    "reason": Job(1.5e9, 14e9, ("switchable", "always")),
}


@dataclass(frozen=True)
class Need:
    """The question: the job, its language, and the machine that the model is to be tuned on."""

    job: str
    language: str
    budget: int  # bytes
    device: Device
    precision: Precision
    length: int  # tokens of the longest sample


@dataclass(frozen=True)
class Fitting:
    """Whether a model fits, and with which options."""

    state: State
    base: Base
    checkpointing: Checkpointing
    plan: MemoryPlan


@dataclass(frozen=True)
class Suggestion:
    """A model, whether it fits, and the hours a run takes here, where that is known."""

    entry: Entry
    verdict: Fitting
    hours: float | None = None

    @property
    def usable(self) -> bool:
        """Whether it may be recommended."""
        return self.verdict.state != "too_big" and self.entry.business != "research_only"


Hours = Callable[[Entry, Fitting], float | None]


def suggest(need: Need, entries: Sequence[Entry], hours: Hours | None = None) -> list[Suggestion]:
    """The models that speak the language and think as the job wants, the recommended first."""
    job = JOBS[need.job]
    suggestions = []
    for entry in entries:
        if need.language in entry.languages and entry.thinking in job.thinking:
            answer = verdict(entry.config, need)
            suggestions.append(Suggestion(entry, answer, hours(entry, answer) if hours else None))
    return sorted(suggestions, key=lambda one: _rank(one, need))


def verdict(config: dict[str, Any], need: Need) -> Fitting:
    """The first way that leaves room to spare; else the first that fits; else the smallest."""
    runtime = RUNTIMES[need.device]
    tried: list[Fitting] = []
    for base, checkpointing in WAYS:
        train = TrainSpec(budget=need.budget, checkpointing=checkpointing, optimizer="adamw")
        method = MethodSpec(precision=need.precision)
        plan = fit(config, Setup(method, train, need.device, runtime, base), every_sample((need.length,)))
        if plan.surely_fits:
            return Fitting("nf4" if base == "nf4" else "fits", base, checkpointing, plan)
        tried.append(Fitting("tight" if plan.fits else "too_big", base, checkpointing, plan))
    tight = [one for one in tried if one.state == "tight"]
    return tight[0] if tight else min(tried, key=lambda one: one.plan.peak_bytes)


def size_class(parameters: float) -> int:
    """Which of the sizes that are made; 0 is the smallest."""
    return bisect(CLASSES, parameters)


def _rank(suggestion: Suggestion, need: Need) -> tuple[Any, ...]:
    entry, state = suggestion.entry, suggestion.verdict.state
    size, enough = size_class(entry.parameters), size_class(JOBS[need.job].enough)
    fitting = (-min(size, enough), size) if state != "too_big" else (suggestion.verdict.plan.peak_bytes, 0)
    year, month = map(int, entry.released.split("-"))
    return (
        ORDER[state], entry.business == "research_only", need.language not in entry.own, *fitting,
        _made_for(entry, need.job), entry.business != "yes", -12 * year - month, entry.parameters,
    )  # fmt: skip


def _made_for(entry: Entry, job: str) -> int:
    if not entry.good_at:
        return 1
    return 0 if job in entry.good_at else 2
