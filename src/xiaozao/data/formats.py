"""Rows -> conversations: messages, ShareGPT, Alpaca, prompt/completion, text, preferences, recognised by content.

How each kind of row is treated:

    role in capitals, `human`, `gpt`, `developer`, `observation` ...   accepted as user, assistant, system, tool
    content as a list of text parts                                    joined
    two users (or assistants) in a row, system in the middle           accepted; the chat template may refuse it
    empty system text                                                  left out
    `tools` beside the messages                                        put into the system text
    calls of tools                                                     an assistant turn with the calls as JSON
    trailing turns after the last assistant turn                       cut off, nothing is learned from them
    no assistant turn, or one that is empty                            dropped: no_answer, empty_answer
    no turns, only system, assistant first, unknown role,
    user content that is empty or no text                              a Problem
    preference pairs (chosen, rejected), answers with a verdict        see preferences.py; only these are learned
    a pair of equal answers                                            dropped: same_answers
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xiaozao.data.badfield import BadField
from xiaozao.data.calls import TOOLS, read_tools
from xiaozao.data.fieldanswers import as_text, first_of, rounds_of, told_of, with_plain_texts
from xiaozao.data.fieldnames import (
    ANSWERS,
    CLASSIFIED,
    CONTEXTS,
    DIALOGUES,
    LABELS,
    PERHAPS,
    QUESTIONS,
    SYSTEMS,
    TEXTS,
    THOUGHTS,
)
from xiaozao.data.fieldtext import is_prose, listed_text, plain_name
from xiaozao.data.preferences import SIDES, has_verdict, is_pair, sides, verdict, with_plain_sides
from xiaozao.data.rounds import is_round, turns_of
from xiaozao.data.rows import Row
from xiaozao.data.strictjson import kind_of
from xiaozao.data.turns import Turn, check_count, parse_turn, with_thoughts_joined
from xiaozao.errors import Problem

__all__ = ["Conversation", "Dropped", "Turn", "Verdict", "format_of", "parse_row"]

LISTS = (*DIALOGUES, *SIDES, "history", "prompt", "completion")  # may be lists, or such lists as text
LABEL_LENGTH = 200
DIALOGUE = "dialogue"  # a list of turns without a turn that would tell its style
PAIR, VERDICT = "preference", "kto"
BESIDE = {*SYSTEMS, "history", "mask_history", "parallel_tool_calls", *TOOLS}  # fields that are read beside the turns
READ = {*SIDES, *DIALOGUES, *QUESTIONS, *BESIDE, *CONTEXTS}  # what a pair may consist of


@dataclass(frozen=True)
class Conversation:
    """The contents of one sample: turns, or `text` for plain text.

    labels: the row's other short fields, for stratified sampling. rows: how many rows of the file it was made from: 1,
    except in chat logs. In a preference pair, `turns` is the chosen conversation and `rejected` the other one.
    shared: how many of the first turns are context without loss; in a pair, those that both sides have in common.
    liked: whether the answer is a good one, for data with verdicts. tools: JSON text of the tools that may be called.
    ignored: the names of fields that hold text and are used nowhere. told: notes on the row: a key and a field.
    """

    turns: tuple[Turn, ...]
    line: int
    text: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    rows: int = 1
    rejected: tuple[Turn, ...] = ()
    shared: int = 0
    liked: bool | None = None
    tools: str = ""
    ignored: tuple[str, ...] = ()
    told: tuple[tuple[str, str], ...] = ()

    def question(self) -> str:
        """The conversation without its answers. Conversations with equal questions are exact duplicates."""
        asked = [f"{turn.role}\n{turn.content.strip()}" for turn in self.turns if turn.role != "assistant"]
        return "\0".join(asked) or self.text.strip()


@dataclass(frozen=True)
class Dropped:
    """A valid row that is not trained on: it has nothing to learn, or was not sampled."""

    reason: str
    line: int
    rows: int = 1


Verdict = Conversation | Dropped | Problem


class _NothingToLearn(Exception):
    pass


def format_of(values: Mapping[str, Any]) -> str:
    """The format of a row: a key of FORMATS, DIALOGUE if its list of turns leaves it open, or "" if no format fits."""
    fields = _fields(values)
    if is_pair(fields):
        return PAIR
    plain = _plain_format(fields)
    return VERDICT if plain not in ("", DIALOGUE, "text") and has_verdict(fields) else plain


def _plain_format(fields: Mapping[str, Any]) -> str:
    for name in DIALOGUES:
        if isinstance(fields.get(name), list):
            return _style(fields[name])
        if isinstance(fields.get(name), str) and fields[name].lstrip().startswith("[{"):
            return DIALOGUE  # a list as text that cannot be read
    if "instruction" in fields and "output" in fields:
        return "alpaca"
    if _named(fields, QUESTIONS) and _named(fields, ANSWERS):
        return "prompt"
    return "text" if _named(fields, TEXTS) else ""


def parse_row(row: Row, format: str) -> Verdict:
    """A row as a conversation, or the reason why it is none. `format` is a key of FORMATS, or DIALOGUE."""
    fields = _fields(row.values)
    try:
        told = told_of(row.values, fields)
        if format in JUDGED:
            return replace(JUDGED[format](row, fields), told=told)
        used, turns, text = FORMATS[format](fields)
        turns = _checked(_masked(turns, fields)) if not text else ()
        tools = _tools(fields) if not text else ""
    except BadField as bad:
        return Problem(bad.key, {"line": row.line, **bad.params})
    except _NothingToLearn as nothing:
        return Dropped(str(nothing), row.line)
    labels = _labels(row.values, used)
    return Conversation(turns, row.line, text, labels, tools=tools, ignored=_ignored(row, used), told=told)


def _pair_of(row: Row, fields: Mapping[str, Any]) -> Conversation:
    """A preference pair as one conversation: both sides, and the number of turns they share."""
    conversations: list[tuple[Turn, ...]] = []
    for side in sides(fields, DIALOGUES, QUESTIONS):
        _, turns, _ = FORMATS[_plain_format(side)](side)
        conversations.append(_checked(turns))
    chosen, rejected = conversations
    if chosen == rejected:
        raise _NothingToLearn("same_answers")
    alike = [one == other for one, other in zip(chosen, rejected, strict=False)]
    shared = min(alike.index(False) if False in alike else len(alike), len(chosen) - 1, len(rejected) - 1)
    while shared and not chosen[shared].role == rejected[shared].role == "assistant":
        shared -= 1
    if not shared:
        raise BadField("row_pair_question", "chosen")
    return Conversation(
        chosen, row.line, "", _labels(row.values, READ), rejected=rejected, shared=shared, tools=_tools(fields),
        ignored=_ignored(row, READ),
    )  # fmt: skip


def _verdict_of(row: Row, fields: Mapping[str, Any]) -> Conversation:
    """A conversation with a verdict on its last answer."""
    liked, rest = verdict(fields)
    format = _plain_format(rest)
    if format not in FORMATS or format == "text":
        raise BadField("row_no_field", DIALOGUES[0], fields=", ".join(fields))
    used, turns_of_it, _ = FORMATS[format](rest)
    checked = _checked(turns_of_it)
    return Conversation(
        checked, row.line, "", _labels(row.values, used), shared=len(checked) - 1, liked=liked, tools=_tools(rest),
        ignored=_ignored(row, used | READ),
    )  # fmt: skip


def _style(turns: list[Any]) -> str:
    for turn in turns:
        if is_round(turn):
            return "messages"
        if isinstance(turn, dict):
            names = {name.lower() for name in turn}
            if names & {"role", "content"}:
                return "messages"
            if names & {"from", "value"}:
                return "sharegpt"
    return DIALOGUE


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row with normalised column names, and with lists that stand as text: `Question ` becomes `question`."""
    fields = with_plain_sides({plain_name(name): value for name, value in values.items()})
    for name in LISTS:
        if name in fields:
            fields[name] = listed_text(fields[name])
    return with_plain_texts(fields)


