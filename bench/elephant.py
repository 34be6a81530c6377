"""Does a model that is larger than memory train, and what does a step cost? `make bench-elephant`

    python -m bench.elephant --size 7b                           three steps of 512 tokens, weights in bf16 on disk
    python -m bench.elephant --size 7b --base nf4 --pieces 4     four micro-batches of 128 tokens each
    python -m bench.elephant --size 70b --base nf4 --tokens 64 --steps 1
    python -m bench.elephant --page                              docs/streaming.md alone

Makes a model with random weights in the shape of a real one (in .bench/elephant, which is kept), and trains it with
`zao train stream=disk` in a fresh process: LoRA of rank 8 on all linear layers, AdamW in 8 bits. The result is a line
of results/elephant.jsonl; --json prints it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from bench.rig.data import without_paths
from bench.rig.elephant_page import Elephant, elephant_page
from bench.rig.elephants import SHAPES, block_weights, write_elephant, write_nf4_elephant
from bench.rig.environments import cache_folder
from bench.rig.machine import describe
from bench.rig.measure import Machine, RunFailed
from bench.rig.results import read_rows, write_rows
from bench.rig.run_zao import NEVER, Run, run_zao
from bench.rig.task import RESULTS

FILE, PAGE = RESULTS / "elephant.jsonl", Path(__file__).parents[1] / "docs" / "streaming.md"
COST = RESULTS / "stream_cost.json"  # of bench/stream_cost.py
PASSES = {"product": 3, "read": 2}  # over the blocks in a step: forward, again, back; of which the last two read once
SAMPLE = 2 << 30  # bytes of the weights that are read to measure the disk
PIECE = 8 << 20


def main() -> int:
    options = parse()
    if not options.page:
        try:
            found = measure(options)
        except RunFailed as failure:
            sys.stderr.write(without_paths(str(failure)) + "\n")
            return 1
        kept = [one for one in read_rows(FILE, Elephant) if one.key != found.key]
        write_rows(FILE, [*kept, found])
        if options.json:
            sys.stdout.write(json.dumps(asdict(found)) + "\n")
    costs = json.loads(COST.read_text(encoding="utf-8")) if COST.is_file() else []
    PAGE.write_text(elephant_page(read_rows(FILE, Elephant), costs), encoding="utf-8")
    return 0


def measure(options: argparse.Namespace) -> Elephant:
    """One run, and what the machine can do at most."""
    machine = Machine(options.core)
    work = cache_folder() / "elephant"
    home = work / "runs" / "home"
    name = f"{options.size}-{options.base}"
    if options.base == "nf4" and not options.convert:
        model = write_nf4_elephant(work / name, home / "cache" / "streams", options.size)
        weights = home / "cache" / "streams"
        files = sorted(next(weights.glob(f"{name}-*")).glob("*.safetensors"))
    else:
        model = write_elephant(work / options.size, options.size)
        files = sorted(model.glob("*.safetensors"))
    data = write_texts(work / "rows.jsonl", options.tokens // options.pieces, options.steps * options.pieces)
    given = {
        "model": model.absolute(), "data": data.absolute(), "validation": "none", "objective": "pretrain",
        "length": options.tokens // options.pieces, "rank": 8, "optimizer": "adamw8bit", "base": options.base,
        "stream": options.stream, "checkpointing": "block", "precision": options.precision, "batch": options.pieces,
        "micro_batch": 1, "epochs": 1, "eval_every": NEVER, "save_every": NEVER, "budget": options.budget,
    }  # fmt: skip
    begun = time.monotonic()
    run = run_zao(given, work / "runs" / name, machine)
    seconds = time.monotonic() - begun
    return result(options, machine, files, run, seconds)


def result(options: argparse.Namespace, machine: Machine, files: list[Path], run: Run, seconds: float) -> Elephant:
    """The figures of a run beside the machine's limits."""
    shape = SHAPES[options.size]
    tokens = max(step.tokens for step in run.steps)
    sizes = {one: one.stat().st_size for one in files}
    blocks, hidden = block_weights(shape), shape["hidden_size"]
    assert isinstance(hidden, int)
    return Elephant(
        size=options.size, base=options.base, stream=options.stream, precision=options.precision, tokens=tokens,
        pieces=options.pieces, steps=len(run.steps), machine=describe(machine), version=version("xiaozao"),
        weights_bytes=sum(sizes.values()), peak_rss_bytes=run.watched.peak_bytes,
        predicted_peak_bytes=run.ended.predicted_peak_bytes,
        step_seconds=sorted(step.seconds for step in run.steps)[len(run.steps) // 2],
        run_seconds=seconds, read_bytes=run.watched.read_bytes, losses=[step.loss for step in run.steps],
        bytes_a_step=PASSES["read"] * options.pieces * sum(sizes.values()),
        flop_a_step=PASSES["product"] * 2 * blocks * tokens,
        disk_rate=disk_rate(files), gemm_rate=gemm_rate(options, machine, tokens // options.pieces, hidden),
        cpu_share=run.watched.cpu_share,
    )  # fmt: skip


def write_texts(path: Path, tokens: int, count: int) -> Path:
    """Texts of that many tokens, one a byte and one for the end."""
    words = "the elephant stood beside the small stove and waited for its private lesson to begin "
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ((f"{number} " + words * (1 + tokens // len(words)))[: tokens - 1] for number in range(count))
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return path


def disk_rate(files: list[Path]) -> float:
    """Bytes a second that the disk gives when files are read from end to end, none of them from the page cache."""
    if not hasattr(os, "posix_fadvise"):
        return 0.0
    read, begun = 0, 0.0
    for path in files:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            start = time.perf_counter()
            while (got := len(file.read(PIECE))) and read < SAMPLE:
                read += got
            begun += time.perf_counter() - start
        if read >= SAMPLE:
            break
    return read / begun


def gemm_rate(options: argparse.Namespace, machine: Machine, tokens: int, hidden: int) -> float:
    """FLOP a second of one product of this model's kind, in a fresh process on the same core."""
    command = [sys.executable, "-m", "bench.rig.gemm", options.precision, str(tokens), str(hidden), str(hidden)]
    done = subprocess.run(
        machine.command(command), env=machine.variables(), check=True, stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(done.stdout)) * 1e9


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--base", choices=("none", "nf4"), default="none")
    parser.add_argument("--stream", choices=("disk", "none"), default="disk")
    parser.add_argument("--convert", action="store_true", help="let zao make the nf4 weights from bf16 ones")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--tokens", type=int, default=512, help="of a step")
    parser.add_argument("--pieces", type=int, default=1, help="micro-batches of a step")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--budget", default="8GB", help="what the run may take; the plan must fit")
    parser.add_argument("--core", type=int, default=0, help="the core that the run is pinned to")
    parser.add_argument("--json", action="store_true", help="print the result")
    parser.add_argument("--page", action="store_true", help="only write docs/streaming.md from the results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
