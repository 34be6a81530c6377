"""When weights move: after the window, or in the middle of backward with one gradient alive at a time."""

import math

import pytest
import torch
from torch import Tensor, nn

from tests.toy import toy_decoder, toy_samples
from xiaozao.errors import TrainingError
from xiaozao.models.blocks import Decoder
from xiaozao.train.batches import packed_row
from xiaozao.train.losses import sft
from xiaozao.train.optim.engine import Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.update import Fused, Update, Whole, clip, gradient_norm

SAMPLES = toy_samples([9, 30, 14, 22])


def loss_of(decoder: Decoder) -> Tensor:
    row = packed_row(SAMPLES, range(4), decoder.device)
    with decoder.attention.segments(row.lengths):
        return sft(decoder, row) / len(row.labels)


def steps(decoder: Decoder, update: Update, count: int = 3, bf16: bool = False) -> list[float]:
    """Train; the norms that were reported."""
    norms = []
    for step in range(count):
        update.begin(step, 1e-2)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):  # as the loop computes: backward too
            loss_of(decoder).backward()
        norms.append(update.norm(1.0))
        update.apply(norms[-1], 1.0)
    update.close()
    return norms


def test_clipping_looks_at_all_gradients_together() -> None:
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    one.grad, two.grad = torch.tensor([3.0]), torch.tensor([4.0])
    norm = float(gradient_norm([one, two]))
    assert norm == pytest.approx(5.0)
    clip([one, two], norm, 1.0)
    assert float(gradient_norm([one, two])) == pytest.approx(1.0)
    clip([one, two], float(gradient_norm([one, two])), 10.0)
    assert float(one.grad) == pytest.approx(0.6)


@pytest.mark.parametrize(("lora", "bf16"), [(4, False), (None, False), (None, True)])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_fused_update_is_the_same_update(optimizer: str, lora: int | None, bf16: bool) -> None:
    found = []
    for kind in (Whole, Fused):
        decoder = toy_decoder(lora=lora)
        ours = OPTIMIZERS[optimizer](decoder.trainable(), Options(0.01, rank=4, every=2))
        norms = steps(decoder, kind(ours, limit=1e9), bf16=bf16)
        found.append((norms, {name: one.detach() for name, one in ours.parameters.items()}))
    (norms, weights), (fused_norms, fused) = found
    assert fused_norms == pytest.approx(norms, rel=1e-6) and min(norms) > 0
    assert all(torch.equal(fused[name], weights[name]) for name in weights)


def test_a_fused_update_clips_each_parameter_by_its_own_norm() -> None:
    decoder, reference = toy_decoder(lora=None), toy_decoder(lora=None)
    loss_of(reference).backward()
    limit = 0.5 * float(gradient_norm(reference.trainable().values()))
    ours = OPTIMIZERS["apollo-mini"](decoder.trainable(), Options())  # its update follows the gradient's size
    norms = steps(decoder, Fused(ours, limit), 1)
    assert norms == pytest.approx([2 * limit])
    for one in reference.trainable().values():
        assert one.grad is not None
        clip([one], float(one.grad.norm()), limit)
    theirs = OPTIMIZERS["apollo-mini"](reference.trainable(), Options())
    theirs.step(1e-2)
    assert all(torch.equal(one, reference.trainable()[name]) for name, one in decoder.trainable().items())


@pytest.mark.parametrize("tied", [True, False])
def test_a_fused_update_never_holds_more_gradients_than_that_of_one_parameter(tied: bool) -> None:
    most = {}
    for kind in (Whole, Fused):
        decoder = toy_decoder(lora=None, tie_word_embeddings=tied)
        parameters = decoder.trainable()
        seen: list[int] = []

        def count(_: Tensor, alive: dict[str, nn.Parameter] = parameters, seen: list[int] = seen) -> None:
            seen.append(sum(one.grad.nbytes for one in alive.values() if one.grad is not None))

        for one in parameters.values():
            one.register_post_accumulate_grad_hook(count)  # before ours, so that it sees the gradient
        steps(decoder, kind(OPTIMIZERS["adamw"](parameters, Options()), 1.0), 2)
        most[kind] = max(seen)
        assert len(seen) == 2 * len(parameters)
    assert most[Whole] == sum(one.nbytes for one in parameters.values())
    assert most[Fused] == max(one.nbytes for one in parameters.values())


def test_a_gradient_that_is_not_finite_stops_a_fused_update_and_says_what_had_moved() -> None:
    decoder = toy_decoder(lora=None)
    ours = OPTIMIZERS["adamw"](decoder.trainable(), Options())
    name, poisoned = next((name, one) for name, one in ours.parameters.items() if "layers.0" in name)
    poisoned.register_hook(lambda grad: grad * math.nan)
    before = poisoned.detach().clone()
    update = Fused(ours, 1.0)
    update.begin(4, 1e-2)
    with pytest.raises(TrainingError, match=rf"gradient of {name} in step 5 is nan, and with fused_update \d+ param"):
        loss_of(decoder).backward()
    assert torch.equal(poisoned, before)


def test_a_gradient_that_comes_twice_is_refused() -> None:
    decoder = toy_decoder(lora=None)
    update = Fused(OPTIMIZERS["adamw"](decoder.trainable(), Options()), 1.0)
    update.begin(0, 1e-2)
    loss_of(decoder).backward()
    with pytest.raises(TrainingError, match="came a second time"):
        loss_of(decoder).backward()
    with pytest.raises(TrainingError, match="cannot be trained with fused_update"):
        update.drop()


def test_after_it_was_closed_gradients_stay() -> None:
    decoder = toy_decoder(lora=None)
    update = Fused(OPTIMIZERS["adamw"](decoder.trainable(), Options()), 1.0)
    update.close()
    loss_of(decoder).backward()
    assert all(one.grad is not None for one in decoder.trainable().values())
