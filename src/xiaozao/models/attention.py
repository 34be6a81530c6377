"""Attention over packed segments, through transformers' public AttentionInterface.

    one row:   [ sample 0 ......... | sample 1 ... | sample 2 ............ ]
    lengths:          9                   4               12

Each segment attends to itself alone, so another sample in the row changes nothing, and no T x T mask is ever built.
Sliding windows and soft-capped scores are honoured, because the models ask for them.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

NAMES = itertools.count()


class PackedAttention:
    """The attention of one model. `segments(lengths)` says how the row at hand is divided.

    The lengths are state of this object rather than an argument, because not every architecture passes extra
    arguments down to its attention, and because recomputation during backward has to see them too.
    """

    def __init__(self, kind: str = "sdpa") -> None:
        self.kind = kind
        self.name = f"xiaozao_packed_{next(NAMES)}"
        self._lengths: tuple[int, ...] = ()
        AttentionInterface.register(self.name, self._attend)
        AttentionMaskInterface.register(self.name, _no_mask)

    @contextmanager
    def segments(self, lengths: Sequence[int]) -> Iterator[None]:
        """Forward and backward of a row that is divided so."""
        before, self._lengths = self._lengths, tuple(lengths)
        try:
            yield
        finally:
            self._lengths = before

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """query (1, heads, T, d), key and value (1, kv heads, T, d or narrower) -> (1, T, heads, d)."""
        if sum(self._lengths) != query.shape[2]:
            raise RuntimeError(f"the segments hold {sum(self._lengths)} tokens, the row {query.shape[2]}")
        groups = query.shape[1] // key.shape[1]
        scaling = options.get("scaling")
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        dropout = float(options.get("dropout") or 0.0)
        window, softcap = options.get("sliding_window"), options.get("softcap")
        outputs = []
        for q, k, v in zip(
            query.split(self._lengths, 2), key.split(self._lengths, 2), value.split(self._lengths, 2), strict=True
        ):
            if self.kind == "eager" or softcap or (window and window < q.shape[2]):
                output = _plain(q, k, v, groups, scaling, dropout, window, softcap)
            else:
                output = F.scaled_dot_product_attention(
                    q, k, v, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=groups > 1
                )
            outputs.append(output.transpose(1, 2))
        return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0].contiguous(), None


def _plain(
    q: Tensor, k: Tensor, v: Tensor, groups: int, scaling: float, dropout: float, window: int | None, cap: float | None
) -> Tensor:
    """The textbook form: scores, cap, causal mask with an optional window, soft-max in fp32."""
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q @ k.transpose(2, 3)) * scaling
    if cap:
        scores = torch.tanh(scores / cap) * cap
    ages = torch.arange(q.shape[2], device=q.device)
    age = ages[:, None] - ages[None, :]
    hidden = (age < 0) | (age >= window) if window else age < 0
    weights = torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1, dtype=torch.float32).to(q.dtype)
    return F.dropout(weights, dropout) @ v if dropout else weights @ v


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
