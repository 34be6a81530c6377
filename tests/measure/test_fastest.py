"""Which dtype is fast is measured once for a processor and the variables that decide its instructions."""

import json
from pathlib import Path

import pytest

from xiaozao.machine.hardware import look
from xiaozao.measure.fastest import is_slow, keep, known, measured, products
from xiaozao.measure.multiply import product_rates


def test_every_dtype_has_a_rate() -> None:
    found = product_rates()
    assert found.keys() == {"bf16", "fp16", "fp32"} and all(rate > 1e6 for rate in found.values())


def test_what_was_kept_is_known_for_the_same_instructions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert known(tmp_path) is None
    told: list[tuple[str, int, int]] = []
    found = keep({"bf16": 2.0, "fp16": 1.0, "fp32": 1.5}, tmp_path)
    assert known(tmp_path) == found == products(lambda *words: told.append(words), tmp_path) and not told
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert known(tmp_path) is None


def test_a_process_of_its_own_measures_where_nothing_is_known(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    found = products(lambda *words: told.append(words), tmp_path)
    assert found is not None and found == known(tmp_path)
    assert told == [("calibrate", 0, 1), ("calibrate", 1, 1)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bf16": 1}', '{"bf16": "fast", "fp16": 1, "fp32": 1}'])
def test_a_damaged_file_is_as_none(tmp_path: Path, text: str) -> None:
    keep({"bf16": 2.0, "fp16": 1.0, "fp32": 1.5}, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(text, encoding="utf-8")
    assert known(tmp_path) is None
    path.write_text(json.dumps({"bf16": 2, "fp16": 1, "fp32": 3}), encoding="utf-8")
    assert known(tmp_path) == {"bf16": 2.0, "fp16": 1.0, "fp32": 3.0}


@pytest.mark.parametrize(("bf16", "fast", "slow"), [(300.0, True, False), (80.0, False, False), (2.0, False, True)])
def test_what_is_measured_decides_and_not_a_flag(bf16: float, fast: bool, slow: bool) -> None:
    found = {"bf16": bf16, "fp16": 100.0, "fp32": 100.0}
    machine = measured(look(), found)
    assert machine.fast_bf16 is fast and machine.precision("cpu") == ("bf16" if fast else "fp32")
    assert is_slow(found, "bf16") is slow and not is_slow(found, "fp32") and not is_slow(None, "bf16")
