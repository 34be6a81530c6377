"""The arithmetic of a step's time, by hand."""

from dataclasses import replace

import pytest

from xiaozao.plan.attention_memory import Bucket
from xiaozao.plan.attention_work import attended
from xiaozao.plan.duration import least_hours, step_time, work_of
from xiaozao.plan.workload import ModelShape
from xiaozao.spec.pace import Rates
from xiaozao.spec.plan import RowSizes
from xiaozao.spec.profile import COSTS, VERSION, Amount, Attended, Heads, Profile, Stretch, Work

RATES = Rates(flops=100.0, operands=50.0, moved=20.0, heavy=10.0, unpacked=5.0, eight_bit=4.0, fresh=8.0, calls=1000.0)
HEADS = Heads(heads=4, kv_heads=2, width=8, value_width=8, window=None)
NOTHING = Amount(0.0, 0.0)
ROW = RowSizes((30, 60), 70)  # padded to 32 and 64; one chunk of logits


def work(name: str, attends: tuple[Attended, ...] = (), **lines: tuple[float, ...]) -> Work:
    return Work(name, tuple(lines.get(one, (0.0,) * 5) for one in COSTS), attends)


def profile(*works: Work) -> Profile:
    pieces = {one.name: one for one in works}
    whole = tuple(pieces.get(name, work(name)) for name in ("fresh", "later", "update"))
    kept = Stretch("backward", ((1000.0, *(0.0,) * 6),), (0.0,) * 7, Amount(200.0, 0.0))
    return Profile(
        VERSION, 2, 2, NOTHING, NOTHING, NOTHING, NOTHING, 0, 4, (HEADS,), fresh=(kept,), accumulating=(), work=whole
    )


def test_each_kind_of_work_takes_its_own_time() -> None:
    fresh = work("fresh", flops=(5, 1, 0, 0, 0), operands=(0, 0, 1, 0, 0), heavy=(0, 0, 0, 1, 0), calls=(0, 0, 0, 0, 3))
    found = step_time(profile(fresh, work("update", moved=(40, 0, 0, 0, 0))), [ROW], "batched", True, RATES)
    assert found.products == pytest.approx((5 + 90) / 100 + 96 / 50)
    assert found.memory == pytest.approx(70 / 10)
    assert found.calls == pytest.approx(3 / 1000)
    assert found.update == pytest.approx(40 / 20)
    assert found.total == pytest.approx(0.95 + 1.92 + 7 + 0.003 + 2)


def test_later_micro_batches_have_their_own_work_and_the_update_comes_once() -> None:
    pieces = (
        work("fresh", flops=(100, 0, 0, 0, 0)),
        work("later", flops=(300, 0, 0, 0, 0)),
        work("update", moved=(20,) * 5),
    )
    one, three = (step_time(profile(*pieces), [ROW] * count, "batched", True, RATES) for count in (1, 3))
    assert (one.products, three.products) == (1.0, 7.0)
    assert one.update == three.update


def test_memory_is_new_at_every_storage_or_once_a_step() -> None:
    made = profile(work("fresh", fresh=(1600, 0, 0, 0, 0)), work("later", fresh=(1600, 0, 0, 0, 0)))
    assert step_time(made, [ROW] * 2, "batched", True, RATES).fresh == 3200 / 8
    assert step_time(made, [ROW] * 2, "batched", False, RATES).fresh == (1000 - 200) / 8  # gradients stay


def test_chunks_of_logits_are_counted_whole() -> None:
    piece = work("fresh", moved=(0, 0, 0, 0, 1))
    assert [work_of(piece, RowSizes((300,), targets), 4)[COSTS.index("moved")] for targets in (1, 128, 129)] == [
        1,
        1,
        2,
    ]


def test_attention_multiplies_what_a_block_of_queries_sees() -> None:
    forward = dict(zip(COSTS, attended(HEADS, "forward", Bucket(3, 64), 4), strict=True))
    backward = dict(zip(COSTS, attended(HEADS, "backward", Bucket(3, 64), 4), strict=True))
    scores = 3 * 4 * 64 * 64
    assert forward["flops"] == 2 * scores * 8 * 2
    assert backward["flops"] == 2 * scores * 8 * 5  # the scores once more, and four gradients
    assert (forward["heavy"], backward["heavy"]) == (scores, 2 * scores)
    two = dict(zip(COSTS, attended(HEADS, "forward", Bucket(1, 256), 4), strict=True))
    assert two["heavy"] == 4 * (128 * 128 + 128 * 256)
    narrow = dict(zip(COSTS, attended(replace(HEADS, window=32), "forward", Bucket(1, 256), 4), strict=True))
    assert narrow["heavy"] == 4 * (128 * 128 + 128 * (128 + 31))


def test_attention_runs_as_often_as_it_was_heard_for_each_bucket() -> None:
    piece = work("fresh", (Attended(HEADS, "forward", 5.0),))
    expected = [
        5 * (a + b)
        for a, b in zip(
            attended(HEADS, "forward", Bucket(1, 32), 4), attended(HEADS, "forward", Bucket(1, 64), 4), strict=True
        )
    ]
    assert work_of(piece, ROW, 4) == pytest.approx(expected)


def test_the_least_hours_are_the_products_of_a_decoder() -> None:
    config = {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 10,
        "tie_word_embeddings": True,
    }  # fmt: skip
    blocks = ModelShape.from_config(config).parameters - 80
    flops = 4 * blocks + 4 * 80 + 7 * 8 * 32  # attention: 8 wide, 32 tokens seen, seven products of two operations
    assert least_hours(config, "none", 3600, 32, RATES) == pytest.approx(flops / 100)
    assert least_hours(config, "block", 3600, 32, RATES) == pytest.approx((flops + 2 * blocks + 2 * 8 * 32) / 100)
