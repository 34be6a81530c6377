"""`zao models suggest`: one recommended, the others in a table, without a connection."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.models.make import model_folder
from xiaozao.cli.main import run
from xiaozao.machine import hardware
from xiaozao.measure.rates import key
from xiaozao.plan.duration import TYPICAL
from xiaozao.plan.modelcatalogue import catalogue
from xiaozao.plan.profile_cache import keep_if_possible
from xiaozao.spec.pace import RATES, Asked
from xiaozao.store.files import cache


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of our own, English, no GPU, and no network: any socket to elsewhere is refused and fails the test."""
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.setattr(hardware, "gpus", lambda: ())

    def refuse(*_: object) -> None:
        raise AssertionError("no connection is needed for a suggestion")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


ASK = ["models", "suggest", "--job", "support", "--language", "zh", "--budget", "8GB", "--device", "cuda"]


def document(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert run([*words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_one_is_recommended_with_a_reason_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *ASK)
    assert run(ASK) == 0
    first, reason, following, *_ = capsys.readouterr().out.splitlines()
    assert first == f"Recommended: {found['recommended']}"
    assert "largest size that fits into 8.0 GB" in reason and "zh" in reason and "business use: yes" in reason
    options = found["models"][0]["options"]
    assert options["base"] == "nf4"
    assert following.endswith(f"zao plan {found['recommended']} base=nf4 checkpointing=block budget=8GB device=cuda")
    assert "on the machine with the card" in following
    assert run([*ASK, "-q"]) == 0
    assert capsys.readouterr().out == f"{found['recommended']}\n"


def test_the_table_names_what_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASK, "--language", "en", "--all"]) == 0
    text = capsys.readouterr().out
    assert "samples of 2048 tokens" in text
    for words in ("research only", "700 million", "Google's terms", "switchable", "does not fit", "base=nf4", "MIT"):
        assert words in text
    assert "hours" not in text
    assert "more: --all" not in text
    assert run([*ASK, "--language", "en"]) == 0
    assert "more: --all" in capsys.readouterr().out


def test_a_language_that_is_only_named_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASK, "--language", "de"]) == 0
    assert "whose card names the language de" in capsys.readouterr().out
    assert run(ASK) == 0
    assert "makers' own language is zh" in capsys.readouterr().out


@pytest.mark.parametrize(("budget", "device"), [("8GB", "cpu"), ("24GB", "cpu")])
def test_what_is_said_to_fit_fits_by_zao_plan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, budget: str, device: str
) -> None:
    """The plan of the very model says so too; it traces a step, where a suggestion estimates from the config alone."""
    first = document(capsys, *ASK[:-4], "--budget", budget, "--device", device)["models"][0]
    from_config = {**first["config"], "model_type": "qwen3"}
    folder = plannable(tmp_path / "model", from_config)
    options = [f"{name}={value}" for name, value in first["options"].items()]
    planned = document(capsys, "plan", str(folder), *options, f"budget={budget}", f"device={device}")
    assert planned["peak_bytes"] == pytest.approx(first["peak_bytes"], rel=0.08)  # it knows what the heap may keep
    assert planned["fits"]


def plannable(folder: Path, config: dict[str, Any]) -> Path:
    """A folder that passes for a model whose weights nobody reads."""
    model_folder(folder)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_nothing_that_fits_names_the_smallest_that_would(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*ASK[:-4], "--budget", "1GB", "--device", "cpu"]
    found = document(capsys, *words, code=4)
    assert found["recommended"] is None
    assert run(words) == 4
    text = capsys.readouterr().out
    least = min(found["models"], key=lambda one: one["peak_bytes"])
    assert text.startswith("Nothing in the catalogue that suits fits into 1.0 GB.")
    assert f"{least['name']}: it needs {least['peak_bytes'] / 1e9:.1f} GB with base=nf4" in text


def test_a_small_recommendation_is_called_weak(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASK[:-4], "--budget", "3GB", "--device", "cpu"]) == 0
    assert "Models below 1.5 B are often weak at customer service" in capsys.readouterr().out


def test_the_language_is_that_of_the_reader_unless_it_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["models", "suggest", "--job", "classify", "--budget", "8GB"]
    assert document(capsys, *words)["language"] == "en"
    assert document(capsys, *words, "--language", "zh_CN")["language"] == "zh"
    monkeypatch.setenv("ZAO_LANG", "zh-CN")
    assert document(capsys, *words)["language"] == "zh"
    assert run(words) == 0
    assert capsys.readouterr().out.startswith("推荐：")


def test_without_a_budget_it_is_what_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    total = hardware.look().memory_total
    assert 0 < document(capsys, "models", "suggest", "--job", "classify")["budget_bytes"] <= total


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--budget", "much"], 2, "much is no amount of memory"),
        (["--device", "cuda"], 2, "--device cuda --budget"),
        (["--language", "xx", "--budget", "8GB"], 8, "Named are: ar"),
        (["--job", "cook"], 2, "--job"),
    ],
)
def test_what_cannot_be_answered_is_said(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert run(["models", "suggest", "--job", "support", *words]) == code
    assert said in capsys.readouterr().err


def test_every_entry_reaches_a_program_whole(capsys: pytest.CaptureFixture[str]) -> None:
    shown = document(capsys, *ASK)["models"]
    assert {one["name"] for one in shown} <= {one.name for one in catalogue()}
    assert all(one["source"] and one["modelscope"] for one in shown)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_hours_stand_there_on_a_cpu_that_was_measured(
    language: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    ask = [*ASK[:-1], "cpu"]
    assert "1000" not in (run(ask), capsys.readouterr().out)[1]
    asked = Asked(hardware.cores(), "bf16" if hardware.fast_bf16() else "fp32")
    keep_if_possible(cache() / "rates" / f"{key(asked)}.json", RATES.dump_json(TYPICAL))
    run(ask)
    assert "1000" in capsys.readouterr().out
    found = {one["name"]: one["hours"] for one in document(capsys, *ask, "--all")["models"]}
    small, large = found["Qwen/Qwen2.5-0.5B-Instruct"], found["Qwen/Qwen2.5-1.5B-Instruct"]
    assert 0 < small < large
    run([*ask[:-1], "cuda", "--json"])
    assert all(one["hours"] is None for one in json.loads(capsys.readouterr().out)["models"])
