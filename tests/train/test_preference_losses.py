"""Every loss is its paper's formula, however a step is divided; preferences start at nothing and resume exactly."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from tests.toy import toy_decoder, toy_pairs, toy_samples, toy_verdicts
from xiaozao.data.order import Order
from xiaozao.data.samples import Samples
from xiaozao.events import Evaluated, Event, Step
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder, Head
from xiaozao.models.layers.linear import without_adapters
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.train.batches import packed_row
from xiaozao.train.head import token_losses
from xiaozao.train.loop import Loop, Settings
from xiaozao.train.losses import LOSSES, Loss, mean_loss, mean_over
from xiaozao.train.optim.engine import Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.preference_losses import Preference, Strength, dpo, packed_rows
from xiaozao.train.state import Keeper, Position

CPU = torch.device("cpu")
PAIRS = [(3, 9, 4), (20, 31, 12), (5, 2, 17), (8, 8, 8), (2, 1, 26), (11, 14, 3), (6, 5, 40), (9, 21, 7), (4, 6, 6),
         (13, 3, 19), (7, 12, 1), (10, 4, 15)]  # fmt: skip
RAGGED = [5, 90, 12, 33, 7, 64, 21, 3, 48, 9, 77, 15]
HOW = Strength(beta=0.7, gamma=0.4, label_smoothing=0.2, desirable_weight=1.3, undesirable_weight=0.6)


def samples_for(objective: str, count: int = 12, seed: int = 0) -> Samples:
    if objective in ("dpo", "orpo", "simpo"):
        return toy_pairs(PAIRS[:count], seed)
    return toy_verdicts(RAGGED[:count], seed) if objective == "kto" else toy_samples(RAGGED[:count], seed)


def moved(decoder: Decoder) -> Decoder:
    """With adapters that do something, in double precision."""
    torch.manual_seed(5)
    for name, one in decoder.trainable().items():
        if name.endswith("lora_b"):
            nn.init.normal_(one, std=0.2)
    decoder.model.double()
    return decoder


# --- plain references, from the papers' formulas on whole logits, one sequence at a time ---------------------------


def log_p(decoder: Decoder, ids: Tensor, targets: Tensor) -> Tensor:
    """log p(answer | prompt), from all logits of the model itself."""
    with decoder.attention.segments([len(ids)]):
        logits = decoder.model(input_ids=ids[None], use_cache=False).logits[0]
    places = [at for at in range(1, len(ids)) if targets[at]]
    return torch.stack([torch.log_softmax(logits[at - 1], 0)[ids[at]] for at in places]).sum()


@dataclass(frozen=True)
class Plain:
    """log p of all sequences now and at the start, and of the crossed ones."""

    now: list[Tensor]
    start: list[Tensor]
    sizes: list[int]
    liked: list[bool]
    point: float


def plain_numbers(decoder: Decoder, samples: Samples) -> Plain:
    count = len(samples.offsets) - 1
    read = [tuple(map(torch.as_tensor, samples.sample(number))) for number in range(count)]
    pairs = [(ids.long(), targets) for ids, targets in read]
    now = [log_p(decoder, *pair) for pair in pairs]
    point = 0.0
    with torch.no_grad(), without_adapters(decoder.model):
        start = [log_p(decoder, *pair) for pair in pairs]
    if samples.liked is not None:
        crossed = [tuple(map(torch.as_tensor, samples.crossed(number))) for number in range(count)]
        with torch.no_grad():
            after = torch.stack([log_p(decoder, ids.long(), targets) for ids, targets in crossed])
            with without_adapters(decoder.model):
                before = torch.stack([log_p(decoder, ids.long(), targets) for ids, targets in crossed])
        point = max(0.0, float((after - before).mean()))
    liked = [] if samples.liked is None else [bool(one) for one in samples.liked]
    return Plain(now, start, [int(targets[1:].sum()) for _, targets in pairs], liked, point)


def plain_tokens(found: Plain) -> Tensor:
    return -torch.stack(found.now).sum() / sum(found.sizes)


def plain_dpo(found: Plain) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for at in range(0, len(found.now), 2):
        ratio = (found.now[at] - found.start[at]) - (found.now[at + 1] - found.start[at + 1])
        right = 1 / (1 + torch.exp(-HOW.beta * ratio))
        total = total - (1 - HOW.label_smoothing) * torch.log(right) - HOW.label_smoothing * torch.log(1 - right)
    return total / (len(found.now) // 2)


def plain_simpo(found: Plain) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for at in range(0, len(found.now), 2):
        lead = HOW.beta * found.now[at] / found.sizes[at] - HOW.beta * found.now[at + 1] / found.sizes[at + 1]
        total = total - torch.log(1 / (1 + torch.exp(-(lead - HOW.gamma))))
    return total / (len(found.now) // 2)


def plain_orpo(found: Plain) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for at in range(0, len(found.now), 2):
        chosen, rejected = (torch.exp(found.now[one] / found.sizes[one]) for one in (at, at + 1))
        ratio = (chosen / (1 - chosen)) / (rejected / (1 - rejected))
        right = 1 / (1 + torch.exp(-torch.log(ratio)))
        total = total - found.now[at] / found.sizes[at] - HOW.beta * torch.log(right)
    return total / (len(found.now) // 2)


def plain_kto(found: Plain) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for now, start, liked in zip(found.now, found.start, found.liked, strict=True):
        reward = HOW.beta * (now - start - found.point)
        value = 1 / (1 + torch.exp(-reward)) if liked else 1 / (1 + torch.exp(reward))
        total = total + (HOW.desirable_weight if liked else HOW.undesirable_weight) * (1 - value)
    return total / len(found.now)


PLAIN: dict[str, Callable[[Plain], Tensor]] = {
    "sft": plain_tokens, "pretrain": plain_tokens, "dpo": plain_dpo, "orpo": plain_orpo, "simpo": plain_simpo,
    "kto": plain_kto,
}  # fmt: skip


def window(decoder: Decoder, loss: Loss, samples: Samples, micros: list[list[int]]) -> tuple[float, Tensor]:
    """Mean and gradient of a step, as the loop computes them."""
    decoder.model.zero_grad()
    rows = packed_rows(loss, decoder, samples, micros)
    units, total = sum(row.units for row in rows), 0.0
    for row in rows:
        with decoder.attention.segments(row.lengths):
            value = loss(decoder, row)
            (value / units).backward()
        total += float(value.detach()) / units
    return total, gradient(decoder)


def gradient(decoder: Decoder) -> Tensor:
    return torch.cat([one.grad.flatten() for one in decoder.trainable().values() if one.grad is not None])


def test_every_loss_has_a_plain_reference() -> None:
    assert set(PLAIN) == set(LOSSES)


@pytest.mark.parametrize("objective", LOSSES)
def test_a_loss_and_its_gradient_are_those_of_the_papers_formula(objective: str) -> None:
    decoder, samples = moved(toy_decoder()), samples_for(objective, 5)
    value, mine = window(decoder, LOSSES[objective](HOW), samples, [[0, 1, 2], [3, 4]])
    decoder.model.zero_grad()
    wanted = PLAIN[objective](plain_numbers(decoder, samples))
    wanted.backward()
    own = gradient(decoder)
    assert value == pytest.approx(float(wanted.detach()), rel=1e-9)
    assert float((mine - own).norm() / own.norm()) < 1e-8


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("objective", LOSSES)
def test_any_split_of_a_step_gives_the_same_gradient(objective: str, size: int) -> None:
    decoder, samples, loss = moved(toy_decoder()), samples_for(objective), LOSSES[objective](HOW)
    value, whole = window(decoder, loss, samples, [list(range(12))])
    again, split = window(decoder, loss, samples, [list(range(at, min(at + size, 12))) for at in range(0, 12, size)])
    assert again == pytest.approx(value, rel=1e-9)
    assert float((split - whole).norm() / whole.norm()) < 1e-8


@pytest.mark.parametrize("objective", LOSSES)
def test_the_last_window_of_an_epoch_is_the_mean_over_what_it_holds(objective: str) -> None:
    decoder, samples, loss = moved(toy_decoder()), samples_for(objective), LOSSES[objective](HOW)
    order = Order(samples, batch=5, size=2, epochs=1, seed=1)
    last = order.window(2)
    assert [len(micro) for micro in last] == [2]
    divided = window(decoder, loss, samples, [[one] for one in last[0]])
    together = window(decoder, loss, samples, last)
    assert divided[0] == pytest.approx(together[0], rel=1e-9)
    assert float((divided[1] - together[1]).norm() / together[1].norm()) < 1e-8


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_validation_does_not_depend_on_how_it_is_divided(objective: str) -> None:
    decoder, samples, loss = moved(toy_decoder()), samples_for(objective), LOSSES[objective](HOW)
    one, many = mean_loss(decoder, loss, samples, 1), mean_loss(decoder, loss, samples, 5)
    assert one.loss == pytest.approx(many.loss, rel=1e-9) and one.margin == pytest.approx(many.margin, rel=1e-9)
    assert one.accuracy == many.accuracy and one.targets == many.targets == samples.target_tokens


# --- the head, weighted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.5, 3.0)])
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_weighted_token_losses_pass_gradcheck(scale: float, cap: float | None, learns: bool, count: int) -> None:
    torch.manual_seed(count)
    linear = nn.Linear(3, 7).double().requires_grad_(learns)
    head = Head(linear, scale, cap, chunk=4)
    states, labels = torch.randn(count, 3, dtype=torch.float64, requires_grad=True), torch.randint(0, 7, (count,))
    weights = torch.randn(count, dtype=torch.float64)

    def weighted(states: Tensor, *_: Tensor) -> Tensor:
        return (token_losses(head, states, labels) * weights).sum()

    logits = head.finish(linear(states))
    plain = nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(token_losses(head, states, labels), plain)
    assert gradcheck(weighted, (states, linear.weight, linear.bias) if learns else (states,))


# --- the start ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeping", ["none", "selective", "block"])
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_before_the_first_step_nothing_is_preferred(objective: str, keeping: str) -> None:
    decoder, samples = toy_decoder(), samples_for(objective)
    fuse(decoder)
    recompute(decoder, keeping)
    loss = LOSSES[objective](Strength(beta=0.1))
    assert isinstance(loss, Preference)
    for row in packed_rows(loss, decoder, samples, [[0, 1, 2], [3, 4, 5]]):
        with decoder.attention.segments(row.lengths):
            judged = loss.judge(decoder, row)
        assert judged.margins.tolist() == [0.0] * 3 and judged.right == 1.5
        wanted = math.log(2) if objective == "dpo" else 0.5
        assert judged.losses.tolist() == pytest.approx([wanted] * 3, abs=1e-6)


def test_with_the_adapter_off_the_start_is_the_untouched_model_bit_for_bit() -> None:
    untouched, decoder = toy_decoder(lora=None), toy_decoder()
    loss = Preference(dpo, HOW, referenced=True)
    for one in decoder.trainable().values():
        nn.init.normal_(one, std=0.5)
    row = packed_row(samples_for("dpo"), [0, 1, 2], CPU)
    with torch.no_grad(), decoder.attention.segments(row.lengths), untouched.attention.segments(row.lengths):
        with without_adapters(decoder.model):
            off = loss.log_probabilities(decoder, row)
        assert torch.equal(off, loss.log_probabilities(untouched, row))
        assert not torch.equal(off, loss.log_probabilities(decoder, row))


def test_without_an_adapter_and_without_a_start_a_reference_is_refused() -> None:
    decoder, loss = toy_decoder(lora=None), LOSSES["dpo"](HOW)
    row = packed_row(samples_for("dpo"), [0], CPU)
    with pytest.raises(RuntimeError, match="no adapter to switch off"), decoder.attention.segments(row.lengths):
        loss(decoder, row)


def test_a_reference_point_that_is_no_number_is_not_hidden() -> None:
    decoder, samples = toy_decoder(), samples_for("kto")
    next(iter(decoder.trainable().values())).data.fill_(math.nan)
    loss = LOSSES["kto"](HOW)
    assert isinstance(loss, Preference) and math.isnan(loss.point(decoder, samples, [[0, 1]]))


def test_a_row_keeps_pairs_together_and_counts_them() -> None:
    samples = toy_pairs(PAIRS)
    row = packed_row(samples, [2, 0], CPU)
    assert (row.samples, row.lengths, row.counts) == ((2, 0), (7, 22, 12, 7), (2, 17, 9, 4))
    assert row.units == 2 and len(row.labels) == sum(row.counts)
    verdicts = packed_row(toy_verdicts(RAGGED), [1, 2], CPU)
    assert verdicts.units == 2 and verdicts.liked is not None and verdicts.liked.tolist() == [True, False]


# --- whole runs ---------------------------------------------------------------------------------------------------

SETTINGS = Settings(5e-3, "cosine", 2, 0.01, 1.0, eval_every=3, save_every=2, patience=None, compute=torch.float32)


@dataclass
class Bench:
    """A toy run: 12 samples, windows of 5 in micro-batches of 2, two epochs = 6 steps."""

    folder: Path
    objective: str
    stop_at: int | None = None
    settings: Settings = SETTINGS
    count: int = 12
    epochs: int = 2
    how: Strength = HOW
    lora: int | None = 4
    windows: tuple[int, int] = (5, 2)
    samples: Samples | None = None
    events: list[Event] = field(default_factory=list)
    decoder: Decoder = field(init=False)

    def __post_init__(self) -> None:
        self.decoder = toy_decoder(lora=self.lora, attention_dropout=0.1)

    def run(self) -> Position:
        samples = self.samples or samples_for(self.objective, self.count)
        loss = LOSSES[self.objective](self.how)
        if self.lora is None and isinstance(loss, Preference):
            samples = replace(samples, reference=loss.reference(self.decoder, samples, 2))
        keeper = Keeper(self.folder / "checkpoints", {}, keep=2)
        held = samples_for(self.objective, 4, seed=9) if self.lora else None
        order = Order(samples, *self.windows, self.epochs, seed=3)
        loop = Loop(
            self.decoder, loss, order, held, self.settings, keeper, self.events.append, self._should_stop, lambda: 0
        )
        optimizer = OPTIMIZERS["adamw"](self.decoder.trainable(), Options(0.01))
        found = checkpoint.newest(keeper.folder)
        progress = keeper.load(found.folder, self.decoder, optimizer) if found.folder else Position()
        return loop.run(optimizer, progress)[0]

    def _should_stop(self) -> bool:
        return self.stop_at is not None and len(self.steps()) >= self.stop_at

    def steps(self) -> list[Step]:
        return [event for event in self.events if isinstance(event, Step)]

    def digest(self) -> str:
        parts = [one.detach().numpy().tobytes() for one in self.decoder.trainable().values()]
        return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize(("objective", "lora"), [("dpo", 4), ("kto", 4), ("dpo", None)])
def test_a_run_that_was_stopped_in_the_middle_ends_with_the_same_bits(
    tmp_path: Path, objective: str, lora: int | None
) -> None:
    torch.set_num_threads(1)
    whole = Bench(tmp_path / "whole", objective, lora=lora)
    whole.run()
    first = Bench(tmp_path / "parts", objective, stop_at=3, lora=lora)
    first.run()
    second = Bench(tmp_path / "parts", objective, lora=lora)
    assert second.run().step == 6
    told = [one.loss for one in (*first.steps(), *second.steps())]
    assert told == [one.loss for one in whole.steps()] and second.digest() == whole.digest()


@pytest.mark.parametrize(("objective", "lora"), [("dpo", 4), ("dpo", None), ("kto", 4)])
def test_dropout_of_the_model_is_off_so_that_the_first_loss_is_that_of_no_preference(
    tmp_path: Path, objective: str, lora: int | None
) -> None:
    bench = Bench(tmp_path, objective, stop_at=1, lora=lora, how=Strength(beta=0.1))
    bench.run()
    wanted = math.log(2) if objective == "dpo" else 0.5
    assert bench.steps()[0].loss == pytest.approx(wanted, abs=1e-6)
    for start in (event for event in bench.events[:1] if isinstance(event, Evaluated)):
        assert (start.step, start.accuracy, start.margin) == (0, 0.5, 0.0)
        assert start.loss == pytest.approx(wanted, abs=1e-6)
    assert lora is None or isinstance(bench.events[0], Evaluated)


OVERFIT = {
    "sft": Strength(), "pretrain": Strength(), "dpo": Strength(1.0), "simpo": Strength(2.0), "orpo": Strength(0.1),
    "kto": Strength(1.0),
}  # fmt: skip


@pytest.mark.parametrize("objective", LOSSES)
def test_eight_samples_are_learned_by_heart(tmp_path: Path, objective: str) -> None:
    settings = replace(SETTINGS, learning_rate=2e-2, schedule="linear", eval_every=999, save_every=999)
    samples = {"dpo": toy_pairs([(3, 5, 5)] * 8), "kto": toy_verdicts([8] * 8)}.get(
        "dpo" if objective in ("orpo", "simpo") else objective, toy_samples([8] * 8)
    )
    epochs = 30 if objective in ("dpo", "simpo", "kto") else 150
    bench = Bench(tmp_path, objective, settings=settings, epochs=epochs, how=OVERFIT[objective], lora=16,
                  samples=samples, windows=(8, 8))  # fmt: skip
    bench.decoder = toy_decoder(lora=16, initializer_range=0.5)
    progress = bench.run()
    assert progress.last_loss is not None and progress.last_loss < 0.05


def alike(answers: list[list[int]]) -> Samples:
    """Judged answers to prompts of three tokens."""
    ids = [np.array([10 + number, 11, 12, *answer]) for number, answer in enumerate(answers)]
    return Samples(
        np.concatenate(ids).astype(np.int32), np.concatenate([np.arange(len(one)) > 2 for one in ids]).astype(np.uint8),
        np.cumsum([0, *map(len, ids)], dtype=np.int64), np.arange(len(ids)) + 1,
        liked=np.ones(len(ids), dtype=np.uint8),
    )  # fmt: skip


@pytest.mark.parametrize("answers", [[[5, 6]], [[5, 6], [5, 6]], [[5, 6]] * 9], ids=["one", "two alike", "nine alike"])
def test_an_answer_is_not_held_against_itself(answers: list[list[int]]) -> None:
    """Its own log-probability as the reference point would keep the loss at a half whatever the model learns."""
    decoder, samples, loss = toy_decoder(), alike(answers), LOSSES["kto"](HOW)
    assert isinstance(loss, Preference)
    for parameter in decoder.trainable().values():
        torch.nn.init.normal_(parameter.data, std=0.1)
    micros = [list(range(len(samples)))]
    assert loss.point(decoder, samples, micros) == 0.0
    told = plain_numbers(decoder, replace(samples, liked=None))
    plain = [float((HOW.beta * (now - start)).detach()) for now, start in zip(told.now, told.start, strict=True)]
    judged = mean_over(decoder, loss, samples, micros)
    expected = np.mean([HOW.desirable_weight / (1 + math.exp(margin)) for margin in plain])
    assert judged.loss == pytest.approx(expected, rel=1e-5) and abs(judged.loss - 0.5 * HOW.desirable_weight) > 1e-4
    assert np.all(loss.reference(decoder, samples, 2)[1] == 0)


def test_an_answer_is_crossed_with_the_next_one_that_differs() -> None:
    samples = alike([[5, 6], [5, 6], [7, 8], [5, 6], [5, 6]])
    assert [samples.partner(number) for number in range(5)] == [2, 2, 4, 2, 2]
    ids, targets = samples.crossed(0)
    assert ids.tolist() == [10, 11, 12, 7, 8] and targets.tolist() == [False] * 3 + [True] * 2
