"""What is handed to a colleague tells nothing of the sides: no model, no run, no length, no time, no order."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from tests.evaluate.blind.runs import a_vote, answered
from xiaozao.evaluate.blind.ballot import BlindVote, freeze, start_vote
from xiaozao.evaluate.blind.pairs import read_pairs
from xiaozao.evaluate.blind.sheet import csv_sheet, html_sheet
from xiaozao.texts.catalogue import LANGUAGES, Language, say

RUN = "SmolLM2-135M-20261130"


@pytest.fixture
def vote(tmp_path: Path) -> BlindVote:
    return a_vote(tmp_path / RUN, 50, same=(7,))


def embedded(page: str, name: str) -> object:
    """The JSON in a script element of the page."""
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(text)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("make", [html_sheet, csv_sheet])
def test_a_sheet_tells_nothing_of_the_sides(vote: BlindVote, make: type, language: Language) -> None:
    text = make(vote.ballot, vote.order("Anna"), "Anna", language)
    plain = text
    for pair in vote.ballot.pairs:
        for written in (pair.question, pair.a, pair.b, "event.repeat"):
            plain = plain.replace(written, "").replace(json.dumps(written, ensure_ascii=False)[1:-1], "")
    for word in ("SmolLM2", "HuggingFace", RUN, "tuned", "base", "im_end", "checkpoint", "adapter", "seed", "repeat"):
        assert word.lower() not in plain.lower(), word
    for secret in (vote.key.salt, str(vote.key.seed), vote.key.source, str(vote.folder.path)):
        assert secret not in text
    assert not re.search(r"20\d\d-\d\d|\d\d:\d\d|seconds|tokens|词元|characters|字符", plain)


def test_the_page_holds_the_pairs_in_the_voters_order_and_nothing_more(vote: BlindVote) -> None:
    page = html_sheet(vote.ballot, vote.order("Anna"), "Anna", "en")
    data = embedded(page, "data")
    assert isinstance(data, dict)
    assert data.keys() == {"format", "sheet", "hash", "commitment", "voter", "language", "same", "pairs"}
    assert [pair["id"] for pair in data["pairs"]] == [pair.id for pair in vote.order("Anna")]
    assert all(pair.keys() == {"id", "question", "a", "b"} for pair in data["pairs"])
    assert (data["hash"], data["commitment"]) == (vote.ballot.hash, vote.key.commitment)


def test_the_page_asks_nobody_for_anything(vote: BlindVote) -> None:
    page = html_sheet(vote.ballot, vote.order(""), "", "en")
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|<link|<img|@import|url\(|fetch\(|XMLHttpRequest|sendBeacon", page)


def test_the_page_has_every_text_in_both_languages(vote: BlindVote) -> None:
    page = html_sheet(vote.ballot, vote.order(""), "", "zh-CN")
    words = embedded(page, "words")
    assert isinstance(words, dict)
    used = set(re.findall(r'data-(?:text|label)="(\w+)"|say\("(\w+)"|data-choice="(\w+)"', page))
    keys = {key for found in used for key in found if key}
    assert len(keys) > 20
    for language in LANGUAGES:
        assert keys <= words[language].keys()
        assert words[language]["a"] == say("blind.sheet.a", language)
    assert '<html lang="zh-CN">' in page and say("blind.sheet.title", "zh-CN") in page


def test_no_answer_gets_out_of_its_place(tmp_path: Path) -> None:
    evil = "</script><script>alert({0})</script> <!-- \u2028 '\"& {{{{ 7 }}}}"
    run = answered(tmp_path / "run", 4, base=evil)
    vote = start_vote(run, *freeze(read_pairs(run, "run"), "run", seed=2))
    page = html_sheet(vote.ballot, vote.order(""), "</script>", "en")
    assert page.count("</script>") == 3 and "alert(" in page
    data = embedded(page, "data")
    assert isinstance(data, dict)
    assert {pair["id"]: (pair["a"], pair["b"]) for pair in data["pairs"]} == {
        pair.id: (pair.a, pair.b) for pair in vote.ballot.pairs
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_table_has_a_row_for_each_pair_and_a_column_to_fill_in(vote: BlindVote, language: Language) -> None:
    text = csv_sheet(vote.ballot, vote.order("Anna"), "Anna", language)
    assert text.startswith("\ufeff")
    header, *rows = csv.reader(io.StringIO(text[1:], newline=""))
    assert header[:6] == ["sheet", "pair", "voter", "question", "answer_a", "answer_b"]
    assert header[6].startswith("vote") and "skip" in header[6] or "跳过" in header[6]
    assert [row[1] for row in rows] == [pair.id for pair in vote.order("Anna")]
    assert {(row[0], row[2], row[6]) for row in rows} == {(vote.ballot.name, "Anna", "")}
    assert all(row[4].startswith(("Please send", "I am")) for row in rows)


def test_no_cell_is_a_formula_or_a_number(tmp_path: Path) -> None:
    run = answered(tmp_path / "run", 4, base="=HYPERLINK({0})", tuned="-1+{0}")
    vote = start_vote(run, *freeze(read_pairs(run, "run"), "run", seed=2))
    _, *rows = csv.reader(io.StringIO(csv_sheet(vote.ballot, vote.order(""), "=x", "en")[1:], newline=""))
    assert all(cell[:2] in ("'=", "'-") for row in rows for cell in row[4:6])
    assert all(row[0][0] == "v" and row[1][0] == "p" and row[2] == "'=x" for row in rows)
