"""docs/methods.md from results/methods.jsonl: what each method costs and what it learns in the same steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEAD = """# Methods

Made by `make bench-methods` from `bench/results/methods.jsonl`: every row is one run of `zao train` in a fresh process,
on the same rows in the same order, with the options that are named and nothing else but defaults. No row stands here
that was not run. The learning rate is the one that Xiaozao chooses for the method.

- **loss after** is the mean loss over the target tokens of held-out rows, each model as it stands (an adapter on nf4 is
  judged on nf4); the model before training has the loss under the table's head.
- **peak** is the high-water mark of the worker's resident set as the kernel keeps it: imports (about 0.4 GB), weights,
  everything.
- **tokens/s** counts the optimizer steps alone, without validation; on a pinned core by its processor time, which what
  else runs there does not lengthen (with a *: by the clock, on a core that did nothing else).
- rsLoRA's default `alpha` gives at the default rank the very scale of LoRA, so its row is LoRA's; they part at other
  ranks, where rsLoRA keeps the size of the update.
"""
NO_ROWS = "\nNothing has been measured yet.\n"
GROUPS = {"lora": "Adapters", "full": "Full parameters"}


@dataclass(frozen=True)
class Measured:
    """One row: the options that make it, and what came of them; or `error`, why it was refused."""

    options: dict[str, str]
    setting: str  # what all rows of a table share: steps, batch, data
    machine: str
    version: str
    learning_rate: float = 0.0
    trainable: int = 0
    loss_before: float = 0.0
    loss_after: float = 0.0
    tokens_per_second: float = 0.0
    peak_bytes: int = 0
    cpu_share: float = 0.0
    error: str = ""
    code: str = ""  # of the error
    by_clock: bool = True  # the rate; else by the processor time of a pinned core

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two runs the same run."""
        return str(sorted(self.options.items())), self.setting, self.version


def methods_page(rows: Sequence[Measured], rates: Mapping[str, Any]) -> str:
    """The whole page: a table for each group of methods, what was not run, then what is refused."""
    parts = [_table(rows, setting, method) for setting in _unique(one.setting for one in rows) for method in GROUPS]
    refused = _refused([one for one in rows if one.error])
    return HEAD + (("".join(parts) + without_fp16(rates) + refused) or NO_ROWS)


def without_fp16(rates: Mapping[str, Any]) -> str:
    """Why there are no rows in fp16 on a CPU: by its rates, in GFLOP/s."""
    if not rates:
        return ""
    return f"""
## Not run: fp16 on a processor

fp16 is offered for cards that have no bf16 (T4, 20xx). On the processor of these tables ({rates["machine"]}) a matrix
product runs at {rates["fp16"]:.0f} GFLOP/s in fp16, {rates["fp32"]:.0f} in fp32 and {rates["bf16"]:.0f} in bf16, and
the products of backward run slower yet in fp16. Such a row would take many times as long and say nothing of a card;
`zao train` says so before such a run. On a card `python -m bench.methods --device cuda` has these rows too; we had
none. That fp16 trains, with its loss scaling, is tested on small models (tests/worker/test_precision.py).
"""


def _table(rows: Sequence[Measured], setting: str, method: str) -> str:
    chosen = [one for one in rows if one.setting == setting and one.options.get("method", "lora") == method]
    chosen = [one for one in chosen if not one.error]
    if not chosen:
        return ""
    before = " / ".join(_unique(f"{one.loss_before:.4f} (base {_base(one)})" for one in chosen))
    lines = [
        f"\n## {GROUPS[method]}\n",
        f"{chosen[0].machine}. {setting}. Loss before training: {before}.\n",
        "| options | base | precision | trained parameters | learning rate | loss after | peak | tokens/s |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(one) for one in chosen),
    ]
    return "\n".join(lines) + "\n"


def _row(one: Measured) -> str:
    shown = {name: value for name, value in one.options.items() if name not in ("method", "base", "precision")}
    told = ", ".join(f"{name}={value}" for name, value in shown.items()) or "(defaults)"
    rate = f"{one.tokens_per_second:.0f}{'*' if one.by_clock else ''}"
    return (
        f"| {told} | {_base(one)} | {one.options.get('precision', 'auto')} | {one.trainable:,} | {one.learning_rate:g} "
        f"| {one.loss_after:.4f} | {one.peak_bytes / 1e9:.2f} GB | {rate} |"
    )


def _refused(rows: Sequence[Measured]) -> str:
    """What cannot be, in the words in which zao refuses it."""
    lines = [
        f"| {', '.join(f'{name}={value}' for name, value in one.options.items())} | {one.code} | {one.error} |"
        for one in rows
    ]
    if not lines:
        return ""
    return "\n## Refused\n\n| options | code | what zao says |\n|---|---|---|\n" + "\n".join(_unique(lines)) + "\n"


def _base(one: Measured) -> str:
    return one.options.get("base", "none")


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
