"""`zao eval report` as people use it: what was evaluated on one page, and what was not by its name."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, Browser
from tests.evaluate.blind.runs import answered, for_tuned, log_of, vote_all
from tests.evaluate.summaries import bench, form
from tests.evaluate.test_report import EVIL
from xiaozao.cli.main import run
from xiaozao.evaluate.blind.ballot import BlindVote, freeze, start_vote
from xiaozao.evaluate.blind.pairs import read_pairs
from xiaozao.spec.evaluation import BenchSpec, FormatSpec, write_evaluation
from xiaozao.store.files import RunFolder
from xiaozao.texts.catalogue import LANGUAGES

TUNED = "Send it back within 14 days. Number {0}"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with a result, of which nothing is evaluated yet."""
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.chdir(tmp_path)
    folder = answered(tmp_path / "home" / "runs" / "shop", 12, tuned=TUNED)
    folder.adapter.mkdir()
    return folder


def evaluated(folder: RunFolder, kind: str, document: dict[str, Any] | None) -> None:
    """An evaluation that is done; begun only where there is no document."""
    place = folder.evaluation(kind)
    place.path.mkdir(parents=True)
    asked = FormatSpec(run="shop", questions="q.jsonl") if kind == "format" else BenchSpec(run="shop")
    write_evaluation(asked, place.evaluation_spec)
    if document is not None:
        place.standing.write_text(json.dumps(document), encoding="utf-8")


def voted(folder: RunFolder, closed: bool) -> BlindVote:
    vote = start_vote(folder, *freeze(read_pairs(folder, "shop"), "shop"))
    vote_all(vote, "Anna", for_tuned)
    if closed:
        log_of(vote).reveal("finished")
    return vote


