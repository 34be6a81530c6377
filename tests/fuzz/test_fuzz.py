"""Nothing that is read before it is used ends in an exception of a library; the whole of it: python -m bench.fuzz"""

from pathlib import Path

import pytest

from tests.fuzz.kinds import KINDS, WRONG, verdict

EACH = 2000 // len(KINDS) + 1


@pytest.mark.parametrize("name", KINDS)
def test_valid_inputs_are_read(tmp_path: Path, name: str) -> None:
    for data in KINDS[name].valid():
        KINDS[name].read(tmp_path, data)


@pytest.mark.parametrize("name", KINDS)
def test_a_spoiled_input_is_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    verdicts = {number: verdict(name, number, tmp_path) for number in range(EACH)}
    wrong = {number: told for number, told in verdicts.items() if told.startswith(WRONG)}
    assert not wrong, f"{name}: {wrong}"
    assert any(told != "read" for told in verdicts.values()) == KINDS[name].refuses