def _named(fields: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((name for name in names if name in fields), "")


Parsed = tuple[set[str], tuple[Turn, ...], str]


def _dialogue(fields: Mapping[str, Any], role: str, content: str) -> Parsed:
    name = next((name for name in DIALOGUES if name in fields), "")
    turns = fields.get(name)
    if isinstance(turns, str) and turns.lstrip().startswith("["):
        raise BadField("row_turns_text", name)
    if not isinstance(turns, list):
        raise BadField("row_no_field", DIALOGUES[0], fields=", ".join(fields))
    if not turns:
        raise BadField("row_no_turns", name)
    turns = [turn for element in turns for turn in turns_of(element)]
    check_count(turns, name)
    parsed = [parse_turn(turn, f"{name}[{index}]", role, content) for index, turn in enumerate(turns)]
    return {name, *BESIDE} - {"history"}, (*_system(fields), *parsed), ""


def _messages(fields: Mapping[str, Any]) -> Parsed:
    return _dialogue(fields, "role", "content")


def _sharegpt(fields: Mapping[str, Any]) -> Parsed:
    return _dialogue(fields, "from", "value")


def _alpaca(fields: Mapping[str, Any]) -> Parsed:
    return _asked(fields, "instruction", "output")


def _prompt(fields: Mapping[str, Any]) -> Parsed:
    question, answer = _named(fields, QUESTIONS), _named(fields, ANSWERS)
    for name, wanted in ((question, QUESTIONS[0]), (answer, ANSWERS[0])):
        if not name:
            raise BadField("row_no_field", wanted, fields=", ".join(fields))
    return _asked(fields, question, answer)


def _asked(fields: Mapping[str, Any], question: str, answer: str) -> Parsed:
    """A question with what belongs to it, and its answer."""
    used, context = _context(fields, {question, answer})
    thought = "" if question in THOUGHTS else reasoning_of(fields)
    said: list[Turn] = []
    for text, reply in rounds_of(fields, question, answer):
        asked, answered = _pair({**fields, question: text, answer: reply}, question, answer, "" if said else context)
        said += [Turn("user", asked), Turn("assistant", answered, "" if said else thought)]
    turns = (*_system(fields), *_history(fields), *said)
    return {question, answer, *used, *BESIDE, *THOUGHTS} - _others(fields), turns, ""


def _context(fields: Mapping[str, Any], taken: set[str]) -> tuple[set[str], str]:
    """The text that a question is about: the names of its fields, and what they hold. Raises BadField."""
    used, texts = set(), []
    for name in (*CONTEXTS, *PERHAPS):
        value = fields.get(name)
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            value = "\n".join(value)
        if name == "input" and value is not None and name not in taken and not isinstance(value, str):
            raise BadField("row_not_text", name, found=kind_of(value))
        if name in taken or not isinstance(value, str) or (name in PERHAPS and not is_prose(value)):
            continue
        used.add(name)
        texts += [value] if value.strip() else []
    return used, "\n\n".join(texts)


def _classified(fields: Mapping[str, Any]) -> Parsed:
    """A text and its class: the class is the answer."""
    text, label = _named(fields, CLASSIFIED), _named(fields, LABELS)
    for name, wanted in ((text, CLASSIFIED[0]), (label, "label")):
        if not name:
            raise BadField("row_no_field", wanted, fields=", ".join(fields))
    value = fields[label]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = ", ".join(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and not isinstance(value, str | int | float):
        raise BadField("row_not_text", label, found=kind_of(value))
    asked, _ = _pair({"text": fields[text], "": ""}, "text", "")
    answer = "" if value is None else str(value).strip()
    return (
        {text, label, *BESIDE} - _others(fields),
        (*_system(fields), Turn("user", asked), Turn("assistant", answer)),
        "",
    )


def _text(fields: Mapping[str, Any]) -> Parsed:
    name = _named(fields, TEXTS)
    if not name:
        raise BadField("row_no_field", TEXTS[0], fields=", ".join(fields))
    value = fields[name]
    if not isinstance(value, str):
        raise BadField("row_not_text", name, found=kind_of(value))
    if not value.strip():
        raise _NothingToLearn("empty_text")
    return {name}, (), value


FORMATS: dict[str, Callable[[Mapping[str, Any]], Parsed]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    DIALOGUE: _messages,
    "alpaca": _alpaca,
    "prompt": _prompt,
    "text": _text,
    "classification": _classified,
}
JUDGED: dict[str, Callable[[Row, Mapping[str, Any]], Conversation]] = {PAIR: _pair_of, VERDICT: _verdict_of}


def _pair(fields: Mapping[str, Any], question: str, answer: str, context: str = "") -> tuple[str, str]:
    texts = []
    for name in (question, answer):
        value = as_text(first_of(fields.get(name)) if name == answer else fields.get(name))
        if value is None and name in fields:
            value = ""
        if not isinstance(value, str):
            raise BadField("row_not_text", name, found=kind_of(value) if name in fields else "nothing")
        texts.append(value)
    asked = [texts[0]] if texts[0].strip() else []
    if not asked and not context:
        raise BadField("row_empty", question)
    joint = "\n" if fields.get("input") == context else "\n\n"
    return joint.join([*asked, *([context] if context else [])]), texts[1]


def _system(fields: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The system text beside the turns, with the tools where they are described in words."""
    system = next((fields[name] for name in SYSTEMS if fields.get(name)), fields.get("system"))
    if system is not None and not isinstance(system, str):
        raise BadField("row_not_text", "system", found=kind_of(system))
    worded = _worded_tools(fields)
    text = "\n\n".join(part for part in (system, f"Tools:\n{worded}" if worded else "") if part and part.strip())
    return (Turn("system", text),) if text else ()


def reasoning_of(fields: Mapping[str, Any]) -> str:
    """The reasoning that stands in a column of its own beside a question and its answer; "" without one."""
    return next((fields[name] for name in THOUGHTS if isinstance(fields.get(name), str) and fields[name].strip()), "")


def _worded_tools(fields: Mapping[str, Any]) -> str:
    """The tools where they are a text that is no JSON; "" otherwise."""
    tools = next((fields[name] for name in TOOLS if fields.get(name)), None)
    return tools if isinstance(tools, str) and tools.strip() and tools.lstrip()[0] not in "[{" else ""


def _tools(fields: Mapping[str, Any]) -> str:
    """The tools of a row as JSON text; "" where there are none or they are described in words."""
    return "" if _worded_tools(fields) else read_tools(fields)


def _masked(turns: tuple[Turn, ...], fields: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The turns with `mask_history` applied: only the last answer is learned."""
    weight = fields.get("weight")  # of the whole row; another number is a column of the user's
    if weight is not None and not isinstance(weight, str | list | dict) and weight == 0:
        raise BadField("row_all_masked", "weight")
    if fields.get("train") is False:
        raise BadField("row_all_masked", "train")
    asked = fields.get("mask_history")
    if asked is not None and not isinstance(asked, bool) and (isinstance(asked, str | list) or asked not in (0, 1)):
        raise BadField("row_weight", "mask_history", found=repr(asked)[:60], allowed="true, false")
    if not asked:
        return turns
    last = max((index for index, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    return tuple(replace(turn, learned=turn.learned and index == last) for index, turn in enumerate(turns))


def _history(fields: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The earlier rounds: [[question, answer], ...] or turns. A number or a true is a field of the user's own."""
    turns: list[Turn] = []
    history = fields.get("history") or []
    if "history" in _others(fields):
        return ()
    if not isinstance(history, list):
        raise BadField("row_history", "history")
    check_count(history, "history")
    for index, pair in enumerate(history):
        if isinstance(pair, dict):
            style = ("from", "value") if "from" in pair else ("role", "content")
            turns.append(parse_turn(pair, f"history[{index}]", *style))
            continue
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise BadField("row_history", f"history[{index}]")
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1])]
    return tuple(turns)


def _others(fields: Mapping[str, Any]) -> set[str]:
    """The fields that have a known name, but hold something else: `history` as a number is no earlier round."""
    return {"history"} if isinstance(fields.get("history"), bool | int | float) else set()


def _checked(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns that can be learned from. Two system texts at the start (beside and inside the turns) become one."""
    turns = with_thoughts_joined(turns)
    turns = tuple(turn for turn in turns if turn.role != "system" or turn.content.strip())
    if len(turns) > 1 and turns[0].role == turns[1].role == "system":
        turns = (Turn("system", f"{turns[1].content}\n\n{turns[0].content}"), *turns[2:])
    spoken = [turn.role for turn in turns if turn.role != "system"]
    if not spoken:
        raise BadField("row_only_system", "role")
    if spoken[0] == "assistant":
        raise BadField("row_assistant_first", "role")
    if "assistant" not in spoken:
        raise _NothingToLearn("no_answer")
    end = max(index for index, turn in enumerate(turns) if turn.role == "assistant") + 1
    turns = turns[:end]
    if any(turn.role == "assistant" and not turn.says for turn in turns):
        raise _NothingToLearn("empty_answer")
    if not any(turn.learned for turn in turns if turn.role == "assistant"):
        raise BadField("row_all_masked", "weight")
    return turns


def _labels(values: Mapping[str, Any], used: set[str]) -> dict[str, str]:
    return {
        name: str(value)
        for name, value in values.items()
        if plain_name(name) not in used and isinstance(value, str | int) and len(str(value)) <= LABEL_LENGTH
    }


def _ignored(row: Row, used: set[str]) -> tuple[str, ...]:
    return tuple(name for name, value in row.values.items() if plain_name(name) not in used and is_prose(value))
