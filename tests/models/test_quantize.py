"""Quantised bases against bitsandbytes' own quantisers: the same codes, the same matrix, the same products."""

import copy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from bitsandbytes import functional as reference
from torch import Tensor, nn

from xiaozao.errors import EnvironmentProblem
from xiaozao.models.layers import quantize
from xiaozao.models.layers.bases import Base, DenseBase, parameter_count
from xiaozao.models.layers.linear import Adapter, FrozenLinear, lora_linear
from xiaozao.models.layers.quantize import BASES, Int8Base, Nf4Base

SHAPES = [(24, 64), (48, 100), (130, 192)]  # blocks that end with rows, blocks across rows, a scale across many rows
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def theirs(kind: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix that bitsandbytes makes of a weight, there and back."""
    if kind == "int8":
        codes, absmax, _ = reference.int8_vectorwise_quant(weight.float())
        rows: Tensor = reference.int8_vectorwise_dequant(codes, absmax)
        return rows.to(dtype)
    codes, state = reference.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    state.dtype = dtype
    found: Tensor = reference.dequantize_4bit(codes, state)
    return found


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk", [64 * 3, 1 << 20])
def test_the_matrix_is_bitsandbytes_own_bit_for_bit(
    kind: str, shape: tuple[int, int], dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "CHUNK", chunk)
    weight = drawn(*shape, dtype=dtype)
    base = BASES[kind](weight)
    for wanted in DTYPES:
        assert torch.equal(base.dense(wanted), theirs(kind, weight, wanted))
    assert base.dense(torch.float64).dtype == torch.float64


@pytest.mark.parametrize("width", [32, 64, 72, 96, 100, 160])
def test_the_nf4_matrix_is_that_of_the_table_for_rows_that_end_anywhere(width: int) -> None:
    """bitsandbytes' own kernel for AVX-512 is wrong for rows of 32, 96 or 160 weights."""
    base = Nf4Base(drawn(24, width))
    codes = torch.stack([base.codes.view(-1) >> 4, base.codes.view(-1) & 15], 1).view(-1).long()
    blocks = quantize.nf4_blocks(base.absmax, base.scales, base.offset).repeat_interleave(64)[: 24 * width]
    table = quantize.bitsandbytes().get_4bit_type("nf4", device="cpu")
    assert torch.equal(base.dense(torch.float32), (table[codes] * blocks).view(24, width))


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_are_those_of_the_dequantised_matrix(kind: str, dtype: torch.dtype) -> None:
    weight, rows, bias = drawn(48, 100, dtype=dtype), drawn(7, 100, dtype=dtype), drawn(48, dtype=dtype)
    grad, start = drawn(7, 48, dtype=dtype), drawn(7, 100, dtype=dtype)
    base, dense = BASES[kind](weight), theirs(kind, weight, dtype)
    assert torch.equal(base.product(rows, None), F.linear(rows, dense))
    assert torch.equal(base.product(rows, bias), F.linear(rows, dense, bias))
    assert torch.equal(base.product_back(grad, None), grad @ dense)
    into = start.clone()
    assert base.product_back(grad, into) is into
    assert torch.equal(into, torch.addmm(start, grad, dense))


@pytest.mark.parametrize("kind", BASES)
def test_layers_on_it_have_the_gradients_of_plain_autograd(kind: str) -> None:
    base = BASES[kind](drawn(24, 64))
    dense = base.dense(torch.float64)
    x, a, b = (one.double().requires_grad_() for one in (drawn(2, 3, 64), 0.1 * drawn(4, 64), drawn(24, 4)))

    def layer(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return lora_linear(x, base, None, Adapter(a, b, 0.5))

    mine = torch.autograd.grad(layer(x, a, b).pow(2).sum(), (x, a, b))
    plain = torch.autograd.grad((F.linear(x, dense) + 0.5 * (x @ a.t()) @ b.t()).pow(2).sum(), (x, a, b))
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    frozen = torch.autograd.grad(FrozenLinear(base, None)(x).pow(2).sum(), x)[0]
    torch.testing.assert_close(frozen, torch.autograd.grad(F.linear(x, dense).pow(2).sum(), x)[0])


@pytest.mark.parametrize(("kind", "worst"), [("int8", 0.02), ("nf4", 0.2)])
def test_what_is_lost_is_what_so_few_bits_lose(kind: str, worst: float) -> None:
    weight = drawn(256, 256)
    gap = (BASES[kind](weight).dense(torch.float32) - weight).norm() / weight.norm()
    assert worst / 4 < gap < worst


def test_a_row_of_zeros_and_an_outlier_in_another_row_stay_what_they_are() -> None:
    weight = drawn(8, 64)
    weight[2] = 0.0
    weight[5, 7] = 1e4
    found = Int8Base(weight).dense(torch.float32)
    assert torch.equal(found[2], weight[2]) and found[5, 7] == pytest.approx(1e4)
    others = [0, 1, 3, 4, 6, 7]
    assert torch.equal(found[others], Int8Base(weight[others]).dense(torch.float32))


@pytest.mark.parametrize(("kind", "each", "row"), [("int8", 1.0, 4), ("nf4", 0.5 + 1 / 64 + 4 / (64 * 256), 0)])
def test_the_state_takes_the_bytes_that_the_plan_counts(kind: str, each: float, row: int) -> None:
    base = BASES[kind](drawn(512, 256, dtype=torch.bfloat16))
    assert sum(one.nbytes for one in base.parameters()) == 512 * 256 * each + 512 * row


@pytest.mark.parametrize("kind", BASES)
def test_the_state_is_frozen_plain_tensors_that_can_be_saved_and_put_back(kind: str) -> None:
    base, other = BASES[kind](drawn(24, 64)), BASES[kind](drawn(24, 64) + 1)
    assert not any(one.requires_grad for one in base.parameters())
    assert {one.dtype for one in base.state_dict().values()} <= {torch.uint8, torch.int8, torch.float32}
    assert not torch.equal(base.dense(torch.float32), other.dense(torch.float32))
    other.load_state_dict(base.state_dict())
    assert torch.equal(base.dense(torch.float32), other.dense(torch.float32))
    assert torch.equal(copy.deepcopy(base).dense(torch.float32), base.dense(torch.float32))


def test_parameters_are_counted_whatever_they_are_stored_as() -> None:
    bases: list[Base] = [DenseBase(drawn(8, 64)), Int8Base(drawn(8, 64)), Nf4Base(drawn(8, 64))]
    counts = [parameter_count(nn.Sequential(FrozenLinear(base, None), nn.Linear(8, 8))) for base in bases]
    assert counts == [8 * 64 + 8 * 8 + 8] * 3


def test_without_bitsandbytes_nf4_says_how_to_install_it_and_int8_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "bitsandbytes"]:
        monkeypatch.delitem(sys.modules, name)
    quantize.bitsandbytes.cache_clear()
    with pytest.raises(EnvironmentProblem, match=r'pip install "xiaozao\[quant\]"'):
        quantize.ready("nf4")
    with pytest.raises(EnvironmentProblem):
        Nf4Base(drawn(8, 64))
    quantize.ready("int8")
    Int8Base(drawn(8, 64))


def test_bitsandbytes_is_never_given_the_package_that_fetches_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of that name lies in the path; transformers was loaded before anybody refused it."""
    (tmp_path / "kernels.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    quantize.bitsandbytes.cache_clear()
    with pytest.raises(EnvironmentProblem, match="kernels"):
        quantize.ready("nf4")
    quantize.bitsandbytes.cache_clear()
