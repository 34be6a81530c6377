"""How many questions are answered at a time: what fits where training has its peak, and never more than 64."""

from dataclasses import replace

import pytest

from tests.plan.test_traced import ANY, SETTING
from xiaozao.models.layers import kvcache
from xiaozao.plan import answers
from xiaozao.plan.answers import as_many_as_fit, choices
from xiaozao.plan.memory import plan
from xiaozao.plan.traced import Setting, plan_traced
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.plan import Questions, RowSizes

SMOLLM = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152, "tie_word_embeddings": True, "model_type": "llama",
}  # fmt: skip
SHAPE = ModelShape.from_config(SMOLLM)
LOAD = Load("lora", 16, ("all-linear",), 4, "none", 4, 400, True, 500_000_000, True)


def test_the_choices_go_from_all_or_64_by_halves_to_one() -> None:
    assert [one for one, _ in choices(SHAPE, LOAD, Questions(60, 120, 96))] == [60, 32, 16, 8, 4, 2, 1]
    assert [one for one, _ in choices(SHAPE, LOAD, Questions(500, 120, 96))] == [64, 32, 16, 8, 4, 2, 1]
    assert [one for one, _ in choices(SHAPE, LOAD, Questions(1, 120, 96))] == [1]
    assert choices(SHAPE, LOAD, None) == []


def test_the_bytes_are_those_that_were_measured() -> None:
    """32 questions of 119 tokens, 96 more each, SmolLM2-135M in fp32, a heap that gives back: 349 MB at the most."""
    found = dict(choices(SHAPE, LOAD, Questions(60, 119, 96)))
    assert found[32] == pytest.approx(349e6, rel=0.1)


def test_on_a_gpu_rooms_for_what_comes_count_whole() -> None:
    with_gpu = replace(LOAD, cpu=False)
    found = [dict(choices(SHAPE, with_gpu, Questions(60, 20, tokens)))[32] for tokens in (10, 108)]
    assert found[0] == found[1] > dict(choices(SHAPE, LOAD, Questions(60, 20, 10)))[32]
    assert answers.ROOM == kvcache.ROOM


def test_a_base_that_learns_is_asked_in_the_numbers_that_it_is_held_in() -> None:
    half = replace(LOAD, compute_bytes=2)
    found = [dict(choices(SHAPE, one, Questions(8, 20, 100)))[8] for one in (half, replace(half, method="full"), LOAD)]
    assert found[0] < found[1] == found[2]


def test_of_what_does_not_fit_the_smallest_is_taken() -> None:
    assert as_many_as_fit([(8, 80), (4, 40), (1, 10)], 45) == (4, 40)
    assert as_many_as_fit([(8, 80), (4, 40), (1, 10)], 5) == (1, 10)


@pytest.mark.parametrize(("length", "answer"), [(30, 16), (120, 96), (400, 512)])
def test_questions_do_not_raise_the_peak_of_a_run(length: int, answer: int) -> None:
    asked = plan(SHAPE, LOAD, 10**10, Questions(500, length, answer))
    assert asked.peak_bytes == plan(SHAPE, LOAD, 10**10).peak_bytes
    assert asked.moments[-1].name == "answers" and 1 <= asked.together <= 64


def test_longer_answers_are_given_by_fewer_at_a_time() -> None:
    counts = [plan(SHAPE, LOAD, 10**10, Questions(500, 100, one)).together for one in (16, 512, 4096)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


def test_a_traced_plan_takes_as_many_as_its_training_leaves_room_for() -> None:
    rows = [RowSizes((64, 64), 100)]
    alone = plan_traced(ANY, rows, [], SETTING)
    room = alone.live_bytes - ANY.weights.of(ANY.blocks)
    setting = Setting(**{**vars(SETTING), "answers": [(8, 10 * room), (4, room), (1, 1)]})
    asked = plan_traced(ANY, rows, [], setting)
    assert asked.together == 4 and asked.peak_bytes == alone.peak_bytes
