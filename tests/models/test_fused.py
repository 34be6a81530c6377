"""The parts with a hand-written backward, against the plain formulas in float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xiaozao.models.layers import batched as module
from xiaozao.models.layers.bases import DenseBase
from xiaozao.models.layers.batched import batched
from xiaozao.models.layers.fused import Linear, swiglu
from xiaozao.models.layers.linear import Adapter
from xiaozao.models.layers.rmsnorm import rms_norm


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def assert_same(mine: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    """Values and all gradients, under a gradient from above that is not uniform."""
    one, other = mine(*inputs), plain(*inputs)
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    above = torch.randn_like(one)
    for a, b in zip(torch.autograd.grad(one, inputs, above), torch.autograd.grad(other, inputs, above), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(mine, inputs)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_norm_is_its_formula(offset: float) -> None:
    torch.manual_seed(0)

    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * (weight + offset)

    assert_same(lambda x, weight: rms_norm(x, weight, 1e-5, offset), plain, (drawn(2, 3, 6), drawn(6)))


def test_a_norm_of_zeros_is_finite() -> None:
    x = torch.zeros(2, 6, requires_grad=True)
    y = rms_norm(x, torch.ones(6), 1e-6)
    assert torch.isfinite(torch.autograd.grad(y.sum(), x)[0]).all()


@pytest.mark.parametrize("adapted", [(True, True, True), (False, True, False), (False, False, False)])
def test_the_gated_mlp_is_its_formula(adapted: tuple[bool, ...]) -> None:
    torch.manual_seed(0)
    shapes = [(7, 5), (7, 5), (5, 7)]
    weights = [drawn(*shape).detach() for shape in shapes]
    biases = [drawn(shape[0]).detach() for shape in shapes]
    tensors = [drawn(*size) for (out, into) in shapes for size in ((2, into), (out, 2))]
    used = [tensors[2 * n + k] for n in range(3) if adapted[n] for k in range(2)]

    def adapters(given: tuple[Tensor, ...]) -> list[Adapter | None]:
        rest = iter(given)
        return [Adapter(next(rest), next(rest), 0.5) if one else None for one in adapted]

    def layer(x: Tensor, n: int, lora: Adapter | None) -> Tensor:
        y = F.linear(x, weights[n], biases[n])
        return y if lora is None else y + lora.scale * (x @ lora.a.t()) @ lora.b.t()

    def plain(x: Tensor, *given: Tensor) -> Tensor:
        gate, up, down = adapters(given)
        return layer(F.silu(layer(x, 0, gate)) * layer(x, 1, up), 2, down)

    def mine(x: Tensor, *given: Tensor) -> Tensor:
        views = [Linear(DenseBase(weights[n]), biases[n], 0.5 if adapted[n] else None) for n in range(3)]
        return swiglu(x, views, adapters(given))

    assert_same(mine, plain, (drawn(1, 4, 5), *used))


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(("heads", "kv"), [(4, 2), (2, 2)])
def test_attention_is_its_formula(heads: int, kv: int, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four queries over nine tokens, so that three blocks meet; values narrower than keys."""
    monkeypatch.setattr(module, "BLOCK", 4)
    torch.manual_seed(0)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = k.repeat_interleave(heads // kv, 1), v.repeat_interleave(heads // kv, 1)
        age = torch.arange(9)[:, None] - torch.arange(9)
        hidden = (age < 0) | (age >= (window or 9))
        return torch.softmax((q @ k.transpose(2, 3) * 0.3).masked_fill(hidden, float("-inf")), -1) @ v

    inputs = drawn(2, heads, 9, 4), drawn(2, kv, 9, 4), drawn(2, kv, 9, 3)
    assert_same(lambda q, k, v: batched(q, k, v, 0.3, window), plain, inputs)
