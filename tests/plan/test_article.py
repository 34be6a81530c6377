"""docs/article.md is what the plan's code says today, in both languages, and its prose is true of the numbers."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.article import DOCS, FULL, PAGES, SEVEN, numbers, pages, planned, training
from bench.rig.elephant_page import Elephant
from bench.rig.results import write_rows
from xiaozao.plan.modelcatalogue import catalogue

MODEL = next(one for one in catalogue() if one.name == SEVEN)
ROW = Elephant(
    size="70b", base="nf4", stream="disk", precision="fp32", tokens=4096, pieces=1, steps=1, machine="m", version="1",
    weights_bytes=39_500_000_000, peak_rss_bytes=6_900_000_000, predicted_peak_bytes=7_100_000_000, step_seconds=720.0,
    run_seconds=800.0, read_bytes=1, bytes_a_step=1, flop_a_step=1, disk_rate=1.0, gemm_rate=1.0, cpu_share=1.0,
)  # fmt: skip


@pytest.mark.parametrize("name", PAGES.values())
def test_the_page_is_the_one_that_is_made(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "run: make docs"


def test_both_pages_have_the_same_numbers_in_their_tables() -> None:
    tables = (re.findall(r"^\|.*$", pages()[name], flags=re.MULTILINE) for name in PAGES.values())
    english, chinese = (re.findall(r"\d[\d.,]*(?= (?:GB|%))", "\n".join(lines)) for lines in tables)
    assert english == chinese
    assert len(english) > 40


def test_every_number_that_is_computed_stands_on_the_page() -> None:
    for name in PAGES.values():
        text = pages()[name]
        assert [key for key, value in numbers().items() if value not in text] == []
        assert "{" not in text


def test_the_prose_is_true_of_the_numbers() -> None:
    """Words like `far more`, `little room`, `very small` are written by hand; here is what they claim."""
    found = {key: float(value.replace(",", "")) for key, value in numbers().items() if value[0].isdigit()}
    assert found["peak16"] > 3 * 24 and found["peak32"] > found["peak16"] > 56
    assert found["adafactor"] < 0.85 * 24 < found["badam"] < 24
    assert found["a_one"] < found["a_all"] / 10 and found["a_again"] < found["a_one"]
    assert found["share8"] < found["share16"] < 1
    assert found["s32"] == pytest.approx(4 * found["w16"], rel=0.01) and found["g16"] == found["w16"]
    assert found["w_int8"] > 7 and found["w_nf4"] > 3.5
    assert found["outside_gb"] > (found["w_nf4"] - 3.5) / 2
    assert found["w70_nf4"] > 8 > found["block70"] > found["block70_nf4"]


def test_accumulation_changes_the_activations_alone() -> None:
    one, all_ = (training(planned(MODEL, {"micro_batch": size})).parts for size in (1, 16))
    assert {name for name in one if one[name] != all_[name] and name != "gradients"} == {"activations"}
    assert one["gradients"] >= all_["gradients"]


def test_states_of_adam_have_eight_bytes_and_gradients_two() -> None:
    plan = planned(MODEL, FULL)
    parts = training(plan).parts
    assert (parts["optimizer"], parts["gradients"]) == (8 * plan.trainable, 2 * plan.trainable)


def test_streaming_is_not_measured_until_there_are_results(tmp_path: Path) -> None:
    for text, words in zip(pages(tmp_path).values(), ("Not measured yet", "尚未实测"), strict=True):
        assert words in text
    write_rows(tmp_path / "elephant.jsonl", [ROW, replace(ROW, size="7b", base="none")])
    english, chinese = pages(tmp_path).values()
    assert "| 70B | nf4 | fp32 | 39.5 GB | 7.1 GB | 6.9 GB | 4,096 | 720 s | 20.0 h |" in english
    assert "| 70B | nf4 | fp32 | 39.5 GB | 7.1 GB | 6.9 GB | 4,096 | 720 秒 | 20.0 小时 |" in chinese
    assert "| 7B | none | fp32 |" in english
    assert "Not measured yet" not in english and "尚未实测" not in chinese
