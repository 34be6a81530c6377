"""An update of states in eight bits by torch, and by bitsandbytes, on one thread of a CPU.

    python -m bench.eight_bit [--core N]

Prints what each takes per element in nanoseconds of processor time (the median of 7 turns, one of each after the
other), of how many moments each writes a number that is not the nearest in the table, and how far the weights are
after 12 updates from those of AdamW in fp32, as a share of the way: gradients as of an embedding, of which a tenth is
met in a step, and those differ by up to 10, 100 and 1,000 times.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from xiaozao.models.layers.quantize import CPU, bitsandbytes, dynamic_map
from xiaozao.train.optim.eightbit import BETAS, BLOCK, EPSILON, Moments, adamw

ELEMENTS, TURNS, RATE = 1 << 22, 7, 1e-4
PIECE = 1 << 20  # theirs is called for so many elements at a time, since it makes copies of all in fp32
Way = Callable[[Tensor, Tensor, Moments, int], None]


def made() -> Moments:
    """Before the first update."""
    places, scales = torch.zeros(2, ELEMENTS, dtype=torch.uint8), torch.zeros(2, ELEMENTS // BLOCK)
    return Moments(*places, *scales)


def ours(value: Tensor, grad: Tensor, moments: Moments, count: int) -> None:
    adamw(value, grad, moments, count, RATE, 0.0)


def theirs(value: Tensor, grad: Tensor, moments: Moments, count: int) -> None:
    tables = dynamic_map(CPU, True), dynamic_map(CPU, False)
    for start in range(0, ELEMENTS, PIECE):
        piece, blocks = slice(start, start + PIECE), slice(start // BLOCK, (start + PIECE) // BLOCK)
        bitsandbytes().optimizer_update_8bit_blockwise(
            "adam", grad[piece], value[piece], moments.first[piece], moments.second[piece], *BETAS, 0.0, 0.0, EPSILON,
            count, RATE, *tables, moments.absmax1[blocks], moments.absmax2[blocks], 0.0,
        )  # fmt: skip


def distance(way: Way, decades: int) -> float:
    """From the weights that AdamW reaches with moments in fp32, as a share of how far it moves them."""
    draw = torch.Generator().manual_seed(1)
    value, exact = torch.zeros(ELEMENTS), torch.zeros(ELEMENTS)
    moments, first, second = made(), torch.zeros(ELEMENTS), torch.zeros(ELEMENTS)
    for count in range(1, 13):
        grad = torch.randn(ELEMENTS, generator=draw) * 10 ** (-decades * torch.rand(ELEMENTS, generator=draw))
        grad *= torch.rand(ELEMENTS, generator=draw) < 0.1
        way(value, grad, moments, count)
        first.lerp_(grad, 1 - BETAS[0])
        second.lerp_(grad.square(), 1 - BETAS[1])
        exact -= RATE * (first / (1 - BETAS[0] ** count)) / ((second / (1 - BETAS[1] ** count)).sqrt() + EPSILON)
    return float((value - exact).norm() / exact.norm())


def not_nearest(grad: Tensor, moments: Moments) -> tuple[float, float]:
    """The shares of first and second moments, after one update, that are not the nearest number of their table."""
    found = []
    for moment, places, absmax, signed in (
        (grad * (1 - BETAS[0]), moments.first, moments.absmax1, True),
        (grad.square() * (1 - BETAS[1]), moments.second, moments.absmax2, False),
    ):
        numbers = dynamic_map(CPU, signed).double()
        shares = (moment.view(-1, BLOCK).double() / absmax[:, None]).flatten()
        nearest = torch.bucketize(shares, (numbers[1:] + numbers[:-1]) / 2)
        found.append(float((nearest != places).double().mean()))
    return found[0], found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0, help="the core to be pinned to")
    os.sched_setaffinity(0, {parser.parse_args().core})
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    grad = torch.randn(ELEMENTS, generator=draw) * 1e-3
    ways: dict[str, Way] = {"xiaozao": ours, "bitsandbytes": theirs}
    values = {name: torch.randn(ELEMENTS, generator=draw) for name in ways}
    kept = {name: made() for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    wrong = {}
    for count in range(1, TURNS + 2):
        for name, way in ways.items():
            before = time.process_time()
            way(values[name], grad, kept[name], count)
            if count == 1:
                wrong[name] = not_nearest(grad, kept[name])
            else:
                times[name].append((time.process_time() - before) / ELEMENTS * 1e9)
    for name, (first, second) in wrong.items():
        far = ", ".join(f"{distance(ways[name], decades):.3f}" for decades in (1, 2, 3))
        sys.stdout.write(
            f"{name:<13} {median(times[name]):6.1f} ns an element; not the nearest: {first:.4%} of first moments, "
            f"{second:.4%} of second moments; from fp32: {far}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
