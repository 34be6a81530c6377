"""Products: what they allocate and save, and what the BLAS libraries keep for themselves. No torch."""

from xiaozao.plan.hf.kernels import Grads, cast
from xiaozao.plan.hf.tape import RUNTIME, Storage, Tape, Tensor

LT_WORKSPACE = 1 << 20  # of cuBLASLt, at::cuda::getCUDABlasLtWorkspaceSize


def linear(tape: Tape, x: Tensor, weight: Tensor, bias: Tensor | None, ins: int) -> Tensor:
    """`x @ weight.t() (+ bias)`: mm or addmm. x is saved when the weight learns, the weight when x wants a gradient."""
    outs = weight.numel // ins
    wants = (x.wants, weight.wants)
    biased, learns = bias is not None, bias is not None and bias.wants

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        sizes = [outs * ins if wants[1] else 0, grad.numel // outs * ins if wants[0] else 0]  # mm: mat2, self
        made = [tape.empty(size, grad.item) if size else None for size in (reversed(sizes) if biased else sizes)]
        workspace(tape, "backward")
        if not biased:
            made.reverse()
        return [*made, grad if learns else None] if biased else made

    inputs = (x, weight) if bias is None else (x, weight, bias)
    node = tape.node(inputs, (x if wants[1] else None, weight if wants[0] else None), back)
    out = tape.out(x.numel // ins * outs, x.item, node)
    workspace(tape, tape.thread, biased)
    return out


def linear_4bit(tape: Tape, x: Tensor, ins: int, outs: int, compute: int, biased: bool) -> Tensor:
    """bitsandbytes' Linear4bit: x in the compute type, the weight dequantised for the product, the result as x was.

    The matrix is dequantised again in backward (bitsandbytes/autograd/_functions.py, MatMul4Bit).
    """

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        matrix = tape.empty(ins * outs, compute)
        of_x = tape.empty(grad.numel // outs * ins, grad.item)
        workspace(tape, "backward")
        del matrix
        return (of_x,)

    narrow = cast(tape, x, compute)
    node = tape.node((narrow,), (), back)
    matrix = tape.empty(ins * outs, compute)
    product = tape.out(x.numel // ins * outs, compute, node)
    workspace(tape, tape.thread, biased)
    del matrix
    return cast(tape, product, x.item)


def linear_8bit(tape: Tape, x: Tensor, ins: int, outs: int, compute: int, biased: bool) -> Tensor:
    """bitsandbytes' Linear8bitLt without outliers: x in bytes, the product in int32.

    Backward has the matrix in x's type. x hangs on the node itself, not among its saved tensors, so that no checkpoint
    frees it (bitsandbytes/autograd/_functions.py, MatMul8bitLt: ctx.tensors).
    """
    rows = x.numel // ins

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        matrix = tape.empty(ins * outs, grad.item)
        of_x = tape.empty(rows * ins, grad.item)
        workspace(tape, "backward")
        del matrix
        return (of_x,)

    node = tape.node((x,), (), back)
    if node is not None:
        node.kept = x.storage
    narrow = x if x.item == 2 else tape.empty(x.numel, 2)
    quantised, scales = tape.empty(x.numel, 1), tape.empty(rows, 4)
    del narrow
    product = tape.empty(rows * outs, 4)
    out = tape.out(rows * outs, x.item, node)
    del quantised, scales, product
    return out


def batched_product(tape: Tape, a: Tensor, b: Tensor, numel: int) -> Tensor:
    """`bmm`: both are saved; the second one's gradient comes before the first's."""
    a_numel, b_numel = a.numel, b.numel

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        of_b = tape.empty(b_numel, grad.item)
        workspace(tape, "backward")
        return tape.empty(a_numel, grad.item), of_b

    node = tape.node((a, b), (a, b), back)
    out = tape.out(numel, a.item, node)
    workspace(tape, tape.thread)
    return out


def workspace(tape: Tape, thread: str, biased: bool = False) -> None:
    """What the BLAS handle of a thread keeps for ever once it has multiplied.

    cuBLAS: 8 MiB + 128 KiB (:4096:2:16:8), 32 MiB from Hopper on. A product with a bias goes through cuBLASLt, which
    has one of its own.
    """
    kinds = {thread: tape.workspace_bytes} | ({thread + " lt": LT_WORKSPACE} if biased else {})
    for name, size in kinds.items():
        if name not in tape.workspaces:
            tape.workspaces[name] = tape.empty(size, 1, RUNTIME)
