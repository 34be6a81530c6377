"""Any decoder seen as the same few parts: base (embedding, blocks, final norm), head, and what comes after the head.

Some models scale or soft-cap between head and logits. The loss applies the head itself, in chunks, so it has to do the
same; `check` proves with numbers that it does, and that packed samples do not see each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from xiaozao.errors import UnsupportedModel
from xiaozao.models.attention import PackedAttention, implementation


@dataclass(frozen=True)
class Head:
    """hidden -> logits: the linear layer, then `cap * tanh(x * scale / cap)` where the model has them."""

    linear: nn.Linear
    scale: float
    cap: float | None

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, hidden size) -> (n, vocabulary) in fp32."""
        return self.finish(F.linear(hidden, self.linear.weight, self.linear.bias).float())

    def finish(self, logits: Tensor) -> Tensor:
        """What comes after the linear layer; in place where autograd does not look."""
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.cap) * self.cap if self.cap else logits

    def finish_backward(self, grad: Tensor, finished: Tensor) -> Tensor:
        """The gradient before `finish`, from the gradient after it and its output."""
        if self.cap:
            grad = grad * (1 - (finished / self.cap) ** 2)
        return grad * self.scale if self.scale != 1.0 else grad


@dataclass(frozen=True)
class Decoder:
    """A transformers model with our attention in it."""

    model: PreTrainedModel
    head: Head
    attention: PackedAttention
    packing: bool  # whether several samples may share a row

    def hidden(self, ids: Tensor, positions: Tensor) -> Tensor:
        """ids and positions (T) of a row whose segments are set -> the final hidden states (T, hidden size)."""
        base = self.model.base_model
        return base(input_ids=ids[None], position_ids=positions[None], use_cache=False).last_hidden_state[0]  # type: ignore[no-any-return]

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: one for name, one in self.model.named_parameters() if one.requires_grad}

    @property
    def device(self) -> torch.device:
        return self.model.device


def view(model: PreTrainedModel, kind: str) -> Decoder:
    """See a model as a Decoder. Raises UnsupportedModel where its head is not a linear layer."""
    linear = model.get_output_embeddings()
    if not isinstance(linear, nn.Linear):
        raise UnsupportedModel("no_head", model=type(model).__name__)
    config = model.config.get_text_config()
    scale = 1.0 / (getattr(config, "logits_scaling", None) or 1.0) * (getattr(config, "logit_scale", None) or 1.0)
    head = Head(linear, scale, getattr(config, "final_logit_softcapping", None))
    attention = PackedAttention(kind)
    model.set_attn_implementation(attention.name)
    return Decoder(model, head, attention, packing=True)


def check(decoder: Decoder) -> Decoder:
    """Run a few tokens through and compare; what comes back says whether samples may be packed.

    Raises UnsupportedModel where our logits are not the model's own, because every loss would silently be wrong.
    """
    model = decoder.model
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(min(vocabulary, 1000), (17,), generator=generator).to(decoder.device)
    first, second = ids[:9], ids[9:]
    training = model.training
    model.eval()
    with torch.no_grad():
        with implementation(model, "eager"):
            own = model(input_ids=second[None], use_cache=False).logits[0].float()
        ours = decoder.head.logits(run(decoder, [second]))
        packed = decoder.head.logits(run(decoder, [first, second]))[9:]
        shifted = decoder.head.logits(run(decoder, [(first + 1) % vocabulary, second]))[9:]
    model.train(training)
    bound = 1e-3 if own.dtype == model.dtype == torch.float32 else 5e-2
    gap = distance(ours, own)
    if not gap < bound:  # written so that NaN is refused too
        raise UnsupportedModel("logits", model=model.config.model_type, gap=f"{gap:.3g}", bound=bound)
    alone = max(distance(packed, ours), distance(shifted, packed))
    return Decoder(model, decoder.head, decoder.attention, packing=alone < bound)


def recompute_blocks(decoder: Decoder) -> int:
    """Gradient checkpointing: each block keeps its input alone and runs again in backward. Returns how many blocks.

    Raises UnsupportedModel where the decoder has no single list of blocks.
    """
    lists = [one for one in decoder.model.base_model.children() if isinstance(one, nn.ModuleList)]
    if len(lists) != 1:
        raise UnsupportedModel("no_blocks", model=type(decoder.model).__name__, count=len(lists))
    for block in lists[0]:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return len(lists[0])


def run(decoder: Decoder, segments: Sequence[Tensor]) -> Tensor:
    """The hidden states of a row made of these samples' ids."""
    lengths = [len(segment) for segment in segments]
    positions = torch.cat([torch.arange(length, device=decoder.device) for length in lengths])
    with decoder.attention.segments(lengths):
        return decoder.hidden(torch.cat(list(segments)), positions)


def distance(a: Tensor, b: Tensor) -> float:
    """The distance of two tensors relative to the norm of the second."""
    return float((a - b).norm() / b.norm())
