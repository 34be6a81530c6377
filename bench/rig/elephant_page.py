"""docs/streaming.md from results/elephant.jsonl: models larger than memory, and what a step of theirs costs."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HEAD = """# Models larger than memory

`stream=disk` leaves the frozen weights in their files. While the run computes, a tile of one matrix at a time is in
memory; the next block is read into the system's page cache meanwhile. What stays in memory are the adapters with their
optimizer, the norms, and the activations, whose blocks are computed again in backward (`checkpointing` becomes
`block`).

```sh
zao train model=MODEL data=DATA.jsonl stream=disk                 # weights as the model's files have them
zao train model=MODEL data=DATA.jsonl stream=disk base=nf4        # a quarter of the bytes; converted once, then kept
```

- With `base=none` the model's own files are read, and nothing is copied. With `base=int8` or `nf4` the weights are
  converted once, matrix by matrix, into the cache (`streams/`), under a hash of the model's weights; so are those of
  models whose weights transformers rearranges while it loads them.
- Losses and gradients are those of a run with the weights in memory, bit for bit where a matrix has at most 12.6
  million weights (tests compare them). A larger one is worked on in tiles, and a sum over tiles may round otherwise.
- LoRA, rsLoRA and DoRA, all objectives, validation, answers and `zao chat` work as always, only slower: a token of an
  answer reads every weight once. Refused are `adapter=pissa`, embeddings and heads that train (`also`), several
  devices, and models most of whose weights are experts fused into one tensor. All parameters can train from disk too,
  in another way: [full.md](full.md).
- `zao export` still holds the merged model in memory. The adapter itself needs no export: PEFT, vLLM and llama.cpp
  read it.
- At the start the model is checked on its first blocks, one of each kind, instead of on all of them.

## The plan

A streamed run is planned from a trace of its own step, as all others are: what it allocates, and what of a file is
mapped at each moment. With matrices of more than 12.6 million weights the heap always gives memory back at once; with
smaller ones only where the budget asks for it, because it costs them time: a step of 512 tokens of the 135M model took
19.6 s of processor time instead of 13.5 s, at a peak of 0.65 GB instead of 1.19 GB. Where it keeps, it keeps no more
than the plan says.

| run, fp32 | heap | planned (interval) | measured |
|---|---|---|---|
| 7B shape, bf16 on disk, 2 x 256 tokens | gives back | 1.06 GB (1.02 to 1.09) | 1.02 GB |
| 7B shape, nf4, 4 x 128 tokens | gives back | 0.94 GB (0.91 to 0.98) | 0.91 GB |
| 135M, bf16 on disk, 163 tokens | gives back | 0.71 GB (0.67 to 0.74) | 0.73 GB |
| 135M, nf4, 424 tokens | gives back | 0.79 GB (0.76 to 0.83) | 0.80 GB |
| 135M, bf16 on disk, 1008 tokens | keeps | 0.92 GB (0.69 to 1.03) | 0.94 GB |
| 135M, nf4, 650 tokens | keeps | 0.94 GB (0.71 to 1.06) | 0.98 GB |

The two runs of the 7B shape are those below, which an earlier plan predicted; here they are planned anew, on 0.52 GB
for Python, torch and bitsandbytes. The 135M rows come from single runs; `python -m bench.plan
--only stream` measures such rows again.

## Measured

Made by `make bench-elephant` from `bench/results/elephant.jsonl`. The models have the shapes of Llama 2 and random
weights; every row is `zao train` in a fresh process: LoRA of rank 8 on all linear layers, AdamW in 8 bits.

- **peak** is the high-water mark of the worker's resident set as the kernel keeps it, Python and torch (about 0.5 GB)
  included; **predicted** is what the plan of that time said before.
- **limits** are what the machine needs at least: the products of a step at the rate of one large product on the same
  core, and the weights, read twice for each micro-batch, at the rate at which the disk gives them when nothing is
  cached. Where the weights fit into the page cache the disk is no limit.
"""
NO_ROWS = "\nNothing has been measured yet.\n"
GB = 1e9
ALONE = 0.9  # of the core; a run that had less of it is said to have shared it


@dataclass(frozen=True)
class Elephant:
    """One run. Bytes, seconds, and rates a second."""

    size: str
    base: str
    stream: str
    precision: str
    tokens: int  # of a step
    pieces: int  # micro-batches of a step
    steps: int
    machine: str
    version: str
    weights_bytes: int
    peak_rss_bytes: int
    predicted_peak_bytes: int
    step_seconds: float  # the median
    run_seconds: float
    read_bytes: int  # from the disk, in the whole run
    bytes_a_step: int
    flop_a_step: int
    disk_rate: float
    gemm_rate: float
    cpu_share: float
    losses: list[float] = field(default_factory=list)

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two runs the same run."""
        return self.size, self.base, self.stream, self.precision, self.tokens, self.pieces


def elephant_page(rows: Sequence[Elephant], costs: Sequence[Mapping[str, Any]] = ()) -> str:
    """The whole page. costs: what results/stream_cost.json holds."""
    if not rows:
        return HEAD + NO_ROWS
    lines = [
        f"\n{rows[0].machine}.\n",
        "| shape | weights on disk | precision | tokens a step | peak | predicted | step | limits: products, disk |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(one) for one in sorted(rows, key=lambda one: one.flop_a_step / one.tokens)),
    ]
    return HEAD + "\n".join(lines) + "\n" + "".join(map(_cost, costs))


def _cost(cost: Mapping[str, Any]) -> str:
    """What streaming costs where the disk is no limit."""
    median = {name: statistics.median(found) for name, found in cost["seconds"].items()}
    rounds = len(cost["seconds"]["disk"])
    return (
        f"\nWhere the weights sit in the page cache, a step of {cost['tokens']:,} tokens of the 135M model in "
        f"{cost['precision']} took "
        f"{median['disk']:.1f} s of processor time from disk and {median['memory']:.1f} s from memory, "
        f"{cost['cost']:+.0%} (`python -m bench.stream_cost`, {rounds} steps of each in turns, blocks computed again "
        f"both times; {cost['machine']}).\n"
    )


def _row(one: Elephant) -> str:
    tokens = str(one.tokens) if one.pieces == 1 else f"{one.pieces} x {one.tokens // one.pieces}"
    stored = "bf16" if one.base == "none" else one.base
    where = f"{one.weights_bytes / GB:.1f} GB {stored}" + ("" if one.stream == "disk" else ", held in memory")
    error = one.predicted_peak_bytes / one.peak_rss_bytes - 1
    products = f"{one.flop_a_step / one.gemm_rate:.0f} s"
    disk = f"{one.bytes_a_step / one.disk_rate:.0f} s" if one.disk_rate and one.stream == "disk" else "-"
    shared = f" at {one.cpu_share:.0%} of the core" if one.cpu_share < ALONE else ""
    return (
        f"| {one.size.upper()} | {where} | {one.precision} | {tokens} | {one.peak_rss_bytes / GB:.2f} GB "
        f"| {one.predicted_peak_bytes / GB:.2f} GB ({error:+.1%}) | {one.step_seconds:.0f} s{shared} "
        f"| {products}, {disk} |"
    )
