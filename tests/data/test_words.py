"""Ids by way of words are the tokenizer's own, on every pattern that is known; other tokenizers are left alone."""

import json
import random
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests.data.folders import LINES, byte_level, metaspace
from xiaozao.data.words import GPT2, words_of

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
PIECES = [
    *map(chr, range(1, 128)), *"您好，。！？、（）“”…—龥鿿𠀀３²½Ⅷ한あé\u00a0\u3000\ufeff\u0301",
    *("'s", "'LL", "hello", " world", "  ", "\n\n", "\r\n", " 123456", "the "),
    *("您的订单", "<|im_end|>", "<|im_start|>", "<s>"),
]  # fmt: skip


def split(pattern: str, nfc: bool = False) -> Tokenizer:
    """Byte-level BPE that cuts a text by a pattern of its own, as Qwen and Llama 3 do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC() if nfc else None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator([*LINES * 5, "您的订单您的订单", "1234 1234"], trainer)
    return tokenizer


TOKENIZERS = {
    "gpt2": byte_level(), "gpt2 split": split(GPT2), "qwen": split(QWEN, nfc=True), "llama 3": split(LLAMA3),
}  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_ids_are_the_tokenizers_own(name: str) -> None:
    tokenizer, draw = TOKENIZERS[name], random.Random(5)
    words = words_of(tokenizer.to_str(), tokenizer)
    assert words is not None
    for _ in range(8000):
        text = "".join(draw.choices(PIECES, k=draw.randint(0, 12)))
        assert words.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids, text


def changed(tokenizer: Tokenizer, **values: Any) -> Tokenizer:
    """The tokenizer with other values in its file."""
    document = json.loads(tokenizer.to_str())
    for place, value in values.items():
        *parents, last = place.split("__")
        inner = document
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return Tokenizer.from_str(json.dumps(document))


OTHERS = {
    "a prefix space": changed(byte_level(), pre_tokenizer__add_prefix_space=True),
    "another normalizer": changed(byte_level(), normalizer={"type": "Lowercase"}),
    "dropout": changed(byte_level(), model__dropout=0.5),
    "a class of letters that is not known": split(r"\p{Lu}+|[^\p{Lu}]+"),
    "a pattern that leaves text out": split(r"[a-z]+"),
    "sentencepiece": metaspace(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_tokenizers_are_left_alone(name: str) -> None:
    tokenizer = OTHERS[name]
    words = words_of(tokenizer.to_str(), tokenizer)
    assert words is None or words.encode("aB1 c") == tokenizer.encode("aB1 c", add_special_tokens=False).ids


def test_a_token_that_takes_the_space_before_it_is_left_to_the_tokenizer() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    assert words_of(tokenizer.to_str(), tokenizer) is None
