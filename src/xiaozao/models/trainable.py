"""Chooses which parameters of a model are trained: adapters, whole modules beside them, the last blocks, or all.

    method=lora   all frozen, an adapter beside each target (layers/linear.py); `also` names modules that train whole
    method=full   all parameters in fp32, or with last_blocks=k the last k blocks, the final norm and an untied head

A module that trains whole inside a frozen model of the compute dtype holds fp32 masters: a bf16 weight does not move by
steps of a small learning rate. What comes out of it is cast back, so its neighbours do not notice.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from xiaozao.errors import UnsupportedModel, UsageError
from xiaozao.models.blocks import Decoder, beside_blocks, blocks_of
from xiaozao.models.layers.dora import DoraLinear
from xiaozao.models.layers.linear import Adapted, AdaptedLinear, FrozenLinear, adapt, matching
from xiaozao.models.layers.pissa import PissaLinear
from xiaozao.models.loading.stream import StreamedEmbedding
from xiaozao.spec.parts import MethodSpec

KINDS: dict[str, type[Adapted]] = {
    "lora": AdaptedLinear,
    "rslora": AdaptedLinear,  # Kalajdzievski 2023: the scale is alpha / sqrt(rank), nothing else
    "dora": DoraLinear,
    "pissa": PissaLinear,
}


def make_trainable(decoder: Decoder, method: MethodSpec, seed: int) -> None:
    """Freeze the model and make trainable what the method trains.

    `alpha` must be decided. Raises UsageError, NotFound.
    """
    if method.method == "lora":
        assert method.alpha is not None
        names = matching(decoder.model, decoder.head.linear, method.targets)
        alpha = method.alpha * math.sqrt(method.rank) if method.adapter == "rslora" else method.alpha
        adapt(decoder.model, names, method.rank, alpha, seed, KINDS[method.adapter])
        train_whole(decoder, method.also)
    elif method.last_blocks is not None:
        train_last(decoder, method.last_blocks)


def replaces(method: MethodSpec) -> bool:
    """Whether weights of the model are put aside for others, so that their memory has to be free again."""
    return method.adapter == "pissa" or bool(method.also) or method.last_blocks is not None


def rate_factors(decoder: Decoder, lora_plus: float | None) -> dict[str, float]:
    """Multipliers of the learning rate by parameter name; what is not named has 1.

    LoRA+ (Hayou et al. 2024): B learns `lora_plus` times as fast as A.
    """
    if lora_plus is None:
        return {}
    return {name: lora_plus for name in decoder.trainable() if name.endswith(".lora_b")}


def train_whole(decoder: Decoder, also: tuple[str, ...]) -> None:
    """Open embeddings, head or norms beside the adapters.

    Where embeddings and head are one matrix, what is named is trained and what is not named stays as it is: naming one
    of the two unties them, naming both trains the one matrix through both.
    """
    ends = {"embeddings", "head"} & set(also)
    if ends:
        _train_ends(decoder, also, ends)
    for norm in _norms(decoder.model) if "norms" in also else []:
        _open(norm)


def _train_ends(decoder: Decoder, also: tuple[str, ...], ends: set[str]) -> None:
    head = decoder.head.linear
    if isinstance(head, FrozenLinear) or isinstance(decoder.model.get_input_embeddings(), StreamedEmbedding):
        raise UsageError("stream_whole", name=", ".join(sorted(ends)))
    embedding = _embedding(decoder)
    if is_tied(decoder) and len(ends) == 1:
        untie(decoder)
    tied = is_tied(decoder)
    if "embeddings" in also:
        _open(embedding)
    if "head" in also and not tied:
        _open(head)
    elif "head" in also:
        head.weight = embedding.weight


def train_last(decoder: Decoder, count: int) -> None:
    """Open the last `count` blocks, the final norm, and the head unless it is the embedding matrix too.

    Raises UsageError where the model has fewer blocks.
    """
    blocks = blocks_of(decoder.model)
    if count > len(blocks):
        raise UsageError("last_blocks", count=count, blocks=len(blocks))
    compute = _embedding(decoder).weight.dtype
    decoder.model.requires_grad_(False)
    for block in blocks[len(blocks) - count :]:
        for module in block.modules():  # `to` would not do while a step is traced, whose weights are fakes
            _widen(module)
        if compute != torch.float32:
            block.forward = partial(_in_autocast, block.forward, decoder.device.type, compute)
    for name, module in beside_blocks(decoder.model):
        if _is_norm(module) and "emb" not in name:  # not that of the embeddings
            _open(module)
    if not is_tied(decoder):
        _open(decoder.head.linear)


def whole_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn and are no adapter's, by name; one matrix of two modules is given under both names."""
    return {
        name: one
        for name, one in model.named_parameters(remove_duplicate=False)
        if one.requires_grad and not isinstance(model.get_submodule(name.rpartition(".")[0]), Adapted)
    }


def is_tied(decoder: Decoder) -> bool:
    """Whether embeddings and head are one matrix."""
    if isinstance(decoder.head.linear, FrozenLinear):
        embedding = decoder.model.get_input_embeddings()
        return isinstance(embedding, StreamedEmbedding) and embedding.base is decoder.head.linear.base
    return decoder.head.linear.weight is _embedding(decoder).weight


def untie(decoder: Decoder) -> None:
    """Give the head a matrix of its own, and say so in the config, which is what a reader goes by."""
    head = decoder.head.linear
    if isinstance(head, FrozenLinear):
        raise UsageError("stream_whole", name="head")
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in {id(one): one for one in (decoder.model.config, decoder.model.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    tied = decoder.model.all_tied_weights_keys
    decoder.model.all_tied_weights_keys = {
        one: other
        for one, other in tied.items()
        if not {one, other} & {f"{name}.weight" for name in _names_of(decoder, head)}
    }


def _open(module: nn.Module) -> None:
    """Let a module's own parameters learn, as fp32 masters; its output keeps the dtype it had."""
    for dtype in _widen(module):
        if dtype != torch.float32:
            module.register_forward_hook(partial(_cast_output, dtype))


def _widen(module: nn.Module) -> list[torch.dtype]:
    """Let a module's own parameters learn, as fp32 masters; returns the types that they had."""
    parameters = list(module.named_parameters(recurse=False))
    for name, parameter in parameters:
        setattr(module, name, nn.Parameter(parameter.detach().to(torch.float32, copy=True)))
    return [parameter.dtype for _, parameter in parameters]


def _cast_output(dtype: torch.dtype, module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> Tensor:
    return output.to(dtype)


def _in_autocast(
    forward: Callable[..., object], device: str, dtype: torch.dtype, *inputs: object, **named: object
) -> object:
    with torch.autocast(device, dtype=dtype):
        return forward(*inputs, **named)


def _names_of(decoder: Decoder, module: nn.Module) -> list[str]:
    return [name for name, one in decoder.model.named_modules(remove_duplicate=False) if one is module]


def _embedding(decoder: Decoder) -> nn.Embedding:
    embedding = decoder.model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise UnsupportedModel("no_embedding", model=type(decoder.model).__name__)
    return embedding


def _is_norm(module: nn.Module) -> bool:
    """RMSNorm, LayerNorm and their kin by the class's name, which every family of transformers keeps to."""
    return "norm" in type(module).__name__.lower() and next(module.parameters(recurse=False), None) is not None


def _norms(model: nn.Module) -> list[nn.Module]:
    norms = [one for one in model.modules() if _is_norm(one)]
    if not norms:
        raise UsageError("no_norms", model=type(model).__name__)
    return norms
