"""The page of a blind vote in a real browser: keys, buttons, what is kept, what is saved, and how it looks."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, Browser
from tests.evaluate.blind.runs import a_vote
from xiaozao.evaluate.blind.ballot import BlindVote
from xiaozao.evaluate.blind.returned import read_sheet
from xiaozao.evaluate.blind.sheet import html_sheet

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
KEPT = 'JSON.parse(Object.values(localStorage)[0] || "{}")'


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        started.show(1280, 900, dark=False)
        yield started


@pytest.fixture
def vote(tmp_path: Path) -> BlindVote:
    return a_vote(tmp_path / "run", 12)


@pytest.fixture
def page(vote: BlindVote, tmp_path: Path, browser: Browser) -> Path:
    """The page, in a browser that has kept nothing of an earlier one."""
    path = tmp_path / "vote.html"
    path.write_text(html_sheet(vote.ballot, vote.order("Anna"), "", "en"), encoding="utf-8")
    browser.open(path)
    browser.value("localStorage.clear()")
    return path


def text(browser: Browser, id: str) -> str:
    return str(browser.value(f"document.getElementById('{id}').textContent"))


def votes(browser: Browser) -> dict[str, str]:
    return dict(browser.value(f"{KEPT}.votes || {{}}"))


def saved(browser: Browser, name: str) -> Path:
    """The file that the page saved."""
    path, deadline = browser.downloads / name, time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, list(browser.downloads.iterdir())
    return path


def test_a_vote_with_keys_from_the_first_question_to_the_file(
    browser: Browser, vote: BlindVote, page: Path, tmp_path: Path
) -> None:
    browser.requests.clear()
    browser.open(page)
    order = vote.order("Anna")
    assert text(browser, "question") == order[0].question
    assert (text(browser, "a"), text(browser, "b")) == (order[0].a, order[0].b)
    assert text(browser, "place") == "Question 1 of 17"
    for key in ("a", "B", "t", "x", "s", "ArrowLeft", "ArrowRight"):
        browser.press(key)
    chosen = dict(zip([pair.id for pair in order], ["a", "b", "tie", "bad", "skip", "a", "b"], strict=False))
    assert votes(browser) == chosen
    assert text(browser, "status") == "Voted: B is better"
    browser.press("u")
    browser.press("u")
    assert list(votes(browser)) == [pair.id for pair in order[:5]]
    browser.open(page)  # closed and opened again
    assert text(browser, "place") == "Question 6 of 17"
    for pair in order[5:]:
        browser.press(vote.key.tuned_on[pair.id])
    assert browser.value("document.getElementById('card').hidden && !document.getElementById('done').hidden")
    browser.press("a")
    assert len(votes(browser)) == 17
    browser.value("document.getElementById('voter').focus()")
    browser.type("安娜 Anna")
    browser.value("document.getElementById('give').click()")
    path = saved(browser, "votes-安娜-Anna.json")
    (returned,) = read_sheet(path, vote.ballot, None)
    assert returned.voter == "安娜 Anna" and dict(returned.choices) == votes(browser)
    assert set(json.loads(path.read_text(encoding="utf-8"))) == {"format", "v", "sheet", "hash", "voter", "votes"}
    assert {url.partition("?")[0] for url in browser.requests} <= {page.as_uri()} | {
        url for url in browser.requests if url.startswith("blob:null/")
    }


def test_typing_a_name_is_no_vote_and_keys_can_be_switched_off(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value("document.getElementById('voter').focus()")
    browser.press("a")
    assert votes(browser) == {}
    browser.value("document.activeElement.blur()")
    browser.press("a", modifiers=2)  # Ctrl-A selects
    assert votes(browser) == {}
    browser.value("document.getElementById('keys').click()")
    browser.press("a")
    assert votes(browser) == {} and browser.value("document.body.classList.contains('nokeys')")
    browser.open(page)  # remembered
    browser.press("b")
    assert votes(browser) == {} and browser.value("!document.getElementById('keys').checked")
    browser.value("document.querySelector('[data-choice=tie]').click()")
    assert list(votes(browser).values()) == ["tie"]


def test_buttons_are_reached_with_the_tab_key(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value("document.getElementById('keys').focus()")
    reached = []
    for _ in range(9):
        browser.press("Tab")
        reached.append(browser.value("document.activeElement.dataset.choice || document.activeElement.id"))
    assert [name for name in reached if name in ("a", "tie", "bad", "b", "skip", "voter", "give")] == [
        "a", "tie", "bad", "b", "skip", "voter", "give",
    ]  # fmt: skip


def test_the_language_changes_without_losing_a_vote(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("t")
    browser.value("document.getElementById('language').click()")
    assert (browser.value("document.title"), browser.value("document.documentElement.lang")) == ("盲投", "zh-CN")
    assert text(browser, "place") == "第 2 / 17 题" and len(votes(browser)) == 1
    assert "A 更好" in browser.value("document.querySelector('[data-choice=a]').textContent")
    browser.open(page)
    assert browser.value("document.title") == "盲投"


def test_a_vote_without_a_name_is_not_saved(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value("document.getElementById('give').click()")
    assert text(browser, "status") == "Please enter your name first."
    assert browser.value("document.activeElement.id") == "voter"


def test_the_next_person_at_the_same_computer_begins_anew(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value("document.getElementById('anew').hidden")
    browser.press("t")
    browser.value("document.getElementById('voter').focus()")
    browser.type("Eva")
    browser.value("document.getElementById('give').click()")
    saved(browser, "votes-Eva.json")
    browser.value("document.getElementById('anew').click()")
    assert votes(browser) == {} and browser.value("document.getElementById('voter').value") == ""
    assert text(browser, "place") == "Question 1 of 17"


CONTRAST = """(() => {
  const light = (color) => {
    const parts = color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" && node.parentElement ? behind(node.parentElement) : color;
  };
  return [...document.querySelectorAll("h1,h2,h3,p,span,button,kbd,code,.text")]
    .filter((node) => node.offsetParent && node.textContent.trim() && !node.closest(":disabled"))
    .map((node) => {
      const [one, other] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
      return (one + 0.05) / (other + 0.05);
    }).reduce((least, each) => Math.min(least, each), 99);
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (375, 800), (320, 640)])
def test_it_reads_well_in_light_and_dark_on_a_desk_and_on_a_phone(
    browser: Browser, page: Path, width: int, height: int, dark: bool
) -> None:
    browser.show(width, height, dark)
    browser.open(page)
    assert browser.value("document.documentElement.scrollWidth") == width  # nothing to scroll sideways
    assert browser.value(CONTRAST) >= 4.5
    small = "[...document.querySelectorAll('button:not([hidden])')].filter((one) => one.offsetHeight < 44).length"
    assert browser.value(small) == 0
    top_of_b = browser.value("document.getElementById('b').getBoundingClientRect().top")
    below = browser.value("document.getElementById('a').getBoundingClientRect().bottom") < top_of_b
    assert below is (width <= 720)
