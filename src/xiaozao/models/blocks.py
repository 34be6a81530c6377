"""Any decoder as the same few parts: base (embedding, blocks, final norm), head, and the scaling after the head.

Some models scale or soft-cap between head and logits, some do more between base and head. The loss applies the head
itself, in chunks, so it has to do the same; models/families.py proves with numbers that it does.

A row of several samples goes through the model in one of two ways, and neither lets samples see each other:

    packed    as it is, with our attention in the model            [ a a a | b b | c c c ]
    padded    one sample per row, samples of like length together, [ a a a ]  [ b b . ]
              with the model's own attention                       [ c c c ]

Padding lies behind a sample, where in a causal model nothing looks at it, and no state is carried from row to row.
That is for models whose state crosses samples (Mamba, linear attention, convolutions) or that do their own attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from xiaozao.errors import UnsupportedModel
from xiaozao.models.layers.attention import PackedAttention, layout
from xiaozao.models.layers.linear import FrozenLinear

Packing = Literal["packed", "padded"]


@dataclass(frozen=True)
class Head:
    """hidden -> logits: the linear layer, then `cap * tanh(x * scale / cap)` where the model has them."""

    linear: nn.Linear | FrozenLinear  # frozen: its matrix lies on disk
    scale: float
    cap: float | None
    chunk: int = 128  # rows of logits at a time; 128 x 49,152 in fp32 is 25 MB

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, hidden size) -> (n, vocabulary) in fp32."""
        if isinstance(self.linear, FrozenLinear):
            return self.finish(self.linear(hidden).float())
        weight, bias = self.linear.weight.to(hidden.dtype), self.linear.bias  # fp32 masters where the head learns
        return self.finish(F.linear(hidden, weight, None if bias is None else bias.to(hidden.dtype)).float())

    def finish(self, logits: Tensor) -> Tensor:
        """Scale and soft-cap the logits; in place if autograd is off."""
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.cap) * self.cap if self.cap else logits

    def finish_backward(self, grad: Tensor, finished: Tensor) -> Tensor:
        """The backward of `finish`: the gradient of its input, from its output and the gradient of that."""
        if self.cap:
            grad = grad * (1 - (finished / self.cap) ** 2)
        return grad * self.scale if self.scale != 1.0 else grad


@dataclass(frozen=True)
class Decoder:
    """A transformers model with our attention in it. `tail`: the model does more between its base and its head."""

    model: PreTrainedModel
    head: Head
    attention: PackedAttention
    packing: Packing = "packed"
    tail: bool = False

    def hidden(self, ids: Tensor, positions: Tensor) -> Tensor:
        """ids and positions (T) of a row whose segments are set -> the states that enter the head (T, hidden size)."""
        if self.packing == "packed":
            return self.states(input_ids=ids[None], position_ids=positions[None])[0]
        lengths = self.attention.layout.lengths
        if sum(lengths) != len(ids):
            raise RuntimeError(f"the segments hold {sum(lengths)} tokens, the row {len(ids)}")
        # Ranks must pass through the model equally often, however many lengths their rows have.
        padded = layout(lengths, together=dist.is_available() and dist.is_initialized()).on(ids.device)
        rows = [self.states(input_ids=ids[places]).flatten(0, 1) for places in padded.buckets]
        return torch.cat(rows).index_select(0, padded.order)

    def states(self, **inputs: Tensor) -> Tensor:
        """(n, L) -> (n, L, hidden size)"""
        if not self.tail:
            return self.model.base_model(**inputs, use_cache=False).last_hidden_state  # type: ignore[no-any-return]
        caught: list[Tensor] = []

        def catch(_: nn.Module, entering: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            """A hook that keeps the head's input and passes a single token on to the head."""
            caught.append(entering[0])
            last, linear = entering[0][:, -1:], self.head.linear
            return (last if isinstance(linear, FrozenLinear) else last.to(linear.weight.dtype),)

        handle = self.head.linear.register_forward_pre_hook(catch)
        try:
            self.model(**inputs, use_cache=False)
        finally:
            handle.remove()
        return caught[0]

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: one for name, one in self.model.named_parameters() if one.requires_grad}

    @property
    def device(self) -> torch.device:
        return self.model.device


def view(model: PreTrainedModel, kind: str) -> Decoder:
    """View a model as a packed Decoder; models/families.py checks that the view is right.

    Raises UnsupportedModel where its head is not a linear layer.
    """
    linear = model.get_output_embeddings()
    if not isinstance(linear, nn.Linear | FrozenLinear):
        raise UnsupportedModel("no_head", model=type(model).__name__)
    config = model.config.get_text_config(decoder=True)
    scale = 1.0 / (getattr(config, "logits_scaling", None) or 1.0) * (getattr(config, "logit_scale", None) or 1.0)
    head = Head(linear, scale, getattr(config, "final_logit_softcapping", None))
    attention = PackedAttention(kind)
    model.set_attn_implementation(attention.name)
    return Decoder(model, head, attention)


def blocks_of(model: PreTrainedModel) -> nn.ModuleList:
    """The list of a decoder's blocks. Raises UnsupportedModel where no single list can be it."""
    count = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    lists = list(_outer_lists(model.base_model))
    candidates = lists if len(lists) == 1 else [one for one in lists if len(one) == count]
    if len(candidates) != 1:
        raise UnsupportedModel("no_blocks", model=type(model).__name__, count=len(candidates))
    return candidates[0]


def beside_blocks(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """The modules that lie beside a decoder's blocks, by name: embeddings, the final norm."""
    parent, _ = _place_of(model, blocks_of(model))
    yield from parent.named_children()


def _place_of(model: PreTrainedModel, blocks: nn.ModuleList) -> tuple[nn.Module, str]:
    """The module that holds the blocks, and the name that they have in it."""
    return next((module, name) for module in model.modules() for name, one in module.named_children() if one is blocks)


def _outer_lists(module: nn.Module) -> Iterator[nn.ModuleList]:
    """The lists of modules that lie in no other list."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _outer_lists(child)


@contextmanager
def few_blocks(model: PreTrainedModel) -> Iterator[None]:
    """A context in which the model has only its first blocks: enough to have one of each kind, and at least two.

    Raises UnsupportedModel where the decoder has no single list of blocks.
    """
    blocks = blocks_of(model)
    types = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or [None] * len(blocks)
    kinds = [(*(type(one) for one in block.modules()), types[at]) for at, block in enumerate(blocks)]
    count = max(2, *(1 + kinds.index(kind) for kind in set(kinds)))
    parent, name = _place_of(model, blocks)
    setattr(parent, name, nn.ModuleList(blocks[:count]))
    try:
        yield
    finally:
        setattr(parent, name, blocks)


@contextmanager
def evaluating(decoder: Decoder) -> Iterator[None]:
    """A context in which dropout is off; afterwards every module has its former mode."""
    modes = {module: module.training for module in decoder.model.modules()}
    decoder.model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def run(decoder: Decoder, segments: Sequence[Tensor]) -> Tensor:
    """The hidden states of a row made of these samples' ids."""
    lengths = [len(segment) for segment in segments]
    positions = torch.cat([torch.arange(length, device=decoder.device) for length in lengths])
    with decoder.attention.segments(lengths):
        return decoder.hidden(torch.cat(list(segments)), positions)


def distance(a: Tensor, b: Tensor) -> float:
    """The distance of two tensors relative to the norm of the second."""
    return float((a - b).norm() / b.norm())
