"""Will it fit? The memory of a run in plain arithmetic, from the model's config alone. No torch.

    peak = runtime + weights + gradients + optimizer + activations, at the moment where the sum is largest

Notation: T tokens in a micro-batch, h hidden size, i MLP width, q = heads x head size, k = key-value heads x head size,
V vocabulary, L blocks, s bytes of the compute dtype. What one block keeps for backward, per token, in our engine
(LoRA on all linears; counted on the saved tensors of a Llama block):

    s (2 i + 2 h + q)   the two norms' outputs, attention's output, gate and up; what follows them is computed again
  + s 2 h + 8           the two norms' inputs, and one number per row and norm
  + s (q + 2 k)         attention's own query, key and value
  + s 7 r               the narrow products of the adapters, of rank r
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xiaozao.spec.plan import MemoryPlan, Moment

RUNTIME_CPU = 430_000_000  # a Python process with torch and transformers imported, measured with torch 2.13
RUNTIME_CUDA = 600_000_000  # context and kernels outside the allocator; 0.1 to 1.4 GB on the cards that were measured
CHUNK = 128  # rows of logits at a time, as in train/losses.py
CHUNK_BYTES = 6  # per logit of a chunk: the product in bf16, and one fp32 copy in which all else happens
# On a CPU, measured over runs of a 135M model: code that oneDNN compiles and keeps for each shape, and the share of
# the activations that glibc's heap holds between its blocks.
COMPILED_CPU = 60_000_000
HEAP_SLACK = 0.3


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
            found = next((text[name] for name in names if text.get(name) is not None), default)
            return int(max(found) if isinstance(found, list) else found)

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
            "q_proj": (self.hidden, self.query), "k_proj": (self.hidden, self.key), "v_proj": (self.hidden, self.key),
            "o_proj": (self.query, self.hidden), "gate_proj": (self.hidden, self.width),
            "up_proj": (self.hidden, self.width), "down_proj": (self.width, self.hidden),
        }  # fmt: skip

    @property
    def parameters(self) -> int:
        """All parameters, a tied head counted once."""
        block = sum(rows * columns for rows, columns in self.linears.values()) + 2 * self.hidden
        return self.blocks * block + self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden

    def adapter(self, rank: int, targets: tuple[str, ...]) -> int:
        """The parameters of a LoRA adapter."""
        chosen = [io for name, io in self.linears.items() if targets == ("all-linear",) or name in targets]
        return self.blocks * rank * sum(rows + columns for rows, columns in chosen)


@dataclass(frozen=True)
class Load:
    """What a run asks of a model, as numbers."""

    method: str
    rank: int
    targets: tuple[str, ...]
    compute_bytes: int
    checkpointing: bool
    micro_batch: int
    tokens: int  # in the largest micro-batch
    accumulates: bool
    runtime: int
    cpu: bool
    answered: int = 0  # tokens of all questions that are answered together, with their answers


def plan(shape: ModelShape, load: Load, budget: int) -> MemoryPlan:
    """The moments of the run. Gradients live while others are computed when micro-batches accumulate."""
    full = load.method == "full"
    trainable = shape.parameters if full else shape.adapter(load.rank, load.targets)
    adapter = 0 if full else 4 * trainable
    weight_bytes = 4 if full else load.compute_bytes
    steady = {
        "runtime": load.runtime + (COMPILED_CPU if load.cpu else 0),
        "weights": shape.parameters * weight_bytes + adapter,
        "gradients": 4 * trainable if load.accumulates else 0,
        "optimizer": 8 * trainable,
        "activations": 0,
    }
    cast = shape.parameters * load.compute_bytes if full and load.compute_bytes < 4 else 0  # autocast's copies
    kept = round(kept_activations(shape, load) * (1 + HEAP_SLACK if load.cpu else 1)) + cast
    chunk = min(CHUNK, load.tokens) * shape.vocabulary * CHUNK_BYTES
    cache = load.answered * 2 * shape.key * shape.blocks * load.compute_bytes
    moments = (
        # Pages of the weights' file that loading touches are the system's to take back; one tensor is held twice.
        Moment("load", {**steady, "gradients": 0, "optimizer": 0, "activations": shape.vocabulary * shape.hidden * 4}),
        Moment("loss", {**steady, "activations": kept + chunk}),
        Moment("backward", {**steady, "gradients": 4 * trainable, "activations": kept + one_block_back(shape, load)}),
        Moment("optimizer step", {**steady, "gradients": 4 * trainable}),
        Moment("answers", {**steady, "gradients": 0, "optimizer": 0, "activations": round(cache * 1.5)}),
    )
    return MemoryPlan(moments, budget, load.micro_batch, load.tokens, shape.parameters + adapter // 4, trainable)


def kept_activations(shape: ModelShape, load: Load) -> int:
    """Bytes kept for backward when the forward pass has ended."""
    per_block = block_activations(shape, load)
    outside = load.tokens * shape.hidden * (4 + 2 * load.compute_bytes)  # embedding, final norm, states for the head
    if not load.checkpointing:
        return shape.blocks * per_block + outside
    return shape.blocks * load.tokens * shape.hidden * load.compute_bytes + per_block + outside


def block_activations(shape: ModelShape, load: Load) -> int:
    """Bytes that one block keeps for its backward; see the head of this file."""
    rank = 0 if load.method == "full" else load.rank
    width = shape.width * (4 if load.method == "full" else 2)  # a base that learns is not in a fused function
    numbers = width + 4 * shape.hidden + 2 * shape.query + 2 * shape.key + 7 * rank
    per_token = load.compute_bytes * numbers + 8
    return load.tokens * per_token


def one_block_back(shape: ModelShape, load: Load) -> int:
    """Gradients in flight while one block's backward runs: of gate, up and their product, and of the stream in fp32."""
    return load.tokens * (4 * shape.width * load.compute_bytes + shape.hidden * (8 + 2 * load.compute_bytes))
