"""Recomputation lets go of what it says, and changes no bit of a gradient."""

import weakref

import pytest
import torch
from torch import Tensor

from tests.toy import toy_decoder, toy_samples
from xiaozao.errors import UnsupportedModel
from xiaozao.models.blocks import Decoder
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.train.batches import packed_row
from xiaozao.train.losses import sft

KINDS = ("selective", "block", "offload")


def gradient(decoder: Decoder) -> Tensor:
    row = packed_row(toy_samples([20, 33, 7]), range(3), decoder.device)
    decoder.model.train()
    with decoder.attention.segments(row.lengths):
        sft(decoder, row).backward()
    return torch.cat([one.grad.flatten() for one in decoder.trainable().values() if one.grad is not None])


def kept(decoder: Decoder) -> int:
    """Bytes alive behind a forward pass that were not before, in tensors that autograd keeps."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.clone()  # an address must not be used twice while we count

    row = packed_row(toy_samples([32] * 4), range(4), decoder.device)
    with decoder.attention.segments(row.lengths), torch.autograd.graph.saved_tensors_hooks(note, lambda one: one):
        sft(decoder, row)
    return sum(sizes.values())


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("lora", [4, None])
@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "phi"])
def test_no_bit_of_the_gradient_changes(kind: str, how: str, lora: int | None, fused: bool) -> None:
    plain, again = toy_decoder(0, kind, lora), toy_decoder(0, kind, lora)
    for decoder in (plain, again):
        if fused:
            fuse(decoder)
    assert recompute(again, how) == again.model.config.num_hidden_layers
    assert torch.equal(gradient(plain), gradient(again))


def test_each_kind_keeps_less_than_the_one_before() -> None:
    sizes = []
    for how in ("none", *KINDS[:2]):
        decoder = toy_decoder()
        fuse(decoder)
        recompute(decoder, how)
        sizes.append(kept(decoder))
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize(("how", "alive"), [("offload", False), ("block", True)])
def test_an_offloaded_input_is_gone_from_the_device_when_forward_has_ended(how: str, alive: bool) -> None:
    decoder = toy_decoder()
    inputs: list[weakref.ref[Tensor]] = []
    decoder.model.model.layers[1].register_forward_pre_hook(lambda _, args: inputs.append(weakref.ref(args[0])))
    recompute(decoder, how)
    row = packed_row(toy_samples([20]), range(1), decoder.device)
    with decoder.attention.segments(row.lengths):
        loss = sft(decoder, row)
        assert (inputs[0]() is not None) == alive
        loss.backward()


def test_dropout_is_drawn_again_alike() -> None:
    decoders = [toy_decoder(kind="phi", resid_pdrop=0.5) for _ in range(2)]
    recompute(decoders[1], "block")
    found = []
    for decoder in decoders:
        torch.manual_seed(3)
        found.append(gradient(decoder))
    assert torch.equal(*found)


def test_a_decoder_whose_mlp_cannot_be_told_apart_is_refused() -> None:
    decoder = toy_decoder(kind="opt", lora=None, word_embed_proj_dim=32, ffn_dim=48, do_layer_norm_before=True)
    with pytest.raises(UnsupportedModel, match="selective"):
        recompute(decoder, "selective")
