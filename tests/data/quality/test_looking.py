"""Rows that are checked side by side give the findings of rows that are checked one after the other."""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.data.folders import write_jsonl
from tests.data.quality.planted import clean, plant
from tests.data.quality.test_sieve import mixtures
from xiaozao.data import carrying, checks
from xiaozao.data.calls import Call
from xiaozao.data.formats import Conversation
from xiaozao.data.quality.inspection import Inspection
from xiaozao.data.quality.looking import CHUNK, Looking
from xiaozao.data.turns import Turn
from xiaozao.errors import DataError
from xiaozao.spec.parts import DataSpec


def rows() -> list[Conversation]:
    """Rows with every kind of fault, some of them pairs, texts, verdicts, with calls and with labels."""
    kinds = [
        Conversation(
            (Turn("user", "hi"), Turn("assistant", "", "hm", (Call("f", "{}"),), False, "1", "f")), 1, tools="[1]"
        ),
        Conversation((Turn("user", "hi"), Turn("assistant", "ok")), 1, liked=False, shared=1),
        Conversation((Turn("user", "hi"), Turn("assistant", "ok")), 1, labels={"intent": "a", "id": "7"}),
    ]
    return [*mixtures(6 * CHUNK), *kinds * 50]


def test_side_by_side_is_the_same_as_one_after_the_other() -> None:
    alone, together = Inspection(), Inspection()
    for row in rows():
        alone.see(row)
    with Looking(together, 2, worth=100) as looking:
        for row in rows():
            looking.see(row)
    assert len(psutil.Process().children()) == 0
    assert vars(together.rows) == vars(alone.rows) and together.duplicates == alone.duplicates
    assert together._kinds == alone._kinds and len(alone._kinds) > 30
    assert together._twins is not None and alone._twins is not None
    assert together._twins.groups() == alone._twins.groups()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_report_does_not_depend_on_the_cores(language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant(clean(language, 600), language, each=2)
    path = write_jsonl(tmp_path / "planted.jsonl", planted.rows)
    reports = []
    for count in (1, 2):
        monkeypatch.setattr(checks, "cores", lambda count=count: count)
        monkeypatch.setattr("xiaozao.data.quality.looking.WORTH", 50)
        reports.append(json.dumps(checks.check(DataSpec(data=str(path)), None).to_json()))
    assert reports[0] == reports[1] and "phone_cn" in reports[0]


def test_a_conversation_comes_back_as_it_was_written() -> None:
    for row in rows():
        assert carrying.read(json.loads(json.dumps(carrying.written(row)))) == row


def test_a_reader_that_is_interrupted_leaves_no_process() -> None:
    with pytest.raises(KeyboardInterrupt), Looking(Inspection(), 2, worth=0) as looking:
        for number, row in enumerate(mixtures(4 * CHUNK)):
            looking.see(row)
            if number == 3 * CHUNK:
                assert psutil.Process().children()
                raise KeyboardInterrupt
    assert [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE] == []


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(DataError, match="ended from outside"), Looking(Inspection(), 2, worth=0) as looking:
        for number, row in enumerate(mixtures(8 * CHUNK)):
            looking.see(row)
            if number == 2 * CHUNK:
                for child in psutil.Process().children():
                    os.kill(child.pid, signal.SIGKILL)
