"""The plan against runs that were measured on GPUs, where their file is at hand: ZAO_TRUTH=FILE.csv."""

import os
from pathlib import Path

import pytest

from bench.rig.plan_gpu_page import groups, plan_gpu_page
from bench.rig.truth import PHASES, Row, Scored, planned, read_truth, run_of, score, summary
from xiaozao.plan.hf.step import HfRun, replay
from xiaozao.plan.workload import ModelShape

FIELDS = {
    "source": "made up#0", "gpu": "Tesla T4", "transformers": "5.0.0", "model": "some/Tiny", "mode": "train",
    "arch": '{"num_params":27936,"hidden_size":32,"num_layers":2,"num_attention_heads":4,"num_kv_heads":2,'
            '"intermediate_size":48,"vocab_size":384,"head_dim":8,"tie_word_embeddings":true}',
    "quant": "none", "precision": "fp16", "batch": "2", "seq": "16", "attn": "flash", "lora_rank": "4",
    "lora_targets": "q_proj+v_proj", "grad_ckpt": "True", "optimizer": "AdamW fp32 states",
    "peak_forward_bytes": "1", "peak_allocated_bytes": "20000000",
}  # fmt: skip


@pytest.fixture(scope="module")
def scored() -> list[Scored]:
    path = os.environ.get("ZAO_TRUTH")
    if not path:
        pytest.skip("ZAO_TRUTH names no file of measured runs")
    return score(read_truth(Path(path)))


@pytest.mark.parametrize(
    ("group", "name", "mean", "worst"),
    [("SDPA and flash", "allocated", 0.006, 0.015), ("eager", "allocated", 0.02, 0.05), ("all", "reserved", 0.03, 1.0)],
)
def test_the_plan_is_what_was_measured(scored: list[Scored], group: str, name: str, mean: float, worst: float) -> None:
    _, found_mean, found_worst = summary(groups(scored)[group], name)
    assert found_mean <= mean
    assert found_worst <= worst


@pytest.mark.parametrize("phase", PHASES)
def test_so_is_every_phase(scored: list[Scored], phase: str) -> None:
    _, mean, worst = summary(scored, phase)
    assert mean <= 0.003
    assert worst <= 0.015


def test_a_16_bit_base_is_planned_to_two_megabytes(scored: list[Scored]) -> None:
    plain = [one for one in scored if one.row.run.base == "none" and one.row.gpu == "T4"]
    assert all(abs(one.planned["allocated"] - one.row.measured["allocated"]) <= 2**21 for one in plain)
    assert all(one.planned["weights"] == one.row.measured["weights"] for one in plain)


def test_a_row_is_read_as_the_run_it_was() -> None:
    run = run_of(FIELDS)
    assert run == HfRun(
        ModelShape(32, 2, 4, 2, 8, 48, 384, True), 2, 16, rank=4, targets=("q_proj", "v_proj"), half=True,
        attention="efficient", checkpointing=True, bias=True,
    )  # fmt: skip
    old = run_of({**FIELDS, "gpu": "RTX A6000", "transformers": "4.57.6", "precision": "amp:bf16", "lora_rank": "",
                  "attn": "sdpa", "peak_forward_bytes": "", "optimizer": "adamw"})  # fmt: skip
    assert (old.task, old.stored, old.autocast, old.accumulates, old.transformers) == ("full", 4, True, True, 4)


def test_the_page_says_what_missed() -> None:
    run = run_of(FIELDS)
    row = Row("made up#0", "Tiny", "T4", "lora, 2 x 16", False, run, {"allocated": 2 * replay(run).allocated})
    page = plan_gpu_page([Scored(row, planned(replay(run)))])
    assert "| SDPA and flash | allocated | 0.60%, 1.50% | 50.00%, 50.00% | missed |" in page
    assert "| 0 | Tiny | T4 | lora, 2 x 16 |" in page
