"""A run is held to its memory, and asks for its disk before it starts."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.toy import toy_folder
from xiaozao.errors import EnvironmentProblem
from xiaozao.events import Ended, Event, Noticed, Planned, Rehearsed, Split, Step
from xiaozao.machine.hardware import look
from xiaozao.machine.resident import rss
from xiaozao.runs.launch import environment
from xiaozao.spec.plan import MemoryPlan, Moment
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal, read_events
from xiaozao.worker.limits import check_disk, limited

CPU = torch.device("cpu")
PLAN = MemoryPlan((Moment("loss", {"weights": 7}),), 0, 1, 1, 1, 1)

ALLOCATES = """
import mmap, sys, torch
from xiaozao.machine.hardware import look
from xiaozao.machine.resident import rss
from xiaozao.spec.plan import MemoryPlan, Moment
from xiaozao.train.recover import is_memory
from xiaozao.worker.limits import limited
limit = rss() + 300_000_000
plan = MemoryPlan((Moment("loss", {}),), 0, 1, 1, 1, 1, keeps_below=7)
with limited(torch.device("cpu"), limit, look(), plan) as gauge:
    assert gauge.keeps == 7
    assert gauge.limit == limit
    kept = torch.ones(50_000_000 // 4)  # there is room for this
    try:
        torch.empty(800_000_000, dtype=torch.uint8)
    except RuntimeError as error:
        print("refused", is_memory(error))
    unused = mmap.mmap(-1, 280_000_000, mmap.MAP_PRIVATE)  # mapped and not resident, like what a heap gave back
    try:
        torch.empty(200_000_000, dtype=torch.uint8)
    except RuntimeError as error:
        print("refused", is_memory(error))
    gauge.given_back()
    torch.empty(200_000_000, dtype=torch.uint8)
torch.empty(800_000_000, dtype=torch.uint8)  # and afterwards for all
print("then given")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mapped memory on Linux alone")
def test_a_huge_allocation_is_refused_and_not_the_process_killed() -> None:
    words = [sys.executable, "-c", ALLOCATES]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())
    assert done.stdout.split("\n")[:3] == ["refused True", "refused True", "then given"], done.stderr


def test_the_limit_is_the_budget_but_never_more_than_is_free() -> None:
    hardware = dataclasses.replace(look(), memory_available=10 * 10**9)
    with limited(CPU, rss() + 10**9, hardware, PLAN) as gauge:
        assert gauge.limit is not None and abs(gauge.limit - rss() - 10**9) < 10**8 and gauge.planned == 7
    for budget in (None, 10**12):
        with limited(CPU, budget, hardware, PLAN) as gauge:
            assert gauge.limit is not None and abs(gauge.limit - rss() - 9.5 * 10**9) < 10**8
    with limited(CPU, None, hardware, PLAN, sharing=2) as gauge:
        assert gauge.limit is not None and abs(gauge.limit - rss() - 4.75 * 10**9) < 10**8


