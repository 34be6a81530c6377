"""AdamW's update of a parameter whose two moments are bytes: 256 elements share a scale, and each byte is the place of
a number in a table.

Source: Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"; the tables are bitsandbytes'. On CUDA its
kernel moves the weights. Elsewhere torch does: bitsandbytes' own way takes 2.5 times as long on a CPU, and writes many
of the moments as a number that is not the nearest (`python -m bench.eight_bit`).

No second moment is read as nothing. Where gradients of a block differ much (an embedding's rows), the nearest number to
a small one is zero, and the first moment, which is not squared, would be divided by nothing: moves of a thousand times
the rate. It is read as the smallest number above zero instead; that slows such an element, and never hurls it.

The nearest number is looked up, not searched: the upper 16 bits of a float stand for an interval that holds at most one
border between two numbers of the table.

    upper 16 bits -> the number at the lower end of the interval, and the border; beyond it, the next number
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from xiaozao.models.layers.quantize import CPU, bitsandbytes, dynamic_map

BLOCK = 256  # elements that share a scale
AT_ONCE = 1 << 30  # elements that bitsandbytes is given: it counts them in 32 bits
CACHED = 1 << 18  # elements moved at a time, so that what lies between two steps stays in the processor's cache
HALF = 1 << 15  # upper 16 bits are numbers from -HALF to HALF
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Moments(NamedTuple):
    """Of a flat parameter: places in the tables (elements), and the scales of their blocks."""

    first: Tensor
    second: Tensor
    absmax1: Tensor
    absmax2: Tensor

    def part(self, start: int, end: int) -> "Moments":
        """The moments of the elements from `start`, which must be the beginning of a block, to `end`."""
        blocks = slice(start // BLOCK, -(-end // BLOCK))
        return Moments(self.first[start:end], self.second[start:end], self.absmax1[blocks], self.absmax2[blocks])


class Table(NamedTuple):
    """The value of each place, and for the upper 16 bits of a float a place and a border, as described above."""

    numbers: Tensor
    places: Tensor
    borders: Tensor


@cache
def table(device: torch.device, signed: bool) -> Table:
    """The table for first (signed) or second moments. Raises EnvironmentProblem without bitsandbytes."""
    numbers = dynamic_map(CPU, signed)
    borders = torch.cat([(numbers[1:] + numbers[:-1]) / 2, torch.tensor([math.inf])])
    upper = torch.arange(-HALF, HALF, dtype=torch.int32) << 16
    ends = torch.stack([upper, upper | 0xFFFF]).view(torch.float32)
    places = torch.bucketize(ends.amin(0), borders).clamp_(max=len(numbers) - 1)  # of no number: never asked for
    read = numbers if signed else numbers.clamp_min(float(numbers[1]))
    return Table(read.to(device), places.to(torch.uint8).to(device), borders[places].to(device))


def adamw(value: Tensor, grad: Tensor, moments: Moments, count: int, rate: float, decay: float) -> None:
    """Move a flat parameter in fp32 and its moments; `count` updates with this one. Decay is decoupled."""
    if not value.is_cuda:
        torch.ops.xiaozao.adamw8bit(value, grad, list(moments), count, rate, decay)
        return
    signed, unsigned = dynamic_map(value.device, True), dynamic_map(value.device, False)
    for start, end in _pieces(value.numel(), AT_ONCE):
        first, second, *scales = moments.part(start, end)
        bitsandbytes().optimizer_update_8bit_blockwise(
            "adam", grad[start:end], value[start:end], first, second, *BETAS, 0.0, 0.0, EPSILON, count, rate,
            signed, unsigned, *scales, decay,
        )  # fmt: skip


# One operation, so that it is one for what traces a step too: there are hundreds of pieces in a large matrix.
@torch.library.custom_op("xiaozao::adamw8bit", mutates_args=("value", "moments"))
def _adamw(value: Tensor, grad: Tensor, moments: list[Tensor], count: int, rate: float, decay: float) -> None:
    whole, numel = Moments(*moments), value.numel()
    blocks = numel - numel % BLOCK
    pieces = [*_pieces(blocks, CACHED), *([(blocks, numel)] if blocks < numel else [])]  # less than a block comes last
    for start, end in pieces:
        _move(value[start:end], grad[start:end], whole.part(start, end), count, rate, decay)


@_adamw.register_fake
def _nothing(*_: object) -> None:
    return None


def _move(value: Tensor, grad: Tensor, moments: Moments, count: int, rate: float, decay: float) -> None:
    """One piece: whole blocks, or fewer elements than one."""
    signed, unsigned = table(value.device, True), table(value.device, False)
    value, grad = (one.view(-1, min(BLOCK, one.numel())) for one in (value, grad))
    first = _read(moments.first, moments.absmax1, signed).mul_(BETAS[0]).add_(grad, alpha=1 - BETAS[0])
    second = _read(moments.second, moments.absmax2, unsigned).mul_(BETAS[1])
    second.addcmul_(grad, grad, value=1 - BETAS[1])
    if decay:
        value.mul_(1 - rate * decay)
    root = second.sqrt().div_(math.sqrt(1 - BETAS[1] ** count)).add_(EPSILON)
    value.addcdiv_(first, root, value=-rate / (1 - BETAS[0] ** count))
    _write(first, moments.first, moments.absmax1, signed)
    _write(second, moments.second, moments.absmax2, unsigned)


def _read(places: Tensor, absmax: Tensor, known: Table) -> Tensor:
    """A moment in fp32 (blocks, elements)."""
    return known.numbers.index_select(0, places.int()).view(len(absmax), -1).mul_(absmax[:, None])


def _write(moment: Tensor, places: Tensor, absmax: Tensor, known: Table) -> None:
    """A moment (blocks, elements) as bytes and scales; it is used up."""
    torch.amax(moment.abs(), 1, out=absmax)
    shares = moment.div_(absmax.clamp_min(1e-38)[:, None]).view(-1)  # a block of zeros has shares of zero
    upper = (shares.view(torch.int32) >> 16).add_(HALF)
    torch.index_select(known.places, 0, upper, out=places)
    places.add_(shares > known.borders.index_select(0, upper))


def _pieces(numel: int, most: int) -> Iterator[tuple[int, int]]:
    for start in range(0, numel, most):
        yield start, min(start + most, numel)
