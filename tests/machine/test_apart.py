"""A process of its own may die, hang or fill its memory: the program hears of it and goes on."""

import sys
import time
from pathlib import Path

import pytest

from xiaozao.machine.apart import Json, Lost, ask

CHILD = "tests.machine.answering_child"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def asked(seconds: float = 60.0, **question: object) -> list[Json]:
    return list(ask(CHILD, question, seconds=seconds))


def test_one_process_answers_question_after_question() -> None:
    first, second = asked(rows=3), asked(rows=2)
    assert [one["n"] for one in first[:-1]] == [0, 1, 2] and "end" in first[-1]
    assert {one["pid"] for one in (*first[:-1], *second[:-1])} == {first[0]["pid"]}


def test_two_questions_at_once_are_two_processes() -> None:
    one, other = ask(CHILD, {"rows": 2}), ask(CHILD, {"rows": 2})
    assert next(one)["pid"] != next(other)["pid"]
    assert len([*one, *other]) == 4


def test_one_that_dies_is_lost_with_its_last_words_and_the_next_question_is_answered() -> None:
    with pytest.raises(Lost) as caught:
        asked(then="die")
    assert (caught.value.why, caught.value.last) == ("ended", "the last words")
    assert len(asked()) == 2


def test_one_that_says_nothing_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(Lost) as caught:
        asked(0.5, then="hang")
    assert caught.value.why == "silent" and time.monotonic() - began < 60


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to such a limit")
def test_one_that_takes_too_much_memory_is_lost() -> None:
    with pytest.raises(Lost) as caught:
        asked(then="fill")
    assert caught.value.why == "ended" and "MemoryError" in caught.value.last


def test_one_whose_answers_nobody_wants_is_ended() -> None:
    answers = ask(CHILD, {"rows": 10**6})
    pid = next(answers)["pid"]
    answers.close()
    assert asked()[0]["pid"] != pid
