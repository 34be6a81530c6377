"""Text -> ids by way of its words, several times as fast as the package `tokenizers` alone.

Byte-level tokenizers cut a text into words by a pattern and encode each by itself, so the ids of a text are the ids of
its words, one after the other. The pattern is the tokenizer's own, with the letters, digits and spaces that are in
KNOWN in the place of all of Unicode's: ASCII, the usual Chinese characters and their punctuation. The ids of a word are
what the tokenizer's model says, asked once. Text between two added tokens that holds anything else is left to the
tokenizer, and so is everything where a tokenizer is of another kind. Each is tried on a sample first.
"""

import json
import re
from typing import Any

from tokenizers import Tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
HAN = "\u4e00-\u9fa5"  # letters in every version of Unicode
KNOWN = re.compile(f"[\\x00-\\x7f{HAN}，。！？、：；“”‘’（）《》【】「」…—～·]*")
CLASSES = {r"\p{L}": f"A-Za-z{HAN}", r"\p{N}": "0-9", r"\s": r"\t\n\x0b\x0c\r\x20"}
OTHERS = {r"\S": r"[^\t\n\x0b\x0c\r\x20]", r"\r": r"\r", r"\n": r"\n"}
TOKEN = re.compile(r"\\p\{\w+\}|\\.|[?*+}]\+|\[\^?|.", re.DOTALL)
KEPT, LONGEST = 65_536, 24  # words whose ids are kept; characters of one that is
# The character that a byte-level tokenizer has for each byte that is no printable sign: a space is Ġ.
BYTES = {code: chr(256 + place) for place, code in enumerate((*range(33), *range(127, 161), 173))}
SAMPLE = (
    "".join(map(chr, range(1, 128)))
    + "  I'll say: it's 'VE 12345 x1y2 (3.5%)\r\n\r\n\ta  b \n c...\n\n d!!?\n 'tis WE'RE  \x1f e "
    "您好，订单12号（A座）：“好的”。\n\n 谢谢！abc中文123 ，x、 ……—·【一】龥 "
)


class Words:
    """The words of a text, and their ids."""

    def __init__(self, pattern: "re.Pattern[str]", added: dict[str, int], tokenizer: Tokenizer) -> None:
        self._findall, self._added = pattern.findall, added
        self._tokenizer, self._model = tokenizer, tokenizer.model
        longest = sorted(added, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, longest))})").split if added else None
        self._ids: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises what the tokenizer raises."""
        ids: list[int] = []
        for place, part in enumerate(self._split(text) if self._split else [text]):
            if place % 2:
                ids.append(self._added[part])
            elif not part.isascii() and KNOWN.fullmatch(part) is None:
                ids += self._tokenizer.encode_batch_fast([part], add_special_tokens=False)[0].ids
            else:
                words = self._findall(part)
                if sum(map(len, words)) != len(part):  # a pattern that leaves something out
                    ids += self._tokenizer.encode_batch_fast([part], add_special_tokens=False)[0].ids
                    continue
                for word in words:
                    ids += self._ids.get(word) or self._asked(word)
        return ids

    def _asked(self, word: str) -> list[int]:
        ids = [token.id for token in self._model.tokenize(word.encode().decode("latin-1").translate(BYTES))]
        if len(word) <= LONGEST and len(self._ids) < KEPT and not word[-1:].isdigit():  # numbers do not come again
            self._ids[word] = ids
        return ids


def words_of(tokenizer_json: str, tokenizer: Tokenizer) -> Words | None:
    """The words of a tokenizer; None where it is of another kind, or gives a sample other ids than this does."""
    document = json.loads(tokenizer_json)
    source, added = _pattern_of(document), _added_of(document)
    pattern = _narrowed(source) if source is not None else None
    if pattern is None or pattern.groups or added is None:
        return None
    words = Words(pattern, added, tokenizer)
    samples = [SAMPLE, *(f"a {token}b{token}\n" for token in list(added)[:4])]
    try:
        same = all(words.encode(sample) == tokenizer.encode(sample, add_special_tokens=False).ids for sample in samples)
    except (KeyError, IndexError, ValueError):
        return None
    return words if same else None


def _pattern_of(document: dict[str, Any]) -> str | None:
    """The pattern that cuts a text into words, where nothing else does."""
    model, normalizer, steps = document.get("model"), document.get("normalizer"), document.get("pre_tokenizer")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("dropout"):
        return None
    if normalizer is not None and (not isinstance(normalizer, dict) or normalizer.get("type") != "NFC"):
        return None  # which leaves what is in KNOWN as it is
    listed = steps.get("pretokenizers", [steps]) if isinstance(steps, dict) else []
    if not listed or not all(isinstance(step, dict) for step in listed):
        return None
    *before, last = listed
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space") is not False:
        return None
    if not before:
        return GPT2 if last.get("use_regex", True) else None
    split = before[0]
    wanted = {"type": "Split", "behavior": "Isolated", "invert": False}
    if (
        len(before) > 1
        or last.get("use_regex", True)
        or any(split.get(name) != value for name, value in wanted.items())
    ):
        return None
    pattern = split.get("pattern")
    return pattern.get("Regex") if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str) else None


def _added_of(document: dict[str, Any]) -> dict[str, int] | None:
    """The added tokens, where they are found in a text as they stand."""
    added: dict[str, int] = {}
    for token in document.get("added_tokens") or []:
        if any(token.get(name) for name in ("lstrip", "rstrip", "single_word", "normalized")) or not token["content"]:
            return None
        added[token["content"]] = token["id"]
    return added


def _narrowed(source: str) -> "re.Pattern[str] | None":
    """A pattern that matches in known text what `source` matches there; None where it holds what is not understood."""
    parts, inside = [], False
    for token in TOKEN.findall(source):
        if token in CLASSES:
            parts.append(CLASSES[token] if inside else f"[{CLASSES[token]}]")
            continue
        if token in OTHERS and not (inside and token == r"\S"):
            parts.append(OTHERS[token])
            continue
        if (len(token) > 1 and token[0] in "\\?*+}") or not token.isascii():
            return None
        inside = token.startswith("[") or (inside and token != "]")
        parts.append(token)
    try:
        return re.compile("".join(parts))
    except re.error:
        return None
