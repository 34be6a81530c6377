"""Killed at random moments, also inside a save, and resumed with one command: the same bits."""

import random
from pathlib import Path

import pytest

from bench.kills import Kitchen, kill_once, resume
from tests.toy import toy_folder, write_chats
from xiaozao.runs.launch import launch


@pytest.mark.real
def test_killed_and_resumed_a_run_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    kitchen, draw = Kitchen(tmp_path), random.Random(7)
    toy_folder(tmp_path / "model")
    write_chats(tmp_path / "data.jsonl", 160)
    whole = kitchen.run("whole")
    assert launch(whole).wait() == 0
    killed = kitchen.run("killed")
    for in_save in (False, True):  # one run, killed twice; bench/kills.py kills twenty
        kill_once(killed, draw, in_save)
    assert resume(killed) == 0
    assert kitchen.digest(killed) == kitchen.digest(whole)
