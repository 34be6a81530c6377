"""An update of states in eight bits by torch, and by bitsandbytes, on one thread of a CPU.

    python -m bench.eight_bit [--core N]

Prints what each takes per element in nanoseconds of processor time (the median of 7 turns, one of each after the
other), and of how many moments each writes a number that is not the nearest in the table.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from xiaozao.models.eightbit import BETAS, BLOCK, EPSILON, Moments, adamw
from xiaozao.models.quantize import CPU, bitsandbytes, dynamic_map

ELEMENTS, TURNS, RATE = 1 << 22, 7, 1e-4
PIECE = 1 << 20  # theirs is called for so many elements at a time, since it makes copies of all in fp32
Way = Callable[[Tensor, Tensor, Moments, int], None]


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
    kept = {
        name: Moments(
            *(torch.zeros(ELEMENTS, dtype=torch.uint8) for _ in range(2)),
            *(torch.zeros(ELEMENTS // BLOCK) for _ in range(2)),
        )
        for name in ways
    }
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
        sys.stdout.write(
            f"{name:<13} {median(times[name]):6.1f} ns an element; "
            f"not the nearest: {first:.4%} of first moments, {second:.4%} of second moments\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
