"""`zao launch`: the file it writes, what it says about it, and what it refuses."""

import json
from pathlib import Path

import pytest

from xiaozao.cli.main import run
from xiaozao.launch.targets import TARGETS
from xiaozao.texts.catalogue import LANGUAGES

WORDS = ["launch", "model=m", "data=/shared/d.jsonl", "output=/shared/my run", "devices=4", "--nodes", "2"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZAO_LANG", "en")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("target", TARGETS)
def test_it_says_what_it_wrote_what_to_change_and_how_to_submit(
    target: str, language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAO_LANG", language)
    assert run([*WORDS, "--on", target]) == 0
    (file,) = tmp_path.iterdir()
    assert file.name == "my-run" + TARGETS[target].suffix
    said = capsys.readouterr().out
    for part in (file.name, "8", "/shared/my run", " ".join(TARGETS[target].submit(file.name)), "stop"):
        assert part in said.replace("\n", " ")


def test_a_program_gets_the_same_as_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*WORDS, "--on", "slurm", "--file", "a b.sbatch", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["nodes"], document["devices"]) == ("a b.sbatch", 2, 4)
    assert document["submit"] == "sbatch 'a b.sbatch'"


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.sbatch"
    file.write_text("mine", encoding="utf-8")
    assert run([*WORDS, "--on", "slurm", "--file", str(file)]) == 2
    said = capsys.readouterr().err
    assert "job.sbatch is there already" in said
    assert "--force" in said
    assert file.read_text(encoding="utf-8") == "mine"
    assert run([*WORDS, "--on", "slurm", "--file", str(file), "--force"]) == 0
    assert "torchrun" in file.read_text(encoding="utf-8")


def test_a_job_needs_a_folder_that_all_machines_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([word for word in WORDS if not word.startswith("output")] + ["--on", "slurm"]) == 2
    assert "output=/shared/my-run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_options_that_no_run_could_have_are_refused_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*WORDS, "--on", "slurm", "batch=6"]) == 2
    assert "devices=8 is more than batch=6" in capsys.readouterr().err
    assert run([*WORDS, "--on", "slurm", "rnak=6"]) == 2
    assert "rank" in capsys.readouterr().err


def test_a_target_must_be_one_of_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*WORDS, "--on", "lsf"]) == 2
    assert "slurm" in capsys.readouterr().err
    assert run(WORDS) == 2
    assert "on is missing" in capsys.readouterr().err
    assert run([*WORDS, "--on", "slurm", "--nodes", "0"]) == 2


def test_a_folder_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*WORDS, "--on", "slurm", "--file", "no/such/folder/job"]) == 9
    assert "job cannot be written" in capsys.readouterr().err


def test_a_path_of_this_machine_is_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.jsonl").write_text("{}\n", encoding="utf-8")
    assert run(["launch", "model=m", "data=d.jsonl", "output=/shared/r", "--on", "slurm"]) == 0
    assert "data=d.jsonl is a path on this machine" in capsys.readouterr().out
