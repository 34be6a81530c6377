"""`python -m xiaozao.measure.calibrate`: how many threads and which dtype on standard input, rates on standard output.

In a process of its own, with the threads that a run would have. Small pieces of each kind of work are timed in turns,
for about two seconds in all, so that a clock that changes meanwhile changes them alike; the median of each counts. They
go from one tensor to the next, because a step does so too: what it meets has long left the processor's cache.

With one thread it is processor time that is read, which what runs beside does not lengthen; with several the clock.
"""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from statistics import median

import torch
import torch.nn.functional as F

from xiaozao.models.layers.quantize import Nf4Base
from xiaozao.models.layers.rmsnorm import rms_norm
from xiaozao.plan.duration import TYPICAL
from xiaozao.spec.pace import ASKED, RATES, Asked, Rates
from xiaozao.train.optim.eightbit import BLOCK, Moments, adamw

# Not models/load.py's, which brings transformers with it: that takes longer than all that is timed here.
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TOKENS, WIDTH, INNER, THIN = 256, 768, 2048, 16  # a block's product, and an adapter's
ROUNDS, SECONDS = 5, 0.03  # of each piece in a round
FRESH = 40 << 20  # bytes; above what glibc ever keeps to use again
UNITS = 1 << 20  # weights and states
SMALL_CALLS = {4: 72, 2: 80}  # operations of small_block() by the bytes of a number, as measure/work.py counts them
LEAST_CALL = 2e-6  # seconds; the noise of slow products around it could leave nothing
TURNS = 20  # tensors of a kind, of 2 to 6 MB each: together more than most caches hold

Piece = Callable[[], object]


def calibrate(asked: Asked) -> Rates:
    """The rates of this machine. Raises EnvironmentProblem where `bits` are asked for without bitsandbytes."""
    torch.set_num_threads(asked.threads)
    dtype, clock = DTYPES[asked.precision], time.process_time if asked.threads == 1 else time.perf_counter
    pieces = _pieces(dtype, asked.bits)
    times: dict[str, list[float]] = {name: [] for name in pieces}
    with torch.no_grad():
        for piece in pieces.values():
            piece()
        for _ in range(ROUNDS):
            for name, piece in pieces.items():
                times[name].append(_seconds(piece, clock))
    return _rates({name: median(found) for name, found in times.items()}, dtype.itemsize)


def _pieces(dtype: torch.dtype, bits: bool) -> dict[str, Piece]:
    """The pieces of work that are timed, by name."""
    weights, inputs, grads = (
        _turns(torch.randn(*size).to(dtype)) for size in ((INNER, WIDTH), (TOKENS, WIDTH), (TOKENS, INNER))
    )
    wide = _turns(torch.randn(TOKENS, INNER).to(dtype))
    down, up = torch.randn(THIN, WIDTH).to(dtype), torch.randn(INNER, THIN).to(dtype)
    low, place = torch.randn(TOKENS, THIN).to(dtype), torch.zeros(FRESH, dtype=torch.uint8)

    def wide_products() -> None:
        weight = next(weights)
        F.linear(next(inputs), weight)
        next(grads).mm(weight)

    def thin_products() -> None:
        rows, grad = next(inputs), next(grads)
        rows.mm(down.t())
        grad.addmm_(low, up.t(), alpha=1e-6)
        grad.mm(up)
        low.t().mm(rows)

    def moved() -> None:
        torch.mul(next(wide), next(wide), out=next(wide))

    small = small_block(dtype)

    def calls() -> None:  # a step's small operations come after large ones, which empty the processor's caches
        thin_products()
        moved()
        small()

    pieces: dict[str, Piece] = {
        "wide": wide_products, "thin": thin_products, "moved": moved,
        "heavy": lambda: torch.ops.aten.silu.out(next(wide), out=next(wide)), "touched": lambda: place.fill_(1),
        "fresh": lambda: torch.empty(FRESH, dtype=torch.uint8).fill_(1), "calls": calls,
    }  # fmt: skip
    return pieces | (_bits(dtype) if bits else {})


