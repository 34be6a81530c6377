"""The three ways transformers attends, as what they allocate and save. No torch.

eager      scores in the compute type, scaled, masked, softmax in fp32, cast back; the four are as wide as length^2
efficient  CUTLASS's memory-efficient kernel: SDPA before Ampere; key and value are repeated for every head
flash      SDPA from Ampere on; grouped heads as they are
"""

from collections.abc import Callable
from dataclasses import dataclass

from xiaozao.plan.hf.kernels import Grads, add_constant, cast, copy, expand_heads, scale, softmax_fp32
from xiaozao.plan.hf.products import batched_product
from xiaozao.plan.hf.tape import Storage, Tape, Tensor

LSE_ROUND = 32  # rows of the log-sum-exp, mem_eff_attention/kernel_forward.h: kAlignLSE
TILE = 64  # rows and columns of a block of the efficient kernel's backward on Turing, kBlockSizeI and kBlockSizeJ
FLASH_ROUND = 128  # rows of flash's accumulators, flash_attn/flash_api.cpp


@dataclass(frozen=True)
class Heads:
    """What attention works on."""

    batch: int
    length: int
    heads: int
    kv_heads: int
    size: int

    @property
    def groups(self) -> int:
        return self.heads // self.kv_heads

    @property
    def rows(self) -> int:
        """Numbers of one per token and head."""
        return self.batch * self.heads * self.length


def eager(
    tape: Tape, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: Heads, half: bool
) -> tuple[Tensor, Tensor | None]:
    """transformers' eager_attention_forward; the caller holds on to the second, the probabilities.

    Query (and what is not repeated) is a transposed view: `matmul` folds batch and heads, which copies it where the
    batch is larger than 1.
    """
    key, value = expand_heads(tape, key, heads.groups), expand_heads(tape, value, heads.groups)
    scores = batched_product(tape, folded(tape, query, heads, 1), folded(tape, key, heads, heads.groups),
                             heads.rows * heads.length)  # fmt: skip
    weights = scale(tape, scores)
    del scores
    if mask is not None:
        weights = add_constant(tape, weights)
    weights = cast(tape, softmax_fp32(tape, weights, half), query.item)
    out = batched_product(tape, weights, folded(tape, value, heads, heads.groups), query.numel)
    out = copy(tape, out)
    return out, weights


def folded(tape: Tape, x: Tensor, heads: Heads, groups: int) -> Tensor:
    """`x.reshape(batch * heads, ...)`: a copy of what is neither repeated nor of batch 1."""
    return copy(tape, x) if groups == 1 and heads.batch > 1 else x


def efficient(
    tape: Tape, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: Heads, half: bool
) -> tuple[Tensor, Tensor | None]:
    """_scaled_dot_product_efficient_attention, with key and value repeated before."""
    key, value = expand_heads(tape, key, heads.groups), expand_heads(tape, value, heads.groups)
    sizes = (query.numel, key.numel, value.numel)

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        return _efficient_back(tape, grad, sizes, heads)

    bias = None if mask is None else tape.empty(mask.numel, query.item)  # convert_boolean_attn_mask
    sums = heads.batch * heads.heads * -(-heads.length // LSE_ROUND) * LSE_ROUND
    return _fused(tape, (query, key, value), back, sums, bias)


def _efficient_back(tape: Tape, grad: Tensor, sizes: tuple[int, int, int], heads: Heads) -> Grads:
    """transformers/cuda/attention_backward.cu: fp32 needs a product to sum, all need dQ's tiles in fp32."""
    outs = [tape.empty(size, grad.item) for size in sizes]
    if grad.item == 4:
        product = tape.empty(grad.numel, 4)
        total = tape.empty(heads.rows, 4)
        del product
        delta = total
    else:
        delta = tape.empty(heads.rows, 4)
    tiles = -(-heads.length // TILE) * -(-heads.size // TILE) * (TILE * TILE + 4)
    if grad.item == 2 and heads.size > TILE:  # dK and dV do not stay in registers
        splits = min(-(-heads.length // TILE), max(1, 200 // (heads.batch * heads.heads)))
        tiles += 2 * splits * TILE * -(-heads.size // TILE) * TILE
    staging = tape.empty(heads.batch * heads.heads * tiles, 4)
    del delta, staging
    return outs


def flash(
    tape: Tape, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: Heads, half: bool
) -> tuple[Tensor, Tensor | None]:
    """_scaled_dot_product_flash_attention."""
    sizes = (query.numel, key.numel, value.numel)

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        return _flash_back(tape, grad, sizes, heads)

    return _fused(tape, (query, key, value), back, heads.rows)


def _flash_back(tape: Tape, grad: Tensor, sizes: tuple[int, int, int], heads: Heads) -> Grads:
    """flash_attn/flash_api.cpp, mha_bwd: dQ in fp32 over rounded rows; dK and dV for every head, then summed."""
    outs = [tape.empty(size, grad.item) for size in sizes]
    rows = -(-heads.length // FLASH_ROUND) * FLASH_ROUND * heads.batch * heads.heads
    wide = -(-heads.size // 32) * 32
    product = tape.empty(rows, 4)
    gathered = tape.empty(rows * wide, 4)
    if heads.groups > 1:
        expanded = [tape.empty(grad.numel, grad.item) for _ in range(2)]
        del expanded
    del product, gathered
    return outs


def _fused(
    tape: Tape,
    inputs: tuple[Tensor, Tensor, Tensor],
    back: Callable[[Tape, Tensor, list[Storage | None]], Grads],
    sums: int,
    bias: Tensor | None = None,
) -> tuple[Tensor, None]:
    """A fused kernel saves its inputs, its output, and the logarithm of the sum per row."""
    node = tape.node(inputs, (*inputs, bias), back)
    out = tape.out(inputs[0].numel, inputs[0].item, node)
    logsumexp = tape.empty(sums, 4)
    if node is not None:
        tape.save(node, out)
        tape.save(node, logsumexp)
    return out, None


ATTENTION = {"eager": eager, "efficient": efficient, "flash": flash}
