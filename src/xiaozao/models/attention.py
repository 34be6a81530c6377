"""Attention over packed segments, through transformers' public AttentionInterface.

    one row:   [ sample 0 ......... | sample 1 ... | sample 2 ............ ]
    lengths:          9                   4               12

Each segment attends to itself alone, so another sample in the row changes nothing, and no T x T mask is ever built.
Samples of like length are computed together: each is padded on its right to a multiple of STEP, which in causal
attention no real token ever looks at. That also keeps the shapes few, and on a CPU the library compiles and keeps
code for every shape it meets. Sliding windows and soft-capped scores are honoured, because the models ask for them.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from xiaozao.models.batched import batched

NAMES = itertools.count()
STEP = 32


@dataclass(frozen=True)
class Layout:
    """How a row is divided. buckets: for the samples of like length, (n, size) places of their tokens in the row, where
    padding repeats the sample's last token. order: where each token of the row lies in all buckets laid end to end."""

    lengths: tuple[int, ...]
    buckets: tuple[Tensor, ...]
    order: Tensor


@dataclass(frozen=True)
class Asked:
    """What the model asks of its attention."""

    groups: int
    scaling: float
    dropout: float
    window: int | None
    softcap: float | None


class PackedAttention:
    """The attention of one model. `segments(lengths)` says how the row at hand is divided.

    The lengths are state of this object rather than an argument, because not every architecture passes extra
    arguments down to its attention, and because recomputation during backward has to see them too.
    """

    def __init__(self, kind: str = "sdpa") -> None:
        self.kind = kind
        self.name = f"xiaozao_packed_{next(NAMES)}"
        self._layout = layout(())
        AttentionInterface.register(self.name, self._attend)
        AttentionMaskInterface.register(self.name, _no_mask)

    @contextmanager
    def segments(self, lengths: Sequence[int]) -> Iterator[None]:
        """Forward and backward of a row that is divided so."""
        before, self._layout = self._layout, layout(lengths)
        try:
            yield
        finally:
            self._layout = before

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """query (1, heads, T, d), key and value (1, kv heads, T, d or narrower) -> (1, T, heads, d)."""
        if sum(self._layout.lengths) != query.shape[2]:
            raise RuntimeError(f"the segments hold {sum(self._layout.lengths)} tokens, the row {query.shape[2]}")
        scaling = options.get("scaling")
        asked = Asked(
            groups=query.shape[1] // key.shape[1],
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            dropout=float(options.get("dropout") or 0.0),
            window=options.get("sliding_window"),
            softcap=options.get("softcap"),
        )
        rows = [one[0].transpose(0, 1) for one in (query, key, value)]  # (T, heads, d)
        outputs = []
        for bucket in self._layout.buckets:
            places = bucket.to(query.device).flatten()
            q, k, v = (one.index_select(0, places).unflatten(0, bucket.shape).transpose(1, 2) for one in rows)
            outputs.append(self._causal(q, k, v, asked).transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs).index_select(0, self._layout.order.to(query.device))[None], None

    def _causal(self, q: Tensor, k: Tensor, v: Tensor, asked: Asked) -> Tensor:
        """q (n, heads, size, d), k and v (n, kv heads, size, d or narrower), by the way that can do what is asked."""
        window = asked.window if asked.window and asked.window < q.shape[2] else None
        if self.kind == "eager" or asked.softcap:
            return _plain(q, k, v, asked)
        if self.kind == "batched" and not asked.dropout:
            return batched(q, k, v, asked.scaling, window)
        return _plain(q, k, v, asked) if window else _fused(q, k, v, asked)


def layout(lengths: Sequence[int]) -> Layout:
    """The segments of a row, grouped by their length rounded up to a multiple of STEP."""
    starts = list(itertools.accumulate(lengths, initial=0))
    groups: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        groups.setdefault(-(-length // STEP) * STEP, []).append(number)
    buckets = []
    order = torch.empty(starts[-1], dtype=torch.long)
    laid = 0
    for size, numbers in sorted(groups.items()):
        offsets = torch.arange(size)
        ends = torch.tensor([lengths[number] for number in numbers])
        places = torch.tensor([starts[number] for number in numbers])[:, None] + offsets.minimum(ends[:, None] - 1)
        real = (offsets < ends[:, None]).flatten().nonzero().squeeze(1)
        order[places.flatten()[real]] = real + laid
        laid += places.numel()
        buckets.append(places)
    return Layout(tuple(lengths), tuple(buckets), order)


def _fused(q: Tensor, k: Tensor, v: Tensor, asked: Asked) -> Tensor:
    """PyTorch's own causal attention."""
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=True, scale=asked.scaling, dropout_p=asked.dropout, enable_gqa=asked.groups > 1
    )


def _plain(q: Tensor, k: Tensor, v: Tensor, asked: Asked) -> Tensor:
    """The textbook form: scores, cap, causal mask with an optional window, soft-max in fp32."""
    k, v = k.repeat_interleave(asked.groups, 1), v.repeat_interleave(asked.groups, 1)
    scores = (q @ k.transpose(2, 3)) * asked.scaling
    if asked.softcap:
        scores = torch.tanh(scores / asked.softcap) * asked.softcap
    ages = torch.arange(q.shape[2], device=q.device)
    age = ages[:, None] - ages[None, :]
    hidden = (age < 0) | (age >= asked.window) if asked.window else age < 0
    weights = torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1, dtype=torch.float32).to(q.dtype)
    return F.dropout(weights, asked.dropout) @ v if asked.dropout else weights @ v


def _no_mask(*_: Any, **__: Any) -> None:
    """transformers would build a T x T mask; the segments say the same without one."""


@contextmanager
def implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Use another attention for a while, such as the model's own for generation."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
