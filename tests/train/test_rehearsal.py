"""The rehearsal meets the largest micro-batch before step 1, and leaves nothing behind but what it learned."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.toy import toy_decoder, toy_pairs, toy_samples, toy_verdicts
from tests.train.test_recover import LENGTHS, SETTINGS, Small, digest_of
from xiaozao.data.order import Order
from xiaozao.data.samples import Samples
from xiaozao.errors import DoesNotFit
from xiaozao.events import Evaluated, Event, Rehearsed, Split, Step
from xiaozao.models.blocks import Decoder
from xiaozao.train.batches import PackedRow
from xiaozao.train.loop import Loop, Settings
from xiaozao.train.losses import LOSSES, Loss, sft
from xiaozao.train.optim.by_blocks import ByBlocks
from xiaozao.train.optim.engine import Optimizer, Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.preference_losses import Strength
from xiaozao.train.recover import Gauge
from xiaozao.train.rehearsal import rehearse
from xiaozao.train.state import Keeper, Position

FULL = replace(SETTINGS, fused=True)


@dataclass
class Kitchen:
    """A toy run, its optimizer, and a gauge that reads a thousand bytes for each token of the largest pass so far."""

    folder: Path
    optimizer_name: str = "adamw"
    lora: int | None = 4
    settings: Settings = SETTINGS
    loss: Loss = sft
    samples: Samples = field(default_factory=lambda: toy_samples(LENGTHS))
    validation: Samples | None = None
    micro_batch: int = 4
    limit: int | None = None
    bf16: bool = False
    rows: list[tuple[int, ...]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    highest: int = 0
    decoder: Decoder = field(init=False)
    optimizer: Optimizer = field(init=False)
    progress: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        self.decoder = toy_decoder(lora=self.lora, attention_dropout=0.1)
        if self.bf16:
            self.decoder.model.bfloat16()
        self.optimizer = OPTIMIZERS[self.optimizer_name](self.decoder.trainable(), Options(0.01, rank=4, every=2))
        if hasattr(self.loss, "referenced"):
            return
        own = self.loss

        def weigh(decoder: Decoder, row: PackedRow) -> Tensor:
            self.rows.append(tuple(sorted(row.samples)))
            self.highest = max(self.highest, 1000 * len(row.ids))
            return own(decoder, row)

        self.loss = weigh

    @property
    def gauge(self) -> Gauge:
        def reset() -> None:
            self.highest = 0

        return Gauge(lambda: self.highest, lambda: 0, reset, self.limit, planned=123)

    @property
    def loop(self) -> Loop:
        return Loop(
            self.decoder, self.loss, Order(self.samples, 8, self.micro_batch, 2, seed=1), self.validation,
            self.settings, Keeper(self.folder, {}, keep=2), self.events.append, lambda: False, lambda: 10**9,
        )  # fmt: skip

    def rehearse(self) -> None:
        rehearse(self.loop, self.gauge, self.optimizer, self.progress)

    def run(self) -> list[tuple[float, ...]]:
        self.loop.run(self.optimizer, self.progress)
        return [(one.step, one.loss, one.grad_norm) for one in self.events if isinstance(one, Step)]

    def told(self, kind: type) -> list[Event]:
        return [one for one in self.events if isinstance(one, kind)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def plant(decoder: Decoder) -> None:
    """Weights that arithmetic likes to change: negative zeros and numbers below the normal ones."""
    with torch.no_grad():
        for one in decoder.trainable().values():
            flat = one.view(-1)
            flat[::7] = -0.0
            flat[1::7] = 1e-41
            flat[2::7] = -1e-41


WAYS = [
    *((name, lora, SETTINGS, False) for name in ("adamw", "adamw8bit", "adafactor") for lora in (4, None)),
    *((name, None, SETTINGS, False) for name in ("apollo-mini", "galore", "badam")),
    *((name, None, FULL, False) for name in ("adamw", "adafactor", "galore")),
    *((name, None, replace(SETTINGS, compute=torch.bfloat16), True) for name in ("adamw", "adafactor", "adamw8bit")),
]


@pytest.mark.parametrize(("name", "lora", "settings", "bf16"), WAYS)
def test_a_rehearsal_leaves_everything_as_it_was(
    tmp_path: Path, name: str, lora: int | None, settings: Settings, bf16: bool
) -> None:
    kitchen = Kitchen(
        tmp_path, name, lora, settings, bf16=bf16, validation=toy_samples([20, 30, 25]),
        micro_batch=8 if settings.fused else 4,
    )  # fmt: skip
    plant(kitchen.decoder)
    if bf16:
        kitchen.decoder.model.float()  # a digest is of fp32 numbers, which hold all of bf16
        before = digest_of(kitchen.decoder)
        kitchen.decoder.model.bfloat16()
    else:
        before = digest_of(kitchen.decoder)
    asked = {name: one.requires_grad for name, one in kitchen.decoder.model.named_parameters()}
    generator = torch.get_rng_state()
    kitchen.rehearse()
    assert torch.equal(torch.get_rng_state(), generator)
    if bf16:
        kitchen.decoder.model.float()
    assert digest_of(kitchen.decoder) == before
    assert kitchen.optimizer.states == {} and kitchen.optimizer.counts == {}
    assert all(one.grad is None for one in kitchen.decoder.model.parameters())
    assert {name: one.requires_grad for name, one in kitchen.decoder.model.named_parameters()} == asked
    assert kitchen.progress == Position() and list(tmp_path.iterdir()) == []
    assert not any(one._post_accumulate_grad_hooks for one in kitchen.decoder.trainable().values())


@pytest.mark.parametrize(("name", "lora", "settings", "bf16"), WAYS)
def test_a_run_with_a_rehearsal_has_the_bits_of_one_without(
    tmp_path: Path, name: str, lora: int | None, settings: Settings, bf16: bool
) -> None:
    size = 8 if settings.fused else 4
    with_, without = (
        Kitchen(tmp_path / place, name, lora, settings, bf16=bf16, micro_batch=size, validation=toy_samples([20, 30]))
        for place in "ab"
    )
    with_.rehearse()
    assert with_.run() == without.run()
    assert [one for one in with_.told(Evaluated)] == [one for one in without.told(Evaluated)]
    for mine, theirs in zip(with_.decoder.model.parameters(), without.decoder.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto"])
def test_preferences_are_rehearsed_too(tmp_path: Path, objective: str) -> None:
    samples = toy_verdicts(LENGTHS) if objective == "kto" else toy_pairs([(4, 5, 3)] * 15 + [(4, 50, 30)])
    with_, without = (Kitchen(tmp_path / place, samples=samples, loss=LOSSES[objective](Strength())) for place in "ab")
    with_.rehearse()
    assert len(with_.told(Rehearsed)) == 1 and with_.run() == without.run()


def test_it_meets_the_largest_micro_batch_and_the_widest_attention(tmp_path: Path) -> None:
    lengths = [30] * 8 + [1] * 7 + [60]
    kitchen = Kitchen(tmp_path, samples=toy_samples(lengths), micro_batch=4)
    kitchen.rehearse()
    rows = [row for step in range(4) for row in kitchen.loop.order.window(step)]
    tokens = [sum(lengths[one] for one in row) for row in rows]
    widths = [sum(lengths[one] ** 2 for one in row) for row in rows]
    assert sum(lengths[one] for one in kitchen.rows[0]) == max(tokens)
    assert max(sum(lengths[one] ** 2 for one in row) for row in kitchen.rows) == max(widths)
    told = kitchen.told(Rehearsed)[0]
    assert isinstance(told, Rehearsed)
    assert (told.tokens, told.peak_bytes) == (max(tokens), 1000 * max(tokens))
    assert (told.planned_bytes, told.limit_bytes) == (123, None)


def test_what_was_too_much_is_halved_before_the_run_begins(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path / "a", limit=100_000, micro_batch=8)
    kitchen.rehearse()
    assert len(kitchen.told(Rehearsed)) == 2 and kitchen.progress.most == 96
    (split,) = kitchen.told(Split)
    assert isinstance(split, Split)
    assert (split.step, split.most, split.where, split.limit_bytes) == (1, 96, "rehearsal", 100_000)
    assert split.peak_bytes == 1000 * split.tokens > 100_000
    other = Kitchen(tmp_path / "b", micro_batch=8, progress=Position(most=96))
    assert kitchen.run() == other.run()
    assert kitchen.highest <= 100_000


def test_memory_that_runs_out_in_the_rehearsal_is_no_different(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, loss=Small(100), micro_batch=8)
    kitchen.rehearse()
    assert kitchen.progress.most == 96 and len(kitchen.run()) == 6
    assert [one.where for one in kitchen.told(Split) if isinstance(one, Split)] == ["rehearsal"]


def test_one_sample_that_is_too_much_is_refused_before_the_run_begins(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, limit=90_000)
    with pytest.raises(DoesNotFit) as found:
        kitchen.rehearse()
    assert found.value.params == {"tokens": 96, "line": 13, "peak": "0.00", "limit": "0.00", "planned": "0.00"}
    assert "line 13" in str(found.value) and kitchen.optimizer.states == {}


def test_a_fused_run_that_is_too_large_is_refused(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, lora=None, settings=FULL, limit=100_000, micro_batch=8)
    with pytest.raises(DoesNotFit):
        kitchen.rehearse()


def test_a_validation_that_is_too_large_is_split_before_the_run_begins(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, limit=150_000, samples=toy_samples([12] * 16), validation=toy_samples([50] * 4))
    kitchen.rehearse()
    assert (kitchen.progress.most, kitchen.progress.most_validating) == (None, 100)
    assert [(one.where, one.step) for one in kitchen.told(Split) if isinstance(one, Split)] == [("validation", 0)]
    kitchen.run()
    assert kitchen.highest <= 150_000


def test_a_checkpoint_that_is_too_much_is_refused(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path, limit=200_000)
    loop, saved = kitchen.loop, []

    class Greedy(Keeper):
        def save(self, optimizer: Optimizer, progress: Position) -> int:
            kitchen.highest = 10**6
            saved.append(sorted(optimizer.states) == sorted(optimizer.parameters))
            return super().save(optimizer, progress)

    with pytest.raises(DoesNotFit) as found:
        rehearse(replace(loop, keeper=Greedy(tmp_path, {}, 2)), kitchen.gauge, kitchen.optimizer, kitchen.progress)
    assert found.value.key == "rehearsal_checkpoint" and saved == [True] and list(tmp_path.iterdir()) == []


def test_gradients_of_other_micro_batches_are_there_where_a_step_has_several(tmp_path: Path) -> None:
    found: list[bool] = []

    def look(kitchen: Kitchen) -> Callable[[Decoder, PackedRow], Tensor]:
        def loss(decoder: Decoder, row: PackedRow) -> Tensor:
            if torch.is_grad_enabled():
                found.append(all(one.grad is not None for one in decoder.trainable().values()))
                assert sorted(kitchen.optimizer.states) == sorted(decoder.trainable())
            return sft(decoder, row)

        return loss

    for micro_batch in (4, 8):
        kitchen = Kitchen(tmp_path, micro_batch=micro_batch)
        kitchen.loss = look(kitchen)
        kitchen.rehearse()
    assert found == [True, False]


def test_of_parameters_that_take_turns_those_that_may_take_most_are_rehearsed(tmp_path: Path) -> None:
    kitchen, learning = Kitchen(tmp_path, optimizer_name="badam", lora=None), list[set[str]]()
    kitchen.decoder = toy_decoder(lora=None, tie_word_embeddings=False)
    options = Options(0.01, every=2, seed=3)
    kitchen.optimizer = optimizer = OPTIMIZERS["badam"](kitchen.decoder.trainable(), options)
    assert isinstance(optimizer, ByBlocks)
    turns = [set(optimizer.turn(step)) for step in optimizer.heavy_turns()]
    assert len(turns) == 2 and set(optimizer.turn(0)) not in turns  # or it would be rehearsed anyway

    def loss(decoder: Decoder, row: PackedRow) -> Tensor:
        if torch.is_grad_enabled():
            learning.append(set(decoder.trainable()))
        return sft(decoder, row)

    kitchen.loss = loss
    kitchen.rehearse()
    assert all(one in learning for one in turns) and all(one in turns for one in learning)
