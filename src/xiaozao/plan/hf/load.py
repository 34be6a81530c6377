"""How a model comes to the GPU in the Hugging Face stack, and what stays. No torch.

What is not quantised is read on the CPU and moved, parameter after parameter. A base of 4 or 8 bits is read onto the
GPU in the order of its sorted names, into memory that transformers allocates whole beforehand and frees again
(caching_allocator_warmup), each matrix in 16 bits until it is quantised; then prepare_model_for_kbit_training casts
all else to fp32. Where a block is cut decides how much of it stays attached as slack, so the order matters.
"""

from collections.abc import Callable
from dataclasses import dataclass

from xiaozao.plan.hf.model import Layer, Linear, Model
from xiaozao.plan.hf.tape import WEIGHTS, Tape, Tensor
from xiaozao.plan.workload import ModelShape
from xiaozao.spec.patterns import matches

BLOCK = 64  # weights that share one of nf4's scales
BIASED = ("q_proj", "k_proj", "v_proj")
SORTED = ("mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj",
          "self_attn.v_proj")  # fmt: skip
BYTES = {"nf4": 0.5, "int8": 1.0}  # of a weight, as the warm-up counts it


@dataclass(frozen=True)
class Loading:
    """What is loaded, and how."""

    shape: ModelShape
    item: int  # bytes of a weight that is not quantised
    base: str  # none | nf4 | int8
    learns: bool  # all weights
    bias: bool  # of query, key and value
    qk_norm: bool
    rank: int  # 0 without an adapter
    targets: tuple[str, ...]
    buffers: int  # copies of the rotary embedding's frequencies
    trains: bool = True


def load(tape: Tape, loading: Loading) -> Model:
    """The model's tensors, its adapter's included."""
    model = _plain(tape, loading) if loading.base == "none" else _quantised(tape, loading)
    model.buffers = [tape.empty(loading.shape.head_size // 2, 4, WEIGHTS) for _ in range(loading.buffers)]
    if loading.base != "none" and loading.trains:
        _widen(tape, model)
    if loading.rank:
        _adapt(tape, model, loading)
    return model


def _plain(tape: Tape, loading: Loading) -> Model:
    """In the order of the modules."""
    shape = loading.shape

    def weight(numel: int) -> Tensor:
        tensor = tape.empty(numel, loading.item, WEIGHTS)
        tensor.wants = loading.learns
        return tensor

    embed = weight(shape.matrix)
    layers = []
    for _ in range(shape.blocks):
        linears = {}
        for path, (ins, outs) in shape.linears.items():
            name = path.partition(".")[2]
            linears[name] = Linear(ins, outs, weight(ins * outs))
            if loading.bias and name in BIASED:
                linears[name].bias = weight(outs)
        layers.append(Layer(linears, _norms(weight, loading)))
    norm = weight(shape.hidden)
    return Model(shape.hidden, embed, layers, norm, embed if shape.tied else weight(shape.matrix))


def _norms(weight: Callable[[int], Tensor], loading: Loading) -> dict[str, Tensor]:
    sizes = {"q": loading.shape.head_size, "k": loading.shape.head_size} if loading.qk_norm else {}
    return {
        name: weight(size) for name, size in (sizes | dict.fromkeys(("input", "post"), loading.shape.hidden)).items()
    }


def _quantised(tape: Tape, loading: Loading) -> Model:
    """In the order of sorted names, each matrix quantised as soon as it is there."""
    shape = loading.shape
    inside = sum(ins * outs for ins, outs in shape.linears.values()) * shape.blocks
    warm = tape.empty(round(inside * BYTES[loading.base]) + (shape.parameters - inside) * loading.item, 1)
    del warm

    def weight(numel: int) -> Tensor:
        return tape.empty(numel, loading.item, WEIGHTS)

    head = None if shape.tied else weight(shape.matrix)
    embed = weight(shape.matrix)
    layers = []
    for _ in range(shape.blocks):
        linears = {}
        for path in SORTED:
            name, (ins, outs) = path.partition(".")[2], shape.linears[path]
            linears[name] = Linear(ins, outs)
            if loading.bias and name in BIASED:
                linears[name].bias = weight(outs)
            raw = tape.empty(ins * outs, loading.item)
            linears[name].quantised = QUANTISE[loading.base](tape, ins, outs)
            del raw
        layers.append(Layer(linears, _norms(weight, loading)))
    norm = weight(shape.hidden)
    return Model(shape.hidden, embed, layers, norm, embed if head is None else head)


def _nf4(tape: Tape, ins: int, outs: int) -> tuple[Tensor, ...]:
    """Scales of 64 weights in fp32, two weights a byte, and the table of the 16 values."""
    scales = tape.empty(-(-ins * outs // BLOCK), 4, WEIGHTS)
    packed = tape.empty(-(-ins * outs // 2), 1, WEIGHTS)
    return packed, scales, tape.empty(16, 4, WEIGHTS)


def _int8(tape: Tape, ins: int, outs: int) -> tuple[Tensor, ...]:
    """A scale per row, a byte per weight."""
    scales = tape.empty(outs, 4, WEIGHTS)
    return tape.empty(ins * outs, 1, WEIGHTS), scales


QUANTISE: dict[str, Callable[[Tape, int, int], tuple[Tensor, ...]]] = {"nf4": _nf4, "int8": _int8}


def _widen(tape: Tape, model: Model) -> None:
    """prepare_model_for_kbit_training: what is not quantised in fp32; then the cache is emptied."""
    tied = model.head is model.embed
    model.embed = _wide(tape, model.embed)
    if tied:
        model.head = model.embed
    for layer in model.layers:
        for linear in layer.linears.values():
            linear.bias = None if linear.bias is None else _wide(tape, linear.bias)
        for name in layer.norms:
            layer.norms[name] = _wide(tape, layer.norms[name])
    model.norm = _wide(tape, model.norm)
    if not tied:
        model.head = _wide(tape, model.head)
    tape.allocator.empty_cache()


def _wide(tape: Tape, tensor: Tensor) -> Tensor:
    return tensor if tensor.item == 4 else tape.empty(tensor.numel, 4, WEIGHTS)


def _adapt(tape: Tape, model: Model, loading: Loading) -> None:
    """LoRA's matrices: moved in the type of a base that is not quantised, then fp32 (autocast_adapter_dtype)."""
    item = loading.item if loading.base == "none" else 4
    paths = [(place, path) for place in range(len(model.layers)) for path in loading.shape.linears]
    named = [
        (place, path)
        for place, path in paths
        if any(matches(f"model.layers.{place}.{path}", target) for target in loading.targets)
    ]
    # Names of no layer of these, such as all-linear, mean all; as in ModelShape.adapted.
    chosen = [model.layers[place].linears[path.partition(".")[2]] for place, path in named or paths]
    for linear in chosen:
        linear.a, linear.b = (
            tape.empty(loading.rank * linear.ins, item, WEIGHTS),
            tape.empty(loading.rank * linear.outs, item, WEIGHTS),
        )
    for linear in chosen:
        assert linear.a is not None and linear.b is not None
        linear.a, linear.b = _wide(tape, linear.a), _wide(tape, linear.b)
        linear.a.wants = linear.b.wants = True
