"""Conversation -> token ids and loss mask, through the model's own chat template.

    ids      <bos> <|user|> hi <|end|> \\n <|assistant|> \\n  Hello  !  <|end|> \\n
    targets    .       .    .    .     .        .       .    1     1     1    .

`targets[i]` says that token i is to be predicted (from the tokens before it). Only what the assistant says is a target,
with the token that ends its turn; positions decide, never ids, so pad == eos changes nothing. Of a preference pair, and
of an answer with a verdict, only the turns after the shared ones are targets.

Where the answers lie is found by rendering prefixes: the turns before an answer with the generation prompt are what
the model sees when it is asked, so the answer begins where that text ends, and the sample's tokens up to there are
exactly the tokens of the prompt. An answer that the template renders differently once more turns follow (reasoning
that is cut from the history) is not trained in that place, only where it is the last; `untrained` counts them.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xiaozao.data.encoder import Encoder, check, try_apart
from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.modelfiles import ChatFiles, read_chat_files
from xiaozao.data.sealing import Sealer
from xiaozao.data.templates import ChatTemplate
from xiaozao.errors import DataError, UnsupportedModel

PLAIN_TEMPLATE = """{% for message in messages %}
{{ message.role | capitalize }}: {{ message.content }}
{%- if message.role == 'assistant' and eos_token is defined %}{{ eos_token }}{% endif %}
{{ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}Assistant:{% endif %}"""
VERSION = 1  # counts changes of this file that change ids or masks
QUESTION, ANSWER = "zao probe question", "zao probe answer"


@dataclass(frozen=True)
class Encoded:
    """One sample. ids: int32 [n]; targets: bool [n]; untrained: how many of its answers carry no loss (see above)."""

    ids: NDArray[np.int32]
    targets: NDArray[np.bool_]
    untrained: int = 0


class ChatTokenizer:
    """A tokenizer with its chat template. Training and serving both use it, so their ids agree.

    has_own_template   False where the folder has none and PLAIN_TEMPLATE stands in
    template           the source of the one that is used
    turn_end           the text of the control token that it writes after an answer; None where it writes none
    vocab_size         rows of the embedding: every id is below it
    eos_ids            ids that end an answer
    fingerprint        changes with anything that could change an id
    """

    def __init__(self, files: ChatFiles) -> None:
        path = files.folder / "tokenizer.json"
        check(path, files.tokenizer_json)
        try_apart(path, files.tokenizer_json)
        self._encoder = Encoder(path, files.tokenizer_json)
        self._tokenizer = self._encoder.tokenizer
        self._files = files
        self.has_own_template = files.template is not None
        self.template = source = files.template or PLAIN_TEMPLATE
        self._template = ChatTemplate(source, files.tokens)
        self._control = _control_tokens(self._tokenizer)
        self._sealer = Sealer(self._encoder.path, files.tokenizer_json, *_sealed_tokens(self._tokenizer, source))
        self.vocab_size: int = files.rows or self._tokenizer.get_vocab_size(with_added_tokens=True)
        self._bos = self._find_bos()
        self._eos = self._find_eos()
        self._turn_end = self._probe()
        self.turn_end = None if self._turn_end is None else str(self._tokenizer.id_to_token(self._turn_end))
        self.eos_ids = files.eos_ids | {one for one in (self._eos, self._turn_end) if one is not None}
        self.template_hash = hashlib.sha256(source.encode()).hexdigest()
        self.fingerprint = _hash(VERSION, files.tokenizer_json, source, sorted(files.tokens.items()),
                                 sorted(self.eos_ids), self._bos, self._eos, self.vocab_size)  # fmt: skip

    @classmethod
    def from_folder(cls, folder: Path) -> "ChatTokenizer":
        """The tokenizer of a model folder. Raises NotFound, UnsupportedModel, ArtefactError."""
        return cls(read_chat_files(folder))

    def encode(self, conversation: Conversation, system: str | None = None) -> Encoded:
        """A sample. `system` is the system text of conversations that have none. Raises DataError(template_refused)."""
        if conversation.text:
            return self._encode_text(conversation.text)
        chat = _Chat(self._template, self._sealer, _with_system(conversation.turns, system))
        full = chat.render(len(chat.turns), ask=False)
        if self._turn_end is None:
            full = full.rstrip()  # what the template writes after the answer is not to be learned; EOS follows here
        whole = self._whole(chat, full)
        ids, starts = self._split_at_answers(chat, whole)
        targets = np.zeros(len(ids) + 1, dtype=np.bool_)
        untrained = 0
        shared = conversation.shared + len(chat.turns) - len(conversation.turns)  # a system text may stand before
        for index, start in starts.items():
            if index < shared:
                continue
            last = index == len(chat.turns) - 1
            if start < 0 or not (last or full.startswith(chat.render(index + 1, ask=False).rstrip())):
                untrained += 1
                continue
            targets[start : self._answer_end(ids, start, chat, whole, index)] = True
        if self._turn_end is None and self._eos is not None and ids[-1] != self._eos:
            ids.append(self._eos)
            targets[len(ids) - 1] = True
        return _encoded(ids, targets[: len(ids)], untrained)

    def encode_sides(self, conversation: Conversation, system: str | None = None) -> tuple[Encoded, ...]:
        """The sequences of a sample: a single one, or the chosen and the rejected one of a preference pair."""
        chosen = self.encode(conversation, system)
        if not conversation.rejected:
            return (chosen,)
        return chosen, self.encode(replace(conversation, turns=conversation.rejected), system)

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        """The ids that ask for the next answer: the turns and the generation prompt."""
        chat = _Chat(self._template, self._sealer, tuple(turns))
        return self._ids(chat, chat.render(len(turns), ask=True))

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of ids, without control tokens unless they are asked for."""
        return self._encoder.decode(ids, skip_special)

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary."""
        return self._encoder.id_of(token)

    def _encode_text(self, text: str) -> Encoded:
        """Encode plain text.

        All its tokens and the end are targets, except the first, which has no context to be predicted from.
        """
        holes: list[str] = []
        escaped = self._sealer.escape(text, False, holes)
        ids = self._plain(text) if not holes else self._sealer.encode(self._sealer.seal(escaped, holes))
        ids = [*([self._bos] if self._bos is not None else []), *ids, *([self._eos] if self._eos is not None else [])]
        return _encoded(ids, np.ones(len(ids), dtype=np.bool_), 0)

    def _ids(self, chat: "_Chat", text: str) -> list[int]:
        """Ids of a rendering from its beginning, with exactly one BOS if the tokenizer or the template asks for it."""
        ids = self._part(chat, text)
        return [self._bos, *ids] if self._bos is not None and ids[:1] != [self._bos] else ids

    def _part(self, chat: "_Chat", text: str) -> list[int]:
        """Ids of a rendering, or of a part of one that begins with a control token."""
        return self._sealer.encode(chat.sealed(text)) if chat.holes else self._plain(text)

    def _plain(self, text: str) -> list[int]:
        return self._encoder.encode(text)

    def _whole(self, chat: "_Chat", full: str) -> "_Whole":
        """The sample's ids, and the places of control tokens in its text and among its ids.

        Text between two control tokens is encoded on its own. So for a prompt only the text after its last control
        token has to be encoded; otherwise the time for a row with many answers would grow with the square of its
        length. If a control token is not always a single id (because it occurs in a word), prompts are encoded from the
        start.
        """
        ids = self._ids(chat, full)
        marks = self._sealer.control_places(full)
        places = [place for place, token in enumerate(ids) if token in self._control]
        if len(places) == len(marks) + 1 and ids[0] == self._bos:
            places = places[1:]  # the BOS that is not in the text
        return _Whole(full, ids, marks, places) if len(places) == len(marks) else _Whole(full, ids, [], [])

    def _asked(self, chat: "_Chat", whole: "_Whole", beginning: str) -> tuple[int, list[int]]:
        """(n, tail): the ids of a prefix of the sample's text are the first n ids of the sample and then the tail."""
        count = bisect_right(whole.marks, len(beginning), key=lambda mark: mark[1])
        if not count:
            return 0, self._ids(chat, beginning)
        return whole.places[count - 1], self._part(chat, beginning[whole.marks[count - 1][0] :])

    def _split_at_answers(self, chat: "_Chat", whole: "_Whole") -> tuple[list[int], dict[int, int]]:
        """The sample's ids, and per assistant turn where its answer begins (-1 where the template changes the prompt).

        Usually the prompt's ids are the beginning of the sample's ids. Where a token would reach across ("Assistant: "
        and "Hello" become "Assistant:", " Hello") the text is cut there for the last answer, because asked for it the
        model sees the prompt's own tokens. In an earlier turn, which is only history then, and where a cut would
        change the text (a prefix space), the crossing token stays whole and is a target.
        """
        ids, starts = whole.ids, dict[int, int]()
        asked, rest = ids, ""
        for index, turn in enumerate(chat.turns):
            if turn.role != "assistant":
                continue
            prompt = chat.render(index, ask=True)
            if not whole.text.startswith(prompt):
                starts[index] = -1
                continue
            known, tail = self._asked(chat, whole, prompt)
            starts[index] = known + _common(ids[known : known + len(tail)], tail)
            last, asked, rest = index, [*ids[:known], *tail], whole.text[len(prompt) :]
        if ids[: len(asked)] != asked:
            cut = [*asked, *self._sealer.encode_tail(chat.sealed(rest))]
            if self.decode(cut, skip_special=False) == self.decode(ids, skip_special=False):
                ids, starts[last] = cut, len(asked)
        return ids, starts

    def _answer_end(self, ids: list[int], start: int, chat: "_Chat", whole: "_Whole", index: int) -> int:
        """The index after the token that ends the turn; without one, after the answer's last non-space token."""
        if self._turn_end is not None:
            with suppress(ValueError):
                return ids.index(self._turn_end, start) + 1
        end = len(ids)
        if index < len(chat.turns) - 1:
            said = chat.render(index + 1, ask=False).rstrip()
            known, tail = self._asked(chat, whole, said) if whole.text.startswith(said) else (0, self._ids(chat, said))
            end = known + _common(ids[known : known + len(tail)], tail)
        return max(end, start)

    def _find_bos(self) -> int | None:
        """The BOS that the tokenizer itself puts before a text, or None."""
        bos = self.id_of(self._files.tokens.get("bos_token", ""))
        bos = self._files.bos_id if bos is None else bos
        with_special = self._encoder.encode("a", special=True)
        adds = with_special[:1] == [bos] and self._plain("a")[:1] != [bos]
        wanted = adds if self._files.add_bos is None else self._files.add_bos
        return bos if wanted else None

    def _find_eos(self) -> int | None:
        eos = self.id_of(self._files.tokens.get("eos_token", ""))
        return min(self._files.eos_ids, default=None) if eos is None else eos

    def _probe(self) -> int | None:
        """The control token that this template writes after an answer. Raises UnsupportedModel.

        A template is refused if its answers do not begin with its generation prompt: the model would learn to continue
        another text than it is given when it is asked.
        """
        chat = _Chat(self._template, self._sealer, (Turn("user", QUESTION), Turn("assistant", ANSWER)))
        try:
            prompt, full = chat.render(1, ask=True), chat.render(2, ask=False)
        except DataError as error:
            raise UnsupportedModel("template_probe", detail=error.params["detail"]) from None
        if not full.startswith(prompt) or ANSWER not in full or QUESTION not in prompt:
            raise UnsupportedModel("template_prefix", folder=self._files.folder)
        after = self._plain(full[full.index(ANSWER) + len(ANSWER) :].lstrip())
        end = after[0] if after and after[0] in self._control else None
        if end is None and self._eos is None:
            raise UnsupportedModel("no_eos", folder=self._files.folder)
        return end


@dataclass(frozen=True)
class _Whole:
    """A whole sample: text, ids, and of each control token (begin, end) in the text and its index in the ids."""

    text: str
    ids: list[int]
    marks: list[tuple[int, int]]
    places: list[int]


class _Chat:
    """Turns ready for rendering, with placeholders for control tokens that occur in messages."""

    def __init__(self, template: ChatTemplate, sealer: Sealer, turns: tuple[Turn, ...]) -> None:
        self.turns = turns
        self.holes: list[str] = []
        self._template, self._sealer = template, sealer
        self._messages = [
            {"role": turn.role, "content": sealer.escape(turn.content, turn.role == "assistant", self.holes)}
            for turn in turns
        ]

    def render(self, count: int, ask: bool) -> str:
        """The first `count` turns, with the generation prompt if asked. Placeholders are still in it."""
        return self._template.render(self._messages[:count], add_generation_prompt=ask)

    def sealed(self, text: str) -> str:
        return self._sealer.seal(text, self.holes)


def _with_system(turns: tuple[Turn, ...], system: str | None) -> tuple[Turn, ...]:
    return (Turn("system", system), *turns) if system and turns[0].role != "system" else turns


def _control_tokens(tokenizer: Tokenizer) -> set[int]:
    return {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def _sealed_tokens(tokenizer: Tokenizer, template: str) -> tuple[list[str], list[str]]:
    """The tokens to seal: special tokens, and other added tokens that the template writes, such as `<think>`.

    Added tokens that are plain vocabulary, such as runs of spaces and HTML tags, are not sealed."""
    added = tokenizer.get_added_tokens_decoder().values()
    control = [token.content for token in added if token.special]
    written = [token.content for token in added if not token.special and token.content in template]
    return control, [text for text in written if text.strip()]


def _encoded(ids: list[int], targets: NDArray[np.bool_], untrained: int) -> Encoded:
    if len(targets):
        targets[0] = False
    return Encoded(np.array(ids, dtype=np.int32), targets, untrained)


def _common(left: list[int], right: list[int]) -> int:
    """The length of the common prefix."""
    for index, (mine, other) in enumerate(zip(left, right, strict=False)):
        if mine != other:
            return index
    return min(len(left), len(right))


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()
