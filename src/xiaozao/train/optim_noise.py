"""Randomness that is a function of (seed, step, parameter name), so that a resumed run draws what it would have drawn.

Stochastic rounding: an fp32 number lies between two bf16 neighbours, and is rounded to the upper one with the
probability of its distance from the lower one. In expectation nothing is lost. To the nearest, bf16 weights stand
still: their spacing at 0.02 is 1.2e-4, and a step at a rate of 1e-5 moves them by 1e-5.
"""

import hashlib

import torch
from torch import Tensor

LOW_BITS = -(1 << 16)  # as a mask: keeps the upper half of an fp32 number, which is a bf16 number


def generator(seed: int, step: int, name: str, device: torch.device) -> torch.Generator:
    """A generator for this parameter at this step alone."""
    digest = hashlib.blake2b(f"{seed}/{step}/{name}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


def round_into(target: Tensor, value: Tensor, noise: torch.Generator) -> None:
    """Round fp32 `value` (n) to bf16 neighbours at random, into `target` (n). `value` is used up."""
    count = value.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64, device=value.device)
    drawn.random_(-(2**63), None, generator=noise)  # four numbers of 16 bits in each
    bits = value.view(torch.int32)
    bits.add_(drawn.view(torch.int16)[:count]).add_(1 << 15).bitwise_and_(LOW_BITS)
    target.copy_(value)
