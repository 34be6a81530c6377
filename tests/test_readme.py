"""The pages that users read say the same in both languages, and every command in them works."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import click
import pytest

from tests.toy import write_chats
from xiaozao import errors
from xiaozao.cli.main import VERBS, ZAO
from xiaozao.runs.restart import LATER
from xiaozao.spec.fields import OPTIONS
from xiaozao.spec.run import RunSpec

ROOT = Path(__file__).parents[1]
PARTS = ("data", "memory", "training", "evaluation", "devices", "cli", "python")
MAIN = ("README.md", *(f"docs/{name}.md" for name in PARTS))
DEEPER = ("docs/templates.md", "docs/from-openai.md", "docs/blind.md")  # that another page leads to
ENGLISH = (*MAIN, *DEEPER)
CHINESE = tuple(name.replace(".md", ".zh-CN.md") for name in ENGLISH)
PAGES = (*ENGLISH, *CHINESE)
PAIRS = tuple(zip(ENGLISH, CHINESE, strict=True))
DEMO = "make demo\n"
IN_THE_CLONE = ("make ", "sh install.sh")  # everything else runs in a folder of the user's own
LONGEST_README = 125  # lines
NO_OPTIONS = {"key", "lora_r"}  # `key=value`, and another tool's name, as examples


def read(name: str) -> str:
    """A page."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(name), flags=re.MULTILINE | re.DOTALL)


def prose(name: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(name), flags=re.MULTILINE | re.DOTALL)


def code_in(name: str) -> list[str]:
    """What stands in backticks between the blocks."""
    return re.findall(r"`([^`\n]+)`", prose(name))