def small_block(dtype: torch.dtype) -> Piece:
    """SMALL_CALLS operations of many kinds on next to no numbers, forward and backward: what starting them costs.

    One kind again and again would be several times as fast: its code stays in the processor's cache.
    """
    rows, weight = torch.randn(4, 8, 16).to(dtype).requires_grad_(), torch.randn(16).to(dtype)

    def block() -> None:
        with torch.enable_grad():
            heads = rms_norm(rows, weight, 1e-6).view(4, 8, 2, 8).transpose(1, 2)
            left, right = heads.chunk(2, -1)
            turned = torch.cat((-right, left), -1) * heads + heads
            gated = F.silu(turned) * turned
            rms_norm(gated.transpose(1, 2).reshape(4, 8, 16), weight, 1e-6).sum().backward()
        rows.grad = None

    return block


def _turns(original: torch.Tensor) -> Iterator[torch.Tensor]:
    """Copies of a tensor, again and again; drawing each anew would take longer than what is timed."""
    return cycle([original.clone() for _ in range(TURNS)])


def _bits(dtype: torch.dtype) -> dict[str, Piece]:
    """Weights out of four bits, and an update of states in eight (optim/eightbit.py). Raises EnvironmentProblem."""
    base, value, grad = Nf4Base(torch.randn(1024, UNITS // 1024)), torch.randn(UNITS), torch.randn(UNITS)
    states = [torch.zeros(UNITS, dtype=torch.uint8) for _ in range(2)]
    moments = Moments(*states, *(torch.zeros(UNITS // BLOCK) for _ in range(2)))

    def eight_bit() -> None:
        adamw(value, grad, moments, 1, 0.0, 0.0)

    return {"unpacked": lambda: base.dense(dtype), "eight_bit": eight_bit}


def _rates(seconds: dict[str, float], wide: int) -> Rates:
    """From the seconds of each piece; products are a sum of their operations and of the bytes they go over."""
    flops = {"wide": 4.0 * TOKENS * WIDTH * INNER, "thin": 4.0 * TOKENS * THIN * (WIDTH + INNER)}
    operands = {
        "wide": 2.0 * wide * (TOKENS * WIDTH + WIDTH * INNER + TOKENS * INNER),
        "thin": 2.0 * wide * (TOKENS + THIN) * (WIDTH + INNER) + wide * (4 * TOKENS * THIN + TOKENS * INNER),
    }
    # Two equations, two unknowns: seconds = flops x + operands y. Noise may make one of them nothing: hence the bounds.
    across = flops["wide"] * operands["thin"] - flops["thin"] * operands["wide"]
    x = (seconds["wide"] * operands["thin"] - seconds["thin"] * operands["wide"]) / across
    x = min(max(x, 0.5 * seconds["wide"] / flops["wide"]), seconds["wide"] / flops["wide"])
    y = max((seconds["wide"] - flops["wide"] * x) / operands["wide"], 1e-15)
    fresh = max(seconds["fresh"] - seconds["touched"], 1e-6)
    calls = max(seconds["calls"] - seconds["thin"] - seconds["moved"], SMALL_CALLS[wide] * LEAST_CALL)
    return Rates(
        flops=1 / x, operands=1 / y, moved=3.0 * wide * TOKENS * INNER / seconds["moved"],
        heavy=TOKENS * INNER / seconds["heavy"], fresh=FRESH / fresh, calls=SMALL_CALLS[wide] / calls,
        unpacked=UNITS / seconds["unpacked"] if "unpacked" in seconds else TYPICAL.unpacked,
        eight_bit=UNITS / seconds["eight_bit"] if "eight_bit" in seconds else TYPICAL.eight_bit,
    )  # fmt: skip


def _seconds(piece: Piece, clock: Callable[[], float]) -> float:
    """The seconds of one call, averaged over as many calls as fill SECONDS."""
    begun, count = clock(), 0
    while (passed := clock() - begun) < SECONDS:
        piece()
        count += 1
    return passed / max(count, 1)


def main() -> int:
    """0 with the rates."""
    asked = ASKED.validate_json(sys.stdin.buffer.read())
    sys.stdout.buffer.write(RATES.dump_json(calibrate(asked)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
