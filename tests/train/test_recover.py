"""Memory that runs out: the window is computed again in parts, and nothing else is different from before."""

import hashlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.toy import toy_decoder, toy_samples, toy_verdicts
from xiaozao.data.order import Order, divided
from xiaozao.data.samples import Samples
from xiaozao.errors import OutOfMemory
from xiaozao.events import Evaluated, Event, Split, Step
from xiaozao.measure.ledger import Ledger
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder
from xiaozao.models.layers.autograd import call
from xiaozao.train import recover
from xiaozao.train.batches import PackedRow
from xiaozao.train.loop import Loop, Settings
from xiaozao.train.losses import LOSSES, Loss, sft
from xiaozao.train.optim.engine import Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.preference_losses import Strength
from xiaozao.train.recover import Gauge, LimitPassed, Short, attempt, halved, is_memory
from xiaozao.train.state import Keeper, Position

SETTINGS = Settings(5e-3, "cosine", 2, 0.01, 1.0, eval_every=3, save_every=2, patience=None, compute=torch.float32)
# Windows of 8 in micro-batches of 8; one sample is eight times as long as the others.
LENGTHS = [12, 11, 10, 12, 10, 12, 12, 11, 9, 12, 12, 10, 96, 12, 11, 12, 10, 12, 10, 12, 11, 8, 12, 11]
ROOM = 100  # tokens: more than the usual micro-batch of 8 and the long sample, less than that with another


