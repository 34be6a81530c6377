"""The memory of a run for display: the parts, the peak and the budget."""

from collections.abc import Mapping
from dataclasses import dataclass

from xiaozao.events import Planned
from xiaozao.spec.plan import MemoryPlan, Range, Verdict
from xiaozao.texts.catalogue import Language, has, say

FINE = 2e9  # bytes; of smaller plans the parts have two places


@dataclass(frozen=True)
class Memory:
    """The parts of memory at the moment of the peak, and the budget, in bytes."""

    parts: Mapping[str, int]
    peak_bytes: int
    budget_bytes: int
    moment: str
    samples: int
    tokens: int
    low_bytes: int = 0  # the guaranteed interval; 0 where there is none
    high_bytes: int = 0

    @property
    def verdict(self) -> Verdict:
        """Whether it fits; see spec.plan.Range."""
        return Range(self.peak_bytes, self.low_bytes, self.high_bytes, self.budget_bytes).verdict

    @property
    def places(self) -> int:
        """The number of decimals for gigabytes: more for small plans."""
        return 2 if self.peak_bytes < FINE else 1


def of_plan(plan: MemoryPlan) -> Memory:
    """The memory of a plan."""
    peak = plan.peak
    return Memory(
        peak.parts, plan.peak_bytes, plan.budget_bytes, peak.name, plan.samples, plan.tokens, plan.low_bytes,
        plan.high_bytes,
    )  # fmt: skip


def of_event(event: Planned) -> Memory:
    """The memory in a Planned event of a journal."""
    return Memory(
        event.parts, event.peak_bytes, event.budget_bytes, event.moment, event.micro_batch, event.tokens,
        event.low_bytes, event.high_bytes,
    )  # fmt: skip


def part_name(part: str, language: Language) -> str:
    """What a part of memory is called."""
    return say(f"part.{part}", language) if has(f"part.{part}") else part


def moment_name(moment: str, language: Language) -> str:
    """What a moment of a run is called."""
    key = f"moment.{moment.replace(' ', '_')}"
    return say(key, language) if has(key) else moment
