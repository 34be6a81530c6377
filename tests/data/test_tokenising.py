"""Rows that are tokenised side by side give what they give one after the other."""

from pathlib import Path

import psutil
import pytest

from tests.data.folders import CHATML, STRICT, THINKING, byte_level, model_folder
from xiaozao.data.calls import Call
from xiaozao.data.formats import Conversation
from xiaozao.data.tokenising import CHUNK, tokenise, tokenise_all
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.data.turns import Turn
from xiaozao.errors import Problem
from xiaozao.spec.parts import DataSpec


def rows(count: int) -> list[Conversation]:
    """Conversations of every kind: long, weighed, with calls and reasoning, pairs, texts, refused ones."""
    kinds = [
        Conversation((Turn("user", "hello"), Turn("assistant", "how can I", learned=False), Turn("user", "您好 😀"),
                      Turn("assistant", "help <|im_end|>")), 1),
        Conversation((Turn("user", "hi"), Turn("assistant", "", "the thought", (Call("f", '{"x": 1}'),)),
                      Turn("tool", "1"), Turn("assistant", "this")), 1, tools='[{"type": "function"}]'),
        Conversation((Turn("user", "hi"), Turn("assistant", "this")), 1,
                     rejected=(Turn("user", "hi"), Turn("assistant", "that")), shared=1),
        Conversation((), 1, text="the world, hello"),
        Conversation((Turn("user", "a"), Turn("user", "b"), Turn("assistant", "c")), 1),
    ]  # fmt: skip
    return [kinds[index % len(kinds)] for index in range(count)]


@pytest.mark.parametrize("template", [CHATML, STRICT, THINKING])
def test_side_by_side_is_the_same_as_one_after_the_other(tmp_path: Path, template: str) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", byte_level(), template))
    spec, many = DataSpec(data="a", system="be kind"), rows(3 * CHUNK + 7)
    together = list(tokenise_all(tokenizer, iter(many), spec, cores=2, worth=10))
    assert [conversation for conversation, _ in together] == many
    for conversation, told in together:
        alone = tokenise(tokenizer, conversation, spec)
        if isinstance(alone, Problem):
            assert isinstance(told, Problem) and told.text("en") == alone.text("en")
            continue
        assert not isinstance(told, Problem) and len(told) == len(alone)
        for sample, other in zip(told, alone, strict=True):
            for one, same in zip(sample, other, strict=True):
                assert one.ids.tolist() == same.ids.tolist() and one.targets.tolist() == same.targets.tolist()
                assert (one.untrained, one.unreasoned, one.thinks) == (same.untrained, same.unreasoned, same.thinks)


def test_a_reader_that_stops_in_the_middle_leaves_no_process(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.from_folder(model_folder(tmp_path / "m", byte_level()))
    given = tokenise_all(tokenizer, iter(rows(40 * CHUNK)), DataSpec(data="a"), cores=2, worth=10)
    next(given)
    assert len(psutil.Process().children()) >= 1
    given.close()
    assert [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE] == []
