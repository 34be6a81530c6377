"""Attention over packed segments, through transformers' public AttentionInterface.

    one row:   [ sample 0 ......... | sample 1 ... | sample 2 ............ ]
    lengths:          9                   4               12

Each segment attends to itself alone, so another sample in the row changes nothing, and no T x T mask is ever built.
Samples of like length are computed together: each is padded on its right to a multiple of STEP, which in causal
attention no real token ever looks at. That also keeps the shapes few, and on a CPU the library compiles and keeps
code for every shape it meets. What the models ask for beyond that is honoured: windows and chunks (through the mask
function that transformers would build its mask from), soft-capped scores, sinks, biases.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from xiaozao.models.layers.batched import batched, blocks

NAMES = itertools.count()
STEP = 32


@dataclass(frozen=True)
class Layout:
    """Describes how a packed row is divided into samples. Samples of similar length form a bucket.

    buckets: one tensor per bucket, (n, size), with the positions of the samples' tokens in the row; padding repeats the
    position of the last token. ends: n sample lengths per bucket. order: for each token of the row its position in the
    concatenated buckets.
    """

    lengths: tuple[int, ...]
    buckets: tuple[Tensor, ...]
    ends: tuple[Tensor, ...]
    order: Tensor

    def on(self, device: torch.device) -> "Layout":
        """The same where the computation is."""
        if self.order.device == device:
            return self
        buckets, ends = (tuple(one.to(device) for one in many) for many in (self.buckets, self.ends))
        return Layout(self.lengths, buckets, ends, self.order.to(device))


@dataclass(frozen=True)
class Asked:
    """The settings that the model gives its attention, for the samples of one bucket.

    groups: query heads per key head. window: how many tokens one sees, itself included. sinks (heads): a score per head
    that takes part in the soft-max and carries no value. mask: (n or 1, heads or 1, size, size), booleans (what is
    seen) or scores to add; it comes on top of "nobody sees what comes later", which always holds.
    """

    groups: int
    scaling: float
    dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class Sight:
    """The mask of a layer: for each bucket a window, a mask (n, 1, size, size), or neither."""

    windows: tuple[int | None, ...]
    masks: tuple[Tensor | None, ...]


class PackedAttention:
    """The attention of one model. `segments(lengths)` says how the row at hand is divided.

    The lengths are state of this object rather than an argument, because not every architecture passes extra
    arguments down to its attention, and because recomputation during backward has to see them too.
    """

    def __init__(self, kind: str = "sdpa") -> None:
        self.kind = kind
        self.name = f"xiaozao_packed_{next(NAMES)}"
        self.layout = layout(())
        self._cuts: list[tuple[Tensor, tuple[Tensor, ...]]] = []
        AttentionInterface.register(self.name, self._attend)
        AttentionMaskInterface.register(self.name, self._see)

    @contextmanager
    def segments(self, lengths: Sequence[int]) -> Iterator[None]:
        """Forward and backward of a row that is divided so."""
        before, self.layout, self._cuts = self.layout, layout(lengths), []
        try:
            yield
        finally:
            self.layout, self._cuts = before, []

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: "Tensor | Sight | None" = None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """query (1, heads, T, d), key and value (1, kv heads, T, d or narrower) -> (1, T, heads, d)."""
        tokens = sum(self.layout.lengths)
        if not tokens == query.shape[2] == key.shape[2]:
            raise RuntimeError(f"the segments hold {tokens} tokens, the row {query.shape[2]}, its keys {key.shape[2]}")
        self.layout = self.layout.on(query.device)
        key, value = _same_heads(key, value), _same_heads(value, key)
        rows = [one[0].transpose(0, 1) for one in (query, key, value)]  # (T, heads, d)
        outputs = []
        for number, bucket in enumerate(self.layout.buckets):
            asked = self._asked(query, key, number, attention_mask, options)
            q, k, v = (one.index_select(0, bucket.flatten()).unflatten(0, bucket.shape).transpose(1, 2) for one in rows)
            outputs.append(self.compute(q, k, v, asked).transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs).index_select(0, self.layout.order)[None], None

    def compute(self, q: Tensor, k: Tensor, v: Tensor, asked: Asked) -> Tensor:
        """The samples of one bucket; shapes as in `attend`."""
        return attend(q, k, v, asked, self.kind)

    def _asked(
        self, query: Tensor, key: Tensor, number: int, mask: "Tensor | Sight | None", options: dict[str, Any]
    ) -> Asked:
        scaling = options.get("scaling")
        window: int | None = options.get("sliding_window")
        cut: Tensor | None
        if isinstance(mask, Sight):  # the model's own mask says more than the option, and is believed
            window, cut = mask.windows[number], mask.masks[number]
        else:
            cut = None if mask is None else self._cut(mask)[number]
        return Asked(
            groups=query.shape[1] // key.shape[1],
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            dropout=float(options.get("dropout") or 0.0),
            window=window,
            softcap=options.get("softcap"),
            sinks=options.get("s_aux"),
            mask=cut,
        )

    def _cut(self, mask: Tensor) -> tuple[Tensor, ...]:
        """The buckets' parts of a mask that the model built; the layers share few masks, so the last ones are kept."""
        for known, cuts in self._cuts:
            if known is mask:
                return cuts
        cuts = tuple(_cut(mask, places.to(mask.device), len(self.layout.order)) for places in self.layout.buckets)
        if not mask.requires_grad:  # one that learns is another in each layer
            self._cuts = [(mask, cuts), *self._cuts[:1]]
        return cuts

    def _see(self, *_: Any, mask_function: Callable[..., Tensor], device: torch.device, **__: Any) -> Sight | None:
        return self.see(mask_function, device)

    def see(self, mask_function: Callable[..., Tensor], device: torch.device) -> Sight | None:
        """transformers would build a T x T mask from `mask_function(batch, head, query, key)`; each sample asks it.

        Where the model tells its positions, the function knows the samples of the row and takes the row's places;
        else it only knows how far apart two tokens are, and takes places within the sample.
        """
        self.layout = self.layout.on(device)
        starts = torch.tensor(list(itertools.accumulate(self.layout.lengths))[:-1], device=device, dtype=torch.long)
        zero = torch.zeros((), dtype=torch.long, device=device)
        aware = not bool(mask_function(zero, zero, starts, starts - 1).any()) if len(starts) else True

        def seen(places: Tensor) -> Tensor:
            return mask_function(zero, zero, places[:, None], places[None, :]).expand(len(places), len(places))

        windows, masks = [], []
        for bucket, ends in zip(self.layout.buckets, self.layout.ends, strict=True):
            size, lengths = bucket.shape[1], ends.tolist()
            start = torch.arange(size, device=device)
            places = bucket if aware else [start.clamp(max=length - 1) for length in lengths]
            patterns = [_pattern(seen(one), length) for one, length in zip(places, lengths, strict=True)]
            window, mask = _together(patterns, lengths, size, device)
            windows.append(window)
            masks.append(mask)
        return Sight(tuple(windows), tuple(masks))


