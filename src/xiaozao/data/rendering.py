"""What a chat template can express, and one conversation rendered through it.

Templates differ in what they know: tools, calls of tools, the reasoning before an answer, a switch for thinking. Each
is tried once with a small conversation (`abilities_of`), and a conversation is handed over in the form that was
understood:

    tools        the template's `tools`; without a place for them, JSON in the system text
    calls        `tool_calls` with arguments as an object or as text; else JSON in the content
    reasoning    `reasoning_content`, `thinking` or `reasoning` of the message, or `<think>` in its content; where the
                 template knows none and opens no thinking of its own, the reasoning is left out and counted
    thinking     the variable that turns it on or off

A sample is what the model is given when it is asked, and then the answer: `whole` returns both parts of the text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xiaozao.data.calls import Call
from xiaozao.data.sealing import Sealer
from xiaozao.data.templates import ChatTemplate, length_of
from xiaozao.data.turns import Turn
from xiaozao.errors import DataError

QUESTION, ANSWER = "zao probe question", "zao probe answer"
TRACE, TOOL, KEY, RESULT = "zao probe trace", "zao_probe_tool", "zao_probe_key", "zao probe result"
SHORTEST = 3  # characters of what stands before an answer, to be told apart
SWITCHES = ("enable_thinking", "thinking")
FIELDS = ("reasoning_content", "thinking", "reasoning")
OPEN = re.compile(r"<([A-Za-z_]*think[A-Za-z_]*)>\s*\Z")  # a prompt that opens the reasoning
BLOCK = re.compile(r"\s*<([A-Za-z_]*think[A-Za-z_]*)>(?:.*</\1>)?\s*\Z", re.DOTALL)  # opened, or opened and shut again
PROBE_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL, "description": "A probe.",
            "parameters": {"type": "object", "properties": {KEY: {"type": "string", "description": "A key."}}},
        },
    }
]  # fmt: skip


@dataclass(frozen=True)
class Abilities:
    """What a template can express.

    tools, calls: whether it has a place for them. texts: whether it wants the arguments of a call as text.
    reasoning: the field of a message that it reads, "inline" for `<think>` within the content, or "".
    switch: the variable that turns thinking on or off, or "".
    """

    tools: bool = False
    calls: bool = False
    texts: bool = False
    reasoning: str = ""
    switch: str = ""


def abilities_of(template: ChatTemplate) -> Abilities:
    """Try what the template can express. A form that it refuses, or that leaves no trace in its text, is not known."""
    switch = next((name for name in SWITCHES if name in template.variables), "")
    on = {switch: True} if switch else None

    def writes(messages: Sequence[Mapping[str, Any]], wanted: str, tools: Any = None, ask: bool = False) -> bool:
        try:
            return wanted in template.render(messages, ask, tools, on)
        except DataError:
            return False

    question = {"role": "user", "content": QUESTION}
    tools = writes([question], TOOL, PROBE_TOOLS, ask=True)
    forms = [values for values in ({KEY: "v"}, json.dumps({KEY: "v"}))]
    known = [
        writes([question, *_called(form)], KEY, PROBE_TOOLS if tools else None)
        and writes([question, *_called(form)], TOOL, None)
        for form in forms
    ]
    answer = {"role": "assistant", "content": ANSWER}
    reasoning = next((name for name in FIELDS if writes([question, {**answer, name: TRACE}], TRACE)), "")
    inline = {"role": "assistant", "content": f"<think>\n{TRACE}\n</think>\n\n{ANSWER}"}
    if not reasoning and "think" in template.source and writes([question, inline], TRACE):
        reasoning = "inline"
    return Abilities(tools, any(known), not known[0] and known[1], reasoning, switch)


def _called(arguments: Any) -> list[dict[str, Any]]:
    """A call, its result and an answer. The id has the nine letters and digits that Mistral's templates ask for."""
    call = {"id": "call00000", "type": "function", "function": {"name": TOOL, "arguments": arguments}}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": TOOL, "tool_call_id": "call00000", "content": RESULT},
        {"role": "assistant", "content": ANSWER},
    ]