def test_a_run_that_the_disk_cannot_hold_is_refused_and_a_tight_one_is_told(tmp_path: Path) -> None:
    plan = MemoryPlan((Moment("loss", {"optimizer": 800 * 10**15}),), 1, 1, 1, 10**17, 10**17)
    spec = RunSpec.from_options({"model": "m", "data": "d", "save_every": 10, "precision": "bf16"})
    heard: list[Event] = []
    with pytest.raises(EnvironmentProblem) as found:
        check_disk(RunFolder(tmp_path / "run"), plan, spec, 100, look(), heard.append)
    assert found.value.params["needed"] == "5200000000.00" and float(str(found.value.params["free"])) > 0
    assert "keep=1" in str(found.value) and str(tmp_path) in str(found.value) and heard == []
    small = MemoryPlan((Moment("loss", {"optimizer": 8}),), 1, 1, 1, 1, 1)
    check_disk(RunFolder(tmp_path / "run"), small, spec, 100, look(), heard.append)
    assert heard == []
    free = look().disk_free(tmp_path)
    tight = MemoryPlan((Moment("loss", {"optimizer": free // 4}),), 1, 1, 1, 1, 1)
    check_disk(RunFolder(tmp_path / "run"), tight, spec, 100, look(), heard.append)
    assert [one.key for one in heard if isinstance(one, Noticed)] == ["disk_tight"]


# --- whole runs --------------------------------------------------------------------------------------------------

# Wide enough that a micro-batch weighs something: more than 100 kB for each token.
WIDE = {"hidden_size": 256, "intermediate_size": 2048, "num_hidden_layers": 6, "max_position_embeddings": 8192}
USUAL, LONG = 400, 3560  # characters of an answer, which are tokens; with its template one is eight times the other
BEFORE = Rehearsed(1, 1, 1, 1, None, 1.0)  # an earlier life of a run, which went through its rehearsal elsewhere

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""
OFFSET = """
import re, xiaozao.worker.jobs
status = open("/proc/self/status").read()
data, resident = (int(re.search(name + r":\\s+(\\d+)", status)[1]) for name in ("VmData", "VmRSS"))
print((data - resident) * 1024)
"""


def kitchen(tmp_path: Path) -> dict[str, object]:
    """A model and 24 rows, of which one is eight times as long as the others."""
    toy_folder(tmp_path / "model", **WIDE)
    with (tmp_path / "data.jsonl").open("w", encoding="utf-8") as file:
        for number in range(24):
            answer = f"{number} ".ljust(LONG if number == 13 else USUAL - 10 * (number % 3), "a")
            turns = [{"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    return {
        "model": str(tmp_path / "model"), "data": str(tmp_path / "data.jsonl"), "validation": "none", "epochs": 1,
        "batch": 8, "micro_batch": 8, "length": 8192, "threads": 1, "device": "cpu", "precision": "fp32", "rank": 4,
    }  # fmt: skip


def cook(path: Path, options: dict[str, object], limit: int | None = None, *past: Event) -> list[Event]:
    """A whole run in a process of its own, whose mapped memory may not grow beyond `limit` bytes."""
    folder = RunFolder(path)
    path.mkdir()
    folder.spec.write_text(RunSpec.from_options({**options, "output": str(path)}).to_yaml(), encoding="utf-8")
    with Journal(folder.events) as journal:
        for event in past:
            journal.record(event)
    words = [sys.executable, "-P", "-m", "xiaozao.worker.main", str(path)]
    if limit is not None:
        words = [sys.executable, "-c", LIMITED, str(limit), *words]
    done = subprocess.run(words, env=environment(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(read_events(folder.events))[len(past) :]


def told(events: list[Event]) -> list[tuple[float, ...]]:
    return [(one.step, one.loss, one.grad_norm, one.tokens) for one in events if isinstance(one, Step)]


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mapped memory on Linux alone")
def test_a_hidden_long_sample_under_a_hard_limit_does_not_end_the_run(tmp_path: Path) -> None:
    options = kitchen(tmp_path)
    free, alone = cook(tmp_path / "free", options), cook(tmp_path / "alone", {**options, "micro_batch": 1})
    large, small = (next(one for one in run if isinstance(one, Rehearsed)) for run in (free, alone))
    assert large.tokens == next(one for one in free if isinstance(one, Planned)).tokens > 1.5 * small.tokens
    assert large.peak_bytes > small.peak_bytes + 3 * 10**8 and not [one for one in free if isinstance(one, Split)]
    seen = subprocess.run([sys.executable, "-c", OFFSET], env=environment(), capture_output=True, text=True, check=True)
    # In the middle: pages of files (torch's own code, the weights) are in a measured peak but not in what is mapped, so
    # that a limit near the large one would let it through; and mapped memory that was freed in pieces stays mapped.
    limit = (large.peak_bytes + small.peak_bytes) // 2 + int(seen.stdout)

    rehearsed = cook(tmp_path / "rehearsed", options, limit)
    rescued = cook(tmp_path / "rescued", options, limit, BEFORE)
    splits = [[one for one in run if isinstance(one, Split)] for run in (rehearsed, rescued)]
    assert [[one.where for one in found] for found in splits] == [["rehearsal"], ["training"]]
    split = cook(tmp_path / "split", options, None, BEFORE, splits[0][0])
    assert not [one for one in split if isinstance(one, Split)]
    assert told(rehearsed) == told(rescued) == told(split) and len(told(split)) == 3
    for run in (rehearsed, rescued, split):
        ended = run[-1]
        assert isinstance(ended, Ended) and ended.state == "succeeded"
    whole = [one.loss for one in free if isinstance(one, Step)]
    assert [one[1] for one in told(split)] == pytest.approx(whole, rel=1e-4)
    adapters = [
        (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("rescued", "split")
    ]
    assert adapters[0] == adapters[1]
