"""PyTorch's operations as what they allocate, save for backward and allocate there. No torch.

Each function is one operation of ATen; a `_..._back` is its derivative as torch/csrc/autograd/FunctionsManual.cpp and
the generated VariableType write it: an input is saved before the result exists, a temporary of a C++ expression lives
to the end of the whole expression, and derivatives are computed in the alphabetical order of the inputs' names.
Views cost nothing and are left out. `item` is bytes of an element: 2 or 4.
"""

from collections.abc import Sequence

from xiaozao.plan.hf.tape import Storage, Tape, Tensor

Grads = Sequence[Tensor | None]


def like(tape: Tape, tensor: Tensor, item: int | None = None) -> Tensor:
    """New memory of a tensor's size."""
    return tape.empty(tensor.numel, item or tensor.item)


def cast(tape: Tape, x: Tensor, item: int) -> Tensor:
    """`x.to(dtype)`; the same tensor where it has that type."""
    if x.item == item:
        return x
    return tape.out(x.numel, item, tape.node((x,), (), _pass_back))


def copy(tape: Tape, x: Tensor) -> Tensor:
    """`clone()`, or `contiguous()` of what is not."""
    return tape.out(x.numel, x.item, tape.node((x,), (), _pass_back))


def add(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`a + b`; the wider type. One tensor is the gradient of both."""
    return tape.out(a.numel, max(a.item, b.item), tape.node((a, b), (), _both_back))


def add_constant(tape: Tape, a: Tensor) -> Tensor:
    """`a + constant`, or a mask that wants no gradient."""
    return tape.out(a.numel, a.item, tape.node((a,), (), _pass_back))


def scale(tape: Tape, a: Tensor) -> Tensor:
    """`a * number`, or `-a`: nothing saved, a new gradient."""
    return tape.out(a.numel, a.item, tape.node((a,), (), _scale_back))


def multiply(tape: Tape, a: Tensor, b: Tensor) -> Tensor:
    """`a * b`, the smaller one broadcast. Each is saved for the other's gradient, `b`'s is computed first."""
    saved = (a if b.wants else None, b if a.wants else None)

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        of_b = like(tape, grad) if b_wants else None
        return (like(tape, grad) if a_wants else None), of_b

    a_wants, b_wants = a.wants, b.wants
    node = tape.node((a, b), saved, back)
    return tape.out(max(a.numel, b.numel), max(a.item, b.item), node)


def square(tape: Tape, a: Tensor) -> Tensor:
    """`a.pow(2)`: grad * (2 * a.pow(1)) makes two temporaries."""
    return tape.out(a.numel, a.item, tape.node((a,), (a,), _square_back))


def mean(tape: Tape, a: Tensor, rows: int) -> Tensor:
    """`a.mean(-1, keepdim=True)`; its gradient is a full tensor, grad.expand() / n."""
    size = a.numel

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        return (tape.empty(size, grad.item),)

    return tape.out(rows, a.item, tape.node((a,), (), back))


def rsqrt(tape: Tape, a: Tensor) -> Tensor:
    """`rsqrt(a)`: -0.5 * grad * result.pow(3)."""
    node = tape.node((a,), (), _rsqrt_back)
    out = tape.out(a.numel, a.item, node)
    if node is not None:
        tape.save(node, out)
    return out


def silu(tape: Tape, a: Tensor) -> Tensor:
    """Record `silu(a)` on the tape. Its input stays in memory for the backward pass."""
    return tape.out(a.numel, a.item, tape.node((a,), (a,), _scale_back))


def rotate(tape: Tape, x: Tensor, turns: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """`x * cos + rotate_half(x) * sin` as transformers writes it.

    cos and sin want no gradient, so nothing of x is saved; backward of the two slices fills a full tensor each.
    """
    cos, sin, _ = turns
    wide = max(x.item, cos.item)
    first = tape.out(x.numel, wide, tape.node((x,), (cos,), _scale_back))
    low, high = half(tape, x), half(tape, x)
    negative = scale(tape, high)
    halves = tape.out(x.numel, x.item, tape.node((negative, low), (), _halves_back))
    del low, high, negative
    second = tape.out(x.numel, wide, tape.node((halves,), (sin,), _scale_back))
    del halves
    return add(tape, first, second)


def split_heads(tape: Tape, x: Tensor) -> Tensor:
    """`x.view(..., heads, size).transpose(1, 2)`: a view, whose gradient comes head by head and is copied back."""
    node = tape.node((x,), (), _scale_back)
    return Tensor(x.numel, x.item, x.storage, node, node is not None)


def half(tape: Tape, x: Tensor) -> Tensor:
    """Half of the last dimension, a view; backward fills a tensor of the whole."""
    numel = x.numel

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        return (tape.empty(numel, grad.item),)

    node = tape.node((x,), (), back)
    return Tensor(numel // 2, x.item, x.storage, node, node is not None)


def embedding(tape: Tape, weight: Tensor, ids: Tensor, hidden: int) -> Tensor:
    """A row of the weight per id; its gradient is as large as the weight."""
    size = weight.numel

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        return (tape.empty(size, grad.item),)

    return tape.out(ids.numel * hidden, weight.item, tape.node((weight,), (ids,), back))


def softmax_fp32(tape: Tape, a: Tensor, half: bool) -> Tensor:
    """`softmax(a, dtype=float32)`: fp16 is read as it is on CUDA, bf16 is copied to fp32 first.

    Backward holds grad * output beside the result (aten/src/ATen/native/cuda/SoftMax.cu).
    """
    wide = a if half else cast(tape, a, 4)
    item = wide.item

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        out = like(tape, grad, item)
        product = like(tape, grad)
        del product
        return (out,)

    node = tape.node((wide,), (), back)
    out = tape.out(wide.numel, 4, node)
    if node is not None:
        tape.save(node, out)
    return out


def expand_heads(tape: Tape, x: Tensor, times: int) -> Tensor:
    """`repeat_kv`: a copy per group of heads, summed in backward."""
    if times == 1:
        return x
    numel = x.numel

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        return (tape.empty(numel, grad.item),)

    return tape.out(numel * times, x.item, tape.node((x,), (), back))


def cross_entropy(tape: Tape, logits: Tensor, labels: Tensor) -> Tensor:
    """log_softmax, which is kept, and nll_loss. Two more tensors of the logits' size exist in backward."""
    node = tape.node((logits,), (), _scale_back)
    chances = tape.out(logits.numel, 4, node)
    if node is not None:
        tape.save(node, chances)
    size = logits.numel

    def back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
        return (tape.empty(size, 4),)

    loss = tape.node((chances,), (chances, labels), back)
    return tape.out(1, 4, loss)


def _pass_back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
    return (grad,)


def _both_back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
    return grad, grad


def _halves_back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
    """Views of the gradient."""
    return Tensor(grad.numel // 2, grad.item, grad.storage), Tensor(grad.numel // 2, grad.item, grad.storage)


def _scale_back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
    return (like(tape, grad),)


def _square_back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
    power = like(tape, grad)
    double = like(tape, grad)
    out = like(tape, grad)
    del power, double
    return (out,)


def _rsqrt_back(tape: Tape, grad: Tensor, saved: list[Storage | None]) -> Grads:
    cube, half = like(tape, grad), like(tape, grad)
    out = like(tape, grad)
    del cube, half
    return (out,)
