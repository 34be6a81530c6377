"""Models with random weights in the shapes of large ones, written block by block: what is measured with them is real,
what they would answer is noise."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from xiaozao.models.artefacts.checkpoint import staged_folder
from xiaozao.models.layers.quantize import BLOCK, NESTED
from xiaozao.models.loading.converted import is_there, name_of, write_index, write_matrix

SHAPES: dict[str, dict[str, object]] = {
    "135m": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False,
    },
    "70b": {
        "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "vocab_size": 32000, "tie_word_embeddings": False,
    },
}  # fmt: skip
SPECIAL = ("<unk>", "<s>", "</s>")
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
SPREAD = 0.02  # Llama's own initial standard deviation


def write_elephant(folder: Path, size: str) -> Path:
    """A model folder as a hub would give it, in bf16, one file for each block; kept where it is whole already."""
    shape = SHAPES[size]
    whole = folder / "model.safetensors.index.json"
    if whole.is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    write_papers(folder, shape)
    generator = torch.Generator().manual_seed(0)
    where: dict[str, str] = {}
    for number, tensors in enumerate(_files(shape, generator)):
        name = f"model-{number:05d}.safetensors"
        save_file(tensors, folder / name, {"format": "pt"})
        where |= dict.fromkeys(tensors, name)
    whole.write_text(json.dumps({"metadata": {}, "weight_map": where}), encoding="utf-8")
    return folder


def write_nf4_elephant(folder: Path, streams: Path, size: str) -> Path:
    """A model whose matrices are there as nf4 alone, where xiaozao looks for them: random codes, matrix by matrix.

    Its own files hold the norms; 70 billion weights in bf16 would be 140 GB, and streaming nf4 never looks at them.
    """
    shape = SHAPES[size]
    folder.mkdir(parents=True, exist_ok=True)
    write_papers(folder, shape)
    norms = {
        f"model.layers.{block}.{name}.weight": torch.ones(sizes, dtype=torch.bfloat16)
        for block in range(_number(shape, "num_hidden_layers"))
        for name, sizes in block_shapes(shape).items()
        if len(sizes) == 1
    }
    norms["model.norm.weight"] = torch.ones(_number(shape, "hidden_size"), dtype=torch.bfloat16)
    if not (folder / "model.safetensors").is_file():
        save_file(norms, folder / "model.safetensors", {"format": "pt"})
    target = streams / name_of(folder, "nf4")
    if not is_there(target):
        with staged_folder(target) as staging:
            _write_codes(staging, shape, norms)
    return folder


def _write_codes(folder: Path, shape: Mapping[str, object], norms: Mapping[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    entries: dict[str, dict[str, object]] = {}
    outer = (_number(shape, "vocab_size"), _number(shape, "hidden_size"))
    for name in ("model.embed_tokens", "lm_head"):
        matrix = {"weight": drawn(outer, generator)}
        entries[name] = write_matrix(folder, len(entries), "plain", matrix, torch.Size(outer))
    for block in range(_number(shape, "num_hidden_layers")):
        for name, sizes in block_shapes(shape).items():
            if len(sizes) == 2:
                parts = _codes(sizes[0] * sizes[1], generator)
                full = f"model.layers.{block}.{name}"
                entries[full] = write_matrix(folder, len(entries), "nf4", parts, torch.Size(sizes))
    write_index(folder, entries, norms)


def _codes(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """What Nf4Base would hold of `count` weights: every code is a valid one; absmax about 2.5 x SPREAD."""
    blocks = count // BLOCK
    noise = torch.randint(-(2**63), 2**63 - 1, (count // 16,), generator=generator)
    return {
        "codes": noise.view(torch.uint8).view(-1, 1),
        "absmax": torch.randint(100, 156, (blocks,), dtype=torch.uint8, generator=generator),
        "scales": torch.full((-(-blocks // NESTED),), SPREAD / 2),
        "offset": torch.tensor(2.5 * SPREAD),
    }


def write_papers(folder: Path, shape: Mapping[str, object]) -> None:
    """Config and a tokenizer of single bytes."""
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096, "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2,
        "torch_dtype": "bfloat16", **shape,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special), encoding="utf-8")


def block_shapes(shape: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """The weights of one block by name, as (out, in)."""
    hidden, width = _number(shape, "hidden_size"), _number(shape, "intermediate_size")
    key = hidden // _number(shape, "num_attention_heads") * _number(shape, "num_key_value_heads")
    return {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (key, hidden), "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (width, hidden), "mlp.up_proj": (width, hidden),
        "mlp.down_proj": (hidden, width), "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
    }  # fmt: skip


def block_weights(shape: Mapping[str, object]) -> int:
    """The weights of all linear layers of the blocks, and of the head."""
    each = sum(size[0] * size[1] for size in block_shapes(shape).values() if len(size) == 2)
    return _number(shape, "num_hidden_layers") * each + _number(shape, "vocab_size") * _number(shape, "hidden_size")


def drawn(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A random matrix, or a norm's weight of ones."""
    if len(size) == 1:
        return torch.ones(size, dtype=torch.bfloat16)
    return torch.randn(size, generator=generator).mul_(SPREAD).bfloat16()


def _files(shape: Mapping[str, object], generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    outer = (_number(shape, "vocab_size"), _number(shape, "hidden_size"))
    yield {"model.embed_tokens.weight": drawn(outer, generator)}
    for block in range(_number(shape, "num_hidden_layers")):
        yield {
            f"model.layers.{block}.{name}.weight": drawn(size, generator) for name, size in block_shapes(shape).items()
        }
    last = {"model.norm.weight": drawn(outer[1:], generator)}
    yield last if shape["tie_word_embeddings"] else {**last, "lm_head.weight": drawn(outer, generator)}


def _number(shape: Mapping[str, object], name: str) -> int:
    value = shape[name]
    assert isinstance(value, int)
    return value
