"""docs/duration.md from results/duration.jsonl: predicted seconds of a step beside the measured."""

from collections.abc import Sequence
from dataclasses import dataclass

HEAD = """# The planned time of a step, against the CPU

Made by `make bench-duration` from `bench/results/duration.jsonl`. No row stands here that was not run.

- **predicted**: from the traced work of the row's micro-batches and the machine's rates, which are measured by
  `python -m xiaozao.measure.calibrate` in a fresh process right before the row's run, pinned to the same core.
- **measured**: the median over the steps after the first of one `zao train` in a fresh process; processor time on one
  pinned core with one thread, which is what the clock shows on a core that does nothing else. Predicted is the median
  over the same steps.
- The pace of a shared machine moves by tens of percent from one minute to the next. **Pace meanwhile** says by how
  much: what a second calibration right after the run would have predicted, beside the first.
"""
NO_ROWS = "\nNothing has been measured yet.\n"
WITHIN = 0.2


@dataclass(frozen=True)
class Timed:
    """One row: the options that make it, and seconds."""

    options: dict[str, str]
    setting: str
    machine: str
    version: str
    predicted: float = 0.0
    measured: float = 0.0
    wall: float = 0.0  # of the same steps, with whatever else ran on the core
    tokens: float = 0.0  # in a step
    calibration: float = 0.0  # processor seconds that it took
    predicted_after: float = 0.0  # with the rates that a second calibration found, right after the run
    parts: dict[str, float] | None = None
    rates: dict[str, float] | None = None
    error: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes two rows the same."""
        return str(sorted(self.options.items())), self.version

    @property
    def off(self) -> float:
        return self.predicted / self.measured - 1


def duration_page(found: Sequence[Timed]) -> str:
    """The whole page."""
    good = [one for one in found if not one.error]
    if not good:
        return HEAD + NO_ROWS
    within = sum(abs(one.off) <= WITHIN for one in good)
    parts = [
        HEAD, f"\n**{within} of {len(good)} within {WITHIN:.0%}** (target: 8 of 10); a calibration took "
        f"{max(one.calibration for one in good):.1f} s of processor time at most (target: under 5 s).\n\n",
        f"{good[0].setting}; {good[0].machine}.\n\n",
        "| run | tokens a step | predicted | measured | error | pace meanwhile |\n",
        "|---|---|---|---|---|---|\n",
    ]  # fmt: skip
    for one in found:
        name = " ".join(f"`{key}={value}`" for key, value in one.options.items()) or "defaults"
        if one.error:
            parts.append(f"| {name} | {one.error} | | | | |\n")
            continue
        moved = one.predicted_after / one.predicted - 1
        both = f"{one.predicted:.1f} s | {one.measured:.1f} s"
        parts.append(f"| {name} | {one.tokens:.0f} | {both} | {one.off:+.0%} | {moved:+.0%} |\n")
    return "".join(parts)
