"""docs/peers.md from results/peers.jsonl: medians per row, and what one tool is to another."""

from collections.abc import Iterable, Sequence
from statistics import median

from bench.rig.task import Result

HEAD = """# Beside the peers

Made by `make bench-peers` from `bench/results/peers.jsonl`; each figure is the median of its runs. All tools get the
same rows, rendered once with the model's chat template (each peer's own tokenizer is checked to render the same ids),
the same targets (the answer with the token that ends it), the same order, effective batch, learning rate and schedule;
every run is a fresh process.

- **training** is the training loop alone: no imports, no loading, no saving at the end. **tokens/s** counts real
  tokens, padding not.
- **peak** is the high-water mark of the process's resident set as the kernel keeps it, imports and loading in it; on a
  GPU it is the most that torch's allocator handed out.
- **held-out loss** is one scorer's word on what each tool saved: plain transformers and PEFT in fp32, rows that nobody
  trained on.
- **floor** is the share of what the matrix products alone would allow at the rate that one product reached on this core
  just before (attention's own products, norms and the optimizer are not in it).
- The precision is the one that the processor multiplies fast: bf16 where it can, else fp32.
- A peer's micro-batch of 1 with accumulation pads nothing; larger ones pad to the longest sample. Xiaozao packs
  its rows.
- **as it comes**: no option of Xiaozao's own. **fast**: `micro_batch=4 checkpointing=none`; in the tables of nf4 and
  full parameters micro-batches of 2,048 tokens and of one sample. **lean**: `budget=1.1GB`, and what Xiaozao chooses
  for it; in those tables `micro_batch=1 checkpointing=block`.
- The two cores of the machine may have been measured side by side, one run on each, theirs and ours alike.

No GPU figures have been measured by us yet; `make bench-gpu` makes this page on a card of yours.
"""
OURS = ("fast", "lean", "as it comes")
NO_ROWS = "\nNothing has been measured yet.\n"


def peers_page(results: Sequence[Result]) -> str:
    """The whole page."""
    groups: dict[tuple[str, str, int, str], list[Result]] = {}
    for one in results:
        groups.setdefault((one.table, one.data, one.samples, one.machine), []).append(one)
    return HEAD + ("".join(_section(group) for _, group in sorted(groups.items())) or NO_ROWS)


def _section(results: list[Result]) -> str:
    """One table: a file, a machine, and every contestant on it."""
    rows: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        rows.setdefault((one.tool, one.setting), []).append(one)
    first = next((one for one in results if one.tokens), results[0])
    begin = rows.pop(("(untuned)", ""), [])
    rows = dict(sorted(rows.items(), key=lambda row: _place(*row[0])))
    lines = [
        f"\n## {_title(first)}\n",
        f"{first.machine}{_rate(results)}. {first.samples} samples, {first.tokens:,} tokens, "
        f"{first.targets:,} targets. {_loss_before(begin)}\n",
        "| tool | setting | training | tokens/s | floor | peak | mean training loss | held-out loss | runs |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(tool, setting, runs) for (tool, setting), runs in rows.items()),
    ]
    return "\n".join(lines) + "\n" + _ratios(rows) + _refused(rows) + _versions(results)


def _place(tool: str, setting: str) -> tuple[bool, bool, int]:
    """Where a row stands, whenever it was measured: nf4 before full, the peers before Xiaozao."""
    ours = tool == "Xiaozao"
    return setting.startswith("full"), ours, OURS.index(setting.rpartition(", ")[2]) if ours else 0


def _title(one: Result) -> str:
    kind, precision, *length = one.table.split()
    if kind == "lora":
        return f"LoRA in {precision}, {one.data}"
    return f"nf4 base and full parameters in {precision}, samples of up to {length[0]} tokens, {one.data}"


def _row(tool: str, setting: str, runs: list[Result]) -> str:
    good = [one for one in runs if not one.error]
    if not good:
        return f"| {tool} | {setting} | did not run | | | | | | 0 |"
    speed, floor = _speed(good), median(one.floor_tokens_per_second for one in good)
    trained = median(_mean(one.losses) for one in good)
    heldout = [one.heldout_loss for one in good if one.heldout_loss is not None]
    return (
        f"| {tool} | {setting} | {median(one.seconds for one in good):.1f} s | {speed:.0f} "
        f"| {f'{speed / floor:.0%}' if floor else ''} | {_peak(good) / 1e9:.2f} GB "
        f"| {trained:.4f} | {f'{median(heldout):.4f}' if heldout else ''} | {len(good)} |"
    )


def _ratios(rows: dict[tuple[str, str], list[Result]]) -> str:
    """Xiaozao's rows over each peer's row of the same kind (nf4 with nf4, full with full)."""
    measured = {place: [one for one in runs if not one.error] for place, runs in rows.items()}
    measured = {place: runs for place, runs in measured.items() if runs}
    ours = {setting: runs for (tool, setting), runs in measured.items() if tool == "Xiaozao"}
    lines = [
        f"| {setting} | {tool} | {peer} | {_speed(mine) / _speed(theirs):.2f} | {_peak(mine) / _peak(theirs):.2f} "
        f"| {_difference(mine, theirs)} |"
        for setting, mine in ours.items()
        for (tool, peer), theirs in measured.items()
        if tool != "Xiaozao" and _kind(peer) == _kind(setting)
    ]
    if not lines:
        return ""
    head = "\n| Xiaozao | beside | set to | times the speed | times the peak | held-out loss |\n"
    return head + "|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"


def _refused(rows: dict[tuple[str, str], list[Result]]) -> str:
    """Why a row did not run, in the tool's own last words."""
    lines = [
        f"- {tool}, {setting}: `{runs[-1].error}`"
        for (tool, setting), runs in rows.items()
        if all(one.error for one in runs)
    ]
    return "\nDid not run:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _versions(results: Iterable[Result]) -> str:
    found = {
        one.tool: ", ".join(f"{name} {value}" for name, value in one.versions.items())
        for one in results
        if one.versions
    }
    return "\n" + "; ".join(f"{tool}: {text}" for tool, text in found.items()) + ".\n" if found else ""


def _speed(runs: list[Result]) -> float:
    return median(one.tokens_per_second for one in runs)


def _peak(runs: list[Result]) -> float:
    """What the card held, or the process."""
    return median(one.cuda_bytes or one.peak_bytes for one in runs)


def _difference(mine: list[Result], theirs: list[Result]) -> str:
    ours = [one.heldout_loss for one in mine if one.heldout_loss is not None]
    other = [one.heldout_loss for one in theirs if one.heldout_loss is not None]
    return f"{median(ours) / median(other) - 1:+.2%}" if ours and other else ""


def _kind(setting: str) -> str:
    return setting.partition(",")[0] if setting.startswith(("nf4", "full")) else ""


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses) if losses else 0.0


def _rate(results: list[Result]) -> str:
    rates = [one.gflops for one in results if one.gflops]
    precision = results[0].table.split()[1]
    return f", one {precision} product at {median(rates):.0f} GFLOP/s" if rates else ""


def _loss_before(begin: list[Result]) -> str:
    return f"Held-out loss before training: {begin[-1].heldout_loss:.4f}." if begin else ""
