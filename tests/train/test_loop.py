"""The loop on a toy: exact resume from everywhere, nothing hidden, nothing changed that should not change."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.toy import toy_decoder, toy_samples
from xiaozao.data.order import Order
from xiaozao.errors import TrainingError
from xiaozao.events import Evaluated, Event, Saved, Step
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder
from xiaozao.models.generate import Sampling, generate
from xiaozao.train.batches import PackedRow, packed_row
from xiaozao.train.loop import Loop, Settings
from xiaozao.train.losses import Loss, mean_loss, sft
from xiaozao.train.optim.engine import Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.schedules import learning_rate
from xiaozao.train.state import Keeper, Position, load_weights

LENGTHS = [9, 30, 14, 22, 7, 18, 25, 11, 16, 28, 12, 20, 8, 19, 23, 10, 27, 13, 21, 17, 26, 15]
SETTINGS = Settings(5e-3, "cosine", 2, 0.01, 1.0, eval_every=5, save_every=4, patience=None, compute=torch.float32)


@dataclass
class Bench:
    """A toy run: 22 samples, windows of 6 in micro-batches of 2, a last window of 4, three epochs = 12 steps."""

    folder: Path
    lora: int | None = 4
    settings: Settings = SETTINGS
    stop_at: int | None = None
    validate: bool = True
    events: list[Event] = field(default_factory=list)
    lengths: list[int] = field(default_factory=lambda: list(LENGTHS))
    epochs: float = 3
    micro_batch: int = 2
    identity: dict[str, str] = field(default_factory=lambda: {"data": "one"})
    decoder: Decoder = field(init=False)

    def __post_init__(self) -> None:
        self.decoder = toy_decoder(lora=self.lora, attention_dropout=0.1)

    def run(self, loss: Loss = sft) -> tuple[Position, bool]:
        order = Order(toy_samples(self.lengths), 6, self.micro_batch, self.epochs, seed=3)
        keeper = Keeper(self.folder / "checkpoints", self.identity, keep=2)
        loop = Loop(
            self.decoder, loss, order, toy_samples([12, 18], seed=9) if self.validate else None,
            self.settings, keeper, self.events.append, self._should_stop, lambda: 0,
        )  # fmt: skip
        optimizer = OPTIMIZERS["adamw"](self.decoder.trainable(), Options(self.settings.weight_decay))
        found = checkpoint.newest(keeper.folder)
        progress = keeper.load(found.folder, self.decoder, optimizer) if found.folder else Position()
        return loop.run(optimizer, progress)

    def _should_stop(self) -> bool:
        return self.stop_at is not None and any(
            isinstance(event, Step) and event.step >= self.stop_at for event in self.events
        )

    def steps(self) -> list[Step]:
        return [event for event in self.events if isinstance(event, Step)]

    def digest(self) -> str:
        digest = hashlib.sha256()
        for name, one in sorted(self.decoder.trainable().items()):
            digest.update(name.encode() + one.detach().numpy().tobytes())
        return digest.hexdigest()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The uninterrupted run that all others are held against."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    bench.run()
    return bench


def told(steps: list[Step]) -> list[tuple[float, ...]]:
    return [(one.step, one.loss, one.learning_rate, one.grad_norm, one.tokens) for one in steps]


@pytest.mark.parametrize("stop_at", range(1, 12))
def test_stopped_at_any_step_and_resumed_it_ends_with_the_same_bits(tmp_path: Path, whole: Bench, stop_at: int) -> None:
    first = Bench(tmp_path, stop_at=stop_at)
    progress, stopped = first.run()
    assert stopped and progress.step == stop_at
    second = Bench(tmp_path)
    progress, stopped = second.run()
    assert not stopped and progress.step == 12
    assert told([*first.steps(), *second.steps()]) == told(whole.steps())
    assert second.digest() == whole.digest()


def test_stopped_at_every_step_it_still_ends_with_the_same_bits(tmp_path: Path, whole: Bench) -> None:
    for step in range(1, 12):
        Bench(tmp_path, stop_at=step).run()
    last = Bench(tmp_path)
    last.run()
    assert last.digest() == whole.digest()


def test_full_parameters_resume_with_the_same_bits_too(tmp_path: Path) -> None:
    whole = Bench(tmp_path / "a", lora=None)
    whole.run()
    Bench(tmp_path / "b", lora=None, stop_at=5).run()
    resumed = Bench(tmp_path / "b", lora=None)
    resumed.run()
    assert resumed.digest() == whole.digest()


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    first = Bench(tmp_path, stop_at=7)
    first.run()
    again = Bench(tmp_path)
    optimizer = OPTIMIZERS["adamw"](again.decoder.trainable(), Options(0.01))
    keeper = Keeper(tmp_path / "checkpoints", first.identity, 2)
    progress = keeper.load(keeper.path(7), again.decoder, optimizer)
    assert progress.step == 7 and again.digest() == first.digest()
    assert {key.partition(".")[0] for key in optimizer.state()} == {"step", "exp_avg", "exp_avg_sq"}
    assert len(optimizer.state()) == 3 * len(again.decoder.trainable())


def test_validation_saving_and_logging_do_not_change_training(tmp_path: Path, whole: Bench) -> None:
    often = Bench(tmp_path / "often", settings=replace(SETTINGS, eval_every=1, save_every=1))
    often.run()
    never = Bench(tmp_path / "never", validate=False, settings=replace(SETTINGS, eval_every=99, save_every=99))
    never.run()
    assert often.digest() == whole.digest() == never.digest()


def test_after_one_step_every_trainable_tensor_has_moved_and_no_frozen_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stop_at=2, settings=replace(SETTINGS, warmup=0))
    before = {name: one.detach().clone() for name, one in bench.decoder.model.named_parameters()}
    bench.run()
    for name, one in bench.decoder.model.named_parameters():
        assert torch.equal(one, before[name]) != one.requires_grad, name
        assert one.grad is None


def test_the_rate_is_the_closed_form_and_the_bar_ends_full(whole: Bench) -> None:
    rates = [step.learning_rate for step in whole.steps()]
    assert rates == [learning_rate(step, 12, 2, 5e-3, "cosine") for step in range(12)]
    assert [step.step for step in whole.steps()] == list(range(1, 13)) and whole.steps()[-1].steps == 12
    assert whole.steps()[3].epoch == 1.0 and whole.steps()[-1].epoch == 3.0


def test_each_sample_is_seen_once_in_each_epoch() -> None:
    order = Order(toy_samples(LENGTHS), 6, 2, 3, seed=3)
    epochs = []
    for epoch in range(3):
        windows = [order.window(epoch * 4 + index) for index in range(4)]
        epochs.append([sample for window in windows for micro in window for sample in micro])
        assert sorted(epochs[-1]) == list(range(22))
        assert [sum(map(len, window)) for window in windows] == [6, 6, 6, 4]
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_reported_loss_is_the_token_mean_of_the_window_before_the_update(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stop_at=1)
    bench.decoder = toy_decoder(attention_dropout=0.0)
    fresh = toy_decoder(attention_dropout=0.0)
    bench.run()
    order = Order(toy_samples(LENGTHS), 6, 2, 3, seed=3)
    window = [sample for micro in order.window(0) for sample in micro]
    rows = [packed_row(order.samples, [one], fresh.device) for one in window]
    fresh.model.eval()
    loss, targets = 0.0, sum(len(row.labels) for row in rows)
    for row in rows:
        with fresh.attention.segments(row.lengths), torch.no_grad():
            loss += float(sft(fresh, row)) / targets
    assert bench.steps()[0].loss == pytest.approx(loss, rel=1e-6) and bench.steps()[0].target_tokens == targets


def test_a_loss_that_is_not_finite_stops_before_any_update_and_names_the_rows(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    calls = 0
    before = ""

    def poisoned(decoder: Decoder, row: PackedRow) -> Tensor:
        nonlocal calls, before
        calls += 1
        if calls == 14:  # the second micro-batch of step 5
            before = bench.digest()
            return sft(decoder, row) * float("nan")
        return sft(decoder, row)

    poisoned_run = replace(bench.settings, eval_every=99)
    bench.settings, bench.validate = poisoned_run, False
    with pytest.raises(TrainingError, match=r"The loss of step 5 is nan; nothing was updated. Rows in it: lines \d"):
        bench.run(poisoned)
    assert bench.digest() == before and checkpoint.newest(tmp_path / "checkpoints").folder is not None


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, validate=False)
    next(iter(bench.decoder.trainable().values())).register_hook(lambda grad: grad * float("inf"))
    before = bench.digest()
    with pytest.raises(TrainingError, match="The gradient of step 1"):
        bench.run()
    assert bench.digest() == before


def test_after_validation_every_module_trains_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stop_at=1, settings=replace(SETTINGS, eval_every=1))
    bench.run()
    assert all(module.training for module in bench.decoder.model.modules())
    assert sum(isinstance(event, Evaluated) for event in bench.events) == 2


def test_the_best_checkpoint_stays_and_its_weights_can_be_taken(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings=replace(SETTINGS, learning_rate=0.5, eval_every=1, save_every=1))
    progress, _ = bench.run()
    first, *later = [event for event in bench.events if isinstance(event, Evaluated)]
    losses = {event.step: event.loss for event in later}
    assert first.step == 0 and not first.best  # nothing is kept of it
    assert progress.best_step == min(losses, key=lambda step: losses[step])
    best = tmp_path / "checkpoints" / f"step-{progress.best_step:08d}"
    checkpoint.verify(best)
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) <= 3
    load_weights(bench.decoder, checkpoint.read_tensors(best, "weights"))
    assert mean_loss(bench.decoder, sft, toy_samples([12, 18], seed=9), 2).loss == pytest.approx(progress.best_loss)


def test_patience_ends_a_run_that_no_longer_improves(tmp_path: Path) -> None:
    settings = replace(SETTINGS, learning_rate=0.9, clip=100.0, eval_every=1, patience=2)
    progress, stopped = Bench(tmp_path, settings=settings).run()
    assert not stopped and progress.step < 12 and progress.without_gain == 2


def test_a_run_whose_data_changed_is_not_resumed(tmp_path: Path) -> None:
    Bench(tmp_path, stop_at=5).run()
    with pytest.raises(TrainingError, match="data: was one, is now other"):
        Bench(tmp_path, identity={"data": "other"}).run()


@pytest.mark.parametrize("lora", [16, None])
def test_a_handful_of_samples_is_learned_by_heart(tmp_path: Path, lora: int | None) -> None:
    settings = replace(SETTINGS, learning_rate=2e-2, schedule="linear", eval_every=999, save_every=999)
    bench = Bench(tmp_path, lora=lora, settings=settings, validate=False, lengths=[8] * 6, epochs=150, micro_batch=6)
    bench.decoder = toy_decoder(lora=lora, initializer_range=0.5)
    progress, _ = bench.run()
    assert progress.last_loss is not None and progress.last_loss < 0.05
    assert any(isinstance(event, Saved) for event in bench.events)


def test_what_was_learned_by_heart_is_answered_and_ends_with_the_end_token(tmp_path: Path) -> None:
    """Padding and end share nothing here: the end token is learned because it is a target like any other."""
    settings = replace(SETTINGS, learning_rate=1e-2, schedule="linear", eval_every=999, save_every=999)
    bench = Bench(tmp_path, lora=None, settings=settings, validate=False, lengths=[9] * 6, epochs=150)
    bench.decoder = toy_decoder(lora=None)
    samples = toy_samples([9] * 6)
    samples.ids[8::9] = 2
    order = Order(samples, 6, 6, 150, seed=0)
    keeper = Keeper(tmp_path / "checkpoints", {}, 2)
    loop = Loop(bench.decoder, sft, order, None, settings, keeper, bench.events.append, lambda: False, lambda: 0)
    loop.run(OPTIMIZERS["adamw"](bench.decoder.trainable(), Options()), Position())
    wanted = [samples.sample(number)[0].tolist() for number in range(6)]
    answers = generate(bench.decoder, [ids[:3] for ids in wanted], frozenset({2}), Sampling(20))
    assert answers == [ids[3:8] for ids in wanted]


@pytest.mark.parametrize(("epochs", "most", "steps"), [(0.5, None, 2), (0.25, None, 1), (0.1, None, 1), (1.5, None, 6),
                                                       (3, 5, 5), (3, 1, 1), (1, 30, 30), (0.3, None, 2)])  # fmt: skip
def test_a_run_ends_after_its_steps_wherever_the_epoch_is(epochs: float, most: int | None, steps: int) -> None:
    """Four steps are an epoch; whatever the end, the steps before it are those of a longer run."""
    order, longer = (Order(toy_samples(LENGTHS), 6, 2, n, seed=3, most_steps=m) for n, m in ((epochs, most), (9, None)))
    assert order.steps == steps
    assert [order.window(step) for step in range(steps)] == [longer.window(step) for step in range(steps)]
    came = [row for step in range(steps) for row in order.window(step)]
    lengths = order.samples.lengths
    assert max(sum(lengths[row]) for row in came) == sum(lengths[order.worst()[0]])


@pytest.mark.parametrize("stop_at", range(1, 6))
def test_a_run_of_half_an_epoch_more_resumes_to_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    whole = Bench(tmp_path / "whole", epochs=1.5)
    progress, _ = whole.run()
    assert progress.step == 6 and whole.steps()[-1].epoch == 1.5
    Bench(tmp_path / "cut", epochs=1.5, stop_at=stop_at).run()
    again = Bench(tmp_path / "cut", epochs=1.5)
    again.run()
    assert again.digest() == whole.digest()
