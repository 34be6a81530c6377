"""Which families of models train here, and how: small random instances of each, held against transformers itself.

Every comparison builds the model anew from its type and a seed, takes it through a station of a run, and returns how
far that lies from transformers' own forward and backward of the same weights, one sample at a time.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

from bench.rig.families_page import BOUND, Finding
from tests.small import small_model
from xiaozao.errors import XiaozaoError
from xiaozao.models.blocks import Decoder, blocks_of, distance, run, view
from xiaozao.models.families import attention_of, check
from xiaozao.models.generate import Sampling, can_be_cached, generate
from xiaozao.models.layers.linear import adapt, adapters, matching
from xiaozao.models.loading.architecture import FAILURES
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.train.batches import PackedRow
from xiaozao.train.losses import sft

KINDS: tuple[str, ...] = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
LENGTHS = (13, 40, 5, 21)  # tokens: beyond every window (8), and in more than one bucket


def examine(kind: str) -> Finding:
    """Build one type small and take it through all comparisons."""
    try:
        _built(kind)
    except (*FAILURES, ImportError, StrictDataclassError) as error:
        return Finding(kind, "not built", _line(error))
    try:
        decoder = checked(kind)
    except XiaozaoError as error:
        return Finding(kind, "refused", error.what())
    gaps: dict[str, float] = {}
    errors: dict[str, str] = {}
    for name, compare in COMPARED.items():
        try:
            gaps[name] = compare(kind)
        except (*FAILURES, XiaozaoError) as error:
            gaps[name], errors[name] = float("inf"), _line(error)
    wrong = [f"{name}: {errors.get(name, f'{gaps[name]:.2g}')}" for name in NEEDED if not gaps[name] < BOUND]
    way = "wrong" if wrong else decoder.packing
    return Finding(kind, way, "; ".join(wrong), gaps, cached=can_be_cached(decoder))


def samples(kind: str) -> float:
    """Logits of samples that share a row, against the model's own of each alone."""
    decoder, parts = checked(kind), segments(kind)
    with torch.no_grad():
        mine = decoder.head.logits(run(decoder, parts))
        return distance(mine, torch.cat([_logits(own(kind), part) for part in parts]))


def loss(kind: str) -> float:
    """The chunked loss of a row, against cross-entropy on the model's own logits."""
    parts = segments(kind)
    with torch.no_grad():
        theirs = float(_own_loss(own(kind), parts))
        return abs(float(_loss(checked(kind), parts)) - theirs) / theirs


def gradients(kind: str) -> float:
    """The gradients of all parameters, against the model's own backward."""
    decoder, model, parts = checked(kind), own(kind), segments(kind)
    _loss(decoder, parts).backward()
    _own_loss(model, parts).backward()
    return _far(_gradients(decoder.model), _gradients(model))


def merged(kind: str) -> float:
    """Logits through adapters that have learned and the fused passes, against the model with the merged weights."""
    decoder, parts = adapted(kind), segments(kind)
    model = _with_merged(kind, decoder)
    with torch.no_grad():
        mine = decoder.head.logits(run(decoder, parts))
        return distance(mine, torch.cat([_logits(model, part) for part in parts]))


def adapter_gradients(kind: str) -> float:
    """The adapters' gradients, against what follows from those of the merged weights: dA = s B' dW, dB = s dW A'."""
    decoder, parts = adapted(kind), segments(kind)
    model = _with_merged(kind, decoder)
    model.requires_grad_(True)
    _own_loss(model, parts).backward()
    expected = {}
    for name, layer in adapters(decoder.model).items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        if weight.grad is None:
            continue
        grad = weight.grad.t() if layer.transposed else weight.grad
        expected[f"{name}.lora_a"] = layer.scale * layer.lora_b.detach().t() @ grad
        expected[f"{name}.lora_b"] = layer.scale * grad @ layer.lora_a.detach().t()
    _loss(decoder, parts).backward()
    return _far(_gradients(decoder.model), expected)


def recomputed(kind: str) -> float:
    """The adapters' gradients with blocks that run again in backward, against those without."""
    decoder, parts = adapted(kind), segments(kind)
    _loss(decoder, parts).backward()
    plain = _gradients(decoder.model)
    decoder.model.zero_grad(set_to_none=True)
    recompute(decoder, "block")
    row = _row(parts)
    with decoder.attention.segments(row.lengths):  # backward asks for them once more
        sft(decoder, row).backward()
    return _far(_gradients(decoder.model), plain)


def blocks(kind: str) -> float:
    """The blocks run one by one, each on what the last one gave, against the model; infinite where any are missing."""
    model, part = own(kind), segments(kind)[0]
    found = blocks_of(model)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []
    hooks = [
        one.register_forward_hook(lambda _, args, named, out: calls.append((args, named, out)), with_kwargs=True)
        for one in found
    ]
    with torch.no_grad():
        _logits(model, part)
        for hook in hooks:
            hook.remove()
        if len(calls) != len(found) or _outside(kind, model, found):
            return float("inf")
        states = None
        for block, (args, named, _) in zip(found, calls, strict=True):
            if states is not None and args:
                args = (states, *args[1:])
            elif states is not None:
                named = {**named, "hidden_states": states}
            states = _first(block(*args, **named))
        assert states is not None
        return distance(states, _first(calls[-1][2]))


