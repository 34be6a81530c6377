"""tokenizer.json -> an encoder. The file is checked first, because the package `tokenizers` itself checks nothing.

There are bounds on how much a step can lengthen a text, on the length of a token, and on the number of steps. A
tokenizer that fails on an unknown character is refused, because some row will hold one.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from xiaozao.data.words import words_of
from xiaozao.errors import ArtefactError, DataError, Problem
from xiaozao.machine.apart import Lost, ask

GROWTH = 16  # how many times longer a text may become, all steps together; real ones exchange a sign for a sign
STEPS = 200
TEXT = 4096  # characters of a token or of what a step puts in; the longest tokens are some hundred spaces
CHARSMAP = 4_000_000  # characters of SentencePiece's own table
IDS = 2**24
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half a character, unless the other half follows
UNKNOWN = {"WordLevel": "unk_token", "WordPiece": "unk_token"}  # models that know no other way


TRIAL, TRIAL_SECONDS = "xiaozao.data.trial", 30.0
_TRIED: set[str] = set()  # SHA-256 of the contents that came through


class Encoder:
    """A tokenizer that raises our own errors."""

    def __init__(self, path: Path, tokenizer_json: str) -> None:
        check(path, tokenizer_json)
        self.path = path
        try:
            self.tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the package raises nothing more specific
            raise ArtefactError("model_file", path=path, detail=error) from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._words = words_of(tokenizer_json, self.tokenizer)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text. Raises DataError where the tokenizer refuses it."""
        try:
            if self._words is not None and not special:
                return self._words.encode(text)
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=special).ids
        except Exception as error:  # as above
            raise DataError("tokenizer_refused", path=self.path, detail=error) from error
        return ids

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """The text of ids. Raises DataError where the tokenizer refuses them."""
        try:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special))
        except Exception as error:  # as above
            raise DataError("tokenizer_refused", path=self.path, detail=error) from error

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary."""
        known = self.tokenizer.token_to_id(token)
        return int(known) if known is not None else None

    def add(self, token: AddedToken) -> None:
        """One more control token."""
        self.tokenizer.add_special_tokens([token])
        self._words = None  # which do not know it


def check(path: Path, tokenizer_json: str) -> None:
    """Raise ArtefactError for a file that is no tokenizer.json, or that exceeds a bound."""
    try:
        document = json.loads(tokenizer_json)
        if HALF.search(tokenizer_json):
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ArtefactError("model_file", path=path, detail=error) from None
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise _wrong(path, "tokenizer_model")
    names = _names(path, model["vocab"])
    _check_unknown(path, model, names)
    growth, steps = 1.0, 0
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        for step in _steps(document.get(part)):
            steps += 1
            growth *= _growth(path, part, step)
    if steps > STEPS:
        raise _wrong(path, "tokenizer_steps", count=steps, limit=STEPS)
    if growth > GROWTH:
        raise _wrong(path, "tokenizer_growth", growth=f"{min(growth, 1e300):.3g}", limit=GROWTH)
    added = document.get("added_tokens") or []
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict) and isinstance(token.get("content"), str):
            _check_text(path, "added_tokens", token["content"])


def try_apart(path: Path, tokenizer_json: str) -> None:
    """Try to encode and decode in a process of its own, once for each distinct file.

    Raises ArtefactError if that process crashes or hangs, or if a text becomes far longer.
    """
    digest = hashlib.sha256(tokenizer_json.encode()).hexdigest()
    if digest in _TRIED:
        return
    try:
        failed = [one["detail"] for one in ask(TRIAL, {"path": str(path.absolute())}, seconds=TRIAL_SECONDS)
                  if "detail" in one]  # fmt: skip
    except Lost as lost:
        if lost.why == "silent":
            raise _wrong(path, "tokenizer_silent", seconds=int(TRIAL_SECONDS)) from None
        raise _wrong(path, "tokenizer_trial", detail=lost.last) from None
    if failed:
        raise _wrong(path, "tokenizer_trial", detail=failed[0])
    _TRIED.add(digest)


def _names(path: Path, vocabulary: dict[str, Any] | list[Any]) -> list[str]:
    """The vocabulary in its two forms: {text: id}, and of Unigram [[text, score], ...]."""
    if isinstance(vocabulary, dict):
        highest = max((index for index in vocabulary.values() if isinstance(index, int)), default=0)
        if highest >= IDS:
            raise _wrong(path, "tokenizer_ids", highest=highest, limit=IDS)
        names = list(vocabulary)
    else:
        names = [one[0] for one in vocabulary if isinstance(one, list) and one and isinstance(one[0], str)]
    _check_text(path, "model.vocab", max(names, key=len, default=""))
    return names


def _check_unknown(path: Path, model: dict[str, Any], names: list[str]) -> None:
    """Raise ArtefactError if the tokenizer cannot encode a character outside its vocabulary."""
    kind = str(model.get("type") or ("Unigram" if isinstance(model["vocab"], list) else ""))
    if kind in UNKNOWN and model.get(UNKNOWN[kind]) not in names:
        raise _wrong(path, "tokenizer_unknown", kind=kind, field=UNKNOWN[kind], value=str(model.get(UNKNOWN[kind])))
    if kind == "Unigram":
        index, known = model.get("unk_id"), set(names)
        bytes_known = model.get("byte_fallback") is True and all(f"<0x{byte:02X}>" in known for byte in range(256))
        if not bytes_known and (not isinstance(index, int) or not 0 <= index < len(names)):
            raise _wrong(path, "tokenizer_unknown", kind=kind, field="unk_id", value=str(index))


def _steps(value: Any) -> Iterator[dict[str, Any]]:
    """The steps of a part of tokenizer.json, those within a Sequence as well."""
    todo = [value]
    while todo:
        step = todo.pop()
        if isinstance(step, dict):
            yield step
            todo += [
                one for inner in step.values() if isinstance(inner, list) for one in inner if isinstance(one, dict)
            ]


def _growth(path: Path, part: str, step: dict[str, Any]) -> float:
    """How many times longer a step can make a text."""
    for name, value in step.items():
        limit = CHARSMAP if name == "precompiled_charsmap" else TEXT
        if isinstance(value, str):
            _check_text(path, f"{part}.{name}", value, limit)
    content, pattern = step.get("content"), step.get("pattern")
    if not isinstance(content, str) or step.get("type") != "Replace":
        return 1.0
    text = pattern.get("String") if isinstance(pattern, dict) else None
    if not isinstance(text, str):
        return 1.0 + len(content)  # a pattern may match nothing at all, before every character
    return max(1.0, len(content) / len(text)) if text else math.inf


def _check_text(path: Path, field: str, text: str, limit: int = TEXT) -> None:
    if len(text) > limit:
        raise _wrong(path, "tokenizer_text", field=field, length=len(text), limit=limit)


def _wrong(path: Path, key: str, /, **params: object) -> ArtefactError:
    return ArtefactError("artefact_damaged", [Problem(key, params)], path=path)
