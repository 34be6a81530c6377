"""Adam on a low-rank projection of the gradient, so that its moments are small.

    GaLore        G (m, n) -> R = P'G (r, n), P the leading singular vectors of G; Adam on R; the step is P N
    APOLLO-mini   R = pG (1, n), p random; Adam on R says by how much the whole of G is scaled, by one number

Both for the matrices of the blocks; embeddings, head and vectors go through plain Adam, as in the papers. A matrix is
looked at from its smaller side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from xiaozao.models.layers.rounding import generator
from xiaozao.train.optim.by_blocks import block_of
from xiaozao.train.optim.eightbit import BETAS, EPSILON
from xiaozao.train.optim.engine import Rule, Slot, State
from xiaozao.train.optim.rules import AdamW

GALORE_SCALE = 2.0  # the paper's alpha: 0.25 for pre-training, 4 for fine-tuning at rank 4
APOLLO_SCALE = 128**0.5  # the paper's, for rank 1
GROWTH = 1.01  # by how much the norm of an update may grow from one step to the next


class _LowRank(Rule):
    """What both share: which parameters are projected, and Adam on the projection."""

    def __init__(self, rank: int, every: int) -> None:
        self.rank, self.every, self.plain = rank, every, AdamW()

    def projects(self, name: str, value: Tensor) -> bool:
        return value.dim() == 2 and block_of(name) is not None and min(value.shape) > self.rank

    def apply(self, slots: Sequence[Slot], rate: float, decay: float) -> None:
        plain = [slot for slot in slots if not self.projects(slot.name, slot.value)]
        if plain:
            self.plain.apply(plain, rate, decay)
        for slot in slots:
            if self.projects(slot.name, slot.value):
                wide = slot.value.shape[0] <= slot.value.shape[1]
                update = self.direction(slot, slot.grad if wide else slot.grad.t())
                if decay:
                    slot.value.mul_(1 - rate * decay)
                slot.value.sub_(update if wide else update.t(), alpha=rate)

    def direction(self, slot: Slot, grad: Tensor) -> Tensor:
        """The update at a learning rate of 1. The gradient was transposed where it has more rows than columns."""
        raise NotImplementedError


class GaLore(_LowRank):
    """GaLore (Zhao et al. 2024). The projector is taken anew every `every` updates; the moments stay."""

    def start(self, name: str, value: Tensor) -> State:
        if not self.projects(name, value):
            return self.plain.start(name, value)
        short, long = min(value.shape), max(value.shape)
        zeros = torch.zeros(self.rank, long, dtype=_wide(value), device=value.device)
        return {"projector": zeros.new_zeros(short, self.rank), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}

    def direction(self, slot: Slot, grad: Tensor) -> Tensor:
        projector = slot.state["projector"]
        if (slot.count - 1) % self.every == 0:
            # The left singular vectors of G are the eigenvectors of GG', which is small; eigh has the largest last.
            vectors = torch.linalg.eigh(grad @ grad.t())[1][:, -self.rank :]
            # A vector has no sign of its own, and the moments that stay must not meet it turned round: the largest
            # entry is made positive.
            largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
            projector.copy_(vectors * largest.sign())
        return (projector @ adam_direction(projector.t() @ grad, slot.state, slot.count)).mul_(GALORE_SCALE)


class Apollo(_LowRank):
    """APOLLO-mini (Zhu et al. 2024): rank 1, a random vector that is drawn anew every `every` updates, never saved."""

    def __init__(self, every: int, seed: int) -> None:
        super().__init__(1, every)
        self.seed = seed

    def start(self, name: str, value: Tensor) -> State:
        if not self.projects(name, value):
            return self.plain.start(name, value)
        zeros = torch.zeros(1, max(value.shape), dtype=_wide(value), device=value.device)
        return {"exp_avg": zeros, "exp_avg_sq": zeros.clone(), "norm": zeros.new_zeros(())}

    def direction(self, slot: Slot, grad: Tensor) -> Tensor:
        low = self.vector(slot.name, slot.count, grad)[None] @ grad
        size: Tensor = adam_direction(low, slot.state, slot.count).norm() / (low.norm() + EPSILON) * APOLLO_SCALE
        before, now = slot.state["norm"], grad.norm() * size
        held: Tensor = torch.where((before > 0) & (now > GROWTH * before), GROWTH * before / now, torch.ones_like(now))
        slot.state["norm"].copy_(now * held)
        return grad * (size * held)

    def vector(self, name: str, count: int, grad: Tensor) -> Tensor:
        """The random vector (m) of this update: N(0, 1 / rank)."""
        turn = (count - 1) // self.every
        noise = generator(self.seed, turn, name, grad.device)
        drawn: Tensor = torch.randn(grad.shape[0], generator=noise, device=grad.device)
        return drawn.to(grad.dtype)


def adam_direction(grad: Tensor, state: State, count: int) -> Tensor:
    """Adam's bias-corrected step for a rate of 1; the moments move."""
    first = state["exp_avg"].lerp_(grad, 1 - BETAS[0])
    second = state["exp_avg_sq"].mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
    return (first / (1 - BETAS[0] ** count)) / ((second / (1 - BETAS[1] ** count)).sqrt_().add_(EPSILON))


def _wide(value: Tensor) -> torch.dtype:
    """What states are held and projections computed in: gradients come in it too (engine.py)."""
    return torch.promote_types(value.dtype, torch.float32)
