"""A toy: a two-layer Llama with random weights and a throwaway tokenizer, small enough for whole runs in seconds."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from xiaozao.data.samples import Samples
from xiaozao.models.blocks import Decoder, view
from xiaozao.models.layers.linear import adapt, matching

SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 384, "max_position_embeddings": 512, "tie_word_embeddings": True,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


def toy_tokenizer() -> Tokenizer:
    """One token per byte, after the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\s+|\S+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def toy_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Random weights, whatever generator stands."""
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def toy_folder(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A model folder as a hub would give it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = AutoConfig.for_model("llama", **{**SHAPE, **changes})
    toy_model(config).save_pretrained(folder)
    toy_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens), encoding="utf-8")
    return folder


def toy_decoder(seed: int = 0, kind: str = "llama", lora: int | None = 4, **changes: object) -> Decoder:
    """A random decoder in fp32, with a LoRA adapter unless `lora` is None."""
    torch.manual_seed(seed)
    model = toy_model(AutoConfig.for_model(kind, **{**SHAPE, **changes}))
    decoder = view(model, "batched")
    if lora:
        adapt(model, matching(model, decoder.head.linear, ("all-linear",)), lora, 2.0 * lora, seed)
    return decoder


def toy_samples(lengths: list[int], seed: int = 0) -> Samples:
    """Random samples in memory, of given lengths; the first third of each is the prompt."""
    draw = np.random.default_rng(seed)
    targets = [np.arange(length) >= max(1, length // 3) for length in lengths]
    return Samples(
        ids=draw.integers(3, 259, sum(lengths), dtype=np.int32),
        targets=np.concatenate(targets).astype(np.uint8),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        lines=np.arange(1, len(lengths) + 1),
    )


def toy_pairs(lengths: Sequence[tuple[int, int, int]], seed: int = 0) -> Samples:
    """Random preference pairs in memory: (tokens of the prompt, of the chosen answer, of the rejected one)."""
    draw = np.random.default_rng(seed)
    ids, targets = [], []
    for asked, chosen, rejected in lengths:
        prompt = draw.integers(3, 259, asked)
        for answered in (chosen, rejected):
            ids.append(np.concatenate([prompt, draw.integers(3, 259, answered)]))
            targets.append(np.arange(asked + answered) >= asked)
    return Samples(
        ids=np.concatenate(ids).astype(np.int32),
        targets=np.concatenate(targets).astype(np.uint8),
        offsets=np.cumsum([0, *map(len, ids)], dtype=np.int64),
        lines=np.arange(1, len(lengths) + 1),
    )


def toy_verdicts(lengths: list[int], seed: int = 0) -> Samples:
    """Random samples, of which two in three are good answers."""
    return replace(toy_samples(lengths, seed), liked=np.array([n % 3 != 2 for n in range(len(lengths))], np.uint8))


def write_chats(path: Path, rows: int) -> Path:
    """A small messages file."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            turns = [("user", f"What is {number} plus 1?" + "!" * (number % 7)), ("assistant", f"{number + 1}")]
            file.write(json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) + "\n")
    return path


def write_judged(path: Path, rows: int, kind: str) -> Path:
    """A small file of another kind than chats: "pairs", "verdicts" or "texts"."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            asked, good = f"What is {number} plus 1?", f"It is {number + 1}"
            bad = f"No idea {number}{'!' * (number % 5)}"
            row: dict[str, object] = {"prompt": asked, "chosen": good, "rejected": bad}
            if kind == "verdicts":
                row = {"prompt": asked, "completion": bad if number % 2 else good, "label": not number % 2}
            elif kind == "texts":
                row = {"text": f"{asked} {good}."}
            file.write(json.dumps(row) + "\n")
    return path
