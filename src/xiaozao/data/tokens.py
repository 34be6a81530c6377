"""Conversation -> token ids and loss mask, through the model's own chat template.

    ids      <bos> <|user|> hi <|end|> \\n <|assistant|> \\n  Hello  !  <|end|> \\n
    targets    .       .    .    .     .        .       .    1     1     1    .

`targets[i]` says that token i is to be predicted (from the tokens before it). Only what the assistant says is a target,
with the token that ends its turn; positions decide, never ids, so pad == eos changes nothing. Of a preference pair, and
of an answer with a verdict, only the turns after the shared ones are targets.

Where the answers lie is found by rendering prefixes: the turns before an answer with the generation prompt are what
the model sees when it is asked, so the answer begins where that text ends, and the sample's tokens up to there are
exactly the tokens of the prompt. An answer that the template renders differently once more turns follow (reasoning
that is cut from the history) is not trained in that place but in a sample of its own that ends with it (`encode_row`).
"""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xiaozao.data.encoder import Encoder, check, try_apart
from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.modelfiles import ChatFiles, read_chat_files
from xiaozao.data.namedtemplates import OWN, PLAIN, named_template
from xiaozao.data.rendering import ANSWER, QUESTION, Abilities, Rendering, abilities_of, alike
from xiaozao.data.sealing import Sealer
from xiaozao.data.templates import ChatTemplate
from xiaozao.errors import ArtefactError, DataError, Problem, UnsupportedModel

VERSION = 2  # counts changes of this file that change ids or masks
SHORT, KEPT = 64, 4096  # characters of a text whose ids are kept, and how many texts


Thinking = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Encoded:
    """One sample. ids: int32 [n]; targets: bool [n].

    untrained: the turns whose answers should be learned and carry no loss in this place (see above). unreasoned: how
    many turns have reasoning that is not in the sample. thinks: whether it was rendered with thinking turned on.
    """

    ids: NDArray[np.int32]
    targets: NDArray[np.bool_]
    untrained: tuple[int, ...] = ()
    unreasoned: int = 0
    thinks: bool = False


