"""Builds a model as it would be trained from shapes alone: no weight is read or takes memory.

To be built and run under fake tensors (measure/trace.py). What the real way proves with numbers is taken as proven.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from xiaozao.measure.ledger import Ledger
from xiaozao.models.blocks import Decoder, blocks_of, view
from xiaozao.models.layers.attention import Asked, PackedAttention, Sight
from xiaozao.models.layers.autograd import call
from xiaozao.models.layers.linear import FrozenLinear, is_plain, is_router, put
from xiaozao.models.layers.quantize import BASES
from xiaozao.models.load import DTYPES
from xiaozao.models.loading.choice import choose
from xiaozao.models.loading.converted import matrix_of
from xiaozao.models.loading.mapped import Mapped
from xiaozao.models.loading.stream import Matrix, streamed_bases
from xiaozao.models.loading.streamed import put_streamed
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.models.trainable import make_trainable
from xiaozao.spec.profile import Heads, TraceRequest

LISTS = ("layer_types", "mlp_layer_types", "layers_block_type")  # one entry for each block


class TracedAttention(PackedAttention):
    """Attention that keeps what the real one keeps, and leaves its own transient bytes to plan/attention_memory.py."""

    def __init__(self, kind: str, ledger: Ledger) -> None:
        super().__init__(kind)
        self.ledger = ledger
        self.met: set[Heads] = set()

    def compute(self, q: Tensor, k: Tensor, v: Tensor, asked: Asked) -> Tensor:
        heads = Heads(q.shape[1], k.shape[1], q.shape[3], v.shape[3], asked.window)
        self.met.add(heads)
        kind = q.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else v.dtype
        return call(_Attention, q.to(dtype), k.to(dtype), v.to(dtype), self, heads)

    def see(self, mask_function: Callable[..., Tensor], device: torch.device) -> Sight | None:
        return None  # which takes numbers; the layers' own windows are enough here


class _Attention(torch.autograd.Function):
    """q (n, heads, S, d), k and v (n, kv heads, S, d or other) -> (n, heads, S, width of v)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, attention: TracedAttention, heads: Heads) -> Tensor:
        out = q.new_empty(*q.shape[:3], v.shape[3])
        attention.ledger.transient("forward", heads)
        kept = [q, k, v]
        if attention.kind == "sdpa":  # as flash attention does: the output, and a number a row
            kept += [out, torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)]
        ctx.save_for_backward(*kept)
        ctx.shapes, ctx.ledger, ctx.heads = (q.shape, k.shape, v.shape), attention.ledger, heads
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        empty = [grads[0].new_empty(shape) for shape in ctx.shapes]
        ctx.ledger.transient("backward", ctx.heads)
        del kept
        return *empty, None, None


def config_of(values: dict[str, object], blocks: int | None = None) -> PreTrainedConfig:
    """The config of a model, or of one with its first `blocks` blocks alone."""
    rest = {name: value for name, value in values.items() if name != "model_type"}
    config = AutoConfig.for_model(str(values["model_type"]), **rest)
    text = config.get_text_config(decoder=True)
    if blocks is not None:
        for name in LISTS:
            if isinstance(getattr(text, name, None), list):
                setattr(text, name, getattr(text, name)[:blocks])
        text.num_hidden_layers = blocks
    return config


def are_alike(question: TraceRequest) -> bool:
    """Whether all blocks have the same parameters, and the method treats them alike."""
    if question.method.last_blocks is not None:
        return False
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(question.config))
    shapes = [{name: one.shape for name, one in block.named_parameters()} for block in blocks_of(model)]
    kinds = {tuple(type(one) for one in block.modules()) for block in blocks_of(model)}
    chosen = [target for target in question.method.targets if any(part.isdigit() for part in target.split("."))]
    return all(one == shapes[0] for one in shapes) and len(kinds) == 1 and not chosen