def reported(capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    assert run(["eval", "report", "shop", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_nothing_evaluated_is_an_error_that_names_the_commands(
    shop: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "report", "shop"]) == 8
    told = capsys.readouterr().err
    for command in ("zao eval bench shop", "zao eval format shop --questions FILE", "zao eval blind shop"):
        assert command in told
    assert not shop.summary.exists()


def test_a_run_with_questions_needs_no_file_to_be_named(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with shop.spec.open("a", encoding="utf-8") as file:
        file.write("questions: q.jsonl\n")
    assert run(["eval", "report", "shop"]) == 8
    assert "zao eval format shop |" in capsys.readouterr().err


def test_what_is_begun_alone_is_nothing_yet(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(shop, "bench", None)
    assert run(["eval", "report", "shop"]) == 8
    assert "zao eval bench shop" in capsys.readouterr().err


def test_a_run_without_a_result_is_told_so_first(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    shop.adapter.rmdir()
    assert run(["eval", "report", "shop"]) == 2
    assert "zao eval bench" not in capsys.readouterr().err


def test_the_weights_are_not_needed_any_more(shop: RunFolder) -> None:
    evaluated(shop, "bench", bench())
    shop.adapter.rmdir()
    assert run(["eval", "report", "shop"]) == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_closed_vote_alone(
    shop: RunFolder, language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    voted(shop, closed=True)
    assert run(["eval", "report", "shop"]) == 0
    told, page = capsys.readouterr().out, shop.summary.read_text(encoding="utf-8")
    for part in {"en": ("voters prefer the tuned model", "Not asked yet: zao eval bench shop"),
                 "zh-CN": ("投票者更喜欢微调后的模型", "尚未评测：zao eval bench shop")}[language]:  # fmt: skip
        assert part in told and part in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_standard_tests_alone(
    shop: RunFolder, language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    evaluated(shop, "bench", bench())
    assert run(["eval", "report", "shop"]) == 0
    told = capsys.readouterr().out
    said = {
        "en": (
            "In short: general ability was lost",
            "Not asked yet: zao eval format shop --questions FILE",
            "Not voted yet",
        ),
        "zh-CN": ("总结：通用能力下降", "尚未评测：zao eval format shop --questions FILE", "尚未投票"),
    }
    page = shop.summary.read_text(encoding="utf-8")
    assert all(part in told and part in page for part in said[language])
    assert run(["eval", "report", "shop", "-q"]) == 0
    assert capsys.readouterr().out == f"{shop.summary}\n"


def test_the_json_holds_the_results_as_they_are(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(shop, "bench", bench())
    evaluated(shop, "format", form())
    voted(shop, closed=True)
    told = reported(capsys)
    assert told["bench"] == bench() and told["format"] == form()
    assert run(["eval", "blind", "shop", "--result", "--json"]) == 0
    assert {"schema_version": 1, **told["blind"]} == json.loads(capsys.readouterr().out)
    assert told["states"] == {"bench": "done", "format": "done", "blind": "done"}
    assert told["commands"] == {
        "bench": "zao eval bench shop --again", "blind": "zao eval blind shop --result",
        "format": "zao eval format shop --questions q.jsonl --again",
    }  # fmt: skip
    assert len(told["pairs"]) == 10 and told["tendency"] == "mixed"
    kept = json.loads(shop.summary.with_suffix(".json").read_text(encoding="utf-8"))
    assert {"schema_version": 1, **kept} == told
    assert "voters prefer the tuned model (it won 12 of 12)" in told["sentence"]


def test_a_vote_that_goes_on_is_named_and_not_opened(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(shop, "format", form())
    vote = voted(shop, closed=False)
    before = vote.folder.votes.read_bytes()
    vote.folder.sides.write_text("whoever reads this fails", encoding="utf-8")
    told = reported(capsys)
    assert told["states"] == {"bench": "absent", "format": "done", "blind": "begun"} and told["blind"] is None
    assert vote.folder.votes.read_bytes() == before
    page, text = shop.summary.read_text(encoding="utf-8"), json.dumps(told)
    assert "The vote is not finished" in page
    for secret in (
        *(pair.id for pair in vote.ballot.pairs),
        "Send it back",
        vote.key.salt,
        "tuned_on",
        "How do I return",
    ):
        assert secret not in page and secret not in text


def test_an_open_vote_is_no_evaluation(shop: RunFolder) -> None:
    voted(shop, closed=False)
    assert run(["eval", "report", "shop"]) == 8


def test_a_new_vote_hides_the_old_one(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Its questions are the same: what was lost in the old one would tell whose answers they are."""
    evaluated(shop, "bench", bench())
    voted(shop, closed=True)
    voted(shop, closed=False)
    assert reported(capsys)["blind"] is None
    assert "How do I return" not in shop.summary.read_text(encoding="utf-8")


def test_files_of_others_are_not_overwritten(
    shop: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(shop, "bench", bench())
    page, data = tmp_path / "mine.html", tmp_path / "mine.json"
    for there, other in ((page, data), (data, page)):
        there.write_text("mine", encoding="utf-8")
        assert run(["eval", "report", "shop", "--output", str(page)]) == 2
        assert f"{there} is there already" in capsys.readouterr().err
        assert there.read_text(encoding="utf-8") == "mine" and not other.exists()
        there.unlink()
    page.write_text("mine", encoding="utf-8")
    assert run(["eval", "report", "shop", "--output", str(page), "--yes"]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>") and json.loads(data.read_bytes())["v"] == 1


@pytest.mark.parametrize("name", ["page.pdf", "page", "page.json", "."])
def test_the_page_must_be_called_one(shop: RunFolder, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(shop, "bench", bench())
    assert run(["eval", "report", "shop", "--output", name]) == 2
    assert "--output my-report.html" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(shop, "bench", bench())
    Path("file").write_text("", encoding="utf-8")
    Path("folder.html").mkdir()
    for place in ("file/page.html", "nowhere/page.html", "folder.html"):
        assert run(["eval", "report", "shop", "--output", place, "--yes"]) == 9
        assert f"{place} cannot be written" in capsys.readouterr().err
    assert not list(Path().glob(".new-*"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_is_replaced_and_not_followed(shop: RunFolder, tmp_path: Path) -> None:
    evaluated(shop, "bench", bench())
    (tmp_path / "precious.txt").write_text("precious", encoding="utf-8")
    shop.summary.symlink_to(tmp_path / "precious.txt")
    assert run(["eval", "report", "shop", "-q"]) == 0
    assert (tmp_path / "precious.txt").read_text(encoding="utf-8") == "precious"
    assert shop.summary.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_made_anew_the_page_is_the_new_one(shop: RunFolder) -> None:
    evaluated(shop, "bench", bench())
    assert run(["eval", "report", "shop", "-q"]) == 0
    evaluated(shop, "format", form())
    assert run(["eval", "report", "shop", "-q"]) == 0
    assert "Question 3" in shop.summary.read_text(encoding="utf-8")
    assert sorted(path.name for path in shop.summary.parent.iterdir()) == [
        "bench", "format", "report.html", "report.json",
    ]  # fmt: skip


def test_a_damaged_result_is_told_with_its_file(shop: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(shop, "bench", {"v": 1, "outcome": "regressed"})
    assert run(["eval", "report", "shop"]) == 3
    told = capsys.readouterr().err
    assert str(shop.evaluation("bench").standing) in told and "once more" in told


def test_what_a_model_wrote_is_text(shop: RunFolder) -> None:
    evaluated(shop, "format", form(EVIL))
    assert run(["eval", "report", "shop", "-q"]) == 0
    page = shop.summary.read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    told = json.loads(shop.summary.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["format"] == form(EVIL)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("language", LANGUAGES)
def test_in_a_browser_it_fits_a_phone_follows_the_colours_and_asks_nobody(
    shop: RunFolder, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    evaluated(shop, "bench", bench())
    evaluated(shop, "format", form("a" * 300))
    voted(shop, closed=True)
    assert run(["eval", "report", "shop", "-q"]) == 0
    with Browser(tmp_path) as browser:
        colours = set()
        for width, dark in ((360, False), (360, True), (1100, False)):
            browser.show(width, 900, dark)
            browser.open(shop.summary)
            assert browser.value("document.documentElement.scrollWidth") == width
            colours.add(browser.value("getComputedStyle(document.body).backgroundColor"))
            drawn = browser.value(
                "[...document.querySelectorAll('svg .now')].map(one => one.getBoundingClientRect().width)"
            )
            assert len(drawn) == 2 and all(9 < one < 13 for one in drawn)  # circles, not stretched
        assert colours == {"rgb(255, 255, 255)", "rgb(20, 24, 31)"}
        assert {one.partition(":")[0] for one in browser.requests} == {"file"}