Pattern = tuple[int | None, Tensor | None]  # a window, a mask, or neither


def _pattern(seen: Tensor, length: int) -> Pattern:
    """What a sample of that length sees (size, size): a window, a mask (size, size), or all that came before."""
    causal = torch.ones_like(seen).tril_()
    real = seen[:length, :length] & causal[:length, :length]
    if torch.equal(real, causal[:length, :length]):
        return None, None
    window = int(real.sum(1).max())
    if window and torch.equal(real, causal[:length, :length].triu(1 - window)):
        return window, None
    causal[:length, :length] = real  # padding sees all, so that its soft-max is a number
    return None, causal


def _together(patterns: list[Pattern], lengths: list[int], size: int, device: torch.device) -> Pattern:
    """One window or one mask (n, 1, size, size) for the samples of a bucket."""
    windows = {window for window, _ in patterns if window}
    free = [length for (window, mask), length in zip(patterns, lengths, strict=True) if window is None and mask is None]
    if len(free) == len(patterns):
        return None, None
    if len(windows) == 1 and all(mask is None for _, mask in patterns) and max(free, default=0) <= min(windows):
        return windows.pop(), None
    causal = torch.ones(size, size, dtype=torch.bool, device=device).tril_()
    masks = [causal.triu(1 - window) if window else causal if mask is None else mask for window, mask in patterns]
    return None, torch.stack(masks)[:, None]