def build(question: TraceRequest, config: PreTrainedConfig, ledger: Ledger) -> Decoder:
    """The decoder as worker/jobs.py makes it, under fake tensors."""
    method = question.method
    frozen = method.method == "lora" or method.last_blocks is not None
    dtype = DTYPES[question.precision if frozen else method.weights]
    stored = file_type(config)  # before the model's own is written into it
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
    if question.stream:
        _leave_on_disk(model, question.base, stored, dtype)
    seen = view(model, question.attention)
    attention = TracedAttention(question.attention, ledger)
    model.set_attn_implementation(attention.name)
    decoder = Decoder(model, seen.head, attention)
    if question.base != "none" and not question.stream:
        _store(decoder, question.base)
    make_trainable(decoder, method, 0)
    fuse(decoder, proven=lambda *_: True)
    recompute(decoder, question.checkpointing)
    model.train(question.method.objective in ("sft", "pretrain"))
    return decoder


def _store(decoder: Decoder, base: str) -> None:
    """The linear layers of the blocks in eight or four bits, as loading/whileloading.py does while it reads them."""
    model: nn.Module = decoder.model
    for name, module in list(model.named_modules()):
        if is_plain(module) and not is_router(name) and module is not decoder.head.linear:
            assert not isinstance(module, FrozenLinear)
            transposed = isinstance(module, Conv1D)
            weight = module.weight.t() if transposed else module.weight
            put(model, name, FrozenLinear(BASES[base](weight.detach()), module.bias, transposed))


@dataclass(frozen=True)
class Absent(Mapped):
    """A stand-in for a tensor in a file. Like the pages of a mapped file, it counts as live while it is used."""

    def rows(self, first: int, last: int) -> Tensor:
        return torch.empty((last - first, *self.shape[1:]), dtype=self.dtype)

    def whole(self) -> Tensor:
        return torch.empty(self.shape, dtype=self.dtype)


@dataclass(frozen=True)
class Table(Absent):
    """One of which an embedding sees the rows of its tokens alone: their pages are a small part of what comes later.

    A page or the system's 64 kB around it for each token, gone before the first block; each block keeps its input.
    """

    everything: Tensor  # made where nobody counts

    def whole(self) -> Tensor:
        return self.everything


def _leave_on_disk(model: PreTrainedModel, base: str, stored: torch.dtype, dtype: torch.dtype) -> None:
    """The matrices as models/loading/streamed.py leaves them on disk, in files that are not there."""
    chosen = choose(model)
    places: dict[str, Matrix] = {}
    for name in chosen.names:
        layer = model.get_submodule(name)
        weight = layer.get_parameter("weight").detach()
        weight = weight.t() if isinstance(layer, Conv1D) else weight
        if name in chosen.layers and base != "none":
            parts = {part: absent(one) for part, one in BASES[base](weight).state_dict().items()}
            places[name] = matrix_of(base, parts, tuple(weight.shape))
        else:
            table = Table(Path(), 0, stored, tuple(weight.shape), torch.empty(weight.shape, dtype=stored))
            places[name] = matrix_of("plain", {"weight": table}, tuple(weight.shape))
    put_streamed(model, chosen, places, dtype, torch.device("cpu"))


def absent(tensor: Tensor) -> Absent:
    """What stands for a tensor that was written to a file."""
    return Absent(Path(), 0, tensor.dtype, tuple(tensor.shape))


def file_type(config: PreTrainedConfig) -> torch.dtype:
    """The type of the numbers in a model's own files; bf16, as most are, where its config does not tell."""
    told = getattr(config.get_text_config(decoder=True), "dtype", None) or config.dtype
    return told if isinstance(told, torch.dtype) else torch.bfloat16


def held_by_loading(model: nn.Module, question: TraceRequest) -> int:
    """Bytes beside the weights: the largest of them, which is there as its file has it too for a moment.

    Of weights on disk none is; but a tile, with where it comes from, when the model is checked, or one matrix as its
    own file has it, when they are converted first.
    """
    whole = max((*model.parameters(), *model.buffers()), key=lambda one: one.nbytes)
    stored, computed = file_type(config_of(question.config)).itemsize, DTYPES[question.precision].itemsize
    largest = max(whole.nbytes, whole.numel() * stored if whole.is_floating_point() else 0)
    for base in streamed_bases(model):
        matrix, tile = base.out_features * base.in_features, base.tiles()[0].stop * base.in_features
        largest = max(largest, tile * (computed + stored) if question.base == "none" else matrix * stored)
    return largest
