"""Checks at load, by numbers and not by a list of names, that our view of a decoder gives its own logits.

    1. the model itself is causal: tokens that follow change nothing before them
    2. the states that enter the head, the head, and what comes after it give the model's own logits
    3. samples in one row are what they are alone, packed or else padded, and do not notice another sample

The first way of 2 and 3 that holds is taken; a model for which none holds is refused, because its loss would
silently be wrong. A probe is a few tokens, so windows of thousands of tokens are not reached by it; those come from
the very function from which transformers builds the model's mask (models/layers/attention.py).
"""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from xiaozao.errors import UnsupportedModel
from xiaozao.models.blocks import Decoder, Head, Packing, distance, few_blocks, run
from xiaozao.models.layers.attention import implementation, own_attention
from xiaozao.models.loading.architecture import FAILURES
from xiaozao.models.loading.paged import store_of
from xiaozao.models.loading.stream import is_streamed

# Of distances relative to the norm: what rounding alone may do, in fp32 and in shorter types.
FINE, COARSE = 1e-3, 5e-2
PROBE = 8  # tokens
PACKINGS: tuple[Packing, ...] = ("packed", "padded")


@dataclass(frozen=True)
class _Probe:
    """Two samples, and the model's own logits for each by itself."""

    first: Tensor
    second: Tensor
    own_first: Tensor
    own_second: Tensor
    bound: float


def check(decoder: Decoder) -> Decoder:
    """The decoder in the way that its numbers allow; the model is left set to that way.

    Where the weights are on disk, the first blocks of each kind have to do: a probe reads all that it passes through.
    Raises UnsupportedModel where the model is not causal, its logits are not ours, or samples cannot be kept apart.
    """
    if is_streamed(decoder.model) or store_of(decoder.model) is not None:
        with suppress(UnsupportedModel), few_blocks(decoder.model):  # a model may not run without its other blocks
            return _check(decoder)
    return _check(decoder)


def _check(decoder: Decoder) -> Decoder:
    model = decoder.model
    training = model.training
    model.eval()
    with torch.no_grad():
        probe = _probe(model)
        chosen = _choose(decoder, probe)
    model.train(training)
    model.set_attn_implementation(attention_of(chosen))
    return chosen


def rounding(model: PreTrainedModel) -> float:
    """The allowed relative distance between two computations of the same numbers."""
    return FINE if model.dtype == torch.float32 else COARSE


def _probe(model: PreTrainedModel) -> _Probe:
    """The model as it is; raises UnsupportedModel where it does not run on text alone or is not causal."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, min(vocabulary, 1000), (2 * PROBE + 1,), generator=generator).to(model.device)
    first, second = ids[: PROBE + 1], ids[PROBE + 1 :]
    try:
        with implementation(model, "eager"):
            own = [model(input_ids=one[None], use_cache=False).logits[0].float() for one in (first, second)]
            longer = model(input_ids=torch.cat([second, first])[None], use_cache=False).logits[0].float()
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        raise UnsupportedModel("text_alone", model=model.config.model_type, detail=_line(error)) from error
    bound = rounding(model)
    gap = distance(longer[: len(second)], own[1])
    if not gap < bound:  # written so that NaN is refused too
        raise UnsupportedModel("not_causal", model=model.config.model_type, gap=f"{gap:.3g}", bound=bound)
    return _Probe(first, second, own[0], own[1], bound)


def _choose(decoder: Decoder, probe: _Probe) -> Decoder:
    """The first way whose numbers hold."""
    gaps = {"logits": float("inf"), "samples": float("inf")}
    for packing in PACKINGS:
        candidate = replace(decoder, packing=packing)
        with implementation(decoder.model, attention_of(candidate)):
            candidate, gap = _with_own_logits(candidate, probe)
            gaps["logits"] = min(gap, gaps["logits"])
            if not gap < probe.bound:
                continue
            gap = _attempt(candidate, probe)
        gaps["samples"] = min(gap, gaps["samples"])
        if gap < probe.bound:
            return candidate
    key = "logits" if gaps["samples"] == float("inf") else "samples"
    raise UnsupportedModel(key, model=decoder.model.config.model_type, gap=f"{gaps[key]:.3g}", bound=probe.bound)


def attention_of(decoder: Decoder) -> str:
    """The name of the attention that a decoder computes with."""
    return decoder.attention.name if decoder.packing == "packed" else own_attention(decoder.model)


def _with_own_logits(decoder: Decoder, probe: _Probe) -> tuple[Decoder, float]:
    """What lies before and after the head, chosen so that the logits come nearest to the model's own; and how near."""
    best, least = decoder, float("inf")
    for tail in (False, True):
        candidate = replace(decoder, tail=tail)
        try:
            states = run(candidate, [probe.second])
            raw = replace(candidate.head, scale=1.0, cap=None).logits(states)
        except torch.OutOfMemoryError:
            raise
        except FAILURES:
            continue
        for head in _heads(candidate.head, candidate.model.config.get_text_config(decoder=True)):
            finished = head.finish(raw)
            gap = distance(finished, probe.own_second) if finished.shape == probe.own_second.shape else float("inf")
            if gap < least:
                best, least = replace(candidate, head=head), gap
        if least < probe.bound:
            break
    return best, least


def _heads(head: Head, config: PreTrainedConfig) -> Iterator[Head]:
    """Candidates for the head: as configs usually describe it, then with every scale and cap in the config."""
    yield head
    numbers = {name: one for name, one in config.to_dict().items() if isinstance(one, (int, float)) and one > 0}
    speaking = [one for name, one in numbers.items() if "logit" in name or "head_multiplier" in name]
    scales = {1.0, *speaking, *(1 / one for one in speaking)}
    caps = {None, *(one for name, one in numbers.items() if "cap" in name)}
    for scale, cap in itertools.product(sorted(scales), sorted(caps, key=str)):
        yield replace(head, scale=float(scale), cap=None if cap is None else float(cap))


def _attempt(decoder: Decoder, probe: _Probe) -> float:
    """How far samples of one row are from what they are alone; infinite where the model fails."""
    first, second, vocabulary = probe.first, probe.second, probe.own_first.shape[1]
    try:
        together = decoder.head.logits(run(decoder, [first, second]))
        shifted = decoder.head.logits(run(decoder, [(first + 1) % min(vocabulary, 1000), second]))
    except torch.OutOfMemoryError:
        raise
    except FAILURES:
        return float("inf")
    alone = torch.cat([probe.own_first, probe.own_second])
    return max(distance(together, alone), distance(shifted[len(first) :], together[len(first) :]))


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
