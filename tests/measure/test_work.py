"""The work that a trace counts, against PyTorch's own counter of operations while the same step really runs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, addmm_flop

from tests.measure.test_trace import CASES, LENGTHS, LLAMA, question, real, traced
from xiaozao.measure.trace import trace
from xiaozao.measure.work import Tally
from xiaozao.plan.duration import work_of
from xiaozao.spec.plan import RowSizes
from xiaozao.spec.profile import COSTS, Profile
from xiaozao.train.batches import PackedRow
from xiaozao.train.losses import sft

TARGETS = sum(LENGTHS) - len(LENGTHS)


def row(lengths: tuple[int, ...] = LENGTHS) -> PackedRow:
    tokens, ends = sum(lengths), torch.tensor(lengths).cumsum(0)
    sources = torch.tensor([one for one in range(tokens) if one + 1 not in ends])
    return PackedRow(
        torch.randint(0, 1000, (tokens,)), torch.cat([torch.arange(one) for one in lengths]), lengths, sources,
        torch.randint(0, 1000, (len(sources),)), (0,), (len(sources),),
    )  # fmt: skip


def counted(profile: Profile, piece: str, cost: str = "flops") -> float:
    work = next(one for one in profile.work if one.name == piece)
    return work_of(work, RowSizes(LENGTHS, TARGETS), profile.bytes)[COSTS.index(cost)]


def in_place(self_shape: object, a_shape: list[int], b_shape: list[int], out_shape: object = None, **_: object) -> int:
    """PyTorch's counter does not know products that add to a tensor in place."""
    return int(addmm_flop(self_shape, a_shape, b_shape))


@pytest.mark.parametrize("case", ["lora", "lora, block", "lora, selective", "dora", "int8", "full", "last two"])
def test_products_are_those_that_pytorch_counts(case: str) -> None:
    asked = question(**CASES[case])
    torch.manual_seed(0)
    decoder, _ = real(asked)
    batch = row()
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place})
    with counter, decoder.attention.segments(LENGTHS):
        sft(decoder, batch).backward()
    assert counted(traced(case), "fresh") == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_blocks_that_were_not_traced_work_as_the_others() -> None:
    few, many = trace(question()), trace(question({**LLAMA, "num_hidden_layers": 12}))
    head = 2 * counted(few, "fresh") - counted(many, "fresh")  # 12 blocks are twice 6; what is outside is there once
    whole = trace(question({**LLAMA, "num_hidden_layers": 3}))
    assert counted(whole, "fresh") == pytest.approx(head + (counted(few, "fresh") - head) / 2, rel=1e-6)


def test_a_recomputed_block_works_more_and_an_update_goes_over_all_that_learns() -> None:
    assert counted(traced("lora, block"), "fresh") > 1.2 * counted(traced("lora"), "fresh")
    profile = traced("full")
    learning = profile.trainable.of(profile.blocks)
    assert counted(profile, "update", "moved") >= 7 * 4 * learning  # value, gradient, two states; three are written


def test_an_operation_in_place_reads_and_writes_and_a_view_costs_a_call() -> None:
    tally, one, other = Tally(), torch.zeros(10, 4), torch.zeros(10, 4)
    aten = torch.ops.aten
    tally.count(aten.add_.Tensor, (one, other), {}, one)
    assert tally.costs[COSTS.index("moved")] == 3 * 160
    tally.count(aten.copy_.default, (one, other), {}, one)
    assert tally.costs[COSTS.index("moved")] == 5 * 160
    tally.count(aten.view.default, (one, [40]), {}, one)
    tally.count(aten.mm.default, (one, other.t()), {}, torch.zeros(10, 10))
    assert tally.costs[COSTS.index("flops")] == 2 * 10 * 4 * 10
    assert tally.costs[COSTS.index("operands")] == 160 + 160 + 400
    assert tally.costs[COSTS.index("calls")] == 4
