"""Keeps text in messages from becoming control tokens.

A customer who writes `<|im_end|>` must not end the turn. Jinja renders a conversation into one string, in which the
template's `<|im_end|>` and the customer's look alike. So text is sealed in four steps:

    1. before rendering, control tokens in contents are replaced by placeholders
    2. in the rendering, the remaining control tokens, all the template's own, are replaced by private names
    3. the placeholders are replaced by the original text
    4. a copy of the tokenizer that knows control tokens only by their private names encodes the result

The copy has the same vocabulary and the same ids; to it, `<|im_end|>` is ordinary text.
"""

import json
import re
import secrets
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from xiaozao.data.encoder import Encoder


class Sealer:
    """`control` are the texts of special tokens; `structural` those of other added tokens that the template writes.

    A structural token such as `<think>` is ordinary in what the assistant says (that is how reasoning is trained), and
    sealed in everybody else's messages.
    """

    def __init__(self, path: Path, tokenizer_json: str, control: list[str], structural: list[str]) -> None:
        self._path, self._json = path, tokenizer_json
        nonce = secrets.token_hex(8)  # unguessable, so that data cannot name it; no id depends on it
        self._names = {text: f"\ue000{nonce}{index}\ue001" for index, text in enumerate((*control, *structural))}
        self._anchor = f"\ue000{nonce}anchor\ue001"
        self._hole = f"\ue002{nonce}%d\ue003"
        self._holes = re.compile(f"\ue002{nonce}([0-9]+)\ue003")
        self._all = _any_of([*control, *structural])
        self._control = _any_of(control)

    def escape(self, content: str, from_assistant: bool, holes: list[str]) -> str:
        """The content with placeholders for control tokens; their original text is appended to `holes`."""
        pattern = self._control if from_assistant else self._all

        def hole(match: re.Match[str]) -> str:
            holes.append(match[0])
            return self._hole % (len(holes) - 1)

        return pattern.sub(hole, content) if pattern else content

    def control_places(self, rendered: str) -> list[tuple[int, int]]:
        """The places (begin, end) of the special tokens in a rendering, in order."""
        return [found.span() for found in self._control.finditer(rendered)] if self._control else []

    def without_control(self, rendered: str) -> str:
        """A rendering without the special tokens that the template wrote."""
        return self._control.sub("", rendered) if self._control else rendered

    def seal(self, rendered: str, holes: list[str]) -> str:
        """A rendering of escaped contents as the text for `tokenizer`."""
        scaffold = self._all.sub(lambda found: self._names[found[0]], rendered) if self._all else rendered
        return self._holes.sub(lambda found: holes[int(found[1])], scaffold)

    def fill(self, rendered: str, holes: list[str]) -> str:
        """The rendering with its placeholders replaced by the original text."""
        return self._holes.sub(lambda found: holes[int(found[1])], rendered)

    def encode(self, sealed: str) -> list[int]:
        """Ids of a sealed text."""
        return self.encoder.encode(sealed)

    def encode_tail(self, sealed: str) -> list[int]:
        """Ids of a sealed text that continues another: no prefix space as at the start of a text."""
        return self.encoder.encode(self._anchor + sealed)[1:]

    @cached_property
    def encoder(self) -> Encoder:
        """The copy. Built when first needed: most data has nothing to seal."""
        document = json.loads(self._json)
        document["post_processor"] = document["truncation"] = document["padding"] = None
        for token in document.get("added_tokens", []):
            token["content"] = self._names.get(token["content"], token["content"])
        self._rename_vocabulary(document["model"])
        copy = Encoder(self._path, json.dumps(document))
        copy.add(AddedToken(self._anchor, special=True, normalized=False))
        return copy

    def _rename_vocabulary(self, model: dict[str, Any]) -> None:
        """Rename the control tokens in the model's own vocabulary, too: Unigram and WordLevel look them up by text."""
        vocabulary = model.get("vocab")
        if isinstance(vocabulary, dict):
            model["vocab"] = {self._names.get(text, text): index for text, index in vocabulary.items()}
        elif isinstance(vocabulary, list):
            model["vocab"] = [[self._names.get(text, text), score] for text, score in vocabulary]
        if isinstance(model.get("unk_token"), str):
            model["unk_token"] = self._names.get(model["unk_token"], model["unk_token"])
        if isinstance(model.get("merges"), list):
            model["merges"] = [merge for merge in model["merges"] if not self._makes_control(merge)]

    def _makes_control(self, merge: str | list[str]) -> bool:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        return not self._names.keys().isdisjoint((left, right, left + right))


def _any_of(texts: list[str]) -> re.Pattern[str] | None:
    """A pattern for any of the tokens, the longest first: one token may be the beginning of another."""
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))) if texts else None
