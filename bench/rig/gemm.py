"""The rate of one matrix product on this core: `python -m bench.rig.gemm bf16` prints GFLOP/s as JSON."""

import json
import sys
import time

import torch

SHAPE = (1024, 576, 1536)  # tokens, in, out: a typical product of a small model
ATTEMPTS, SECONDS = 5, 0.3
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def rate(dtype: torch.dtype, shape: tuple[int, int, int] = SHAPE) -> float:
    """The best of a few attempts, in GFLOP/s."""
    tokens, width, out = shape
    x, w = torch.randn(tokens, width).to(dtype), torch.randn(out, width).to(dtype)
    best = 0.0
    for _ in range(ATTEMPTS):
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            torch.nn.functional.linear(x, w)
            count += 1
        best = max(best, 2 * tokens * width * out * count / (time.perf_counter() - begun) / 1e9)
    return best


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[2:5]] or SHAPE
    sys.stdout.write(json.dumps(rate(DTYPES[sys.argv[1]], (given[0], given[1], given[2]))) + "\n")
