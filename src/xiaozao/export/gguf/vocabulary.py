"""tokenizer.json -> the vocabulary of a GGUF file: tokens, kinds, merges or scores, special tokens, chat template.

llama.cpp has two tokenizers that matter here. "gpt2" is byte-level BPE: it needs the merges and the name of the rule
that splits text before them. "llama" is SentencePiece's BPE: it needs a score for each token, highest merged first.
A split that llama.cpp does not know by name would give other ids than those of training, so it is refused.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, SpecialVocab, TokenType

from xiaozao.errors import UnsupportedModel

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
SPACE = "\u2581"
CONTROL = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")  # added tokens that control although nothing says so
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BY_CASE = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|"
    r"\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
# How llama.cpp calls a rule that splits text: by what the tokenizer does before its merges.
SPLITS = {
    ("bytes",): "gpt-2",
    ("digits", "bytes"): "smollm",
    (WORDS % "",): "qwen2",
    (WORDS % "{1,3}",): "dbrx",
    (BY_CASE % (SHORT, SHORT, "{1,3}"),): "gpt-4o",
    (BY_CASE % ("", "", ""),): "tekken",
}
WHOLE_WORDS = {"dbrx": "llama-bpe"}  # the same split for a vocabulary whose words are taken whole before any merge


@dataclass(frozen=True)
class Vocabulary:
    """kind: llama.cpp's tokenizer. scores: None for byte-level BPE. split: see SPLITS; "default" for SentencePiece."""

    kind: str
    split: str
    tokens: list[str]
    types: list[TokenType]
    scores: list[float] | None
    prefixed: bool  # whether text gets a space before it


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of the model in `folder` with `size` rows in its embedding. Raises UnsupportedModel."""
    described = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    model, added = described["model"], {one["id"]: one for one in described.get("added_tokens", ())}
    if model.get("type") != "BPE":
        raise UnsupportedModel("export_tokenizer", kind=model.get("type"))
    spelled = {number: token for token, number in model["vocab"].items()}
    tokens, types = [], []
    for number in range(size):
        token, kind = _token(number, spelled, added)
        tokens.append(token)
        types.append(kind)
    if model.get("byte_fallback"):
        return Vocabulary("llama", "default", tokens, _with_bytes(tokens, types), _scores(tokens, types, model),
                          _prefixed(described))  # fmt: skip
    split = split_of(described)
    if model.get("ignore_merges"):
        split = WHOLE_WORDS.get(split, split)
    return Vocabulary("gpt2", split, tokens, types, None, False)


def _token(number: int, spelled: dict[int, str], added: dict[int, dict[str, Any]]) -> tuple[str, TokenType]:
    if number in added:
        text = added[number]["content"]
        if added[number].get("special") or looks_special(text):
            return text, TokenType.CONTROL
        return text.replace(SPACE, " "), TokenType.USER_DEFINED
    if number in spelled:
        return spelled[number], TokenType.NORMAL
    return f"[PAD{number}]", TokenType.UNUSED


def looks_special(text: str) -> bool:
    """Whether an added token controls although its file does not say so, as in Gemma and DeepSeek."""
    ends = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return text in CONTROL or any(text.startswith(start) and text.endswith(end) for start, end in ends)


def _with_bytes(tokens: list[str], types: list[TokenType]) -> list[TokenType]:
    """SentencePiece's own kinds: single bytes, and the unknown token."""
    bytes_ = {f"<0x{number:02X}>" for number in range(256)}
    return [
        TokenType.BYTE if token in bytes_ else TokenType.UNKNOWN if token == "<unk>" else kind
        for token, kind in zip(tokens, types, strict=True)
    ]


def _scores(tokens: list[str], types: list[TokenType], model: dict[str, Any]) -> list[float]:
    """Scores by which llama.cpp merges in the order of the merges: the earlier one has the higher score."""
    rank: dict[str, int] = {}
    for place, pair in enumerate(model["merges"]):
        left, right = pair if isinstance(pair, list) else pair.split(" ")
        rank.setdefault(left + right, place)
    last = len(model["merges"])
    return [
        -1000.0 if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
        else -10000.0 if kind == TokenType.UNUSED
        else 0.0 if kind in (TokenType.BYTE, TokenType.UNKNOWN)
        else -float(rank.get(token, last))
        for token, kind in zip(tokens, types, strict=True)
    ]  # fmt: skip


def _prefixed(described: dict[str, Any]) -> bool:
    """Whether SentencePiece puts a space before a text."""
    rules = [
        *_flat(described.get("normalizer"), "normalizers"),
        *_flat(described.get("pre_tokenizer"), "pretokenizers"),
    ]
    return any(
        (rule["type"] == "Prepend" and rule.get("prepend") == SPACE)
        or (rule["type"] == "Metaspace" and rule.get("prepend_scheme", "always") != "never")
        for rule in rules
    )


def split_of(described: dict[str, Any]) -> str:
    """llama.cpp's name of the rule that splits text before the merges. Raises UnsupportedModel for one without."""
    steps: list[str] = []
    for rule in _flat(described.get("pre_tokenizer"), "pretokenizers"):
        steps.append(_step(rule))
    known = SPLITS.get(tuple(step for step in steps if step))
    if known is None:
        raise UnsupportedModel("export_split", steps=" + ".join(step[:60] for step in steps) or "-")
    return known


def _step(rule: dict[str, Any]) -> str:
    if rule["type"] == "ByteLevel" and not rule.get("add_prefix_space"):
        return "bytes" if rule.get("use_regex", True) else ""
    if rule["type"] == "Digits" and rule.get("individual_digits"):
        return "digits"
    if rule["type"] == "Split" and str(rule.get("behavior")).lower() == "isolated" and not rule.get("invert"):
        return str(rule["pattern"].get("Regex", "?"))
    return f"?{rule['type']}"


def _flat(rule: dict[str, Any] | None, key: str) -> Iterator[dict[str, Any]]:
    if rule is None:
        return
    if rule["type"] == "Sequence":
        for inner in rule[key]:
            yield from _flat(inner, key)
    else:
        yield rule


def add_vocabulary(writer: GGUFWriter, folder: Path, vocabulary: Vocabulary, ends: tuple[int, ...]) -> None:
    """Write it, with the special tokens and the chat template of `folder`.

    ends: ids that end an answer, the turn's own first: as the end of text, and a second one as the end of a turn.
    """
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.prefixed)
    special = SpecialVocab(folder, load_merges=vocabulary.scores is None, n_vocab=len(vocabulary.tokens))
    for name, number in zip(("eos", "eot"), ends, strict=False):
        special.special_token_ids[name] = number
    special.add_to_gguf(writer, quiet=True)
