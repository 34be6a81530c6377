"""What makes the checks quick changes no finding: gates, windows and shapes are held against the slow way."""

import json
import random
import re
from collections.abc import Iterator

import pytest

from tests.data.quality.faults import APPENDED
from tests.data.quality.planted import clean, plant
from xiaozao.data.formats import Conversation, format_of, parse_row
from xiaozao.data.plainrows import read_plain
from xiaozao.data.quality import across, languages, leftovers, private, replies
from xiaozao.data.quality.inspection import CHECKS
from xiaozao.data.quality.sieve import GATES, suspects
from xiaozao.data.rows import Row
from xiaozao.data.turns import Turn
from xiaozao.data.twins import normalised

PIECES = [
    *(text for pairs in APPENDED.values() for pair in pairs for text in pair),
    *(
        "I'm sorry, I can't help with that.",
        "很抱歉，我无法回答。",
        "As an AI language model, ",
        "I'm ChatGPT",
        "the box in which",
        "null",
    ),
    *("Hello, how can I assist you", "您好，这里是小王客服", "{{Name}}", "${x}", "%(name)s", "<ORDER>", "[Your Name]"),
    *("xxx", "XX年", "【订单号】", "____", "TODO:", "FIXME ", "Lorem ipsum", "（请填写）", "%NAME%", "某某", "待补充"),
    *(
        "<|im_end|>",
        "[INST]",
        "### Input:",
        "</s>",
        "<think>",
        "&lt;",
        "<br>",
        "\\n",
        "\\u4f60",
        "cafÃ©",
        "\x00",
        "\u200b",
    ),
    *("ＡＢ１２", " \r", "\n\n\n\n\n", "Agent: hi", "User: hi", "客户：好", "(", "【", "```", "“", "and", "并且", ","),
    *(
        "truncated",
        "未完待续",
        "very very very very very",
        "好的好的好的好的好的",
        "password: abc123x",
        "密码是 a1b2c3d4",
    ),
    *("qq 123456", "微信：wxid_8a7b", "sk-abcdefghijklmnopqrstuvwx", "hf_" + "a" * 32, "secret = " + "a1" * 12),
    *("+86 138 1234 5678", "+1 415 555 0134", "(415) 555-0134", "440524188001010014", "4111 1111 1111 1111", "8.8.9.9"),
    *(
        "123-45-6789",
        "GB29NWBK60161331926819",
        "粤B12345",
        "221B Baker Street, London",
        "12号楼3单元502室",
        "寄到天河区12号",
    ),
    *(
        "İ",
        "ı",
        "ſ",
        "K",
        "１３８１２３４５６７８",
        "٣",
        "def f(x):",
        "import os",
        "function(){",
        "Ваш заказ",
        "ご注文は",
    ),
    *(
        "what about my order",
        "您好，请问",
        "The answer is 42.",
        "价格是3.5元。",
        "1. first\n2. second",
        "1）先",
        "!",
        "?",
        ".",
    ),
]


def mixtures(count: int) -> Iterator[Conversation]:
    """Rows of pieces put together at random, in either case, some of them with a system text or several rounds."""
    draw = random.Random(7)

    def text() -> str:
        joined = draw.choice(["", " ", "\n"]).join(draw.choices(PIECES, k=draw.randint(1, 4)))
        return draw.choice([joined, joined, joined.upper(), joined.lower(), joined.title()])

    for number in range(count):
        turns = [Turn(role, text()) for _ in range(draw.randint(1, 3)) for role in ("user", "assistant")]
        turns = [Turn("system", text()), *turns] if draw.random() < 0.2 else turns
        if draw.random() < 0.1:
            turns.insert(2, Turn(draw.choice(["system", "user", "tool", "assistant"]), text()))
        rejected = (*turns[:-1], Turn("assistant", text())) if draw.random() < 0.1 else ()
        yield Conversation(tuple(turns), number + 1, rejected=rejected, shared=len(turns) - 1 if rejected else 0)
        yield Conversation((), number + 1, text=text())


def shut_in_vain(conversation: Conversation) -> list[str]:
    open_gates = suspects(conversation)
    return [kind for kind, check in CHECKS.items() if kind not in open_gates and check(conversation) is not None]


def test_every_check_has_a_gate_in_the_order_of_the_checks() -> None:
    assert list(GATES) == list(CHECKS)


