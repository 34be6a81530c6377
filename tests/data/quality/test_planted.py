"""Forty and more kinds of fault, planted at known rows: nearly all are found, and clean rows are left in peace."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.data.folders import shared_data, write_jsonl
from tests.data.quality.planted import KINDS, Planted, clean, plant, rows_of
from xiaozao.data.checks import check
from xiaozao.data.quality.findings import Found
from xiaozao.spec.parts import DataSpec

LEAST_FOUND, MOST_ACCUSED = 0.95, 0.01

# Real files, the language of the planted texts, and what is truly wrong with many of their rows, as looked at by hand.
REAL = {
    "bitext/gpt_train.jsonl": ("en", {"placeholder", "near_duplicate"}),
    "crosswoz/crosswoz_400.jsonl": ("zh", {"phone_cn"}),
    "formats/alpaca_en_demo.json": ("en", {"disclaimer", "duplicate"}),
    "formats/alpaca_zh_demo.json": ("zh", {"disclaimer", "answer_language", "placeholder"}),
}


def findings(path: Path) -> dict[str, Found]:
    return {found.kind: found for found in check(DataSpec(data=str(path)), None).findings}


def missed(planted: Planted, found: dict[str, Found]) -> list[tuple[str, int]]:
    return [(kind, line) for line, kind in planted.faults.items() if kind not in found or line not in found[kind].lines]


def accused(lines: Iterable[int], planted: Planted) -> set[int]:
    return {line for line in lines if line not in planted.faults}


def test_forty_kinds_are_planted() -> None:
    assert len(KINDS) >= 40


@pytest.mark.parametrize("language", ["en", "zh"])
def test_clean_rows_are_not_accused_of_anything(language: str, tmp_path: Path) -> None:
    found = findings(write_jsonl(tmp_path / "clean.jsonl", clean(language, 500)))
    assert found.keys() <= {"near_duplicate"} and sum(kind.count for kind in found.values()) <= 2


@pytest.mark.parametrize("language", ["en", "zh"])
def test_planted_faults_are_found_and_their_neighbours_left_alone(language: str, tmp_path: Path) -> None:
    planted = plant(clean(language, 600), language)
    found = findings(write_jsonl(tmp_path / "planted.jsonl", planted.rows))
    assert len(missed(planted, found)) <= (1 - LEAST_FOUND) * len(planted.faults), missed(planted, found)
    wrongly = accused((line for kind in found.values() for line in kind.lines), planted)
    assert len(wrongly) <= MOST_ACCUSED * len(planted.rows), wrongly


@pytest.mark.parametrize("name", REAL)
def test_faults_planted_in_real_data_are_found(name: str, tmp_path: Path) -> None:
    language, own = REAL[name]
    planted = plant(rows_of(shared_data(name)), language)
    found = findings(write_jsonl(tmp_path / "planted.jsonl", planted.rows))
    assert len(missed(planted, found)) <= (1 - LEAST_FOUND) * len(planted.faults), missed(planted, found)
    for kind in found.values():
        if kind.kind not in own:
            wrongly = accused(kind.lines, planted)
            assert len(wrongly) <= MOST_ACCUSED * len(planted.rows), (kind.kind, wrongly)


def test_real_faults_of_real_data_are_told() -> None:
    found = findings(shared_data("bitext/gpt_train.jsonl"))
    assert found["placeholder"].count > 1000
    assert any("{{" in example.hit.excerpt for example in found["placeholder"].examples)
