"""docs/full.md from results/full_floor.jsonl: all parameters in little memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

HEAD = """# All parameters in little memory

Full training usually takes 16 bytes a parameter: the weight, its gradient and two moments, each in fp32. Here each part
can be made smaller, or be there for a moment only:

```sh
zao train model=MODEL data=DATA.jsonl method=full fused_update=true                 # one gradient at a time
zao train model=MODEL data=DATA.jsonl method=full optimizer=adamw8bit weights=bf16  # fewer bytes for each
zao train model=MODEL data=DATA.jsonl method=full stream=disk                       # weights and moments on disk
```

- `stream=disk` lays weights and the optimizer's states into one file beside the run, which is mapped into memory. A
  matrix is resident while its layer computes, and again when its gradient has come and it moves; no two of a block are
  there at a time. `fused_update=true` and `checkpointing=block` come with it, unless they are named.
- Losses and the trained model are those of the same run with the weights in memory, bit for bit (tests compare them),
  also when the run was stopped and resumed.
- What decides the peak are the embedding and the head: their weights, and the gradient of the head in fp32. On a model
  of other proportions `zao plan` says what it will be; it counts by formula, not from a trace.
- The file has no name: its space is free again as soon as the process ends. It takes 2 or 4 bytes a parameter for the
  weights and up to 8 for the states; checkpoints and the result take as much once more.
- AdamW, AdamW in 8 bits, and Adafactor; on Linux and on the CPU. Refused are other optimizers, `last_blocks`, several
  devices, GPUs, and models whose weights transformers rearranges while it loads them.

## Measured

Made by `make bench-floor` from `bench/results/full_floor.jsonl`: each row is one `zao train method=full` of
SmolLM2-135M in a fresh process, `precision=bf16 fused_update=true checkpointing=block batch=1`.

- **peak** is the high-water mark of the worker's resident set as the kernel keeps it, Python and torch (0.4 to 0.5 GB)
  included; **planned** is what the plan said before.
- **a step** is the mean time of a step; a row that had less than its core, because of others or of the disk, says so.
"""
NO_ROWS = "\nNothing has been measured yet.\n"
GB = 1e9
USUAL = 16  # bytes a parameter
ALONE = 0.9  # of the core; a run that had less of it is said to have shared it, or to have waited for the disk


@dataclass(frozen=True)
class Floor:
    """One run. Bytes and seconds."""

    options: dict[str, str]
    setting: str
    machine: str
    version: str
    parameters: int
    peak_bytes: int
    predicted_bytes: int
    step_seconds: float
    losses: list[float] = field(default_factory=list)
    cpu_share: float = 0.0


def floor_page(rows: Sequence[Floor]) -> str:
    """The whole page."""
    if not rows:
        return HEAD + NO_ROWS
    ordered = sorted(rows, key=lambda one: (one.options["weights"], one.options["optimizer"], one.options["stream"]))
    least = min(rows, key=lambda one: one.peak_bytes)
    lines = [
        f"\n{rows[0].machine}. {rows[0].setting}.\n",
        "| weights | optimizer | where they are | peak | planned | a step | last loss |",
        "|---|---|---|---|---|---|---|",
        *(_row(one) for one in ordered),
        f"\nThe floor: {least.peak_bytes / GB:.2f} GB in all, where {USUAL} bytes for each of the {least.parameters:,} "
        f"parameters are {USUAL * least.parameters / GB:.2f} GB beside Python and torch.",
    ]
    return HEAD + "\n".join(lines) + "\n"


def _row(one: Floor) -> str:
    where = "on disk" if one.options["stream"] == "disk" else "in memory"
    error = one.predicted_bytes / one.peak_bytes - 1
    shared = f" at {one.cpu_share:.0%} of the core" if one.cpu_share < ALONE else ""
    step = f"{one.step_seconds:.1f} s{shared}"
    return (
        f"| {one.options['weights']} | {one.options['optimizer']} | {where} | {one.peak_bytes / GB:.2f} GB "
        f"| {one.predicted_bytes / GB:.2f} GB ({error:+.0%}) | {step} | {one.losses[-1]:.4f} |"
    )
