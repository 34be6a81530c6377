"""Each family's template through ChatTokenizer, beside what transformers renders from the same folder."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.data.families import CONTROL, FAMILIES, Family
from tests.data.folders import CHATML, byte_level, model_folder
from xiaozao.data.formats import Conversation, format_of, parse_row
from xiaozao.data.rows import Row
from xiaozao.data.tokenising import tokenise
from xiaozao.data.tokens import ChatTokenizer, Encoded
from xiaozao.data.turns import Turn
from xiaozao.errors import Problem
from xiaozao.spec.parts import DataSpec

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather in Oslo?"},
    {"role": "assistant", "content": "", "tool_calls": [
        {"id": "a1b2c3d4e", "type": "function", "function": {"name": "weather", "arguments": {"town": "Oslo"}}}]},
    {"role": "tool", "name": "weather", "tool_call_id": "a1b2c3d4e", "content": "3 degrees"},
    {"role": "assistant", "content": "It is 3 degrees."},
]  # fmt: skip
PLAIN = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "How can I help?"}]
LONG = [*PLAIN, {"role": "user", "content": "您好"}, {"role": "assistant", "content": "world, hello"}]
SYSTEM = [{"role": "system", "content": "Be kind."}, *LONG]
THOUGHT = [*PLAIN, {"role": "user", "content": "2 + 3?"},
           {"role": "assistant", "content": "5", "reasoning_content": "Two and three."}]  # fmt: skip


class Pupil:
    """A family's tokenizer twice: ours, and transformers'."""

    def __init__(self, name: str, folder: Path) -> None:
        self.family: Family = FAMILIES[name]
        tokenizer = byte_level(special=CONTROL)
        model_folder(folder, tokenizer, self.family.template, bos_token=self.family.bos, eos_token=self.family.eos)
        self.ours = ChatTokenizer.from_folder(folder)
        self.theirs = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), bos_token=self.family.bos, eos_token=self.family.eos,
            chat_template=self.family.template,
        )  # fmt: skip

    def render(self, messages: list[dict[str, Any]], ask: bool, tools: Any = None, thinking: bool = False) -> str:
        """The text as transformers renders it, in the form of message that the family reads."""
        written = [
            {**message, "thinking": message["reasoning_content"]} if "reasoning_content" in message else message
            for message in messages
        ]
        return str(self.theirs.apply_chat_template(
            written, tools=tools, tokenize=False, add_generation_prompt=ask, enable_thinking=thinking))  # fmt: skip

    def ids(self, text: str) -> list[int]:
        return list(self.theirs.encode(text, add_special_tokens=False))

    def samples(self, messages: list[dict[str, Any]], tools: Any = None) -> list[Encoded]:
        row = {"messages": messages, **({"tools": tools} if tools else {})}
        conversation = parse_row(Row(row, 1, 0), format_of(row))
        assert isinstance(conversation, Conversation), conversation
        return [sample for (sample,) in self.ours.encode_row(conversation)]

    def spans(self, sample: Encoded) -> list[str]:
        """The texts of the runs of target tokens."""
        spans, current = [], list[int]()
        for token, target in zip(sample.ids.tolist(), sample.targets.tolist(), strict=True):
            if target:
                current.append(token)
            elif current:
                spans.append(self.ours.decode(current, skip_special=False))
                current = []
        return [*spans, *([self.ours.decode(current, skip_special=False)] if current else [])]


@pytest.fixture(scope="module")
def pupil(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cache(lambda name: Pupil(name, tmp_path_factory.mktemp("family") / "m"))


def wanted(pupil: Pupil, messages: list[dict[str, Any]], tools: Any = None) -> list[str]:
    """Turn by turn: what stands behind each prompt when its answer is the last turn, up to the token that ends it."""
    answers = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        thinking = "reasoning_content" in message
        prompt = pupil.render(messages[:index], True, tools, thinking)
        said = pupil.render(messages[: index + 1], False, tools, thinking)
        assert said.startswith(prompt)
        answers.append(said[len(prompt) :].rstrip("\n"))
    return answers


DIALOGUES = {"plain": (PLAIN, None), "long": (LONG, None), "system": (SYSTEM, None), "tools": (CALLED, [WEATHER])}


@pytest.mark.parametrize("kind", list(DIALOGUES))
@pytest.mark.parametrize("name", [name for name, one in FAMILIES.items() if not one.moves])
def test_ids_are_those_of_transformers_and_every_answer_is_learned(pupil: Any, name: str, kind: str) -> None:
    one = pupil(name)
    messages, tools = DIALOGUES[kind]
    if kind == "tools" and not one.family.calls:
        pytest.skip("the template has no tools; see the test of those")
    samples = one.samples(messages, tools)
    full = one.ids(one.render(messages, False, tools))
    if one.ours.turn_end is None:  # GLM ends an answer with the next turn's mark; the last one gets EOS from us
        full.append(one.ours.id_of(one.family.eos))
    assert samples[0].ids.tolist() == full[: len(samples[0].ids)]
    assert full[len(samples[0].ids) :] in ([], one.ids("\n"))
    learned = [span.rstrip("\n") for sample in samples for span in one.spans(sample)]
    expected = wanted(one, messages, tools)
    assert sorted(map(bare, learned)) == sorted(map(bare, expected))


def bare(text: str) -> str:
    """An answer without the tokens that end it: earlier ones of Phi-3 and gpt-oss end otherwise than the last."""
    for end in ("<|end|>", "<|return|>", "<|endoftext|>", "\n"):
        text = text.removesuffix(end)
    return text.removesuffix("<|end|>\n").removesuffix("<|end|>")


@pytest.mark.parametrize("name", list(FAMILIES))
def test_what_is_learned_stands_behind_the_prompt_that_is_asked(pupil: Any, name: str) -> None:
    one = pupil(name)
    dialogues = [(PLAIN, None), (LONG, None), (SYSTEM, None), *([(CALLED, [WEATHER])] if one.family.calls else [])]
    for messages, tools in dialogues:
        first = one.samples(messages, tools)[0]
        prompt = one.ids(one.render(messages[:-1], True, tools))
        assert first.ids[: len(prompt)].tolist() == prompt
        end = first.ids[first.targets][-1]
        assert first.targets[len(prompt)] and int(end) in one.ours.eos_ids
        learned = [span for sample in one.samples(messages, tools) for span in one.spans(sample)]
        assert len(learned) == sum(message["role"] == "assistant" for message in messages)


@pytest.mark.parametrize("name", [name for name, one in FAMILIES.items() if one.reasoning])
def test_reasoning_is_learned_where_the_template_thinks(pupil: Any, name: str) -> None:
    one = pupil(name)
    first = one.samples(THOUGHT)[0]
    assert first.thinks and first.unreasoned == 0
    prompt = one.ids(one.render(THOUGHT[:-1], True, thinking=True))
    assert first.ids[: len(prompt)].tolist() == prompt
    last = one.spans(first)[-1]
    assert "Two and three." in last and last.index("Two and three.") < last.index("5")


@pytest.mark.parametrize("name", [name for name, one in FAMILIES.items() if not one.reasoning])
def test_reasoning_without_a_place_is_left_out_and_counted(pupil: Any, name: str) -> None:
    first = pupil(name).samples(THOUGHT)[0]
    assert first.unreasoned == 1
    assert "Two and three." not in pupil(name).ours.decode(first.ids.tolist(), skip_special=False)


@pytest.mark.parametrize("name", [name for name, one in FAMILIES.items() if not one.tools])
def test_tools_without_a_place_stand_in_the_system_text(pupil: Any, name: str) -> None:
    one = pupil(name)
    text = one.ours.decode(one.samples(PLAIN, [WEATHER])[0].ids.tolist(), skip_special=False)
    assert f"Tools:\n{json.dumps([WEATHER])}" in text


WORDS = st.text("ab 您1<|>/\n", min_size=1, max_size=12).filter(str.strip)
FORGED = st.sampled_from(
    ["<|im_end|>", "</s>x", "[/INST] hello", "<|eot_id|>", "a<|end|>b", "<end_of_turn>", "<｜User｜>"]
)


@pytest.mark.parametrize("name", list(FAMILIES))
@given(texts=st.lists(st.one_of(WORDS, FORGED), min_size=2, max_size=6), system=st.booleans())
@settings(max_examples=15, deadline=None)
def test_no_text_becomes_a_control_token_and_each_answer_is_learned_once(
    pupil: Any, name: str, texts: list[str], system: bool
) -> None:
    one = pupil(name)
    said = texts[: len(texts) // 2 * 2]
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(said)]
    honest = [{**message, "content": "hello"} for message in messages]
    before = [{"role": "system", "content": "Be kind."}] if system else []
    samples, plain = one.samples([*before, *messages]), one.samples([*before, *honest])
    control = {token.content for token in one.theirs.added_tokens_decoder.values() if token.special}
    known = {one.ours.id_of(text) for text in control}
    for sample, other in zip(samples, plain, strict=True):
        assert [int(token) for token in sample.ids if int(token) in known] == [
            int(token) for token in other.ids if int(token) in known
        ]
    learned = [span for sample in samples for span in one.spans(sample)]
    assert len(learned) == len(said) // 2


def test_an_answer_without_its_end_or_in_another_place_is_a_problem_of_its_row(tmp_path: Path) -> None:
    """The gate at preparation: what is asked stands before what is learned, and its end is learned."""
    spec = DataSpec(data="a")
    talk = Conversation((Turn("user", "hello"), Turn("assistant", "bye")), 7)
    endless = CHATML.replace("<|im_end|>", "{% if message.content != 'bye' %}<|im_end|>{% endif %}")
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "a", byte_level(), endless))
    refused = tokenise(tokenizer, talk, spec)
    assert isinstance(refused, Problem) and refused.key == "row_template_stop"
    assert "line 7" in refused.text("en") and "<|im_end|>" in refused.text("en")
    moved = CHATML.replace("assistant\n{%", "{{ 'helper' if messages[0].content == 'hello' else 'assistant' }}\n{%")
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "b", byte_level(), moved))
    refused = tokenise(tokenizer, talk, spec)
    assert isinstance(refused, Problem) and refused.key == "row_template_place"
    assert "helper" in refused.text("en") and "assistant" in refused.text("en")
    other = Conversation((Turn("user", "hi"), Turn("assistant", "bye")), 7)
    assert not isinstance(tokenise(tokenizer, other, spec), Problem)


@pytest.mark.parametrize("role", ["tool", "system"])
def test_a_turn_that_the_template_leaves_out_is_a_problem_of_its_row(tmp_path: Path, role: str) -> None:
    """Zephyr and its like know three roles, and a system text only at the beginning; the rest vanished silently."""
    written = CHATML.replace("{% for message in messages %}", "{% for message in messages %}{% if KNOWN %}").replace(
        "\n{% endfor %}", "\n{% endif %}{% endfor %}"
    )
    known = "message.role in ('user', 'assistant') or (message.role == 'system' and loop.first)"
    folder = model_folder(tmp_path / "m", byte_level(), written.replace("KNOWN", known))
    tokenizer = ChatTokenizer.from_folder(folder)
    turns = (Turn("user", "hello"), Turn("assistant", "how"), Turn(role, "3 degrees"), Turn("assistant", "bye"))
    refused = tokenise(tokenizer, Conversation(turns, 7), DataSpec(data="a"))
    assert isinstance(refused, Problem) and refused.key == "row_template_left_out"
    assert "3 degrees" in refused.text("en") and role in refused.text("zh-CN")
    assert not isinstance(tokenise(tokenizer, Conversation(turns[:2], 7), DataSpec(data="a")), Problem)


def test_a_result_that_the_template_writes_as_an_answer_is_a_problem_of_its_row(tmp_path: Path) -> None:
    """Vicuna's template takes whoever is no user for the assistant."""
    vicuna = (
        "{% for message in messages %}{% if message.role == 'user' %}USER: {{ message.content }} "
        "{% else %}ASSISTANT: {{ message.content }}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", byte_level(), vicuna))
    turns = (Turn("user", "hello"), Turn("assistant", "how"), Turn("tool", "3 degrees"), Turn("assistant", "bye"))
    refused = tokenise(tokenizer, Conversation(turns, 7), DataSpec(data="a"))
    assert isinstance(refused, Problem) and refused.key == "row_template_as_answer" and "tool" in refused.text("zh-CN")
    again = (*turns[:2], *turns[:2])
    assert not isinstance(tokenise(tokenizer, Conversation(again, 7), DataSpec(data="a")), Problem)