def answers(kind: str) -> float:
    """The largest logit that a greedy answer with a cache gave away, against the model's own without one."""
    decoder, model = checked(kind), own(kind)
    parts = [part[:length].tolist() for part, length in zip(segments(kind), (9, 6, 5, 9), strict=True)]
    worst = 0.0
    for prompt, answer in zip(parts, generate(decoder, parts, frozenset(), Sampling(12)), strict=True):
        ids = torch.tensor([*prompt, *answer])
        with torch.no_grad():
            logits = _logits(model, ids)[len(prompt) - 1 : -1]
        given = logits.gather(1, torch.tensor(answer)[:, None]).squeeze(1)
        worst = max(worst, float((logits.max(1).values - given).max() / logits.std()))
    return worst


COMPARED: dict[str, Callable[[str], float]] = {
    "samples": samples, "loss": loss, "gradients": gradients, "merged": merged, "adapter gradients": adapter_gradients,
    "blocks": blocks, "recomputed": recomputed, "answers": answers,
}  # fmt: skip
NEEDED = ("samples", "loss", "gradients", "merged", "adapter gradients", "answers")  # without these it is wrong


def segments(kind: str) -> list[Tensor]:
    """Random samples of unlike lengths."""
    vocabulary = own(kind).config.get_text_config(decoder=True).vocab_size
    ids = torch.randint(5, min(vocabulary, 1000), (sum(LENGTHS),), generator=torch.Generator().manual_seed(1))
    return list(ids.split(list(LENGTHS)))


def checked(kind: str) -> Decoder:
    """The model as a run loads it. What the check finds depends on the type alone, so it is made once for each."""
    found = _found(kind)
    decoder = view(_copy(kind), "batched")
    head = replace(decoder.head, scale=found.head.scale, cap=found.head.cap)
    decoder = replace(decoder, head=head, packing=found.packing, tail=found.tail)
    decoder.model.set_attn_implementation(attention_of(decoder))
    return decoder


def own(kind: str) -> PreTrainedModel:
    """The same weights, untouched, with transformers' plain attention."""
    model = _copy(kind)
    model.set_attn_implementation("eager")
    return model


@lru_cache(maxsize=1)
def _found(kind: str) -> Decoder:
    return check(view(_copy(kind), "batched"))


def _copy(kind: str) -> PreTrainedModel:
    """A model of one's own; to copy one is many times as fast as to build one."""
    return copy.deepcopy(_built(kind))


@lru_cache(maxsize=1)
def _built(kind: str) -> PreTrainedModel:
    return small_model(kind)


def adapted(kind: str) -> Decoder:
    """The model as a run trains it: a LoRA on all linear layers, here one that has learned, and the fused passes."""
    decoder = checked(kind)
    layers = adapt(decoder.model, matching(decoder.model, decoder.head.linear, ("all-linear",)), 2, 4.0, 0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_b.copy_(torch.randn(layer.lora_b.shape, generator=generator) * 0.05)
    fuse(decoder)
    return decoder


def _with_merged(kind: str, decoder: Decoder) -> PreTrainedModel:
    """The untouched model with the adapters' merged weights in the places of its own."""
    model = own(kind)
    for name, layer in adapters(decoder.model).items():
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear | Conv1D)
        weight = layer.merged_weight(name)
        linear.weight = nn.Parameter(weight.t().contiguous() if layer.transposed else weight)
    return model


def _loss(decoder: Decoder, parts: Sequence[Tensor]) -> Tensor:
    row = _row(parts)
    with decoder.attention.segments(row.lengths):
        return sft(decoder, row)


def _row(parts: Sequence[Tensor]) -> PackedRow:
    """A row in which every token but the first of each sample is a target."""
    ids = torch.cat(list(parts))
    positions = torch.cat([torch.arange(len(part)) for part in parts])
    labelled = positions.nonzero().squeeze(1)
    lengths = tuple(len(part) for part in parts)
    counts = tuple(length - 1 for length in lengths)
    return PackedRow(ids, positions, lengths, labelled - 1, ids[labelled], tuple(range(len(parts))), counts)


def _logits(model: PreTrainedModel, part: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=part[None], use_cache=False).logits[0]
    return logits.float()


def _own_loss(model: PreTrainedModel, parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([F.cross_entropy(_logits(model, one)[:-1], one[1:], reduction="sum") for one in parts]).sum()


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def _far(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The distance of all gradients together; infinite where one side has one that is not zero and the other none."""
    lone = [one for name, one in (*mine.items(), *theirs.items()) if name not in mine or name not in theirs]
    if any(bool(one.any()) for one in lone):
        return float("inf")
    both = sorted(mine.keys() & theirs.keys())
    return distance(*(torch.cat([each[name].flatten() for name in both]) for each in (mine, theirs)))


def _outside(kind: str, model: PreTrainedModel, found: nn.ModuleList) -> list[str]:
    """Names of the layers that would be adapted and lie in no block, in models of text alone."""
    inside = {id(module) for module in found.modules()}
    head = model.get_output_embeddings()
    return [name for name in matching(model, head, ("all-linear",)) if id(model.get_submodule(name)) not in inside]


def _first(out: Any) -> Tensor:
    found = out[0] if isinstance(out, tuple | list) else out
    assert isinstance(found, Tensor)
    return found


def _line(error: Exception) -> str:
    text = error.what() if isinstance(error, XiaozaoError) else str(error)
    return " ".join((text.strip() or type(error).__name__).split())[:160]
