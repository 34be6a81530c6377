"""Adapter + base -> plain weights, and a check of what was written against what was trained."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from xiaozao.errors import ArtefactError
from xiaozao.events import OnProgress
from xiaozao.export.target import clear
from xiaozao.hub.folder import TOKENIZER
from xiaozao.models.adapter import attach, check_base
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder, distance, run
from xiaozao.models.layers.linear import adapters, merge
from xiaozao.models.load import InMemory, load
from xiaozao.models.save import write_model

# Adapted and merged differ by rounding alone: fp32 sums in another order, or weights rounded at random to bf16
# after the sum: 0.03 for an adapter that had moved little, whose answers were as good as before (bench/rounding.py).
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 0.1}
PROBE = 24  # tokens


@dataclass(frozen=True)
class Merged:
    """The written model: its folder, its bytes, and the relative distance of its logits from the adapted model's (gap).

    trained_gap: the distance from the model as it was trained, if its base was stored in fewer bits; else as gap.
    """

    folder: Path
    bytes: int
    gap: float
    trained_gap: float


def merge_adapter(
    base: Path,
    adapter: Path,
    target: Path,
    dtype: torch.dtype = torch.bfloat16,
    stored: str = "none",
    on_progress: OnProgress = lambda *_: None,
) -> Merged:
    """Write the model in `base` with the adapter merged in, and read it back to compare logits.

    The sum W + s B A is computed in fp32 on the full weights, even if training had them `stored` as int8 or nf4: merged
    into fewer bits, an adapter can be lost in rounding. Raises UsageError if `target` is a link or not empty, and
    ArtefactError if the written model's logits differ from the adapted model's. `target` is then empty.
    """
    clear(target)
    cpu = torch.device("cpu")
    on_progress("load", 0, 0)
    check_base(adapter, base)
    seen = _as_trained(base, adapter, dtype, stored) if stored != "none" else None
    decoder = load(base, torch.float32 if dtype == torch.float32 else dtype, cpu)
    attach(decoder, adapter)
    expected = probe(decoder)
    assert adapters(decoder.model)
    merge(decoder.model, partial(on_progress, "merge"))
    on_progress("write", 0, 0)
    with checkpoint.staged_folder(target) as staging:
        talks = adapter if (adapter / TOKENIZER).is_file() else base  # adapters of earlier versions bring no tokenizer
        write_model(decoder.model, staging, talks, dtype)
        del decoder
        on_progress("compare", 0, 0)
        written = probe(load(staging, dtype, cpu))
        gap = distance(written, expected)
        trained_gap = gap if seen is None else distance(written, seen)
        if not gap < BOUNDS[dtype]:
            raise ArtefactError("export_differs", path=target, gap=f"{gap:.3g}", bound=BOUNDS[dtype])
        _describe(staging, gap, trained_gap, dtype)
    return Merged(target, sum(one.stat().st_size for one in target.iterdir()), gap, trained_gap)


def _as_trained(base: Path, adapter: Path, dtype: torch.dtype, stored: str) -> torch.Tensor:
    """The logits of the adapter on the base that it learned on."""
    decoder = load(base, dtype, torch.device("cpu"), way=InMemory(stored))
    attach(decoder, adapter)
    return probe(decoder)


def probe(decoder: Decoder) -> torch.Tensor:
    """The model's logits for a fixed row of tokens, shape (PROBE, vocabulary)."""
    vocabulary = decoder.model.config.get_text_config().vocab_size
    ids = torch.arange(PROBE) * 37 % min(vocabulary, 5000)
    decoder.model.eval()
    with torch.no_grad():
        return decoder.head.logits(run(decoder, [ids]))


def _describe(folder: Path, gap: float, trained_gap: float, dtype: torch.dtype) -> None:
    facts: dict[str, object] = {"merged": True, "dtype": str(dtype).removeprefix("torch.")}
    facts |= {"logits_gap": gap, "logits_gap_as_trained": trained_gap}
    (folder / "xiaozao.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