class ChatTokenizer:
    """A tokenizer with its chat template. Training and serving both use it, so their ids agree.

    folder             where it was read from
    has_own_template   False where the folder has none and another one stands in
    template           the source of the one that is used
    turn_end           the text of the control token that it writes after an answer; None where it writes none
    vocab_size         rows of the embedding: every id is below it
    eos_ids            ids that end an answer
    abilities          what the template can express
    fingerprint        changes with anything that could change an id
    """

    def __init__(self, files: ChatFiles, template: str = OWN) -> None:
        path = files.folder / "tokenizer.json"
        check(path, files.tokenizer_json)
        try_apart(path, files.tokenizer_json)
        self._encoder = Encoder(path, files.tokenizer_json)
        _check_added(path, self._encoder, files.added)
        self._tokenizer = self._encoder.tokenizer
        self._files = files
        self.folder = files.folder
        self.has_own_template = files.template is not None
        self.template = source = self._chosen(files, template)
        self._template = ChatTemplate(source, files.tokens)
        self.abilities: Abilities = abilities_of(self._template)
        self._control = _control_tokens(self._tokenizer)
        self._short: dict[str, list[int]] = {}
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
    def from_folder(cls, folder: Path, template: str = OWN) -> "ChatTokenizer":
        """The tokenizer of a model folder, with a named template or its own.

        Raises NotFound, UnsupportedModel, ArtefactError, UsageError (a template that is not known).
        """
        return cls(read_chat_files(folder), template)

    def encode(self, conversation: Conversation, system: str | None = None, thinking: Thinking = "auto") -> Encoded:
        """A sample. `system` is the system text of conversations that have none.

        `thinking`: whether the model is asked to think before it answers; "auto" where the last answer has reasoning.
        Raises DataError(template_refused, template_place, template_stop, template_left_out, template_as_answer).
        """
        if conversation.text:
            return self._encode_text(conversation.text)
        turns = _with_system(conversation.turns, system)
        on = thinks(turns, thinking)
        chat = self._chat(turns if on else _unreasoned(turns), conversation.tools, on)
        added = len(chat.turns) - len(conversation.turns)  # a system text may stand before
        prompt, answer = chat.whole()
        if self._turn_end is None:
            answer = answer.rstrip()  # what the template writes after the answer is not to be learned; EOS follows here
        whole = self._whole(chat, prompt + answer)
        ids, answers = self._split_at_answers(chat, whole, prompt)
        targets = np.zeros(len(ids) + 1, dtype=np.bool_)
        untrained = []
        for index, place in answers.items():
            if index < conversation.shared + added or not chat.turns[index].learned:
                continue
            if place is None:
                untrained.append(index - added)
            else:
                targets[place] = True
        if self._turn_end is None and self._eos is not None and ids[-1] != self._eos:
            ids.append(self._eos)
            targets[len(ids) - 1] = chat.turns[-1].learned
        lost = chat.lost_reasoning if on else sum(bool(turn.reasoning) for turn in turns)
        targets[:1] = False
        return Encoded(np.array(ids, dtype=np.int32), targets[: len(ids)], tuple(untrained), lost, on)

    def encode_row(
        self, conversation: Conversation, system: str | None = None, thinking: Thinking = "auto"
    ) -> tuple[tuple[Encoded, ...], ...]:
        """The samples of a row: one, and one more for each answer that the template writes differently as the last.

        A sample is a single sequence, or the chosen and the rejected one of a preference pair.
        """
        chosen = self.encode(conversation, system, thinking)
        if conversation.rejected:
            other = replace(conversation, turns=conversation.rejected)
            return ((chosen, self.encode(other, system, thinking)),)
        samples = [(chosen,)]
        for index in chosen.untrained:
            turns = conversation.turns[: index + 1]
            alone = (*(replace(turn, learned=False) for turn in turns[:-1]), turns[-1])
            samples.append((self.encode(replace(conversation, turns=alone), system, thinking),))
        return tuple(samples)

    def encode_prompt(self, turns: Sequence[Turn], tools: str = "", thinking: bool = False) -> list[int]:
        """The ids that ask for the next answer: the turns and the generation prompt."""
        chat = self._chat(tuple(turns), tools, thinking)
        return self._ids(chat, chat.render(len(chat.turns), ask=True))

    def encode_plain(self, text: str) -> list[int]:
        """The ids of a text without a template or an end; BOS stands before them if the tokenizer has one.

        What looks like a control token in it is text.
        """
        holes: list[str] = []
        escaped = self._sealer.escape(text, False, holes)
        ids = self._plain(text) if not holes else self._sealer.encode(self._sealer.seal(escaped, holes))
        return ids if self._bos is None else [self._bos, *ids]

    def _chosen(self, files: ChatFiles, template: str) -> str:
        """The template's source. Raises UnsupportedModel where the vocabulary lacks its control tokens."""
        if template == OWN:
            return files.template or PLAIN
        source, needed = named_template(template)
        control = _control_tokens(self._tokenizer)
        missing = [token for token in needed if self._encoder.id_of(token) not in control]
        if missing:
            raise UnsupportedModel(
                "template_tokens", template=template, folder=files.folder, missing=", ".join(missing)
            )
        return source

    def _chat(self, turns: tuple[Turn, ...], tools: str, thinking: bool) -> Rendering:
        return Rendering(self._template, self.abilities, self._sealer, turns, tools, thinking)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of ids, without control tokens unless they are asked for."""
        return self._encoder.decode(ids, skip_special)

    def is_control(self, token: int) -> bool:
        """Whether an id is that of a control token."""
        return token in self._control

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary."""
        return self._encoder.id_of(token)

    def _encode_text(self, text: str) -> Encoded:
        """Encode plain text.

        All its tokens and the end are targets, except the first, which has no context to be predicted from.
        """
        ids = [*self.encode_plain(text), *([self._eos] if self._eos is not None else [])]
        targets = np.ones(len(ids), dtype=np.bool_)
        targets[:1] = False
        return Encoded(np.array(ids, dtype=np.int32), targets)

    def _ids(self, chat: Rendering, text: str) -> list[int]:
        """Ids of a rendering from its beginning, with exactly one BOS if the tokenizer or the template asks for it."""
        ids = self._part(chat, text)
        return [self._bos, *ids] if self._bos is not None and ids[:1] != [self._bos] else ids

    def _part(self, chat: Rendering, text: str) -> list[int]:
        """Ids of a rendering, or of a part of one that begins with a control token."""
        return self._sealer.encode(chat.sealed(text)) if chat.holes else self._plain(text)

    def _plain(self, text: str) -> list[int]:
        """The ids of a text as a list of its own. What the template writes before an answer is short, and kept."""
        if len(text) > SHORT:
            return self._encoder.encode(text)
        ids = self._short.get(text)
        if ids is None:
            if len(self._short) >= KEPT:
                self._short.clear()
            ids = self._short[text] = self._encoder.encode(text)
        return list(ids)

    def _whole(self, chat: Rendering, full: str) -> "_Whole":
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

    def _asked(self, chat: Rendering, whole: "_Whole", beginning: str) -> tuple[int, list[int]]:
        """(n, tail): the ids of a prefix of the sample's text are the first n ids of the sample and then the tail."""
        count = bisect_right(whole.marks, len(beginning), key=lambda mark: mark[1])
        if not count:
            return 0, self._ids(chat, beginning)
        return whole.places[count - 1], self._part(chat, beginning[whole.marks[count - 1][0] :])

    def _split_at_answers(
        self, chat: Rendering, whole: "_Whole", asked_last: str
    ) -> tuple[list[int], dict[int, slice | None]]:
        """The sample's ids, and per assistant turn the place of its answer (None if the template changes it later).

        Usually the prompt's ids are the beginning of the sample's ids. Where a token would reach across ("Assistant: "
        and "Hello" become "Assistant:", " Hello") the text is cut there for the last answer, because asked for it the
        model sees the prompt's own tokens. In an earlier turn, which is only history then, and where a cut would
        change the text (a prefix space), the crossing token stays whole and is a target.
        """
        ids, answers = whole.ids, dict[int, slice | None]()
        last = len(chat.turns) - 1
        for index, turn in enumerate(chat.turns[:-1]):
            if turn.role == "assistant":
                answers[index] = self._earlier(chat, whole, index)
        known, tail = self._asked(chat, whole, asked_last)
        asked = [*ids[:known], *tail]
        start = known + _common(ids[known : known + len(tail)], tail)
        if ids[: len(asked)] != asked:
            cut = [*asked, *self._sealer.encode_tail(chat.sealed(whole.text[len(asked_last) :]))]
            if self.decode(cut, skip_special=False) == self.decode(ids, skip_special=False):
                ids, start = cut, len(asked)
        answers[last] = slice(start, self._last_end(ids, start))
        return ids, answers

    def _earlier(self, chat: Rendering, whole: "_Whole", index: int) -> slice | None:
        """The place of an answer before the last one, or None where the template changes it once more turns follow.

        What the template writes only at the very end of a conversation, such as a last EOS, is no change.
        """
        prompt = chat.render(index, ask=True)
        if not whole.text.startswith(prompt):
            return None
        said = chat.render(index + 1, ask=False)
        shared = said[: alike(said, whole.text)]
        if self._sealer.without_control(said[len(shared) :]).strip():
            return None
        known, tail = self._asked(chat, whole, prompt)
        start = known + _common(whole.ids[known : known + len(tail)], tail)
        known, tail = self._asked(chat, whole, shared if self._turn_end is not None else shared.rstrip())
        end = known + _common(whole.ids[known : known + len(tail)], tail)
        if self._turn_end is not None and self._turn_end in whole.ids[start:end]:
            end = whole.ids.index(self._turn_end, start) + 1
        elif self._turn_end is not None:
            known, tail = self._asked(chat, whole, shared.rstrip())
            end = known + _common(whole.ids[known : known + len(tail)], tail)
        return slice(start, max(start, end))

    def _last_end(self, ids: list[int], start: int) -> int:
        """The index after the token that ends the last answer; after the last token where the template writes none.

        A call of a tool may end with a control token of its own. Raises DataError for an answer that ends with none,
        because the model would not learn to stop.
        """
        if self._turn_end is None:
            return len(ids)
        with suppress(ValueError):
            return ids.index(self._turn_end, start) + 1
        ends = [place for place in range(start, len(ids)) if ids[place] in self._control]
        if not ends:
            end = self.decode(ids[start:], skip_special=False)[-60:]
            raise DataError("template_stop", wanted=self.turn_end, found=end)
        return ends[-1] + 1

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
        chat = self._chat((Turn("user", QUESTION), Turn("assistant", ANSWER)), "", False)
        try:
            prompt, answer = chat.whole()
        except DataError as error:
            if error.key in ("template_place", "template_left_out", "template_as_answer"):
                raise UnsupportedModel("template_prefix", folder=self._files.folder) from None
            raise UnsupportedModel("template_probe", detail=error.params["detail"]) from None
        full = prompt + answer
        if ANSWER not in answer or QUESTION not in prompt:
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


def _check_added(path: Path, encoder: Encoder, added: Mapping[str, int]) -> None:
    """Raise ArtefactError where a token of tokenizer_config.json has another id than it says."""
    for token, said in added.items():
        given = encoder.id_of(token)
        if given != said:
            problem = Problem("tokenizer_added", {"token": token, "said": said, "found": given})
            raise ArtefactError("artefact_damaged", [problem], path=path)


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


def thinks(turns: Sequence[Turn], thinking: Thinking) -> bool:
    """Whether a conversation is rendered with thinking turned on."""
    return thinking == "on" or (thinking == "auto" and bool(turns and turns[-1].reasoning.strip()))


def _unreasoned(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    return tuple(replace(turn, reasoning="") if turn.reasoning else turn for turn in turns)


def _common(left: list[int], right: list[int]) -> int:
    """The length of the common prefix."""
    for index, (mine, other) in enumerate(zip(left, right, strict=False)):
        if mine != other:
            return index
    return min(len(left), len(right))


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()
