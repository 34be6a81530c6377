"""A decoder as transformers and PEFT run it, line for line where a line holds memory. No torch.

A name in a function here lives as long as it does in transformers' function; that decides what is freed when.
"""

from dataclasses import dataclass, field

from xiaozao.plan.hf.attention import ATTENTION, Heads
from xiaozao.plan.hf.kernels import (
    add,
    add_constant,
    cast,
    copy,
    cross_entropy,
    embedding,
    mean,
    multiply,
    rotate,
    rsqrt,
    scale,
    silu,
    split_heads,
    square,
)
from xiaozao.plan.hf.products import linear, linear_4bit, linear_8bit
from xiaozao.plan.hf.tape import Tape, Tensor

Turns = tuple[Tensor, Tensor, Tensor]  # rotary embedding's cos and sin, and the positions they are of


@dataclass
class Linear:
    """A linear layer's tensors; `a` and `b` are its adapter, `quantised` holds a 4- or 8-bit weight's tensors."""

    ins: int
    outs: int
    weight: Tensor | None = None
    bias: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    quantised: tuple[Tensor, ...] = ()

    @property
    def nf4(self) -> bool:
        """Packed weights, scales and the table of values; int8 has no table."""
        return len(self.quantised) == 3


@dataclass
class Layer:
    """One decoder layer."""

    linears: dict[str, Linear]
    norms: dict[str, Tensor]


@dataclass
class Model:
    """A decoder's tensors."""

    hidden: int
    embed: Tensor
    layers: list[Layer]
    norm: Tensor
    head: Tensor
    buffers: list[Tensor] = field(default_factory=list)

    def trainable(self) -> list[Tensor]:
        """What the optimizer gets, in the order of `parameters()`; a tied head once."""
        every = [self.embed]
        for layer in self.layers:
            for projection in layer.linears.values():
                every += [
                    tensor
                    for tensor in (projection.weight, projection.bias, projection.a, projection.b)
                    if tensor is not None
                ]
            every += layer.norms.values()
        every.append(self.norm)
        if self.head is not self.embed:
            every.append(self.head)
        return [one for one in every if one.wants]


@dataclass(frozen=True)
class Setting:
    """How the forward pass runs."""

    heads: Heads
    attention: str  # eager | efficient | flash
    half: bool  # fp16, which CUDA's softmax reads as it is
    compute: int  # bytes of the compute type of 4-bit layers and of autocast
    autocast: bool
    checkpoint: str  # "" | saved | reentrant: of each layer
    inputs_want: bool  # enable_input_require_grads
    mask: bool  # a mask is made though nothing is padded
    cache: bool  # use_cache, which is on unless a checkpoint turns it off


