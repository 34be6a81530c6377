"""Frozen weights in eight or four bits.

    int8   one code per weight, one absmax per row:          1 byte + 4 bytes a row
    nf4    two codes per byte, one absmax per 64 weights, itself in eight bits with a scale per 256 of them:
           0.5 + 1/64 + 4/(64 x 256) bytes a weight

Sources: Dettmers et al. 2023, "QLoRA" (nf4, double quantisation); Dettmers et al. 2022, "LLM.int8()" (absmax per row;
here it is weight-only: their activations in eight bits would let an outlier in one row move the others). nf4 is
bitsandbytes' own; int8 is four lines of torch that give its codes, since its CUDA kernel takes fp16 alone.

A product makes the matrix in the compute dtype, multiplies, and lets it go: the tokens of a step share that one pass.
The state is frozen parameters of plain dtypes, so that it is saved, moved and sharded like any other.
"""

import importlib
import logging
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xiaozao.errors import EnvironmentProblem
from xiaozao.machine.guard import refuse_kernels
from xiaozao.models.layers.bases import Base

CHUNK = 1 << 20  # weights worked on at a time, so that intermediates in fp32 stay small; a multiple of BLOCK
CPU = torch.device("cpu")
BLOCK, NESTED = 64, 256  # weights per absmax, and absmaxes per scale


class Dequantised(Base):
    """A base that dequantises its matrix for each product and does not keep it."""

    def product(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(rows, self.dense(rows.dtype), bias)

    def product_back(self, grad: Tensor, into: Tensor | None) -> Tensor:
        weight = self.dense(grad.dtype)
        return grad @ weight if into is None else into.addmm_(grad, weight)


class Int8Base(Dequantised):
    """W = codes x absmax / 127, row by row."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.stored_dtype = weight.dtype
        codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        absmax = torch.empty(self.out_features, dtype=torch.float32, device=weight.device)
        for start, end in _chunks(weight):
            rows = weight[start:end].float()
            absmax[start:end] = rows.abs().amax(1)
            # A row of zeros has codes of zero.
            codes[start:end] = (rows * (127.0 / absmax[start:end, None].clamp_min(1e-38))).round_().to(torch.int8)
        self.codes, self.absmax = _frozen(codes), _frozen(absmax)

    def dense(self, dtype: torch.dtype) -> Tensor:
        return from_int8(self.codes, self.absmax, dtype)


class Nf4Base(Dequantised):
    """NormalFloat in blocks of 64, the blocks' absmax quantised again. Raises EnvironmentProblem: no bitsandbytes."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.stored_dtype = weight.dtype
        nf4 = bitsandbytes()
        codes, absmax = [], []
        for chunk in weight.reshape(-1).split(CHUNK):
            packed, state = nf4.quantize_4bit(chunk, blocksize=BLOCK, quant_type="nf4")
            codes.append(packed)
            absmax.append(state.absmax)
        blocks = torch.cat(absmax)
        offset = blocks.mean()
        twice, state = nf4.quantize_blockwise(blocks.sub_(offset), dynamic_map(weight.device, True), blocksize=NESTED)
        self.codes = _frozen(torch.cat(codes))  # (weights / 2, 1)
        self.absmax = _frozen(twice)  # (weights / 64)
        self.scales = _frozen(state.absmax)  # (weights / 64 / 256)
        self.register_buffer("offset", offset)  # one number, which could not be sharded
        self.offset: Tensor

    def dense(self, dtype: torch.dtype) -> Tensor:
        blocks = nf4_blocks(self.absmax, self.scales, self.offset)
        return from_nf4(self.codes, blocks, (self.out_features, self.in_features), dtype)


def from_int8(codes: Tensor, absmax: Tensor, dtype: torch.dtype) -> Tensor:
    """codes (rows, in), absmax (rows) -> the weights (rows, in)."""
    weight = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    for start, end in _chunks(codes):
        weight[start:end] = (codes[start:end] * absmax[start:end, None]).mul_(1 / 127)
    return weight


def nf4_blocks(absmax: Tensor, scales: Tensor, offset: Tensor) -> Tensor:
    """The fp32 absmax of each block of weights, from their own eight bits."""
    nf4 = bitsandbytes()
    state = nf4.QuantState(absmax=scales, code=dynamic_map(absmax.device, True), blocksize=NESTED, dtype=torch.float32)
    blocks: Tensor = nf4.dequantize_blockwise(absmax, state)
    return blocks.add_(offset)


def from_nf4(codes: Tensor, blocks: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """codes (weights / 2, 1), blocks (weights / 64) -> the weights as `shape`.

    Asked for as one row: on processors with AVX-512, bitsandbytes 0.50 gives wrong numbers for rows that end within a
    block (of 32 or 96 weights), without a word.
    """
    nf4 = bitsandbytes()
    exact = dtype if dtype in (torch.bfloat16, torch.float16) else torch.float32
    flat = torch.Size((1, shape[0] * shape[1]))
    state = nf4.QuantState(absmax=blocks, shape=flat, dtype=exact, blocksize=BLOCK, quant_type="nf4")
    weight: Tensor = nf4.dequantize_4bit(codes, state)
    return weight.view(shape).to(dtype)


BASES: dict[str, type[Int8Base] | type[Nf4Base]] = {"int8": Int8Base, "nf4": Nf4Base}


def ready(base: str) -> None:
    """Import and build what a base needs, before anything large is loaded or fake tensors are in use.

    Raises EnvironmentProblem where it is missing.
    """
    if base == "nf4":
        bitsandbytes()
        dynamic_map(CPU, True)


@cache
def bitsandbytes() -> Any:
    """bitsandbytes.functional. It would fetch compiled code through the package `kernels`, so that is refused first."""
    if find_spec("bitsandbytes") is None:
        raise EnvironmentProblem("no_bitsandbytes")
    refuse_kernels()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns that it could not fetch that code
    return importlib.import_module("bitsandbytes.functional")


@cache
def dynamic_map(device: torch.device, signed: bool) -> Tensor:
    """The 256 values that the absmaxes of all nf4 bases are written in, and an optimizer's states of 8 bits."""
    values: Tensor = bitsandbytes().create_dynamic_map(signed)
    return values.to(device)


def _chunks(rows: Tensor) -> list[tuple[int, int]]:
    """The (start, end) of each chunk of rows."""
    step = max(1, CHUNK // rows.shape[1])
    return [(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
