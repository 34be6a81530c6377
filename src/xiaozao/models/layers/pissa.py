"""PiSSA: the adapter starts as the principal part of the weight, and the base keeps the rest.

    W = R + s B0 A0, the top singular directions in B0 A0;   y = x R' + b + s (x A') B', A and B starting as A0 and B0

Source: Meng et al. 2024, "PiSSA: Principal Singular Values and Singular Vectors Adaptation". What is written is a
plain LoRA of twice the rank for the ORIGINAL weight, since W' - W = s (B A - B0 A0) = s [B, -B0] [A; A0]: every reader
of LoRA reads it, and no one needs R. Only a dense base can give its principal part away.
"""

import torch
from torch import Tensor, nn

from xiaozao.errors import UsageError
from xiaozao.models.layers.bases import DenseBase
from xiaozao.models.layers.linear import AdaptedLinear, Adapter, Plain

EXTRA = 16  # more directions than asked for, which makes those asked for sharper
ROUNDS = 4  # of subspace iteration; the paper's "fast SVD" takes 1 to 16


def principal(weight: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """weight (out, in) -> a (rank, in), b (out, rank) with b a its best approximation of this rank; |a| = |b|.

    Exact for small matrices. For others by subspace iteration from a drawn start (Halko, Martinsson & Tropp 2011,
    algorithm 4.4), nine times as fast at 576 x 1536; what it misses stays in the base, so nothing is lost.
    """
    if min(weight.shape) <= 4 * (rank + EXTRA):
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
    else:
        drawn = torch.randn(weight.shape[1], rank + EXTRA, generator=generator).to(weight)
        basis = torch.linalg.qr(weight @ drawn).Q
        for _ in range(ROUNDS):
            basis = torch.linalg.qr(weight @ torch.linalg.qr(weight.t() @ basis).Q).Q
        small, values, right = torch.linalg.svd(basis.t() @ weight, full_matrices=False)
        left = basis @ small
    roots = values[:rank].sqrt()
    return roots[:, None] * right[:rank], left[:, :rank] * roots


class PissaLinear(AdaptedLinear):
    """A linear layer with PiSSA. With the adapter switched off it takes the start instead, which is the model's own."""

    start_a: Tensor
    start_b: Tensor

    def __init__(self, base: Plain, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(base, rank, alpha, generator)
        if not isinstance(self.base, DenseBase):
            raise UsageError("pissa_base")
        if rank > min(self.in_features, self.out_features):
            raise UsageError("pissa_rank", rank=rank, inputs=self.in_features, outputs=self.out_features)
        weight = self.base.dense(torch.float32)
        a, b = principal(weight, rank, generator)
        a, b = a / self.scale**0.5, b / self.scale**0.5
        self.base = DenseBase((weight - self.scale * (b @ a)).to(self.base.stored_dtype))
        self.lora_a, self.lora_b = nn.Parameter(a.contiguous()), nn.Parameter(b.contiguous())
        self.register_buffer("start_a", self.lora_a.detach().clone(), persistent=False)
        self.register_buffer("start_b", self.lora_b.detach().clone(), persistent=False)
        self.at_start = False

    @property
    def adapter(self) -> Adapter:
        if self.at_start:
            return Adapter(self.start_a, self.start_b, self.scale)
        return super().adapter

    def switch(self, on: bool) -> None:
        self.at_start = not on

    def saved(self) -> dict[str, Tensor]:
        return {
            "lora_A.weight": torch.cat([self.lora_a.detach(), self.start_a]),
            "lora_B.weight": torch.cat([self.lora_b.detach(), -self.start_b], dim=1),
        }
