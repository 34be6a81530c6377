"""AdamW, the same with states in eight bits, and Adafactor."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from xiaozao.train.optim import eightbit
from xiaozao.train.optim.eightbit import BETAS, BLOCK, EPSILON
from xiaozao.train.optim.engine import Rule, Slot, State

EIGHT_BIT = ("state1", "state2", "absmax1", "absmax2")  # the states of AdamW8bit, under bitsandbytes' names
SMALL = 4096  # elements; a smaller parameter keeps its states in fp32, as in bitsandbytes


class AdamW(Rule):
    """AdamW (Loshchilov & Hutter 2019), bias-corrected, through torch's fused kernel, which makes no copies."""

    elementwise = sharded = True

    def start(self, name: str, value: Tensor) -> State:
        dtype = torch.promote_types(value.dtype, torch.float32)
        return {kind: torch.zeros(value.shape, dtype=dtype, device=value.device) for kind in ("exp_avg", "exp_avg_sq")}

    def apply(self, slots: Sequence[Slot], rate: float, decay: float) -> None:
        counts = torch.tensor([slot.count - 1.0 for slot in slots], device=slots[0].value.device)  # torch adds the 1
        adamw(
            [slot.value for slot in slots], [slot.grad for slot in slots], [slot.state["exp_avg"] for slot in slots],
            [slot.state["exp_avg_sq"] for slot in slots], [], list(counts.unbind()), foreach=False, fused=True,
            amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=rate, weight_decay=decay, eps=EPSILON, maximize=False,
        )  # fmt: skip

    def part(self, state: State, start: int, end: int) -> State:
        return {kind: value.view(-1)[start:end] for kind, value in state.items()}


class AdamW8bit(Rule):
    """AdamW with blockwise 8-bit states (train/optim/eightbit.py); small parameters as in AdamW."""

    elementwise = True

    def __init__(self) -> None:
        self.plain = AdamW()

    def start(self, name: str, value: Tensor) -> State:
        if value.numel() < SMALL:
            return self.plain.start(name, value)
        blocks = -(-value.numel() // BLOCK)
        return {
            "state1": torch.zeros(value.shape, dtype=torch.uint8, device=value.device),
            "state2": torch.zeros(value.shape, dtype=torch.uint8, device=value.device),
            "absmax1": torch.zeros(blocks, device=value.device),
            "absmax2": torch.zeros(blocks, device=value.device),
        }

    def apply(self, slots: Sequence[Slot], rate: float, decay: float) -> None:
        for slot in slots:
            if "exp_avg" in slot.state:
                self.plain.apply([slot], rate, decay)
                continue
            moments = _moments(slot.state)
            eightbit.adamw(slot.value.view(-1), slot.grad.reshape(-1), moments, slot.count, rate, decay)

    def part(self, state: State, start: int, end: int) -> State:
        if "exp_avg" in state:
            return self.plain.part(state, start, end)
        return dict(zip(EIGHT_BIT, _moments(state).part(start, end), strict=True))


def _moments(state: State) -> eightbit.Moments:
    return eightbit.Moments(*(state[kind].view(-1) for kind in EIGHT_BIT))


class Adafactor(Rule):
    """Adafactor (Shazeer & Stern 2018) with an outer learning rate: the second moment of a matrix as row and column.

    No first moment, no relative step, no scaling by the parameter; updates are clipped to a root mean square of 1.
    """

    def start(self, name: str, value: Tensor) -> State:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.promote_types(value.dtype, torch.float32), device=value.device)

        if value.dim() < 2:
            return {"square": zeros(*value.shape)}
        return {"rows": zeros(*value.shape[:-1]), "columns": zeros(*value.shape[:-2], value.shape[-1])}

    def apply(self, slots: Sequence[Slot], rate: float, decay: float) -> None:
        for slot in slots:
            keep = 1.0 - slot.count**-0.8
            update = self._scaled(slot, keep)
            update.div_((update.norm() / math.sqrt(update.numel())).clamp_(min=1.0))
            if decay:
                slot.value.mul_(1 - rate * decay)
            slot.value.sub_(update, alpha=rate)

    def _scaled(self, slot: Slot, keep: float) -> Tensor:
        """The gradient over the root of its second moment, after that moment has moved."""
        squares = slot.grad.square().add_(1e-30)
        if "square" in slot.state:
            second = slot.state["square"].lerp_(squares, 1 - keep)
            return slot.grad / second.sqrt()
        rows = slot.state["rows"].lerp_(squares.mean(-1), 1 - keep)
        columns = slot.state["columns"].lerp_(squares.mean(-2), 1 - keep)
        scale = (rows / rows.mean(-1, keepdim=True)).rsqrt_()
        return torch.mul(slot.grad, scale[..., None], out=squares).mul_(columns.rsqrt()[..., None, :])
