"""The numbers of a model and of a run that decide memory. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from xiaozao.plan.streaming import heap_returns, streamed_weights
from xiaozao.spec.patterns import matches

# Bytes of a frozen linear layer's weight in models/layers/quantize.py: per weight, and per row of the matrix.
STORED = {"int8": (1.0, 4), "nf4": (0.5 + 1 / 64 + 4 / (64 * 256), 0)}


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a decoder that decide its memory."""

    hidden: int
    blocks: int
    heads: int
    kv_heads: int
    head_size: int
    width: int  # of the MLP
    vocabulary: int
    tied: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ModelShape":
        """Read a config.json; the names of the GPT-2 family are understood too."""
        text = config.get("text_config") or config

        def first(*names: str, default: int = 0) -> int:
            value = next((text[name] for name in names if text.get(name) is not None), default)
            return int(max(value) if isinstance(value, list) else value)

        hidden, heads = first("hidden_size", "n_embd", "d_model"), first("num_attention_heads", "n_head", default=1)
        return cls(
            hidden=hidden,
            blocks=first("num_hidden_layers", "n_layer", "num_layers"),
            heads=heads,
            kv_heads=first("num_key_value_heads", default=heads),
            head_size=first("head_dim", default=hidden // heads),
            width=first("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
            vocabulary=first("vocab_size"),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", True))),
        )

    @property
    def query(self) -> int:
        return self.heads * self.head_size

    @property
    def key(self) -> int:
        return self.kv_heads * self.head_size

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one block: name -> (in, out)."""
        return {
            "self_attn.q_proj": (self.hidden, self.query), "self_attn.k_proj": (self.hidden, self.key),
            "self_attn.v_proj": (self.hidden, self.key), "self_attn.o_proj": (self.query, self.hidden),
            "mlp.gate_proj": (self.hidden, self.width), "mlp.up_proj": (self.hidden, self.width),
            "mlp.down_proj": (self.width, self.hidden),
        }  # fmt: skip

    @property
    def parameters(self) -> int:
        """All parameters, a tied head counted once."""
        return self.blocks * self.block + self.matrix * (1 if self.tied else 2) + self.hidden

    @property
    def block(self) -> int:
        """The parameters of one block."""
        return sum(rows * columns for rows, columns in self.linears.values()) + 2 * self.hidden

    @property
    def largest(self) -> int:
        """The weights of the largest linear layer of a block."""
        return max(ins * outs for ins, outs in self.linears.values())

    @property
    def matrix(self) -> int:
        """The parameters of the embedding, and of the head."""
        return self.vocabulary * self.hidden

    def adapted(self, targets: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
        """(in, out) of every adapted layer; all of them where the names are those of another family."""
        return _adapted(self, targets)

    def adapter(self, rank: int, targets: tuple[str, ...], kind: str = "lora") -> int:
        """The parameters of an adapter; DoRA has one more per output."""
        return sum(rank * (ins + outs) + (outs if kind == "dora" else 0) for ins, outs in self.adapted(targets))

    def whole(self, also: tuple[str, ...]) -> int:
        """The parameters that train beside an adapter; tied and both named, embeddings and head are one."""
        ends = len({"embeddings", "head"} & set(also))
        norms = (2 * self.blocks + 1) * self.hidden if "norms" in also else 0
        return norms + self.matrix * (1 if ends == 2 and self.tied else ends)

    def last(self, count: int) -> int:
        """The parameters of the last blocks, the final norm and a head that is not the embedding too."""
        return min(count, self.blocks) * self.block + self.hidden + (0 if self.tied else self.matrix)


@cache  # a plan asks some eight times, and every time hundreds of names are matched
def _adapted(shape: ModelShape, targets: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    layers = [(f"model.layers.{one}.{name}", io) for one in range(shape.blocks) for name, io in shape.linears.items()]
    chosen = tuple(io for name, io in layers if any(matches(name, target) for target in targets))
    return chosen or tuple(io for _, io in layers)


@dataclass(frozen=True)
class Load:
    """The settings of a run that decide memory."""

    method: str
    rank: int
    targets: tuple[str, ...]
    compute_bytes: int
    checkpointing: str
    samples: int
    tokens: int  # in the largest micro-batch
    accumulates: bool
    runtime: int
    cpu: bool
    adapter: str = "lora"
    also: tuple[str, ...] = ()
    last_blocks: int | None = None
    base: str = "none"
    devices: int = 1  # over which weights, gradients and states are divided; all numbers here are those of one
    optimizer: str = "adamw"
    projection: int = 128  # GaLore's rank
    fused: bool = False  # weights move in the middle of backward, so that gradients come and go
    wide: int = 4  # bytes in which parameters that learn, and their gradients, are held
    stream: bool = False  # whether the matrices stay on disk

    @property
    def paged(self) -> bool:
        """Whether the weights on disk are trained."""
        return self.stream and self.method == "full"

    def trainable(self, shape: ModelShape) -> int:
        """The parameters that learn."""
        if self.method == "full":
            return shape.parameters if self.last_blocks is None else shape.last(self.last_blocks)
        return shape.adapter(self.rank, self.targets, self.adapter) + shape.whole(self.also)

    def weights(self, shape: ModelShape) -> int:
        """Bytes of all weights: what learns is held in fp32, an adapter and an untied matrix beside what was there."""
        masters = self.trainable(shape)
        if self.stream:
            largest = max(shape.largest, shape.matrix)
            norms = (2 * shape.blocks + 1) * shape.hidden
            return streamed_weights(masters, norms, largest, self.compute_bytes, self.base)
        if self.method == "full":
            return self.wide * masters + self.compute_bytes * (shape.parameters - masters)
        adapter = shape.adapter(self.rank, self.targets, self.adapter)
        untied = shape.matrix if shape.tied and len({"embeddings", "head"} & set(self.also)) == 1 else 0
        replaced = masters - adapter - untied
        starts = adapter if self.adapter == "pissa" else 0  # kept, for what is written and for the model's own answers
        return 4 * (masters + starts) + self.compute_bytes * (shape.parameters - replaced) - self.saved(shape)

    def held(self, shape: ModelShape) -> int:
        """Bytes of the weights on one device: its part, and what is whole while it computes.

        Whole are the embedding, an untied head and two blocks (one in use, one on its way), with their gradients where
        they learn. Loading comes first, and there every device still has all.
        """
        everything = self.weights(shape)
        if self.devices == 1:
            return everything
        outside = shape.matrix * (1 if shape.tied else 2)
        share = (2 * shape.block + outside) / shape.parameters
        gradients = 4 * (shape.block + outside) if self.method == "full" else 0
        return round(everything * min(1.0, 1 / self.devices + share)) + gradients

    def saved(self, shape: ModelShape) -> int:
        """Bytes that the linear layers of a quantised base take less than in the compute dtype."""
        if self.base == "none":
            return 0
        weight, row = STORED[self.base]
        each = (ins * outs * (self.compute_bytes - weight) - outs * row for ins, outs in shape.linears.values())
        return round(shape.blocks * sum(each))

    def slack(self, shape: ModelShape) -> bool:
        """Whether the heap of a CPU holds more than what is alive, and code that oneDNN compiled (not in fp32)."""
        return self.cpu and not self.paged and not (self.stream and heap_returns(shape.largest))

    def dequantised(self, shape: ModelShape) -> int:
        """Bytes of the one matrix that is in the compute dtype while it is multiplied with."""
        if self.base == "none" or self.stream:  # a tile of one counts among the weights
            return 0
        return self.compute_bytes * max(ins * outs for ins, outs in shape.linears.values())
