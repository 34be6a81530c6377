"""The two READMEs say the same, and every command in them works."""

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import click
import pytest

from xiaozao.cli.main import VERBS, ZAO

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
DEMO = "make demo\n"
IN_THE_CLONE = ("make ", "sh install.sh")  # everything else runs in a folder of the user's own


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def rooms(name: str) -> list[str]:
    """The first words of the lines of the tree."""
    (tree,) = blocks(name, "text")
    return [line.split()[0] for line in tree.splitlines()]


@pytest.mark.parametrize("language", ["sh", "python"])
def test_both_readmes_have_the_same_commands(language: str) -> None:
    english, chinese = (blocks(name, language) for name in READMES)
    assert english
    assert english == chinese


def test_both_readmes_have_the_same_sections() -> None:
    levels = [
        re.findall(r"^#+(?= )", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE) for name in READMES
    ]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("name", READMES)
def test_the_tree_has_every_room_and_no_other(name: str) -> None:
    source = ROOT / "src" / "xiaozao"
    folders = {f"{path.name}/" for path in source.iterdir() if (path / "__init__.py").is_file()}
    files = {path.name for path in source.glob("*.py")} - {"__init__.py"}
    assert sorted(rooms(name)) == sorted(folders | files)


@pytest.mark.parametrize("name", READMES)
def test_every_verb_is_named(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"`zao {verb}" not in text] == []


@pytest.mark.parametrize("name", READMES)
def test_what_the_text_calls_a_command_is_one(name: str) -> None:
    """Verbs and flags between the blocks: `zao runs ls`, `zao doctor --selftest`."""
    mentioned = re.findall(r"`zao ([a-z][^`]*)`", (ROOT / name).read_text(encoding="utf-8"))
    assert mentioned
    for words in map(str.split, mentioned):
        verb: click.Command = ZAO
        for place, word in enumerate(words):
            if word.startswith("-"):
                assert any(word in parameter.opts for parameter in verb.params), words
            elif isinstance(verb, click.Group):
                found = verb.get_command(click.Context(verb), word)
                assert found is not None, words[: place + 1]
                verb = found


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md"])
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).is_file()] == []


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
def test_every_command_of_the_readme_works(tmp_path: Path, session_cache: Path) -> None:
    """In the order of the page, as one user would, in one folder. The first, the demo, is tests/worker/test_proof.py's.

    Where the index of torch's builds cannot be reached, the installer can only rehearse.
    """

    def run(command: list[str], folder: Path) -> str:
        return as_user(command, folder, tmp_path / "user", session_cache)

    demo, *others = blocks("README.md", "sh")
    assert demo == DEMO
    for block in others:
        if block.startswith("sh install.sh") and not reachable("https://download.pytorch.org/whl/cpu/torch/"):
            block = block.replace("install.sh", "install.sh --dry-run")
        run(["sh", "-ex", "-c", block], ROOT if block.startswith(IN_THE_CLONE) else tmp_path)
    for block in blocks("README.md", "python"):
        assert "state='succeeded'" in run([sys.executable, "-W", "error", "-c", block], tmp_path)
    for made in ("my-run/adapter/adapter_config.json", "my-model/config.json"):
        assert (tmp_path / made).is_file()