class Forward:
    """One forward pass.

    Autocast's copies of weights live until it ends. Those of a layer that a checkpoint computes again live until that
    layer's forward ends, which is an autocast of its own (torch/amp/autocast_mode.py clears the cache at its exit).
    """

    def __init__(self, tape: Tape, model: Model, setting: Setting) -> None:
        self.tape, self.model, self.setting = tape, model, setting
        self.copies: dict[int, Tensor] = {}
        self.ended = False
        self.cache: list[Tensor] = []

    def run(self, ids: Tensor, labels: Tensor | None) -> tuple[Tensor | None, Tensor, list[Tensor]]:
        """-> loss, logits, cache."""
        hidden = self._decoder(ids)
        logits = self._linear(hidden, self.model.head, None, self.model.hidden)
        loss = None if labels is None else self._loss(logits, labels)
        self.copies.clear()
        self.ended = True
        return loss, logits, self.cache

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """ForCausalLMLoss: logits in fp32, labels padded by one and shifted."""
        logits = cast(self.tape, logits, 4)
        labels = self.tape.empty(labels.numel + self.setting.heads.batch, 8)
        shifted = self.tape.empty(ids_of(self.setting), 8)
        return cross_entropy(self.tape, logits, shifted)

    def _decoder(self, ids: Tensor) -> Tensor:
        tape, setting = self.tape, self.setting
        embeds = embedding(tape, self.model.embed, ids, self.model.hidden)
        if setting.inputs_want and tape.recording:
            embeds.wants = True
        positions = tape.empty(setting.heads.length, 8)
        mask = self._mask(embeds.item)
        hidden = embeds
        turns = (self._turn(embeds.item), self._turn(embeds.item), positions)
        for layer in self.model.layers:
            if setting.checkpoint and tape.recording:
                checkpoint = tape.reentrant if setting.checkpoint == "reentrant" else tape.checkpoint
                hidden = checkpoint(_Call(self, layer, turns, mask), hidden)
            else:
                hidden = self.layer(layer, hidden, turns, mask)
        hidden = self._norm(hidden, self.model.norm)
        return hidden

    def _turn(self, item: int) -> Tensor:
        """cos or sin of the positions, one row for the whole batch."""
        return self.tape.empty(self.setting.heads.length * self.setting.heads.size, item)

    def _mask(self, item: int) -> Tensor | None:
        """A causal mask of bytes, which eager attention turns into the type of the states."""
        setting, heads = self.setting, self.setting.heads
        if setting.attention != "eager" and not setting.mask:
            return None
        seen = self.tape.empty(heads.batch * heads.length * heads.length, 1)
        return self.tape.empty(seen.numel, item) if setting.attention == "eager" else seen

    def layer(self, layer: Layer, hidden: Tensor, turns: Turns, mask: Tensor | None) -> Tensor:
        """LlamaDecoderLayer.forward."""
        residual = hidden
        hidden = self._norm(hidden, layer.norms["input"])
        hidden, _weights = self._attention(layer, hidden, turns, mask)
        hidden = add(self.tape, residual, hidden)
        residual = hidden
        hidden = self._norm(hidden, layer.norms["post"])
        hidden = self._mlp(layer, hidden)
        return add(self.tape, residual, hidden)

    def _norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """LlamaRMSNorm.forward."""
        tape, item = self.tape, hidden.item
        wide = cast(tape, hidden, 4)
        variance = mean(tape, square(tape, wide), wide.numel // weight.numel)
        wide = multiply(tape, wide, rsqrt(tape, add_constant(tape, variance)))
        return multiply(tape, weight, cast(tape, wide, item))

    def _attention(
        self, layer: Layer, hidden: Tensor, turns: Turns, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """LlamaAttention.forward."""
        tape, setting = self.tape, self.setting
        query = split_heads(tape, self._layer_linear(layer.linears["q_proj"], hidden))
        key = split_heads(tape, self._layer_linear(layer.linears["k_proj"], hidden))
        value = self._layer_linear(layer.linears["v_proj"], hidden)
        if setting.attention == "eager" or (setting.attention == "efficient" and setting.heads.groups > 1):
            value = split_heads(tape, value)  # elsewhere its gradient comes token by token
        if "q" in layer.norms:
            query, key = self._norm(query, layer.norms["q"]), self._norm(key, layer.norms["k"])
        rotated = rotate(tape, query, turns)
        key = rotate(tape, key, turns)
        query = rotated
        del rotated
        if setting.cache:
            key = copy(tape, key)
            value = copy(tape, value)
            self.cache += [key, value]
        out, weights = self._attend(self._narrow(query), self._narrow(key), self._narrow(value), mask)
        out = self._layer_linear(layer.linears["o_proj"], out)
        return out, weights

    def _narrow(self, x: Tensor) -> Tensor:
        """What autocast makes of an input; its copy lives in the call alone."""
        return cast(self.tape, x, self.setting.compute) if self.setting.autocast else x

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        setting = self.setting
        return ATTENTION[setting.attention](self.tape, query, key, value, mask, setting.heads, setting.half)

    def _mlp(self, layer: Layer, x: Tensor) -> Tensor:
        """LlamaMLP.forward."""
        tape, linears = self.tape, layer.linears
        inner = multiply(
            tape, silu(tape, self._layer_linear(linears["gate_proj"], x)), self._layer_linear(linears["up_proj"], x)
        )
        return self._layer_linear(linears["down_proj"], inner)

    def _layer_linear(self, layer: Linear, x: Tensor) -> Tensor:
        """PEFT's lora.Linear, Linear8bitLt or Linear4bit around the layer below; the plain layer without an adapter."""
        tape = self.tape
        result = self._base_linear(layer, x)
        if layer.a is None or layer.b is None:
            return result
        item = result.item
        if not layer.quantised:
            x = cast(tape, x, layer.a.item)
            result = add(tape, result, self._adapter(layer, layer.a, layer.b, x))
            return cast(tape, result, item)
        if layer.nf4:
            result = copy(tape, result)
        if not self.setting.autocast:
            x = cast(tape, x, layer.a.item)
        output = self._adapter(layer, layer.a, layer.b, x)
        output = cast(tape, output, item)
        return add(tape, result, output)

    def _base_linear(self, layer: Linear, x: Tensor) -> Tensor:
        if layer.weight is not None:
            return self._linear(x, layer.weight, layer.bias, layer.ins)
        quantised = linear_4bit if layer.nf4 else linear_8bit
        return quantised(self.tape, x, layer.ins, layer.outs, self.setting.compute, layer.bias is not None)

    def _adapter(self, layer: Linear, a: Tensor, b: Tensor, x: Tensor) -> Tensor:
        """`lora_B(lora_A(x)) * scaling`, without dropout."""
        return scale(self.tape, self._linear(self._linear(x, a, None, layer.ins), b, None, b.numel // layer.outs))

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, ins: int) -> Tensor:
        """torch.nn.functional.linear, under autocast in its type."""
        if self.setting.autocast:
            x, weight = cast(self.tape, x, self.setting.compute), self._cast_weight(weight)
            bias = None if bias is None else self._cast_weight(bias)
        return linear(self.tape, x, weight, bias, ins)

    def _cast_weight(self, weight: Tensor) -> Tensor:
        """Autocast keeps its copy of a leaf that learns until it ends; others are copied at every use."""
        if id(weight) in self.copies:
            return self.copies[id(weight)]
        narrow = cast(self.tape, weight, self.setting.compute)
        if weight.wants and narrow is not weight:
            self.copies[id(weight)] = narrow
        return narrow


@dataclass(frozen=True)
class _Call:
    """A layer's call, as a checkpoint keeps it."""

    forward: Forward
    layer: Layer
    turns: Turns
    mask: Tensor | None

    def __call__(self, hidden: Tensor) -> Tensor:
        try:
            return self.forward.layer(self.layer, hidden, self.turns, self.mask)
        finally:
            if self.forward.ended:  # computed again, in the backward pass
                self.forward.copies.clear()


def ids_of(setting: Setting) -> int:
    """Tokens in the batch."""
    return setting.heads.batch * setting.heads.length