class _Refuse(torch.autograd.Function):
    """A backward pass that finds no memory, as a device's allocator says it."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@dataclass
class Small:
    """A loss in a memory for so many tokens; a row that has more fails in backward, or already in forward."""

    room: int
    loss: Loss = sft
    forward: bool = False
    error: Callable[[], BaseException] = lambda: torch.OutOfMemoryError("CUDA out of memory.")
    calls: int = 0
    held: list["weakref.ref[Tensor]"] = field(default_factory=list)

    def __call__(self, decoder: Decoder, row: PackedRow) -> Tensor:
        self.calls += 1
        loss = self.loss(decoder, row)
        if len(row.ids) <= self.room:
            return loss
        states = torch.zeros(1000, requires_grad=True)
        self.held += [weakref.ref(row.ids), weakref.ref(states), weakref.ref(loss)]
        if self.forward or not loss.requires_grad:
            raise self.error()
        return call(_Refuse, loss + states.sum())


@dataclass
class Stove:
    """A toy run of six steps whose parts can be changed."""

    folder: Path
    loss: Loss = sft
    micro_batch: int = 8
    samples: Samples = field(default_factory=lambda: toy_samples(LENGTHS))
    validation: Samples | None = None
    settings: Settings = SETTINGS
    gauge: Gauge | None = None
    known: tuple[Split, ...] = ()
    dropout: float = 0.0
    lora: int | None = 4
    stop_at: int = 100
    events: list[Event] = field(default_factory=list)
    hear: Callable[[Event], object] = lambda event: None
    decoder: Decoder = field(init=False)

    def __post_init__(self) -> None:
        self.decoder = toy_decoder(lora=self.lora, attention_dropout=self.dropout)

    def run(self, progress: Position | None = None) -> Position:
        order = Order(self.samples, 8, self.micro_batch, 2, seed=1)
        keeper = Keeper(self.folder, {}, keep=9)
        loop = Loop(
            self.decoder, self.loss, order, self.validation, self.settings, keeper, self._hear,
            lambda: len(self.steps()) >= self.stop_at, lambda: 10**9, gauge=self.gauge, known=self.known,
        )  # fmt: skip
        optimizer = OPTIMIZERS["adamw"](self.decoder.trainable(), Options(0.01))
        found = checkpoint.newest(self.folder).folder
        if found is not None:
            progress = keeper.load(found, self.decoder, optimizer)
        return loop.run(optimizer, progress or Position())[0]

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self.hear(event)

    def steps(self) -> list[Step]:
        return [event for event in self.events if isinstance(event, Step)]

    def splits(self) -> list[Split]:
        return [event for event in self.events if isinstance(event, Split)]

    def told(self) -> list[tuple[float, ...]]:
        return [(one.step, one.loss, one.grad_norm, one.tokens, one.target_tokens) for one in self.steps()]

    def digest(self) -> str:
        return digest_of(self.decoder)


def digest_of(decoder: Decoder) -> str:
    digest = hashlib.sha256()
    for name, one in sorted(decoder.model.named_parameters()):
        digest.update(name.encode() + one.detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


# --- what the rescue promises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [8, 4, 2])  # in the smaller ones, gradients of others are there already
@pytest.mark.parametrize("forward", [False, True])
def test_a_rescued_run_has_the_bits_of_one_that_was_split_from_the_start(
    tmp_path: Path, forward: bool, micro_batch: int
) -> None:
    rescued = Stove(tmp_path / "a", Small(ROOM, forward=forward), dropout=0.1, micro_batch=micro_batch)
    progress = rescued.run()
    assert progress.step == 6 and len(rescued.splits()) == 1 and rescued.splits()[0].where == "training"
    assert max(LENGTHS) <= rescued.splits()[0].most < ROOM < rescued.splits()[0].tokens
    split = Stove(tmp_path / "b", dropout=0.1, micro_batch=micro_batch)
    split.run(Position(most=rescued.splits()[0].most))
    assert split.splits() == [] and rescued.told() == split.told() and rescued.digest() == split.digest()


def test_it_is_the_run_with_the_smaller_micro_batch_at_the_same_effective_batch(tmp_path: Path) -> None:
    rescued = Stove(tmp_path / "a", Small(60))
    lengths = [12] * 24
    rescued.samples = toy_samples(lengths)
    rescued.run()
    assert [(one.tokens, one.most) for one in rescued.splits()] == [(96, 48)]
    smaller = Stove(tmp_path / "b", micro_batch=4, samples=toy_samples(lengths))
    smaller.run()
    assert rescued.told() == smaller.told() and rescued.digest() == smaller.digest()
    whole = Stove(tmp_path / "c", samples=toy_samples(lengths))
    whole.run()
    for mine, theirs in zip(rescued.steps(), whole.steps(), strict=True):
        assert mine.tokens == theirs.tokens and mine.loss == pytest.approx(theirs.loss, rel=1e-5)


def test_memory_that_keeps_running_out_splits_again(tmp_path: Path) -> None:
    small = Stove(tmp_path, Small(30), samples=toy_samples([12] * 24))
    small.run()
    assert [(one.tokens, one.most) for one in small.splits()] == [(96, 48), (48, 24)]
    assert len(small.steps()) == 6


def test_after_a_failed_attempt_all_is_as_before_it_and_nothing_is_held(tmp_path: Path) -> None:
    loss = Small(ROOM)
    seen: dict[str, object] = {}
    alive: list[bool] = []

    def hear(event: Event) -> None:
        state = digest_of(stove.decoder), torch.get_rng_state().numpy().tobytes()
        if isinstance(event, Split):
            seen["after"] = state
            alive.extend(one() is not None for one in loss.held)
        elif "after" not in seen:
            seen["before"] = state

    stove = Stove(tmp_path, loss, hear=hear)
    stove.run()
    assert seen["after"] == seen["before"]
    assert alive == [False] * 3


def test_a_second_try_begins_with_as_many_bytes_alive_as_the_first(tmp_path: Path) -> None:
    """Within 2 %, counted by storages: no gradient and no activation of the failed one is left."""
    ledger, entered, failed = Ledger(), list[int](), list[int]()
    small = Small(60)

    def loss(decoder: Decoder, row: PackedRow) -> Tensor:
        entered.append(ledger.now)
        return small(decoder, row)

    def hear(event: Event) -> None:
        if isinstance(event, Split):
            failed.append(len(entered) - 1)

    samples = toy_samples([12] * 24)
    Stove(tmp_path / "before", Small(60), samples=samples).run()  # masks of these shapes are kept for the next ones
    stove = Stove(tmp_path / "run", loss, hear=hear, samples=samples)
    ledger.count(stove.decoder.model.parameters())
    with ledger:
        stove.run()
    (at,) = failed
    assert entered[at] > 0 and entered[at + 1] == pytest.approx(entered[at], rel=0.02)


def test_an_error_that_only_speaks_of_memory_is_not_tried_again(tmp_path: Path) -> None:
    loss = Small(ROOM, forward=True, error=lambda: RuntimeError("my cache is out of memory: can't allocate memory"))
    stove = Stove(tmp_path, loss)
    with pytest.raises(RuntimeError, match="my cache"):
        stove.run()
    assert stove.splits() == [] and loss.calls == len(stove.steps()) + 1


def test_one_sample_that_is_too_much_ends_the_run_with_the_numbers(tmp_path: Path) -> None:
    stove = Stove(tmp_path, Small(95), gauge=Gauge(lambda: 0, lambda: 0, lambda: None, 2 * 10**9))
    with pytest.raises(OutOfMemory) as found:
        stove.run()
    assert found.value.params == {
        "step": len(stove.steps()) + 1, "tokens": 96, "line": 13, "rank": 0, "peak": "1.00", "limit": "2.00",
        "detail": "CUDA out of memory. Tried to allocate 2.00 GiB.",
    }  # fmt: skip
    text = str(found.value)
    assert "line 13" in text and "96 tokens" in text and "2.00 GB" in text and "checkpointing=block" in text
    assert len(stove.steps()) >= 1 and len(stove.splits()) >= 1


def test_where_weights_move_in_backward_there_is_no_second_try(tmp_path: Path) -> None:
    stove = Stove(tmp_path, Small(ROOM), settings=replace(SETTINGS, fused=True), lora=None)
    with pytest.raises(OutOfMemory) as found:
        stove.run()
    assert found.value.key == "out_of_memory_fused" and "fused_update" in str(found.value) and stove.splits() == []


def test_a_validation_that_is_too_large_changes_validation_alone(tmp_path: Path) -> None:
    validation = toy_samples([20] * 16, seed=9)
    small = Stove(tmp_path / "a", Small(140), samples=toy_samples([12] * 24), validation=validation)
    whole = Stove(tmp_path / "b", samples=toy_samples([12] * 24), validation=validation)
    progress, _ = small.run(), whole.run()
    assert [(one.where, one.tokens, one.most) for one in small.splits()] == [("validation", 160, 80)]
    assert progress.most is None and progress.most_validating == 80
    assert small.told() == whole.told() and small.digest() == whole.digest()
    losses = [[one.loss for one in run.events if isinstance(one, Evaluated)] for run in (small, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and len(losses[0]) == 3


def test_one_sample_of_validation_that_is_too_much_ends_the_run_with_the_numbers(tmp_path: Path) -> None:
    stove = Stove(tmp_path, Small(110, forward=True), validation=toy_samples([12, 120], seed=9))
    with pytest.raises(OutOfMemory) as found:
        stove.run()
    assert (found.value.key, found.value.params["tokens"]) == ("out_of_memory_sample", 120)


def test_the_reference_point_of_kto_is_rescued_too(tmp_path: Path) -> None:
    loss = LOSSES["kto"](Strength())
    reached: list[int] = []

    def narrow(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = kwargs["input_ids"].shape[1]
        reached.append(tokens)
        if tokens > 60:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    stove = Stove(tmp_path, loss, samples=toy_verdicts([12] * 24))
    stove.decoder.model.base_model.register_forward_pre_hook(narrow, with_kwargs=True)
    stove.run()
    assert [one.most for one in stove.splits()] == [48] and len(stove.steps()) == 6 and max(reached) == 96


@pytest.mark.parametrize("forth", [True, False])
def test_the_watch_stops_a_pass_at_a_block_and_the_run_goes_on_split(tmp_path: Path, forth: bool) -> None:
    """The process takes a thousand bytes a token, on the way forth or back; a limit stands at `ROOM` tokens."""
    now = {"held": 0}

    def weigh(decoder: Decoder, row: PackedRow) -> Tensor:
        now["held"] = 1000 * len(row.ids) * forth
        loss = sft(decoder, row)
        now["held"] = 1000 * len(row.ids) * (not forth)
        return loss

    gauge = Gauge(lambda: 0, lambda: now["held"], lambda: None, limit=1000 * ROOM)
    stove = Stove(tmp_path / "a", weigh, gauge=gauge)
    stove.run()
    assert len(stove.splits()) == 1 and stove.splits()[0].limit_bytes == 1000 * ROOM
    split = Stove(tmp_path / "b")
    split.run(Position(most=stove.splits()[0].most))
    assert stove.told() == split.told() and stove.digest() == split.digest()
    assert not any(block._forward_pre_hooks for block in stove.decoder.model.model.layers)


def test_above_what_the_plan_leaves_the_heap_every_block_gives_back_forth_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else changes; below it, nothing is given back at all."""
    found = {}
    for keeps in (9, 10):
        given: list[None] = []
        monkeypatch.setattr(recover, "give_back", lambda given=given: given.append(None))
        gauge = Gauge(lambda: 0, lambda: 10, lambda: None, keeps=keeps)
        stove = Stove(tmp_path / str(keeps), gauge=gauge)
        stove.run()
        found[keeps] = len(given), stove.told(), stove.digest()
    blocks, steps = len(stove.decoder.model.model.layers), len(stove.steps())
    assert found[10][0] == 0 and found[9][0] == (2 * blocks + 1) * steps  # once more before the loss
    assert found[9][1:] == found[10][1:]


