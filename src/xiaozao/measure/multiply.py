"""`python -m xiaozao.measure.multiply`: how fast this CPU multiplies in each dtype, as JSON on standard output.

A product is a small one, because without instructions for a dtype it is forty times as slow; the dtypes take turns, so
that what else runs on the core slows all alike. Processor time of one thread.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SIZE, ROUNDS = 320, 5


def product_rates() -> dict[str, float]:
    """Operations a second of a product of two square matrices, by the name of the dtype."""
    with _one_thread(), torch.no_grad():
        pairs = {name: (torch.randn(SIZE, SIZE).to(dtype), torch.randn(SIZE, SIZE).to(dtype))
                 for name, dtype in DTYPES.items()}  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in pairs}
        for turn in range(ROUNDS + 1):
            for name, (left, right) in pairs.items():
                begun = time.process_time()
                left.mm(right)
                if turn:  # the first compiles
                    times[name].append(time.process_time() - begun)
    return {name: 2.0 * SIZE**3 / max(median(taken), 1e-7) for name, taken in times.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    json.dump(product_rates(), sys.stdout)