class Rendering:
    """Turns ready for rendering, with placeholders for control tokens that occur in what people wrote.

    lost_reasoning: how many turns have reasoning that the template has no place for.
    """

    def __init__(
        self, template: ChatTemplate, abilities: Abilities, sealer: Sealer, turns: tuple[Turn, ...],
        tools: str = "", thinking: bool = False,
    ) -> None:  # fmt: skip
        self.holes: list[str] = []
        self._template, self._abilities, self._sealer = template, abilities, sealer
        self._switches = {abilities.switch: thinking} if abilities.switch else None
        described = json.loads(tools) if tools else None
        if described and not abilities.tools:
            turns, described = _with_tools(turns, described), None
        self.turns = turns
        self._tools = self._escaped(described)
        self.lost_reasoning = 0 if abilities.reasoning else sum(bool(turn.reasoning.strip()) for turn in turns)
        self._messages = self._written(turns)
        self._size = length_of(self._messages) + length_of(self._tools)

    def render(self, count: int, ask: bool) -> str:
        """The first `count` turns, with the generation prompt if asked. Placeholders are still in it."""
        return self._template.render(self._messages[:count], ask, self._tools, self._switches, self._size)

    def whole(self) -> tuple[str, str]:
        """The prompt of the last answer, and the answer with all that the template writes after it.

        Usually the rendering of all turns begins with the prompt. Some templates write the prompt differently once the
        answer follows: the system text only before the last question, or a block of thinking only when they are asked.
        Then the answer is taken from the rendering of all turns and put behind the prompt, because the prompt is what
        the model will see. Raises DataError where the answer's place cannot be found.
        """
        last = len(self.turns) - 1
        prompt, full = self.render(last, ask=True), self.render(last + 1, ask=False)
        self._check_all_is_there(prompt)
        trace = self.turns[last].reasoning.strip()
        opened = OPEN.search(prompt)
        if full.startswith(prompt) and not (opened and trace and trace not in self._plain(full[len(prompt) :])):
            return prompt, full[len(prompt) :]
        answer = self._answer_of(last, prompt, full)
        if opened:
            self.lost_reasoning -= bool(trace) and not self._abilities.reasoning
            thought = self._escaped(trace, True) if trace else ""
            answer = f"{thought}\n</{opened[1]}>\n\n{answer.lstrip()}"
        return prompt, answer

    def _check_all_is_there(self, prompt: str) -> None:
        """Raise DataError for a turn that the template leaves out of the prompt, or writes as the assistant's.

        Only what people and tools say counts: a template may write an earlier answer otherwise than it was said. A text
        may be trimmed, and written as JSON.
        """
        asked = self._messages[-2]["content"].strip() if len(self._messages) > 1 else ""
        scaffold = prompt.rstrip()[prompt.rstrip().rfind(asked) + len(asked) :] if asked else ""
        for message in self._messages[:-1]:
            if message["role"] == "assistant":
                continue
            said = message["content"].strip()
            if said and said not in prompt and json.dumps(said, ensure_ascii=False)[1:-1] not in prompt:
                raise DataError("template_left_out", role=message["role"], text=self._plain(said)[:60])
            before = prompt[: prompt.rfind(said)].rstrip()
            if said and message["role"] == "tool" and len(scaffold) > SHORTEST and before.endswith(scaffold):
                raise DataError("template_as_answer", role=message["role"], text=self._plain(said)[:60])

    def sealed(self, text: str) -> str:
        """The text with its placeholders filled, for the tokenizer."""
        return self._sealer.seal(text, self.holes)

    def _plain(self, text: str) -> str:
        return self._sealer.fill(text, self.holes)

    def _answer_of(self, last: int, prompt: str, full: str) -> str:
        """The last answer in a rendering that does not begin with the prompt."""
        marked = [*self._messages[:last], {"role": "assistant", "content": ANSWER}]
        rendered = self._template.render(marked, False, self._tools, self._switches)
        before = rendered[: rendered.rfind(ANSWER)] if ANSWER in rendered else ""
        before = before[: alike(before, full)]
        bare, bare_prompt = before.rstrip(), prompt.rstrip()
        if before and prompt.startswith(bare) and BLOCK.fullmatch(prompt[len(bare) :]):
            return full[len(before) :]
        asked = self._messages[last - 1]["content"].strip()
        place = bare_prompt.rfind(asked) if asked else -1
        scaffold = bare_prompt[place + len(asked) :] if place >= 0 else bare_prompt
        if not bare.endswith(asked + scaffold if place >= 0 else scaffold):
            raise DataError("template_place", prompt=_end_of(prompt), found=_end_of(before or full))
        lead, known = before[len(bare) :], prompt[len(bare_prompt) :]
        return (lead[len(known) :] if lead.startswith(known) else "") + full[len(before) :]

    def _written(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        """The messages as this template understands them. Calls without an id get one, and results theirs."""
        messages, ids, count = [], list[str](), 0
        for turn in turns:
            if turn.role != "assistant":
                message = {"role": turn.role, "content": self._escaped(turn.content)}
                if turn.role == "tool":
                    identity = turn.call_id or (ids.pop(0) if ids else "")
                    message |= {"tool_call_id": identity} if identity else {}
                    message |= {"name": self._escaped(turn.name)} if turn.name else {}
                messages.append(message)
                continue
            message = self._answer(turn)
            if turn.calls and self._abilities.calls:
                named = [call.id or f"call{count + index:05d}" for index, call in enumerate(turn.calls)]
                ids, count = list(named), count + len(named)
                message["tool_calls"] = [
                    self._call(call, identity) for call, identity in zip(turn.calls, named, strict=True)
                ]
            messages.append(message)
        return messages

    def _answer(self, turn: Turn) -> dict[str, Any]:
        content = turn.content if self._abilities.calls else turn.spoken
        message: dict[str, Any] = {"role": "assistant", "content": self._escaped(content, True)}
        if turn.reasoning and self._abilities.reasoning == "inline":
            text = f"<think>\n{turn.reasoning.strip()}\n</think>\n\n{content}"
            message["content"] = self._escaped(text, True)
        elif turn.reasoning and self._abilities.reasoning:
            message[self._abilities.reasoning] = self._escaped(turn.reasoning, True)
        return message

    def _call(self, call: Call, identity: str) -> dict[str, Any]:
        values = call.arguments if self._abilities.texts else call.values
        function = {"name": self._escaped(call.name, True), "arguments": self._escaped(values, True)}
        return {"id": identity, "type": "function", "function": function}

    def _escaped(self, value: Any, from_assistant: bool = False) -> Any:
        """A value with placeholders for control tokens in all its texts."""
        if isinstance(value, str):
            return self._sealer.escape(value, from_assistant, self.holes)
        if isinstance(value, dict):
            return {
                self._escaped(key, from_assistant): self._escaped(inner, from_assistant) for key, inner in value.items()
            }
        return [self._escaped(inner, from_assistant) for inner in value] if isinstance(value, list) else value


def _with_tools(turns: tuple[Turn, ...], tools: Any) -> tuple[Turn, ...]:
    """The turns with the tools in the system text, for templates that have no place for them."""
    text = f"Tools:\n{json.dumps(tools, ensure_ascii=False)}"
    if turns and turns[0].role == "system":
        return Turn("system", f"{turns[0].content}\n\n{text}"), *turns[1:]
    return Turn("system", text), *turns


def alike(left: str, right: str) -> int:
    """The length of the common beginning of two texts."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[low:middle] == right[low:middle] else (low, middle - 1)
    return low


def _end_of(text: str) -> str:
    return text[-60:]
