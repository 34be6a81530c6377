"""docs/families.md from results/families.jsonl: what became of each model type, and how that was found out."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

BOUND = 2e-3  # relative, in fp32: a hundred times what rounding does, a tenth of what a wrong mask does

HEAD = """# Families of models

Made by `make bench-families` from `bench/results/families.jsonl`. Every model type that transformers maps for causal
language modelling was built small, with random weights (two layers, or one of each kind that it has), and taken
through the stations of a run; each station was held against transformers' own forward and backward of the same
weights, one sample at a time, in fp32. What that says is that the numbers are right; it says nothing of how large the
real models are.

- **packed**: samples share a row, and each is what it is alone.
- **padded**: one sample per row, samples of like length together. The state of these models would cross from sample to
  sample (Mamba, linear attention, convolutions), or they do their own attention. Slower where lengths differ much.
- **refused**: `zao` says so when it loads the model, with the reason that stands here. Encoders are no causal language
  models, and nothing is lost with them.
- **not built**: this transformers could not make a small model of it, so we know nothing of it. A real one is
  checked when it is loaded, as every model is.
- **wrong**: a comparison failed, as the remark says; do not train these.

No list decides: at load a model must show with a few tokens that its numbers hold, and the first way that does is
taken. Mixture-of-experts models train their attention, their shared experts and whatever else is a linear layer;
experts that transformers keeps in one tensor stay frozen, and routers do too.

**without a cache**: answers before and after training are written by reading the whole row for each token, because
the model's cache did not give the same numbers with prompts of unlike length. **no blocks**: the model has no single
list of blocks, or layers outside it take an adapter, or its blocks cannot run again by themselves; so it can be
neither recomputed (`checkpointing=block`) nor streamed block by block.
"""
COMPARED = """
What was compared, and what may differ (relative to the norm): the logits of samples that share a row; the chunked loss;
the gradients of all parameters; the logits through adapters and the fused passes against the merged weights; the
adapters' gradients; greedy answers; the blocks one by one; recomputed blocks. Allowed: {bound:g}. The largest in what
trains: {worst:.1e} ({kind}, {name}).
"""
WAYS = ("packed", "padded", "refused", "not built", "wrong")
NO_ROWS = "\nNothing has been measured yet.\n"


@dataclass(frozen=True)
class Finding:
    """What became of one model type. way: one of WAYS; gaps: what was compared, infinite where it failed."""

    kind: str
    way: str
    detail: str = ""
    gaps: Mapping[str, float] = field(default_factory=dict)
    cached: bool = True
    version: str = ""  # of transformers

    @property
    def trains(self) -> bool:
        return self.way in ("packed", "padded")

    def holds(self, name: str) -> bool:
        return self.gaps.get(name, math.inf) < BOUND


def read_findings(path: Path) -> list[Finding]:
    """All lines of a results file, the last of each kind; an absent file is an empty one."""
    if not path.is_file():
        return []
    found: dict[str, Finding] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        gaps = {name: math.inf if gap is None else gap for name, gap in values.pop("gaps").items()}
        found[values["kind"]] = Finding(**values, gaps=gaps)
    return list(found.values())


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """The whole file anew, one line each, by kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for one in sorted(findings, key=lambda one: one.kind):
        gaps = {name: float(f"{gap:.2g}") if math.isfinite(gap) else None for name, gap in one.gaps.items()}
        lines.append(json.dumps({**asdict(one), "gaps": gaps}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def families_page(findings: Sequence[Finding]) -> str:
    """The whole page: counts, what was compared, one row for each model type."""
    if not findings:
        return HEAD + NO_ROWS
    versions = ", ".join(sorted({one.version for one in findings if one.version}))
    counts = {way: sum(one.way == way for one in findings) for way in WAYS}
    told = ", ".join(f"{count} {way}" for way, count in counts.items() if count)
    trained = counts["packed"] + counts["padded"]
    lines = [
        f"\n**transformers {versions}: {len(findings)} model types, {trained} train** ({told}).\n",
        "| model type | way | remarks |",
        "|---|---|---|",
        *(f"| {one.kind} | {one.way} | {_remarks(one)} |" for one in sorted(findings, key=lambda one: one.kind)),
    ]
    return HEAD + _compared(findings) + "\n".join(lines) + "\n"


def _compared(findings: Sequence[Finding]) -> str:
    gaps = [
        (gap, one.kind, name)
        for one in findings
        if one.trains
        for name, gap in one.gaps.items()
        if math.isfinite(gap) and name != "answers"  # that one is a difference of two logits, mostly zero
    ]
    if not gaps:
        return ""
    worst, kind, name = max(gaps)
    return COMPARED.format(bound=BOUND, worst=worst, kind=kind, name=name)


def _remarks(one: Finding) -> str:
    """Why it was refused or not built; or what does not hold of one that trains."""
    if not one.trains:
        return one.detail.removeprefix(f"{one.kind}: ").replace("|", "\\|")
    remarks = [] if one.cached else ["without a cache"]
    if not (one.holds("blocks") and one.holds("recomputed")):
        remarks.append("no blocks")
    return ", ".join([*remarks, *([one.detail] if one.detail else [])])
