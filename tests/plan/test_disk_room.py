"""What a run writes, before it writes it."""

import dataclasses

from xiaozao.plan.disk_room import disk_need
from xiaozao.spec.parts import MethodSpec, TrainSpec
from xiaozao.spec.plan import MemoryPlan, Moment

PLAN = MemoryPlan((Moment("load", {"optimizer": 0}), Moment("loss", {"optimizer": 800})), 1, 1, 1, 10_000, 100)
TRAIN = TrainSpec(optimizer="adamw", checkpointing="none", save_every=10, keep=2)
LORA, FULL = MethodSpec(precision="bf16"), MethodSpec(method="full", precision="bf16")


def test_checkpoints_and_result_are_counted_together() -> None:
    need = disk_need(PLAN, LORA, TRAIN, steps=100)
    assert (need.checkpoint, need.result) == (1200, 400)
    assert need.least == 3 * 1200  # two that are kept, and the one that is being written
    assert need.most == 4 * 1200 + 400  # and the best one, and the adapter
    full = disk_need(PLAN, FULL, TRAIN, steps=100)
    assert full.result == 20_000 and full.least == 2 * 1200 + 20_000


def test_a_run_that_saves_less_often_needs_less() -> None:
    assert disk_need(PLAN, LORA, TRAIN, steps=11).least == 2 * 1200 + 400
    assert disk_need(PLAN, LORA, TRAIN, steps=3).most == 1200 + 400


def test_states_that_are_cut_over_devices_are_whole_in_a_checkpoint() -> None:
    both = TRAIN.model_copy(update={"devices": 2})
    assert disk_need(PLAN, LORA, both, steps=3).checkpoint == 400 + 1600
    eight = both.model_copy(update={"optimizer": "adamw8bit"})
    assert disk_need(PLAN, LORA, eight, steps=3).checkpoint == 1200


def test_bf16_weights_are_saved_as_they_are() -> None:
    assert disk_need(PLAN, MethodSpec(method="full", weights="bf16", precision="bf16"), TRAIN, 3).checkpoint == 1000


def test_tight_is_less_than_a_fifth_to_spare() -> None:
    need = dataclasses.replace(disk_need(PLAN, LORA, TRAIN, 100), most=1000)
    assert need.tight(1199) and not need.tight(1200)


def test_weights_and_states_on_disk_are_there_beside_the_checkpoints() -> None:
    eight = TRAIN.model_copy(update={"optimizer": "adamw8bit"})
    need = disk_need(PLAN, FULL, eight, steps=3, paged=True)
    assert need.checkpoint == 400 + 203 and need.most == 2 * need.checkpoint + need.result
