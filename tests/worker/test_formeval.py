"""The test of form and relevance through the command line, on a toy."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.worker.finished import finished_run
from xiaozao.cli.main import run
from xiaozao.evaluate.record import read_records
from xiaozao.store.files import RunFolder

INTENTS = ("refund", "delivery")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that has ended, with an adapter on a toy, trained on answers that are JSON."""
    for name, first, count in (("d", 0, 24), ("q", 100, 4)):
        rows = [
            {"messages": [{"role": "user", "content": f"my {INTENTS[n % 2]} {n}"},
                          {"role": "assistant", "content": json.dumps({"kind": INTENTS[n % 2], "n": n})}],
             "intent": INTENTS[n % 2]}
            for n in range(first, first + count)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return finished_run(tmp_path, monkeypatch, str(tmp_path / "d.jsonl"))


def evaluate(made: RunFolder, *more: str) -> int:
    return run(["eval", "format", str(made.path), "--tokens", "6", "--threads", "1", *more])


def result(made: RunFolder) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(made.evaluation("format").standing.read_text(encoding="utf-8"))
    return document


def test_three_sit_the_questions_and_another_form_judges_without_asking(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--questions", str(tmp_path / "q.jsonl")]
    assert evaluate(made, *asked) == 0
    told = capsys.readouterr().out
    assert "a JSON object with the keys kind, n" in told and "not a JSON object" in told
    document = result(made)
    assert set(document["sittings"]) == {"base", "prompted", "tuned"} and document["n"] == 4
    assert document["form"]["schema"]["properties"]["kind"]["enum"] == ["delivery", "refund"]
    assert document["sittings"]["tuned"]["measures"]["strict"]["count"] == 0
    assert document["sittings"]["tuned"]["intent"] is not None
    assert len(document["failures"]) == 4
    assert document["leaks"]["rows"] == 24 and document["leaks"]["tuned"] == {"count": 0, "shown": []}
    assert "of 24 training rows" in told
    assert document["obedience"]["n"] == 40 and "Orders of form that differ from your data" in told
    answers = made.evaluation("format").recorded.read_bytes()
    (tmp_path / "any.json").write_text('{"most": 100000}', encoding="utf-8")
    assert evaluate(made, *asked, "--contract", str(tmp_path / "any.json"), "--json") == 0
    anew = json.loads(capsys.readouterr().out)
    assert anew["sittings"]["tuned"]["measures"]["strict"]["share"] == 1
    assert made.evaluation("format").recorded.read_bytes() == answers
    assert result(made) == document


def test_what_the_prompted_base_reads_are_examples_of_the_training_data(made: RunFolder, tmp_path: Path) -> None:
    assert evaluate(made, "--questions", str(tmp_path / "q.jsonl"), "--examples", "2") == 0
    told = {one.key: one for one in read_records(made.evaluation("format").recorded)}
    base, prompted = told["base", "questions", "0"], told["prompted", "questions", "0"]
    assert base.asked != prompted.asked == told["prompted", "questions", "0"].asked
    assert base.asked == told["tuned", "questions", "0"].asked


def test_the_learned_form_is_written_without_asking(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "contract.json"
    words = ["--questions", str(tmp_path / "q.jsonl"), "--write-contract", str(path)]
    assert evaluate(made, *words) == 0
    assert json.loads(path.read_text(encoding="utf-8"))["kind"] == "json"
    assert not made.evaluation("format").path.exists()
    capsys.readouterr()
    assert evaluate(made, *words) == 2  # it is there and may have been edited
    assert "add --yes" in capsys.readouterr().err
    assert evaluate(made, *words, "--yes") == 0
    assert evaluate(made, "--questions", str(tmp_path / "q.jsonl"), "--contract", str(path)) == 0
    assert "not a JSON object" in capsys.readouterr().out


def test_the_command_that_is_advised_goes_on_with_the_evaluation(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my questions").mkdir()
    asked = (tmp_path / "q.jsonl").rename(tmp_path / "my questions" / "q.jsonl")
    settings = ["--questions", str(asked), "--limit", "3", "--examples", "0", "--system", "Say it's so."]
    assert evaluate(made, *settings) == 0
    first = capsys.readouterr()
    assert evaluate(made, "--questions", str(asked), "--limit", "2") == 2
    told = capsys.readouterr().err
    assert "--limit, --system, --examples" in told and "asked" not in told
    command = told[told.index("zao eval") :].splitlines()[0]
    made.evaluation("format").standing.unlink()
    assert run(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == first.out


def test_a_program_gets_one_document_whether_it_is_asked_first_or_again(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--questions", str(tmp_path / "q.jsonl"), "--examples", "0", "--json"]
    assert evaluate(made, *words) == 0
    first = json.loads(capsys.readouterr().out)
    assert evaluate(made, *words) == 0
    assert json.loads(capsys.readouterr().out) == first and first["n"] == 4
    assert evaluate(made, *words, "--again", "--budget", "1MB") == 4
    told = json.loads(capsys.readouterr().out)["error"]
    assert told["key"] == "eval_too_big" and told["exit_code"] == 4 and "--budget" in told["fix"]


def test_an_option_that_cannot_be_heeded_is_refused_and_a_wrong_one_discards_nothing(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--questions", str(tmp_path / "q.jsonl"), "--examples", "0"]
    assert evaluate(made, *asked) == 0
    (tmp_path / "any.json").write_text("{}", encoding="utf-8")
    assert evaluate(made, *asked, "--again", "--detach", "--contract", str(tmp_path / "any.json")) == 2
    assert evaluate(made, "--questions", str(tmp_path / "none.jsonl"), "--again") == 8
    capsys.readouterr()
    assert result(made)["n"] == 4


def test_a_result_whose_weights_are_no_numbers_is_told(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = made.adapter / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights)
    (made.adapter / "manifest.json").unlink()
    assert evaluate(made, "--questions", str(tmp_path / "q.jsonl"), "--examples", "0") == 3
    assert "The tuned model computes no numbers" in capsys.readouterr().err
    assert run(["eval", "bench", str(made.path), "--limit", "1", "--threads", "1", "--once"]) == 3
    assert "The tuned model computes no numbers" in capsys.readouterr().err


def test_a_result_that_is_damaged_is_judged_anew_and_nothing_is_asked(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--questions", str(tmp_path / "q.jsonl"), "--examples", "0"]
    assert evaluate(made, *asked) == 0
    folder, told = made.evaluation("format"), capsys.readouterr().out
    answers, whole = folder.recorded.read_bytes(), folder.standing.read_text(encoding="utf-8")
    other = tmp_path / "other.json"
    other.write_text("{}", encoding="utf-8")
    for damaged in ('{"v": 1', '{"v": 1}', "[]", whole.replace('"n": 4', '"n": null')):
        folder.standing.write_text(damaged, encoding="utf-8")
        assert evaluate(made, *asked) == 0
        assert capsys.readouterr().out == told
    folder.standing.unlink()
    folder.standing.symlink_to(other)
    assert evaluate(made, *asked) == 3
    assert "is a link to" in capsys.readouterr().err and other.read_text(encoding="utf-8") == "{}"
    folder.standing.unlink()
    assert evaluate(made, *asked) == 0
    assert folder.recorded.read_bytes() == answers
    folder.recorded.write_bytes(answers[: answers.index(b"\n") + 1])
    assert evaluate(made, *asked, "--contract", str(other)) == 3
    assert "87 of 88 recorded answers" in capsys.readouterr().err


def test_a_run_without_questions_is_told_to_name_some(made: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(made) == 2
    assert "--questions FILE" in capsys.readouterr().err


def test_the_report_takes_what_the_test_wrote(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(made, "--questions", str(tmp_path / "q.jsonl")) == 0
    capsys.readouterr()
    assert run(["eval", "report", str(made.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["format"] == result(made) and told["pairs"][0]["kind"] == "failure"
    assert "with examples in the prompt" in told["sentence"]


def test_rows_that_cannot_be_asked_are_counted(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": said}]} for said in ("a", "")
    ]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert evaluate(made, "--questions", str(tmp_path / "some.jsonl"), "--examples", "0") == 0
    assert "are not asked: 1." in capsys.readouterr().err and result(made)["n"] == 1


@pytest.mark.parametrize("gone", ["q.jsonl", "d.jsonl"])
def test_a_finished_result_is_shown_without_the_files_it_was_made_from(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: str
) -> None:
    asked = ["--questions", str(tmp_path / "q.jsonl")]
    assert evaluate(made, *asked) == 0
    first = capsys.readouterr().out
    (tmp_path / gone).unlink()
    assert evaluate(made, *asked) == 0
    told = capsys.readouterr()
    assert told.out == first and gone in told.err
    assert evaluate(made, *asked, "--limit", "2") == 2  # other settings are other settings still
    (tmp_path / "any.json").write_text("{}", encoding="utf-8")
    assert evaluate(made, *asked, "--contract", str(tmp_path / "any.json")) == 8
    assert evaluate(made, *asked, "--again") == 8
    assert result(made)["n"] == 4


@pytest.mark.parametrize(
    ("words", "others"),
    [
        (["--write-contract", "new.json", "--contract", "any.json"], "--contract"),
        (["--write-contract", "new.json", "--again", "--detach"], "--again, --detach"),
        (["--write-contract", "new.json", "--stop"], "--stop"),
        (["--stop", "--again"], "--again"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    made: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], others: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "any.json").write_text("{}", encoding="utf-8")
    assert evaluate(made, "--questions", str(tmp_path / "q.jsonl"), *words) == 2
    assert f"{words[0]} would ignore: {others}" in capsys.readouterr().err
    assert not (tmp_path / "new.json").exists()


def test_the_command_that_goes_on_names_the_contract(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "my contract.json"
    contract.write_text('{"most": 100000}', encoding="utf-8")
    asked = ["--questions", str(tmp_path / "q.jsonl"), "--limit", "3"]
    assert evaluate(made, *asked, "--contract", str(contract)) == 0
    first = capsys.readouterr().out
    assert evaluate(made, "--questions", str(tmp_path / "q.jsonl"), "--contract", str(contract)) == 2
    told = capsys.readouterr().err
    command = told[told.index("zao eval") :].splitlines()[0]
    assert str(contract) in command
    assert run(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == first


def test_a_question_longer_than_the_context_is_left_out_also_when_judged_anew(
    made: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": f"so {at}"}]}
        for at, said in enumerate(("short", "long " * 300, "brief"))
    ]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = ["--questions", str(tmp_path / "some.jsonl"), "--examples", "0"]
    assert evaluate(made, *asked) == 0
    assert "left out before and after: 1" in capsys.readouterr().out
    document = result(made)
    assert document["too_long"] == {"questions": ["1"]} and document["n"] == 2
    assert [one["question"] for one in document["failures"]] == ["short", "brief"]
    (tmp_path / "any.json").write_text('{"least": 1}', encoding="utf-8")
    assert evaluate(made, *asked, "--contract", str(tmp_path / "any.json")) == 0
