"""A traced profile against what torch's own allocator reports while the same step really runs."""

from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from bench.rig.live import live_peak
from xiaozao.errors import UnsupportedModel
from xiaozao.measure.skeleton import config_of
from xiaozao.measure.trace import trace
from xiaozao.models.blocks import Decoder, view
from xiaozao.models.layers.bases import parameter_count
from xiaozao.models.layers.linear import FrozenLinear, put
from xiaozao.models.layers.quantize import BASES
from xiaozao.models.load import DTYPES, Streamed, load
from xiaozao.models.loading import stream
from xiaozao.models.precision import computing
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.models.trainable import make_trainable
from xiaozao.plan.traced import Setting, plan_traced
from xiaozao.spec.parts import MethodSpec
from xiaozao.spec.plan import MemoryPlan, RowSizes
from xiaozao.spec.profile import Profile, TraceRequest
from xiaozao.train.batches import PackedRow
from xiaozao.train.losses import sft
from xiaozao.train.optim.by_blocks import ByBlocks
from xiaozao.train.optim.engine import Optimizer, Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.update import Fused, Update, Whole

LLAMA: dict[str, object] = {
    "model_type": "llama", "hidden_size": 96, "num_hidden_layers": 6, "num_attention_heads": 6,
    "num_key_value_heads": 2, "intermediate_size": 256, "vocab_size": 1000, "tie_word_embeddings": True,
}  # fmt: skip
LORA = MethodSpec(rank=4, alpha=8.0)
FULL = MethodSpec(method="full")
LENGTHS = (70, 130, 90, 130)

CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora, selective": {"checkpointing": "selective"},
    "lora, block": {"checkpointing": "block"},
    "lora, sdpa": {"attention": "sdpa"},
    "dora": {"method": MethodSpec(adapter="dora", rank=4, alpha=8.0)},
    "int8": {"base": "int8"},
    "int8, block": {"base": "int8", "checkpointing": "block"},
    "nf4": {"base": "nf4"},
    "lora, 8 bits": {"optimizer": "adamw8bit", "method": MethodSpec(rank=64, alpha=8.0)},
    "lora and norms, bf16": {"method": MethodSpec(rank=4, alpha=8.0, also=("norms",)), "precision": "bf16"},
    "full": {"method": FULL},
    "full, block": {"method": FULL, "checkpointing": "block"},
    "full, badam": {"method": FULL, "optimizer": "badam"},
    "full, adafactor": {"method": FULL, "optimizer": "adafactor"},
    "full, 8 bits": {"method": FULL, "optimizer": "adamw8bit"},
    "full, fused": {"method": FULL, "fused_update": True},
    "full, bf16 weights": {"method": MethodSpec(method="full", weights="bf16"), "precision": "bf16"},
    "full, autocast": {"method": FULL, "precision": "bf16"},
    "full, fused, autocast": {"method": FULL, "precision": "bf16", "fused_update": True},
    "last two": {"method": MethodSpec(method="full", last_blocks=2)},
}  # fmt: skip


def question(config: dict[str, object] = LLAMA, **changes: Any) -> TraceRequest:
    values: dict[str, Any] = {
        "config": config, "method": LORA, "precision": "fp32", "base": "none", "attention": "batched",
        "checkpointing": "none", "optimizer": "adamw", "projection_rank": 8, "fused_update": False,
    }  # fmt: skip
    return TraceRequest(**{**values, **changes})


def planned(profile: Profile, asked: TraceRequest, accumulates: bool, lengths: tuple[int, ...] = LENGTHS) -> MemoryPlan:
    setting = Setting(asked.attention, len(lengths), accumulates, 0, True, True, 0, [], 10**12)
    return plan_traced(profile, [RowSizes(lengths, sum(lengths) - len(lengths))], [], setting)


