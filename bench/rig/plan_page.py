"""docs/plan.md from results/plan.jsonl: what was planned beside what was measured, with the points drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import matplotlib
from matplotlib.figure import Figure

HEAD = """# The plan against the CPU

Made by `make bench-plan` from `bench/results/plan.jsonl`: every row is one `zao train` of two optimizer steps in a
fresh process, and once more under torch's profiler. No row stands here that was not run.

- **live** is what is in use at the peak: weights, gradients, optimizer states and activations, as torch's allocator
  reports them; **resident** is the high-water mark of the worker's resident set as the kernel keeps it (`VmHWM`).
  Weights on disk (`stream=disk`) are mapped, which no allocator reports: of those runs only `resident` is compared.
- **interval**: whether the resident set lay below the upper end of the interval that the plan stands behind.
- The budget of each row makes the heap give freed memory back at once. Where it may keep some, which is faster, as in
  the rows with `budget=` in their names, the plan says how much at most, and a run may need less than that.
"""
PARAMETERS = 134_515_008  # of the 135M model
NO_ROWS = "\nNothing has been measured yet.\n"


@dataclass(frozen=True)
class Planned:
    """One row: the options that make it, and bytes."""

    options: dict[str, str]
    setting: str
    machine: str
    version: str
    live: int = 0
    live_measured: int = 0
    peak: int = 0
    high: int = 0
    peak_measured: int = 0
    error: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes two rows the same."""
        return str(sorted(self.options.items())), self.version

    @property
    def reported(self) -> bool:
        """Whether an allocator reports all that is alive."""
        return self.options.get("stream") != "disk"

    @property
    def live_error(self) -> float:
        return self.live / self.live_measured - 1

    @property
    def peak_error(self) -> float:
        return self.peak / self.peak_measured - 1


def plan_page(found: Sequence[Planned]) -> str:
    """The whole page."""
    good = [one for one in found if not one.error]
    if not good:
        return HEAD + NO_ROWS
    parts = [HEAD, "\n## In short\n\n", *_summary(good), "\n![planned against measured](plan.svg)\n\n## Rows\n\n"]
    parts.append(f"{found[0].setting}; {found[0].machine}.\n\n")
    parts.append("| run | live planned | measured | error | resident planned | measured | error | interval |\n")
    parts.append("|---|---|---|---|---|---|---|---|\n")
    for one in found:
        name = " ".join(f"`{key}={value}`" for key, value in one.options.items()) or "defaults"
        if one.error:
            parts.append(f"| {name} | {one.error} | | | | | | |\n")
            continue
        inside = "below" if one.peak_measured <= one.high else f"above by {one.peak_measured / one.high - 1:.1%}"
        error = f"{one.live_error:+.2%}" if one.reported else "-"
        parts.append(
            f"| {name} | {_gb(one.live)} | {_gb(one.live_measured) if one.reported else '-'} | {error} "
            f"| {_gb(one.peak)} | {_gb(one.peak_measured)} | {one.peak_error:+.1%} | {inside} |\n"
        )
    return "".join([*parts, *_floor(good)])


def _floor(good: Sequence[Planned]) -> list[str]:
    """The least that full parameters took, where that was measured."""
    full = [one for one in good if one.options.get("method") == "full" and "model" not in one.options]
    if not full:
        return []
    least = min(full, key=lambda one: one.peak_measured)
    named = " ".join(f"{key}={value}" for key, value in least.options.items())
    fixed = PARAMETERS * 16
    return [
        "\n## The floor of full parameters\n\n"
        f"Of these rows the one that takes least is `{named}`: {_gb(least.peak_measured)} resident, "
        f"{_gb(least.live_measured)} of them alive at the peak, the rest Python, torch and code. Weights, gradients "
        f"and Adam's two states in fp32 alone are 16 bytes a parameter: {_gb(fixed)}. With weights and states on "
        "disk it is less: [full.md](full.md).\n"
    ]


def draw(found: Sequence[Planned], path: Path) -> None:
    """Measured to the right, planned upwards; the line is where both are the same."""
    good = [one for one in found if not one.error]
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    alive = [one for one in good if one.reported]
    axes.scatter(
        [one.live_measured / 1e9 for one in alive], [one.live / 1e9 for one in alive], marker="o", label="live"
    )
    axes.scatter(
        [one.peak_measured / 1e9 for one in good], [one.peak / 1e9 for one in good], marker="^", label="resident"
    )
    most = max((max(one.peak, one.peak_measured) for one in good), default=10**9) / 1e9
    axes.plot([0, most], [0, most], linewidth=1, color="#7D8797")
    axes.set_xlabel("measured, GB")
    axes.set_ylabel("planned, GB")
    axes.legend()
    with matplotlib.rc_context({"svg.hashsalt": "xiaozao"}):  # the same rows draw the same file
        figure.savefig(path, metadata={"Date": None})


def _summary(good: Sequence[Planned]) -> list[str]:
    lives = [abs(one.live_error) for one in good if one.reported]
    peaks = [abs(one.peak_error) for one in good]
    over = max(one.peak_measured / one.high - 1 for one in good)
    return [
        "| | rows | mean error | worst | target |\n|---|---|---|---|---|\n",
        f"| live peak | {len(lives)} | {fmean(lives):.2%} | {max(lives):.2%} | 0.5 % mean, 2 % worst |\n",
        f"| resident peak | {len(good)} | {fmean(peaks):.2%} | {max(peaks):.2%} | 3 % mean |\n",
        f"| resident over the interval's upper end | {len(good)} | | {over:+.2%} | at most 3 % |\n",
    ]


def _gb(count: int) -> str:
    return f"{count / 1e9:.3f} GB"