def _cut(mask: Tensor, places: Tensor, tokens: int) -> Tensor:
    """A mask that the model built for the whole row (1, heads or 1, T, T) -> (n, heads or 1, size, size)."""
    if mask.ndim != 4 or mask.shape[0] != 1 or mask.shape[2:] != (tokens, tokens):
        raise RuntimeError(f"a mask of the shape {tuple(mask.shape)} for a row of {tokens} tokens")
    return mask[0][:, places[:, :, None], places[:, None, :]].transpose(0, 1)


def _same_heads(tensor: Tensor, other: Tensor) -> Tensor:
    """Keys repeated to as many heads as the values have, or the other way round."""
    return (
        tensor if tensor.shape[1] >= other.shape[1] else tensor.repeat_interleave(other.shape[1] // tensor.shape[1], 1)
    )


def layout(lengths: Sequence[int], together: bool = False) -> Layout:
    """Group the segments of a row by their length, rounded up to a multiple of STEP, or put all `together`."""
    starts = list(itertools.accumulate(lengths, initial=0))
    groups: dict[int, list[int]] = {}
    longest = max(lengths, default=0)
    for number, length in enumerate(longest if together else length for length in lengths):
        groups.setdefault(-(-length // STEP) * STEP, []).append(number)
    buckets, all_ends = [], []
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
        all_ends.append(ends)
    return Layout(tuple(lengths), tuple(buckets), tuple(all_ends), order)


def attend(q: Tensor, k: Tensor, v: Tensor, asked: Asked, kind: str = "sdpa") -> Tensor:
    """Causal attention within each of n samples: q (n, heads, size, d), k and v (n, kv heads, size, d or other).

    Returns (n, heads, size, width of v). Samples are right-padded; no real token sees the padding.
    """
    window = asked.window if asked.window and asked.window < q.shape[2] else None
    plain = kind == "eager" or asked.softcap or asked.sinks is not None or asked.mask is not None
    if not plain and kind == "batched" and not asked.dropout:
        return batched(q, k, v, asked.scaling, window)
    return _in_blocks(q, k, v, asked) if plain or window else _fused(q, k, v, asked)


def _fused(q: Tensor, k: Tensor, v: Tensor, asked: Asked) -> Tensor:
    """PyTorch's own causal attention."""
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=True, scale=asked.scaling, dropout_p=asked.dropout, enable_gqa=asked.groups > 1
    )


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, asked: Asked) -> Tensor:
    """The plain form, a block of queries at a time against the keys that it can see.

    Of several blocks none keeps its scores for backward, where they are computed again: memory grows with the length
    of the samples and not with its square.
    """
    spans = blocks(q.shape[2], asked.window)
    if len(spans) == 1:
        return _plain(q, k, v, asked, spans[0])
    parts = [checkpoint(_plain, q, k, v, asked, span, use_reentrant=False) for span in spans]
    return torch.cat(parts, dim=2)


def _plain(q: Tensor, k: Tensor, v: Tensor, asked: Asked, span: tuple[int, int, int]) -> Tensor:
    """The textbook form for the queries start..end: scores, cap, what may be seen, sinks, soft-max in fp32."""
    start, end, first = span
    k, v = (one[:, :, first:end].repeat_interleave(asked.groups, 1) for one in (k, v))
    scores = (q[:, :, start:end] @ k.transpose(2, 3)) * asked.scaling
    if asked.softcap:
        scores = torch.tanh(scores / asked.softcap) * asked.softcap
    age = torch.arange(start, end, device=q.device)[:, None] - torch.arange(first, end, device=q.device)
    hidden = (age < 0) | (age >= asked.window) if asked.window else age < 0
    mask = None if asked.mask is None else asked.mask[:, :, start:end, first:end].to(q.device)
    if mask is not None and mask.dtype == torch.bool:
        hidden = hidden | ~mask
    elif mask is not None:
        scores = scores + mask
    scores = scores.masked_fill(hidden, float("-inf"))
    if asked.sinks is not None:
        sinks = asked.sinks.to(scores.dtype).reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sinks], dim=3)
    weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(q.dtype)
    weights = F.dropout(weights[..., : k.shape[2]], asked.dropout)
    return weights @ v


@contextmanager
def implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Use another attention for a while, such as the model's own for generation."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def own_attention(model: PreTrainedModel) -> str:
    """The fastest of the model's own attentions that needs no package beside torch."""
    return "sdpa" if model._supports_sdpa else "eager"