# --- and after a resume ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5])
def test_stopped_and_resumed_a_rescued_run_ends_with_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    whole = Stove(tmp_path / "a", Small(ROOM), dropout=0.1)
    whole.run()
    first = Stove(tmp_path / "b", Small(ROOM), dropout=0.1, stop_at=stop_at)
    first.run()
    # In more memory: only what is in the checkpoint and the journal says that rows are split.
    second = Stove(tmp_path / "b", dropout=0.1, known=tuple(first.splits()))
    second.run()
    if whole.splits()[0].step <= stop_at:
        assert second.told() == whole.told()[stop_at:] and second.digest() == whole.digest()
    else:
        assert len(second.steps()) == 6 - stop_at


def test_a_split_that_no_checkpoint_knows_holds_again_from_its_step_on(tmp_path: Path) -> None:
    """Killed after the split and before the next checkpoint: the journal alone tells of it."""
    whole = Stove(tmp_path / "a", Small(ROOM), dropout=0.1)
    whole.run()
    again = Stove(tmp_path / "b", dropout=0.1, known=tuple(whole.splits()))
    again.run()
    assert again.told() == whole.told() and again.digest() == whole.digest()


# --- its parts ---------------------------------------------------------------------------------------------------


def test_what_counts_as_memory_that_ran_out() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_memory(real.value), str(real.value)
    for error in (MemoryError(), LimitPassed(2, 1), torch.OutOfMemoryError("x"), RuntimeError("std::bad_alloc")):
        assert is_memory(error)
    windows = "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: 8"
    assert is_memory(RuntimeError(windows))
    for text in ("CUDA out of memory", "DefaultCPUAllocator: can't allocate memory", "not enough memory"):
        assert not is_memory(RuntimeError(text))
    assert not is_memory(ValueError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))