def real(asked: TraceRequest) -> tuple[Decoder, Optimizer]:
    """The same model with numbers in it."""
    method = asked.method
    frozen = method.method == "lora" or method.last_blocks is not None
    dtype = DTYPES[asked.precision if frozen else method.weights]
    model = AutoModelForCausalLM.from_config(config_of(asked.config), dtype=dtype)
    decoder = view(model, asked.attention)
    if asked.base != "none":
        from_base(decoder, asked.base)
    make_trainable(decoder, asked.method, 0)
    fuse(decoder)
    recompute(decoder, asked.checkpointing)
    return decoder, OPTIMIZERS[asked.optimizer](decoder.trainable(), Options(rank=8))


def from_base(decoder: Decoder, base: str) -> None:
    for name, one in list(decoder.model.named_modules()):
        if isinstance(one, torch.nn.Linear) and one is not decoder.head.linear:
            put(decoder.model, name, FrozenLinear(BASES[base](one.weight.detach()), None))


def measured(
    decoder: Decoder, optimizer: Optimizer, asked: TraceRequest, micros: int, lengths: tuple[int, ...] = LENGTHS
) -> int:
    """The peak of a step of `micros` equal micro-batches, after one that gave the optimizer its states."""
    tokens, ends = sum(lengths), torch.tensor(lengths).cumsum(0)
    sources = torch.tensor([one for one in range(tokens) if one + 1 not in ends])
    row = PackedRow(
        torch.randint(0, 1000, (tokens,)), torch.cat([torch.arange(one) for one in lengths]), lengths, sources,
        torch.randint(0, 1000, (len(sources),)), (0,), (len(sources),),
    )  # fmt: skip
    update: Update = (Fused if asked.fused_update else Whole)(optimizer, 1.0)
    steps = count(optimizer.heavy_turns()[0])  # the second is in the middle of a turn, with states

    def step() -> None:
        update.begin(next(steps), 1e-4)
        for _ in range(micros):
            with computing(decoder, DTYPES[asked.precision]), decoder.attention.segments(lengths):
                (sft(decoder, row) / len(sources)).backward()
        update.apply(update.norm(1.0), 1.0)

    step()
    weights = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
               for one in (*decoder.model.parameters(), *decoder.model.buffers())}  # fmt: skip
    states = sum(one.nbytes for state in optimizer.states.values() for one in state.values())
    peak = live_peak(step) + sum(weights.values()) + states
    update.close()
    return peak


@cache
def traced(case: str) -> Profile:
    """Traced once for both ways that a case is asked about."""
    return trace(question(**CASES[case]))


