"""The chunked head and cross-entropy against the plain formula, and the gradient of a window however it is split."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy import toy_decoder, toy_samples
from xiaozao.data.samples import Samples
from xiaozao.models.blocks import Decoder, Head
from xiaozao.train.batches import packed_row
from xiaozao.train.head import head_loss
from xiaozao.train.losses import mean_loss, sft


def plain(head: Head, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = F.linear(states, head.linear.get_parameter("weight"), head.linear.bias) * head.scale
    if head.cap:
        logits = head.cap * torch.tanh(logits / head.cap)
    return F.cross_entropy(logits, labels, reduction="sum")


@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.25, None), (1.0, 5.0), (0.5, 3.0)])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 24, 25])
@pytest.mark.parametrize("bias", [True, False])
def test_chunks_equal_the_whole(scale: float, cap: float | None, count: int, bias: bool) -> None:
    torch.manual_seed(count)
    linear = nn.Linear(16, 50, bias=bias)
    head = Head(linear, scale, cap, chunk=8)
    states, labels = torch.randn(count, 16, requires_grad=True), torch.randint(0, 50, (count,))
    wanted = [states, linear.weight, *([linear.bias] if bias else [])]
    mine = head_loss(head, states, labels)
    other = plain(head, states, labels)
    torch.testing.assert_close(mine, other)
    ours = torch.autograd.grad(mine * 0.37, wanted)  # an upstream gradient that is not one
    theirs = torch.autograd.grad(other * 0.37, wanted)
    for one, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, reference, rtol=2e-5, atol=2e-6)


def test_no_targets_cost_nothing_and_teach_nothing() -> None:
    head = Head(nn.Linear(4, 9, bias=False), 1.0, None)
    states = torch.randn(0, 4, requires_grad=True)
    total = head_loss(head, states, torch.zeros(0, dtype=torch.long))
    assert float(total.detach()) == 0.0 and torch.autograd.grad(total, states)[0].shape == (0, 4)


def gradient(decoder: Decoder, samples: Samples, micros: list[list[int]]) -> torch.Tensor:
    decoder.model.zero_grad()
    rows = [packed_row(samples, micro, decoder.device) for micro in micros]
    targets = sum(len(row.labels) for row in rows)
    for row in rows:
        with decoder.attention.segments(row.lengths):
            (sft(decoder, row) / targets).backward()
    return torch.cat([one.grad.flatten() for one in decoder.trainable().values() if one.grad is not None])


RAGGED = [5, 90, 12, 33, 7, 64, 21, 3, 48, 9, 77, 15]


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6])
@pytest.mark.parametrize("lora", [4, None])
def test_any_split_of_a_window_gives_the_gradient_of_the_full_batch(size: int, lora: int | None) -> None:
    decoder, samples = toy_decoder(lora=lora), toy_samples(RAGGED)
    for name, one in decoder.trainable().items():
        if name.endswith("lora_b"):
            nn.init.normal_(one, std=0.1)
    whole = gradient(decoder, samples, [list(range(12))])
    split = gradient(decoder, samples, [list(range(at, min(at + size, 12))) for at in range(0, 12, size)])
    assert float((split - whole).norm() / whole.norm()) < 1e-6


def test_the_full_batch_equals_autograd_through_the_models_own_logits_one_sample_at_a_time() -> None:
    decoder, samples = toy_decoder(), toy_samples(RAGGED[:4])
    mine = gradient(decoder, samples, [[0, 1, 2, 3]])
    decoder.model.zero_grad()
    total, targets = torch.zeros(()), 0
    for ids, flags in map(samples.sample, range(4)):
        row = torch.from_numpy(ids).long()
        with decoder.attention.segments([len(ids)]):
            logits = decoder.model(input_ids=row[None], use_cache=False).logits[0].float()
        labels = torch.where(torch.from_numpy(flags), row, -100)[1:]
        total = total + F.cross_entropy(logits[:-1], labels, ignore_index=-100, reduction="sum")
        targets += int((labels != -100).sum())
    (total / targets).backward()
    own = torch.cat([one.grad.flatten() for one in decoder.trainable().values() if one.grad is not None])
    assert float((mine - own).norm() / own.norm()) < 1e-6


def test_a_fully_masked_sample_contributes_nothing() -> None:
    decoder, samples = toy_decoder(), toy_samples([20, 30])
    samples.targets[20:] = 0
    torch.testing.assert_close(
        gradient(decoder, samples, [[0], [1]]), gradient(decoder, samples, [[0]]), rtol=1e-5, atol=1e-8
    )


def test_the_first_token_of_a_sample_is_never_a_label() -> None:
    samples = toy_samples([10, 12])
    samples.targets[:] = 1
    row = packed_row(samples, [0, 1], torch.device("cpu"))
    assert len(row.labels) == 9 + 11
    assert row.positions.tolist() == [*range(10), *range(12)]
    assert 9 not in row.sources.tolist()  # the last state of the first sample predicts nothing


def test_the_mean_loss_does_not_depend_on_how_it_is_packed() -> None:
    decoder, samples = toy_decoder(), toy_samples(RAGGED)
    one, many = mean_loss(decoder, sft, samples, 1), mean_loss(decoder, sft, samples, 5)
    assert one.targets == many.targets and one.loss == pytest.approx(many.loss, rel=1e-6)