def links(name: str) -> list[str]:
    """The files that a page links to or shows, as paths from the root."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)|src=\"([^\"]+)\"", prose(name))
    return [os.path.normpath(Path(name).parent / (page or picture)).replace(os.sep, "/") for page, picture in targets]


def tree() -> list[str]:
    """The rooms in the tree of CONTRIBUTING.md, with the rooms they are in."""
    (drawn,) = blocks("CONTRIBUTING.md", "text")
    rooms, outer = [], ""
    for line in drawn.splitlines():
        name = line.split()[0]
        outer = outer if line.startswith(" ") else name
        rooms.append(outer + name if line.startswith(" ") else name)
    return rooms


def verbs(command: click.Command = ZAO, words: str = "zao") -> Iterator[str]:
    """Every command that does something: `zao plan`, `zao runs ls`."""
    if not isinstance(command, click.Group):
        yield words
        return
    for name in VERBS if command is ZAO else command.commands:
        below = command.get_command(click.Context(command), name)
        assert below is not None
        yield from verbs(below, f"{words} {name}")


@pytest.mark.parametrize("language", ["sh", "console", "json", "python"])
@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_have_the_same_blocks(english: str, chinese: str, language: str) -> None:
    assert blocks(english, language) == blocks(chinese, language)


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_have_the_same_sections(english: str, chinese: str) -> None:
    levels = [re.findall(r"^(?:#+(?= )|\||- |\d\. )", prose(name), flags=re.MULTILINE) for name in (english, chinese)]
    assert levels[0] == levels[1]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_name_the_same_options(english: str, chinese: str) -> None:
    """But for those that hold words of the language."""
    named = [sorted(filter(str.isascii, code_in(name))) for name in (english, chinese)]
    assert named[0] == named[1]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_link_to_each_other_and_to_the_same_pages(english: str, chinese: str) -> None:
    assert links(english)[0] == chinese and links(chinese)[0] == english
    own = [link.replace(".md", ".zh-CN.md") for link in links(english)[1:]]
    there = [new if (ROOT / new).is_file() else old for old, new in zip(links(english)[1:], own, strict=True)]
    assert links(chinese)[1:] == there


@pytest.mark.parametrize("pages", [ENGLISH, CHINESE])
def test_the_readme_is_short_and_leads_to_every_page(pages: tuple[str, ...]) -> None:
    assert len(read(pages[0]).splitlines()) <= LONGEST_README
    main, deeper = pages[: len(MAIN)], pages[len(MAIN) :]
    assert set(main[1:]) <= set(links(main[0]))
    assert set(deeper) <= {link for page in main for link in links(page)}


def test_the_tree_has_every_room_and_no_other() -> None:
    source = ROOT / "src" / "xiaozao"
    folders = {f"{path.parent.relative_to(source).as_posix()}/" for path in source.rglob("*/__init__.py")} - {"./"}
    modules = {path.name for path in source.glob("*.py")} - {"__init__.py"}
    assert sorted(tree()) == sorted(folders | modules)


@pytest.mark.parametrize("name", ["docs/cli.md", "docs/cli.zh-CN.md"])
def test_every_command_and_exit_code_is_named(name: str) -> None:
    mentioned = re.findall(r"`(zao [a-z ]*[a-z])", prose(name))
    assert sorted(verbs()) == sorted({words for words in mentioned if words in set(verbs())})
    raised = {one.exit_code for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "exit_code")}
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", prose(name), flags=re.MULTILINE)}
    assert listed == raised | {0, 130}


@pytest.mark.parametrize("name", PAGES)
def test_what_the_text_calls_a_command_is_one(name: str) -> None:
    """Commands and flags between the blocks: `zao runs ls`, `zao doctor --selftest`."""
    for words in (code.split()[1:] for code in code_in(name) if code.startswith("zao ")):
        verb: click.Command = ZAO
        for place, word in enumerate(words):
            if word.startswith("-"):
                assert any(word in parameter.opts for parameter in verb.get_params(click.Context(verb))), words
            elif isinstance(verb, click.Group):
                below = verb.get_command(click.Context(verb), word)
                assert below is not None, words[: place + 1]
                verb = below


@pytest.mark.parametrize("name", PAGES)
def test_what_the_text_calls_an_option_is_one(name: str) -> None:
    """`epochs=0.5` between the blocks is taken as a run would take it; of `budget=` and `data=FILE` the name is."""
    for code in code_in(name):
        given = dict(re.findall(r"(?<!\S)([a-z_]+)=(\S*)", code))
        given = {name: value for name, value in given.items() if name not in NO_OPTIONS}
        assert set(given) <= OPTIONS.keys(), code
        named = {option: value for option, value in given.items() if value and not value.isupper()}
        if named:
            RunSpec.from_options({"model": "m", "data": "d", **named})


@pytest.mark.parametrize("name", ["docs/training.md", "docs/training.zh-CN.md"])
def test_what_may_change_later_is_listed(name: str) -> None:
    (paragraph,) = [part for part in prose(name).split("\n\n") if "bad_rows=drop" in part]
    assert {*re.findall(r"`([a-z_]+)`", paragraph)} - {"output"} == set(LATER)


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md"])
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    assert [link for link in links(name) if not (ROOT / link).is_file()] == []
    sections = [
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"(?m)^#+ (.*)", read(name))
    ]
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", read(name)) if link not in sections] == []


@pytest.mark.parametrize("name", CHINESE)
def test_chinese_pages_keep_to_the_glossary_and_its_punctuation(name: str) -> None:
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)|<!--.*?-->", " ", prose(name))
    glossary = json.loads((files("xiaozao") / "texts" / "glossary.json").read_text(encoding="utf-8"))
    forbidden = [word for term in glossary["terms"] for word in term.get("not", ())]
    assert [word for word in forbidden if re.search(word, text)] == []
    assert re.findall(r".{0,9}[\u4e00-\u9fff”）] ?[,:;!?(](?! ?\d).{0,5}|\d %", text) == []


def reachable(url: str) -> bool:
    """Whether something answers there."""
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


def as_user(command: list[str], folder: Path, home: Path, cache: Path, **more: str) -> str:
    """What a command prints that a user with an empty home runs in a folder; it must succeed."""
    home.mkdir(exist_ok=True)
    variables = {
        **os.environ,
        "HOME": str(home),
        "ZAO_HOME": str(home / "xiaozao"),
        "ZAO_CACHE": str(cache),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "MAKEFLAGS": "",  # not a part of the make that runs the tests, with its ARGS
        "MAKELEVEL": "0",
        **more,
    }
    done = subprocess.run(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.real
@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell")
def test_every_command_of_the_pages_works(tmp_path: Path, session_cache: Path) -> None:
    """In the order of the pages, by one user in one folder. The first, the demo, is tests/worker/test_proof.py's.

    Where the index of torch's builds cannot be reached, the installer can only rehearse.
    """

    def run(command: list[str], folder: Path) -> str:
        return as_user(command, folder, tmp_path / "user", session_cache)

    write_chats(tmp_path / "my.jsonl", 8)  # the file that a user brings
    demo, *others = blocks(ENGLISH[0], "sh")
    assert demo == DEMO
    for block in (*others, *(block for name in ENGLISH[1:] for block in blocks(name, "sh"))):
        if block.startswith("sh install.sh") and not reachable("https://download.pytorch.org/whl/cpu/torch/"):
            block = block.replace("install.sh", "install.sh --dry-run")
        run(["sh", "-ex", "-c", block], ROOT if block.startswith(IN_THE_CLONE) else tmp_path)
    for block in (block for name in ENGLISH for block in blocks(name, "python")):
        assert "state='succeeded'" in run([sys.executable, "-W", "error", "-c", block], tmp_path)
    run(["zao", "runs", "show", "py-run"], tmp_path)
    assert "py-run" in run(["zao", "runs", "ls"], tmp_path)
    for made in ("my-run/adapter/adapter_config.json", "my-model/config.json"):
        assert (tmp_path / made).is_file()
    for block in (block for name in ENGLISH for block in blocks(name, "json")):
        (tmp_path / "row.jsonl").write_text(block, encoding="utf-8")
        run(["zao", "data", "check", "row.jsonl"], tmp_path)