@pytest.mark.parametrize("accumulates", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_plan_is_what_the_allocator_reports(case: str, accumulates: bool) -> None:
    asked = question(**CASES[case])
    if asked.fused_update and accumulates:
        pytest.skip("an update in the middle of backward has one micro-batch")
    torch.manual_seed(0)
    decoder, optimizer = real(asked)
    found = planned(traced(case), asked, accumulates).live_bytes
    peak = measured(decoder, optimizer, asked, 2 if accumulates else 1)
    assert found == pytest.approx(peak, rel=0.02)


@pytest.mark.parametrize("changes", [{"method": FULL}, {**CASES["full, fused, autocast"]}], ids=["whole", "fused"])
def test_the_gradients_of_one_matrix_for_both_ends_are_added_in_place(changes: dict[str, Any]) -> None:
    asked = question({**LLAMA, "vocab_size": 20_000, "num_hidden_layers": 3}, **changes)
    torch.manual_seed(0)
    peak = measured(*real(asked), asked, 1)
    assert planned(trace(asked), asked, False).live_bytes == pytest.approx(peak, rel=0.01)


TURNS: dict[str, dict[str, Any]] = {
    "tied": {"tied": True},
    "untied": {},
    "untied, short, by block": {"lengths": (33, 30), "checkpointing": "block"},
    "untied, by block, bf16": {"checkpointing": "block", "precision": "bf16"},
    "untied, short, fused": {"lengths": (33, 30), "fused_update": True},
    "untied, last two": {"lengths": (33, 30), "method": MethodSpec(method="full", last_blocks=2)},
    "blocks are larger": {"vocab_size": 1000, "lengths": (33, 30)},
}  # fmt: skip


@pytest.mark.parametrize("accumulates", [False, True])
@pytest.mark.parametrize("case", TURNS)
def test_of_parameters_that_take_turns_the_plan_is_that_of_the_turn_that_takes_most(
    case: str, accumulates: bool
) -> None:
    """Whichever it is, by trying all of them."""
    changes = {"vocab_size": 20_000, "lengths": LENGTHS, "tied": False, **TURNS[case]}
    lengths, vocabulary, tied = (changes.pop(name) for name in ("lengths", "vocab_size", "tied"))
    config = {**LLAMA, "vocab_size": vocabulary, "num_hidden_layers": 5, "tie_word_embeddings": tied}
    asked = question(config, **{"method": FULL, "optimizer": "badam", **changes})
    if asked.fused_update and accumulates:
        pytest.skip("an update in the middle of backward has one micro-batch")
    torch.manual_seed(0)
    decoder, optimizer = real(asked)
    assert isinstance(optimizer, ByBlocks)
    peaks = []
    for group in list(optimizer.blocks):
        optimizer.release()
        optimizer.blocks = [group]
        peaks.append(measured(decoder, optimizer, asked, 2 if accumulates else 1, lengths))
    found = planned(trace(asked), asked, accumulates, lengths).live_bytes
    assert found == pytest.approx(max(peaks), rel=0.03)


def test_the_last_blocks_can_be_traced_in_a_shorter_type() -> None:
    asked = question(method=MethodSpec(method="full", last_blocks=2), precision="bf16")
    torch.manual_seed(0)
    peak = measured(*real(asked), asked, 1)
    assert planned(trace(asked), asked, False).live_bytes == pytest.approx(peak, rel=0.05)


def test_more_blocks_follow_from_three() -> None:
    few, many = question(), question({**LLAMA, "num_hidden_layers": 12})
    torch.manual_seed(0)
    assert trace(few).traced == 3
    decoder, optimizer = real(many)
    assert planned(trace(many), many, False).live_bytes == pytest.approx(
        measured(decoder, optimizer, many, 1), rel=0.01
    )


@pytest.mark.parametrize("lengths", [(40, 30), (33,), (500,)])
def test_short_and_single_samples(lengths: tuple[int, ...]) -> None:
    asked = question()
    torch.manual_seed(0)
    decoder, optimizer = real(asked)
    found = planned(traced("lora"), asked, False, lengths).live_bytes
    assert found == pytest.approx(measured(decoder, optimizer, asked, 1, lengths), rel=0.02)


@pytest.mark.parametrize(("base", "tile"), [("none", 40_000), ("nf4", stream.TILE)])
def test_weights_on_disk_are_traced_as_they_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, tile: int
) -> None:
    monkeypatch.setattr(stream, "TILE", tile)
    asked = question(base=base, stream=True, checkpointing="block", optimizer="adamw8bit")
    model = AutoModelForCausalLM.from_config(config_of(asked.config), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    decoder = load(
        tmp_path / "model", torch.float32, torch.device("cpu"), "batched", Streamed(tmp_path / "streams", base)
    )
    make_trainable(decoder, asked.method, 0)
    fuse(decoder)
    recompute(decoder, "block")
    optimizer = OPTIMIZERS[asked.optimizer](decoder.trainable(), Options(rank=8))
    profile = trace(asked)
    found = planned(profile, asked, True, (33,)).live_bytes
    peak = measured(decoder, optimizer, asked, 2, (33,))
    mapped = max(sum(one.bytes for one in base.matrix.parts) for base in stream.streamed_bases(decoder.model))
    assert peak * 0.98 < found < peak * 1.02 + mapped  # which torch's allocator does not see
    assert profile.parameters.of(profile.blocks) == parameter_count(decoder.model)
    held = [*decoder.model.parameters(), *decoder.model.buffers()]
    assert profile.weights.of(profile.blocks) == sum(one.nbytes for one in held)


def test_a_model_that_cannot_be_traced_says_so() -> None:
    with pytest.raises(UnsupportedModel) as caught:
        trace(question({**LLAMA, "model_type": "mixtral", "num_local_experts": 2}))
    assert caught.value.key == "trace"
