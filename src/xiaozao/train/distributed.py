"""One model over several ranks: FSDP2 (torch's fully_shard), a block at a time.

    at rest     every parameter is cut along its rows; a rank holds 1/N of weights, gradients and moments
    at work     a block's parameters are whole while it computes, and are let go after it
    backward    the gradients of a block are summed over the ranks, and each keeps its part

The ranks share a step's micro-batches (train/ranks.py) and the loss is divided by the units of the whole window, so
the gradients are summed, not averaged. The root of FSDP is a module around the whole loss, because ours applies the
head outside of the model's forward. Optimizers move what a rank holds (optim_engine.local) and know nothing of it.

Source: Zhao et al. 2023, "PyTorch FSDP"; frozen parameters of uint8 (models/layers/quantize.py) are cut like any other.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import AutoModelForCausalLM, PreTrainedModel

from xiaozao.models.blocks import Decoder, blocks_of
from xiaozao.train.batches import PackedRow
from xiaozao.train.losses import Loss
from xiaozao.train.preference_losses import Preference
from xiaozao.train.ranks import Ranks

T = TypeVar("T")


class _Whole(nn.Module):
    """The model under one forward, so that what the root holds (embedding, norm, head) is whole during all of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], object]) -> object:
        return work()


@dataclass(frozen=True)
class Sharded:
    """A decoder over several ranks. With a single rank every method does nothing."""

    decoder: Decoder
    whole: _Whole | None

    def loss(self, loss: Loss) -> Loss:
        """Wrap a loss so that it is computed together with the other ranks."""
        if self.whole is None:
            return loss
        if isinstance(loss, Preference):  # it calls the model several times, with and without gradients
            return replace(loss, run=self._whole)

        def together(decoder: Decoder, row: PackedRow) -> Tensor:
            return self._whole(lambda: loss(decoder, row))

        return together

    def together(self, work: Callable[[], T]) -> T:
        """Work without gradients that every rank does alike, such as answering questions."""
        results: list[T] = []
        with torch.no_grad():
            self._run(lambda: results.append(work()))
        return results[0]

    def _whole(self, work: Callable[[], Tensor]) -> Tensor:
        result = self._run(work)
        assert isinstance(result, Tensor)
        return result

    def _run(self, work: Callable[[], object]) -> object:
        if self.whole is None:
            return work()
        result: object = self.whole(work)
        if not torch.is_grad_enabled():  # without a backward pass the root would stay whole, and miss what is loaded
            assert isinstance(self.whole, FSDPModule)
            self.whole.reshard()
        return result


def shard(decoder: Decoder, ranks: Ranks) -> Sharded:
    """Cut a loaded decoder over the ranks. Raises UnsupportedModel where it has no single list of blocks."""
    if ranks.mesh is None:
        return Sharded(decoder, None)
    for parameter in decoder.model.parameters():  # GPT-2 holds its matrices turned, and what is cut lies row by row
        parameter.data = parameter.data.contiguous()
    for block in blocks_of(decoder.model):
        fully_shard(block, mesh=ranks.mesh, reshard_after_forward=True)
    whole = _Whole(decoder.model)
    fully_shard(whole, mesh=ranks.mesh, reshard_after_forward=False)
    for module in whole.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
            if hasattr(module, "set_reduce_scatter_unused_params"):  # torch 2.13: an expert that no token here chose
                module.set_reduce_scatter_unused_params(True)
    return Sharded(decoder, whole)


@contextmanager
def whole_adapters(decoder: Decoder, ranks: Ranks) -> Iterator[bool]:
    """A context in which the first rank holds whole adapters, to be written; yields whether this is that rank."""
    sharded = decoder.trainable()
    for name, tensor in ranks.gather(sharded).items() if ranks.mesh else ():
        _set(decoder.model, name, nn.Parameter(tensor.to(decoder.device)))
    try:
        yield ranks.is_first
    finally:
        for name, parameter in sharded.items():
            _set(decoder.model, name, parameter)


def whole_model(decoder: Decoder, ranks: Ranks) -> PreTrainedModel | None:
    """The model with whole weights, in host memory, on the first rank; None on the others. Without adapters."""
    if ranks.mesh is None:
        return decoder.model
    weights = ranks.gather(dict(decoder.model.named_parameters()) | dict(decoder.model.named_buffers()))
    if not ranks.is_first:
        return None
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(copy.deepcopy(decoder.model.config))
    model.load_state_dict(weights, strict=False, assign=True)  # a tied head is one with the embedding, below
    model.tie_weights()
    model.generation_config = decoder.model.generation_config  # the folder's, which may say more than the config
    return model


def _set(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Put a parameter in the place of the one of this name, in all modules that share it."""
    old = model.get_parameter(name)
    for module in model.modules():
        for last, current in list(module.named_parameters(recurse=False)):
            if current is old:
                setattr(module, last, parameter)