def test_an_attempt_lets_go_of_what_stands_behind_the_error_too() -> None:
    held: list[weakref.ref[Tensor]] = []

    def inner() -> None:
        own = torch.zeros(10)
        held.append(weakref.ref(own))
        raise MemoryError

    def work() -> None:
        try:
            inner()
        except MemoryError as error:
            own = torch.ones(10)
            held.append(weakref.ref(own))
            raise torch.OutOfMemoryError("again") from error

    assert attempt(work) == Short("again")
    assert [one() for one in held] == [None, None]


def test_a_bound_is_half_but_never_below_the_longest_sample() -> None:
    assert halved(100, 10) == 50
    assert halved(100, 80) == 80
    assert halved(100, 100) == 99
    assert halved(101, 10) == 50


def test_a_micro_batch_is_divided_as_smaller_ones_would_be_cut() -> None:
    lengths = toy_samples([5] * 7 + [40]).lengths
    assert divided([0, 1, 2, 3, 4, 5], lengths, 30, 8) == [[0, 1, 2, 3, 4, 5]]
    assert divided([0, 1, 2, 3, 4, 5], lengths, 29, 8) == [[0, 1, 2, 3], [4, 5]]
    assert divided([0, 1, 7, 2, 3], lengths, 20, 8) == [[0, 1], [7], [2], [3]]
    assert divided([7], lengths, 20, 8) == [[7]]