def test_no_gate_is_shut_before_a_finding_in_texts_put_together_at_random() -> None:
    assert [(row, kinds) for row in mixtures(4000) if (kinds := shut_in_vain(row))] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_gate_is_shut_before_a_planted_fault(language: str) -> None:
    rows = plant(clean(language, 600), language, each=3).rows
    parsed = [parse_row(Row(row, line, 0), format_of(row)) for line, row in enumerate(rows, 1)]
    assert [kinds for row in parsed if isinstance(row, Conversation) and (kinds := shut_in_vain(row))] == []


def test_gates_are_shut_for_most_rows_that_have_nothing() -> None:
    rows = [parse_row(Row(row, 1, 0), "messages") for row in clean("en", 200)]
    calls = [len(suspects(row)) for row in rows if isinstance(row, Conversation)]
    assert sum(calls) < 8 * len(calls) < len(GATES) * len(calls)


def test_numbers_are_found_in_their_windows_as_in_the_whole_text() -> None:
    long = re.compile(r"\d[\d .()\-]{6}")
    for row in mixtures(2000):
        text = row.text or row.turns[-1].content
        for kind in private.NUMBERS:
            confirmed = private.CONFIRMED.get(kind)
            everywhere = private.PATTERNS[kind].finditer(text) if long.search(text) else ()
            expected = [match.span() for match in everywhere if confirmed is None or confirmed(match[0])]
            assert [match.span() for match in private.matches(kind, text)] == expected, (kind, text)


def test_the_first_blank_is_the_one_that_the_pattern_alone_finds() -> None:
    for row in mixtures(2000):
        text = row.text or row.turns[-1].content
        expected, found = leftovers.PLACEHOLDER.search(text), leftovers.blank_in(text)
        assert (found and found.span()) == (expected and expected.span()), text


def test_texts_in_ascii_are_read_as_all_others() -> None:
    numbered = re.compile(r"(?m)^\s*\d{1,2}[.)、]")
    for row in mixtures(2000):
        text = row.text or row.turns[-1].content
        assert across.bare(text) == across.bare(f"{text}\u3002"), text
        assert languages.words_of(text) == languages.WORD.findall(text.lower())
        letters = sum(map(str.isalpha, text)) if text.isascii() else languages.scripts(text)["LATIN"]
        assert languages.scripts(text)["LATIN"] == letters
        without = numbered.sub("", text)
        assert across.numbers_in(across.SPARED.sub("\n", f"\n{text}")) == across.NUMBER.findall(without), text


def test_the_sign_of_a_denial_stands_in_each_of_its_words() -> None:
    assert all(sign in word for sign, words in across.NO.items() for word in words)


def test_ascii_is_normalised_for_twins_as_other_texts_are() -> None:
    for row in mixtures(2000):
        text = row.text or row.turns[-1].content
        whole = normalised(f"{text} \u00e9")  # a letter that is not ASCII takes the general way
        assert not text.isascii() or whole == f"{normalised(text)} \u00e9" or not whole.strip("\u00e9 "), text


def test_sentences_are_divided_as_by_a_pattern() -> None:
    units = re.compile(r"[。！？!?\n]|\. ")
    for row in mixtures(2000):
        text = row.text or row.turns[-1].content
        assert replies.units_of(text) == [unit.strip() for unit in units.split(text)], text


def test_plain_rows_are_read_as_every_other_row() -> None:
    draw = random.Random(3)
    roles = ["user", "assistant", "system", "tool", "User", "gpt", None, 3]
    contents = ["hi", "x\n", "", "  ", None, ["a"], [{"type": "text", "text": "b"}], 7]
    plain = 0
    for number in range(4000):
        turns = [
            {
                "role": draw.choice(roles[: draw.choice([2, 2, 3, 8])]),
                "content": draw.choice(contents[: draw.choice([1, 2, 2, 8])]),
            }
            for _ in range(draw.randint(0, 5))
        ]
        if turns and draw.random() < 0.2:
            turns[0] |= draw.choice([{"weight": 0}, {"name": "x"}, {"tool_calls": []}])
        row = Row({"messages": turns} | draw.choice([{}, {}, {}, {"id": 3}, {"tools": []}]), number + 1, 0)
        read = read_plain(row)
        if read is not None:
            plain += 1
            assert read == parse_row(row, format_of(row.values)), json.dumps(row.values)
    assert plain > 50
