"""Runs of the Hugging Face stack: what more and what less costs, and what the phases must satisfy."""

from dataclasses import replace
from typing import Any

import pytest

from xiaozao.plan.hf.step import HfRun, replay
from xiaozao.plan.workload import ModelShape

SHAPE = ModelShape(hidden=512, blocks=4, heads=8, kv_heads=4, head_size=64, width=1024, vocabulary=8192, tied=True)
RUN = HfRun(SHAPE, batch=2, length=256)
RUNS = [
    {}, {"task": "full"}, {"task": "full", "stored": 4, "autocast": True}, {"task": "inference"}, {"base": "nf4"},
    {"base": "int8"}, {"base": "nf4", "task": "inference"}, {"attention": "eager", "half": True},
    {"attention": "efficient"}, {"attention": "efficient", "stored": 4, "compute": 4}, {"checkpointing": True},
    {"checkpointing": True, "transformers": 4}, {"checkpointing": True, "task": "full", "transformers": 4},
    {"optimizer": "adamw8bit", "task": "full"}, {"optimizer": "sgd", "task": "full"}, {"expandable": True},
]  # fmt: skip


@pytest.mark.parametrize("changes", RUNS, ids=str)
def test_every_kind_of_run_has_phases_that_hold_together(changes: dict[str, Any]) -> None:
    run = replace(RUN, **changes)
    found = replay(run)
    names = [phase.name for phase in found.phases]
    assert names == (["load", "forward"] if run.task == "inference" else ["load", "forward", "backward", "optimizer"])
    for phase in found.phases:
        assert 0 < phase.requested <= phase.allocated <= phase.reserved
        assert sum(phase.parts) == phase.allocated
    assert found.allocated <= found.reserved
    assert replay(run) == found


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"checkpointing": True}, {}),
        ({"base": "nf4", "task": "inference"}, {"task": "inference"}),
        ({"attention": "flash"}, {"attention": "eager"}),
        ({"task": "full", "optimizer": "sgd"}, {"task": "full", "optimizer": "adamw8bit"}),
        ({"task": "full", "optimizer": "adamw8bit"}, {"task": "full"}),
        ({"task": "full"}, {"task": "full", "accumulates": True}),
        ({"task": "inference"}, {}),
        ({}, {"batch": 3}),
        ({}, {"transformers": 4, "attention": "efficient"}),
    ],
    ids=str,
)
def test_what_takes_less_takes_less(less: dict[str, Any], more: dict[str, Any]) -> None:
    assert replay(replace(RUN, **less)).allocated < replay(replace(RUN, **more)).allocated


def test_the_states_are_twice_the_adapter_and_a_step_makes_one_more_copy() -> None:
    found = replay(RUN)
    optimizer = found.phases[-1]
    adapter = 4 * SHAPE.adapter(RUN.rank, RUN.targets)
    assert (optimizer.parts[1], optimizer.parts[2]) == (adapter, 2 * adapter)
    assert found.trainable * 4 == adapter


def test_fourteen_bytes_a_logit_are_alive_in_the_backward_of_the_loss() -> None:
    wide = replace(RUN, shape=replace(SHAPE, vocabulary=65536, blocks=1))
    double = replace(wide, shape=replace(wide.shape, vocabulary=131072))
    weights = 2 * SHAPE.hidden * 65536
    grown = replay(double).phases[2].requested - replay(wide).phases[2].requested - weights
    assert grown == 14 * 2 * 256 * 65536


@pytest.mark.parametrize("version", [4, 5])
def test_of_layers_that_are_computed_again_autocast_leaves_no_copies_to_the_optimizer(version: int) -> None:
    """Each is an autocast of its own, whose cache is cleared when it ends."""
    run = replace(RUN, task="full", stored=4, autocast=True, optimizer="sgd", transformers=version)
    again, kept = (replay(replace(run, checkpointing=one)).phases[-1].parts[3] for one in (True, False))
    matrices = 2 * (SHAPE.parameters - SHAPE.vocabulary * SHAPE.hidden)  # of the layers, in 16 bits
    assert again < kept + matrices / 20


def test_a_loop_that_lets_go_of_the_output_has_no_logits_when_the_optimizer_steps() -> None:
    run = replace(RUN, optimizer="sgd")
    held, gone = (replay(replace(run, keeps_logits=one)).phases[-1].parts[3] for one in (True, False))
    assert held - gone >= RUN.batch * RUN.length * SHAPE.vocabulary * 2
