"""The part of docs/duration.md that tells of a run beside a busy program, from results/contention.jsonl."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.rig.task import RESULTS

FILE = RESULTS / "contention.jsonl"
ALONE = "alone"
HEAD = """
## Beside a busy program

Made by `make bench-contention` from `bench/results/contention.jsonl`. One process computes without end while a run
trains. A run counts the cores that are free when it starts; its threads spin for about half a millisecond while they
wait for each other, and then sleep.

- **tokens/s**: over the steps after the first; **share**: beside the run that is alone.
- **time left**: what the run said at half of its steps, over what the rest then took.
- **threads that spin** is what the libraries do by themselves (`OMP_WAIT_POLICY=ACTIVE threads=2`); **one that starts
  later** is a run that took both cores (`threads=2`), since the program came after it had counted them.
"""


@dataclass(frozen=True)
class Contended:
    """A way to run: tokens a second, and the time left that it told at half of the run, over the truth."""

    way: str
    setting: str
    machine: str
    version: str
    runs: int
    pace: float
    left: float


def contention_section(found: Sequence[Contended]) -> str:
    """The section; nothing where nothing was measured."""
    if not found:
        return ""
    alone = next((one.pace for one in found if one.way == ALONE), 0.0)
    lines = [HEAD, f"\n{found[0].setting}; medians of {found[0].runs}; {found[0].machine}.\n\n"]
    lines += ["| run | tokens/s | share | time left |\n", "|---|---|---|---|\n"]
    for one in found:
        share = f"{one.pace / alone:.2f}" if alone else ""
        lines.append(f"| {one.way} | {one.pace:.0f} | {share} | {one.left:.2f} |\n")
    return "".join(lines)
