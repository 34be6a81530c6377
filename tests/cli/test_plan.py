"""`zao plan`: what a run needs, before it starts, and exit 4 where it does not fit."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.toy import toy_folder, write_chats
from xiaozao.cli.console import Output
from xiaozao.cli.ladder_view import ladder_view
from xiaozao.cli.main import run
from xiaozao.cli.plan import show_choice
from xiaozao.cli.verb import OutputSettings
from xiaozao.events import Event
from xiaozao.events import Planned as PlannedEvent
from xiaozao.machine.hardware import look
from xiaozao.measure import rates
from xiaozao.plan import fit
from xiaozao.plan.ladder import Choice
from xiaozao.plan.memory import RUNTIMES
from xiaozao.spec.pace import StepTime
from xiaozao.spec.parts import FIRST
from xiaozao.spec.plan import PARTS, MemoryPlan, Moment
from xiaozao.spec.run import RunSpec, read_options
from xiaozao.store.files import RunFolder
from xiaozao.texts.catalogue import Language, say
from xiaozao.texts.numbers import gigabytes
from xiaozao.worker.ready import get_ready


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZAO_LANG", "en")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy_folder(tmp_path_factory.mktemp("toy")))


def test_a_plan_needs_no_data_and_takes_the_model_first(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", model, "rank=8", "length=64", "--budget", "8GB", "--device", "cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert set(document["parts"]) == set(PARTS)
    assert document["peak_bytes"] == sum(document["parts"].values()) <= document["budget_bytes"] == 8 * 10**9
    assert (document["verdict"], document["fits"]) == ("fits", True)
    assert document["options"]["rank"] == 8
    assert document["peak_bytes"] == max(moment["total"] for moment in document["moments"])


def test_a_pair_is_planned_as_two_sequences(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", model, "length=64", "micro_batch=4", "budget=8GB", "device=cpu", "--json"]
    tokens = []
    for objective in ("sft", "kto", "dpo"):
        assert run([*words, f"objective={objective}"]) == 0
        tokens.append(json.loads(capsys.readouterr().out)["tokens"])
    assert tokens == [256, 256, 512]


def test_a_plan_over_the_budget_is_4_and_is_drawn_all_the_same(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", f"model={model}", "budget=100MB", "device=cpu"]) == 4
    said = capsys.readouterr()
    assert said.out.startswith("✖ It does not fit")
    assert "[" not in said.err


def test_options_may_come_from_a_file_before_the_model(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("rank: 2\nlength: 32\nbudget: 8GB\ndevice: cpu\n", encoding="utf-8")
    assert run(["plan", str(file), model, "length=48", "--json"]) == 0
    options = json.loads(capsys.readouterr().out)["options"]
    assert (options["rank"], options["length"], options["model"]) == (2, 48, model)


def test_a_dry_run_of_train_is_the_same_plan(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_chats(tmp_path / "d.jsonl", 20)
    words = [f"model={model}", f"data={data}", "length=64", "budget=8GB", "device=cpu", "--json"]
    assert run(["plan", *words]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert run(["train", *words, "--dry-run"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert dry["moments"] == plan["moments"]
    assert [one["option"] for one in plan["effects"]] == ["micro_batch", "rank"]  # length changes nothing of real ones
    assert not (tmp_path / "home" / "runs").exists()


@pytest.mark.parametrize("words", [[], ["rank=3"], ["one", "two"]])
def test_a_plan_without_a_model_or_with_two_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *words]) == 2
    assert "[USAGE]" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(tmp_path / "no model"), "source=local"]) in (3, 8)
    assert "no model" in capsys.readouterr().err


def test_a_budget_that_this_machine_does_not_have_is_told(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    total = look().memory_total
    for budget, told in ((2 * total, True), (total // 2, False)):
        assert run(["plan", model, "device=cpu", "length=64", f"budget={budget}"]) == 0
        said = capsys.readouterr()
        text = say("plan.budget_over", "en", budget=gigabytes(budget), total=gigabytes(total))
        assert (text[:12] in said.err + said.out) == told


def test_a_budget_without_a_unit_is_told(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", model, "device=cpu", "length=64", "budget=500"]) == 4
    assert say("plan.budget_bytes", "en", budget=500) in " ".join(capsys.readouterr().err.split())


def test_the_same_run_in_the_hugging_face_stack(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", model, "--engine", "hf", "rank=8", "length=64", "micro_batch=2", "budget=8GB", "device=cuda"]
    assert run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["engine"] == "hf"
    assert document["peak_bytes"] <= document["reserved_bytes"] < document["process_bytes"]
    assert document["process_interval"][0] < document["process_bytes"] < document["process_interval"][1]
    assert document["process_bytes"] == sum(document["parts"].values())
    assert [moment["name"] for moment in document["moments"]] == ["load", "loss", "backward", "optimizer step"]
    assert run(words) == 0
    said = capsys.readouterr()
    assert "Hugging Face" in said.err + said.out
    assert run([*words, "budget=100MB"]) == 4


def test_the_micro_batch_of_that_stack_is_halved_until_it_fits(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", model, "--engine=hf", "length=512", "batch=64", "device=cuda", "--json"]
    assert run([*words, "budget=1GB"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["micro_batch"] < 64
    assert document["process_bytes"] <= document["budget_bytes"]


def test_what_that_stack_is_not_described_with_is_said_all_at_once(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [
        "adapter=dora",
        "checkpointing=selective",
        "optimizer=adafactor",
        "objective=dpo",
        "also=head",
        "device=cpu",
    ]
    assert run(["plan", model, "--engine", "hf", "budget=8GB", *wrong]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in wrong)
    other = tmp_path / "gpt2"
    toy_folder(other)
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}), encoding="utf-8")
    assert run(["plan", str(other), "--engine", "hf", "budget=8GB", "device=cuda"]) == 9
    assert "gpt2" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--engine=hf"], []])
def test_without_a_gpu_and_a_budget_a_plan_for_one_is_compared_with_nothing(
    words: list[str], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if look().gpus:
        pytest.skip("there is a GPU here")
    asked = ["plan", model, *words, "length=64", "batch=2", "device=cuda"]
    assert run([*asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["fits"] is None and document["budget_bytes"] is None
    assert document["verdict"] == "no_budget" and document["micro_batch"] == 2
    assert run(asked) == 0
    assert "nothing to compare this with" in capsys.readouterr().out


def test_on_a_gpu_it_says_what_is_allocated_what_is_reserved_and_what_the_process_takes(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "SMALL", 0)
    decided = [f"{name}={value}" for name, value in FIRST.items()]
    asked = ["plan", model, "length=64", "batch=4", "device=cuda", "budget=8GB", "precision=bf16", *decided]
    assert run([*asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["traced"] and document["fits"]
    assert 0 < document["peak_bytes"] < document["reserved_bytes"] < document["process_bytes"]
    assert document["process_bytes"] == document["reserved_bytes"] + RUNTIMES["cuda"] == sum(document["parts"].values())
    assert run([*asked, "devices=2", "--json"]) == 0
    unknown = json.loads(capsys.readouterr().out)
    assert unknown["reserved_bytes"] is None and unknown["process_bytes"] == unknown["peak_bytes"] + RUNTIMES["cuda"]
    assert run(asked) == 0
    assert gigabytes(document["reserved_bytes"]) in capsys.readouterr().err


STEP = StepTime(products=8.0, memory=3.0, fresh=1.0, calls=0.25, update=0.5)


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_time_of_a_step_is_told_where_it_is_known(
    language: Language, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = RunSpec.from_options({"data": "none", "model": model, "batch": 8})
    whole = MemoryPlan((Moment("load", dict.fromkeys(PARTS, 10)),), 10**9, 2, 200, 1, 1, step=STEP)
    assert show_choice(Choice(spec, whole), Output(OutputSettings(language=language, format="human"))) == 0
    said = capsys.readouterr().out
    assert re.search(r"\b13\b", said) and re.search(r"\b800\b", said)  # seconds; tokens of four micro-batches
    assert (
        show_choice(Choice(spec, replace(whole, step=None)), Output(OutputSettings(language=language, format="human")))
        == 0
    )
    assert len(capsys.readouterr().out) < len(said)
    untold = Choice(spec.with_options(batch=7), whole, unpaced=True)
    assert show_choice(untold, Output(OutputSettings(language=language, format="human"))) == 0
    assert re.search(r"\b700\b", capsys.readouterr().out)  # the last micro-batch has one sample
    untold = replace(untold, plan=replace(whole, step=None))
    assert show_choice(untold, Output(OutputSettings(language=language, format="human"))) == 0
    assert say("plan.busy", language) in capsys.readouterr().out.replace("\n", " ")
    assert show_choice(Choice(spec, whole), Output(OutputSettings(format="json"))) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["step_seconds"] == 12.75
    assert document["step_parts"] == {"products": 8.0, "memory": 3.0, "fresh": 1.0, "calls": 0.25, "update": 0.5}


@pytest.mark.real
def test_a_model_that_is_traced_has_a_time_that_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "busy", lambda: False)
    folder = toy_folder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "vocab_size": 20_000}  # a plan reads no weight
    (folder / "config.json").write_text(json.dumps({**config, **sizes, "head_dim": 64}), encoding="utf-8")
    words = ["plan", str(folder), "length=64", "batch=4", "micro_batch=2", "budget=8GB", "device=cpu", "threads=1"]
    assert run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["step_seconds"] > 0
    assert document["step_seconds"] == pytest.approx(sum(document["step_parts"].values()))
    assert run(words) == 0
    assert "a step of 4 samples (256 tokens)" in capsys.readouterr().out


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_what_gave_way_is_summed_up(language: Language) -> None:
    steps: list[dict[str, object]] = [
        {"option": "checkpointing", "before": "none", "after": "block", "saves_bytes": 2 * 10**9, "slower": 1.5},
        {"option": "base", "before": "none", "after": "nf4", "saves_bytes": 10**8, "slower": 2.0},
    ]
    *_, last = ladder_view(steps, language)
    assert "2.10 GB" in str(last) and "3.00" in str(last)
    *_, last = ladder_view(steps[:1], language)
    assert "2.00 GB" in str(last) and "1.50" in str(last) and "block" in str(last)
    assert ladder_view([], language) == []


def test_a_plan_with_data_is_that_of_the_worker(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real lengths, not `length`: the same largest micro-batch as the run's own plan."""
    data = write_chats(tmp_path / "d.jsonl", 40)
    words = [f"data={data}", "length=256", "batch=8", "micro_batch=4", "budget=8GB", "device=cpu", "steps=3"]
    assert run(["plan", model, *words, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["data"]["samples"] == 38 and planned["data"]["steps"] == 3
    assert planned["data"]["longest"] < 64 and planned["tokens"] <= 4 * planned["data"]["longest"]
    assert run(["plan", model, *words[1:], "--json"]) == 0
    unknown = json.loads(capsys.readouterr().out)
    assert unknown["tokens"] == 4 * 256 and unknown["data"] is None
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    spec = RunSpec.from_options({"model": model, "output": str(folder.path), **read_options(words)})
    folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
    told: list[Event] = []
    get_ready(folder, told.append)
    own = next(one for one in told if isinstance(one, PlannedEvent))
    assert (own.tokens, own.micro_batch, own.steps) == (planned["tokens"], 4, 3)
    assert own.parts["activations"] == planned["parts"]["activations"]


def test_a_dry_run_refuses_what_check_refuses(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_chats(tmp_path / "d.jsonl", 20)
    with data.open("a", encoding="utf-8") as file:
        file.write('{"messages": [{"role": "nobody", "content": "x"}]}\n')
    words = ["train", f"model={model}", f"data={data}", "length=64", "budget=8GB", "device=cpu", "--dry-run"]
    assert run(["data", "check", str(data)]) == 3
    assert run(words) == 3
    assert "line 21" in capsys.readouterr().err
    assert run([*words, "bad_rows=drop", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["data"]["longest"] < 64 and document["tokens"] < 64 * 16
    assert not (tmp_path / "home" / "runs").exists()


@pytest.mark.parametrize("engine", ["xiaozao", "hf"])
@pytest.mark.parametrize("name", ["", "config.json"])
def test_a_plan_needs_no_weights_where_the_config_says_the_shapes(
    engine: str, name: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(Path(model) / "config.json", tmp_path)
    words = ["length=64", "budget=8GB", "--engine", engine, "--json"]
    assert run(["plan", str(tmp_path / name), *words]) == 0
    bare = json.loads(capsys.readouterr().out)
    assert run(["plan", model, *words]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert bare["peak_bytes"] == whole["peak_bytes"] and bare["parameters"] == whole["parameters"]
    assert run(["train", f"model={tmp_path}", f"data={write_chats(tmp_path / 'd.jsonl', 9)}", "--dry-run"]) == 8
    assert "weights" in capsys.readouterr().err


def test_a_plan_with_data_asks_for_the_tokenizer(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(Path(model) / "config.json", tmp_path)
    data = write_chats(tmp_path / "d.jsonl", 9)
    assert run(["plan", str(tmp_path), f"data={data}", "length=64"]) == 9
    assert "tokenizer.json" in capsys.readouterr().err
    for path in Path(model).glob("*token*"):
        shutil.copy(path, tmp_path)
    shutil.copy(Path(model) / "chat_template.jinja", tmp_path)
    assert run(["plan", str(tmp_path), f"data={data}", "length=64", "budget=8GB"]) == 0
    assert run(["plan", str(tmp_path), "data=typo.jsonl"]) == 8
