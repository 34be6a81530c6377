"""The plan's arithmetic against what torch holds: parameters, adapters, and the tensors autograd really keeps."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from tests.toy import SHAPE, toy_decoder, toy_samples
from xiaozao.models.layers.linear import adapters
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.models.trainable import make_trainable
from xiaozao.plan.fit import Setup, every_sample, fit
from xiaozao.plan.memory import block_activations, mlp_activations, plan
from xiaozao.plan.states import gradient_bytes, held_states, state_bytes, whole_update
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.parts import MethodSpec, TrainSpec
from xiaozao.spec.run import FULL_ONLY
from xiaozao.train.batches import packed_row
from xiaozao.train.losses import sft
from xiaozao.train.optim.engine import Options
from xiaozao.train.optim.names import OPTIMIZERS

SEVEN_B: dict[str, Any] = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
LOAD = Load("lora", 4, ("all-linear",), 4, "none", 4, 512, accumulates=True, runtime=0, cpu=False)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"num_hidden_layers": 3, "head_dim": 16}])
def test_parameters_and_adapter_are_counted_as_torch_counts_them(changes: dict[str, Any]) -> None:
    decoder = toy_decoder(lora=4, **changes)
    shape = ModelShape.from_config({**SHAPE, **changes})
    adapter = sum(one.lora_a.numel() + one.lora_b.numel() for one in adapters(decoder.model).values())
    assert shape.adapter(4, ("all-linear",)) == adapter
    assert shape.parameters == sum(one.numel() for one in decoder.model.parameters()) - adapter


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "options",
    [{"adapter": "dora"}, {"adapter": "pissa"}, {"targets": ("*.1.mlp.*", "q_proj")}, {"also": ("head",)},
     {"also": ("embeddings", "norms")}, {"also": ("embeddings", "head")}, {"method": "full", "last_blocks": 1}],
    ids=str,
)  # fmt: skip
def test_what_learns_and_its_bytes_are_counted_as_torch_counts_them(options: dict[str, Any], tied: bool) -> None:
    decoder = toy_decoder(lora=None, tie_word_embeddings=tied)
    nn.Module.to(decoder.model, torch.bfloat16)
    method = MethodSpec(rank=4, alpha=8.0, **options)
    make_trainable(decoder, method, seed=0)
    shape = ModelShape.from_config({**SHAPE, "tie_word_embeddings": tied})
    load = dataclasses.replace(
        LOAD, compute_bytes=2, last_blocks=method.last_blocks, method=method.method, adapter=method.adapter,
        also=method.also, targets=method.targets,
    )  # fmt: skip
    assert load.trainable(shape) == sum(one.numel() for one in decoder.trainable().values())
    starts = sum(one.nbytes for name, one in decoder.model.named_buffers() if ".start_" in name)
    assert load.weights(shape) == starts + sum(one.nbytes for one in decoder.model.parameters())


def test_a_model_of_seven_billion_has_the_published_number() -> None:
    assert ModelShape.from_config(SEVEN_B).parameters == 6_738_415_616  # Llama-2-7B


def kept(decoder_layers: int, tokens: int, adapter: str = "lora", checkpointing: str = "none") -> int:
    """The bytes of all tensors that autograd keeps for one row, the parameters aside."""
    decoder = toy_decoder(num_hidden_layers=decoder_layers, lora=None)
    make_trainable(decoder, MethodSpec.model_validate({"rank": 4, "alpha": 8.0, "adapter": adapter}), seed=0)
    nn.Module.to(decoder.model, torch.bfloat16)
    fuse(decoder)
    recompute(decoder, checkpointing)
    own = {one.untyped_storage().data_ptr() for one in decoder.model.parameters()}
    storages: dict[int, int] = {}
    alive = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # an address must not be used twice while we count
        return tensor

    row = packed_row(toy_samples([tokens] * 4), range(4), decoder.device)
    with decoder.attention.segments(row.lengths), torch.autograd.graph.saved_tensors_hooks(note, lambda one: one):
        sft(decoder, row)
    return sum(storages.values())


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_what_a_block_keeps_is_what_autograd_keeps(adapter: str) -> None:
    """The difference of three blocks and two is one block; samples of 32 tokens need no padding."""
    measured = kept(3, 32, adapter) - kept(2, 32, adapter)
    load = dataclasses.replace(LOAD, tokens=4 * 32, compute_bytes=2, adapter=adapter)
    assert block_activations(ModelShape.from_config(SHAPE), load) == pytest.approx(measured, rel=0.03)


def test_what_selective_recomputation_lets_go_of_is_what_lies_inside_the_mlp() -> None:
    saved = kept(3, 32) - kept(3, 32, checkpointing="selective")
    load = dataclasses.replace(LOAD, tokens=4 * 32, compute_bytes=2)
    assert 3 * mlp_activations(ModelShape.from_config(SHAPE), load) == saved


def test_the_peak_is_the_largest_moment_and_full_training_holds_sixteen_bytes_a_parameter() -> None:
    shape = ModelShape.from_config(SEVEN_B)
    lora = plan(shape, LOAD, budget=10**12)
    assert lora.peak_bytes == max(moment.total for moment in lora.moments) and lora.fits
    full = plan(shape, dataclasses.replace(LOAD, method="full"), budget=10**9)
    step = next(moment for moment in full.moments if moment.name == "optimizer step")
    assert step.total == 16 * shape.parameters and not full.fits


@pytest.mark.parametrize("adapter", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("tied", [True, False])
def test_states_and_gradients_are_those_that_the_optimizer_holds(optimizer: str, tied: bool, adapter: bool) -> None:
    if adapter and optimizer in FULL_ONLY:
        pytest.skip("only for all parameters")
    sizes: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256, "tie_word_embeddings": tied}
    decoder = toy_decoder(lora=128 if adapter else None, **sizes)
    if not adapter:
        decoder.model.requires_grad_(True)
    ours = OPTIMIZERS[optimizer](decoder.trainable(), Options(rank=16, every=1))
    states = gradients = 0
    for step in range(4):
        ours.begin(step)
        learning = [one for one in decoder.model.parameters() if one.requires_grad]
        for one in learning:
            one.grad = torch.ones_like(one)
        gradients = max(gradients, sum(one.nbytes for one in learning))
        ours.step(1e-3)
        states = max(states, sum(one.nbytes for key, one in ours.state().items() if not key.startswith("step.")))
    shape = ModelShape.from_config({**SHAPE, **sizes})
    load = dataclasses.replace(LOAD, method="lora" if adapter else "full", rank=128, optimizer=optimizer, projection=16)
    assert state_bytes(shape, load) == pytest.approx(states, rel=0.02)
    assert gradient_bytes(shape, load) == pytest.approx(gradients, rel=0.02)


def test_states_that_no_device_shares_are_counted_whole() -> None:
    shape = ModelShape.from_config(SEVEN_B)
    alone = dataclasses.replace(LOAD, method="full", optimizer="adamw8bit")
    eight = dataclasses.replace(alone, devices=8)
    assert held_states(shape, eight) == held_states(shape, alone) == state_bytes(shape, alone)
    assert whole_update(shape, eight) == 2 * 4 * shape.matrix and whole_update(shape, alone) == 0
    adamw = dataclasses.replace(eight, optimizer="adamw")
    assert held_states(shape, adamw) == shape.parameters and whole_update(shape, adamw) == 0


def test_a_fused_update_is_planned_with_the_micro_batch_it_will_have() -> None:
    train = TrainSpec(optimizer="adamw", checkpointing="none", batch=16, budget=1, fused_update=True)
    setup = Setup(MethodSpec(method="full", precision="bf16"), train, "cpu", 0)
    assert fit(SEVEN_B, setup, every_sample((1,))).samples == 16


def test_bf16_weights_and_a_fused_update_take_what_they_say() -> None:
    shape = ModelShape.from_config(SEVEN_B)
    full = dataclasses.replace(LOAD, method="full", compute_bytes=2)
    halves = dataclasses.replace(full, wide=2)
    assert halves.weights(shape) * 2 == full.weights(shape) and gradient_bytes(shape, halves) == 2 * shape.parameters
    assert gradient_bytes(shape, dataclasses.replace(full, fused=True)) < gradient_bytes(shape, full) / 20


def test_checkpointing_and_fewer_tokens_take_less() -> None:
    shape = ModelShape.from_config(SEVEN_B)
    kinds = ("none", "selective", "block", "offload")
    peaks = [plan(shape, dataclasses.replace(LOAD, checkpointing=kind), 1).peak_bytes for kind in kinds]
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == len(kinds)
    assert plan(shape, dataclasses.replace(LOAD, tokens=128), 1).peak_bytes < peaks[0]


@pytest.mark.parametrize(("budget", "expected"), [(10**12, 8), (19_000_000_000, 4), (1_000, 1)])
def test_the_micro_batch_is_the_largest_that_fits(budget: int, expected: int) -> None:
    method = MethodSpec(rank=4, precision="bf16")
    train = TrainSpec(optimizer="adamw", checkpointing="none", batch=16, budget=budget)
    found = fit(SEVEN_B, Setup(method, train, "cpu", 0), every_sample((128,)))
    assert found.samples == expected
    assert found.fits == (expected > 1)


def test_devices_divide_what_is_held_but_not_what_is_loaded_or_computed_with() -> None:
    shape = ModelShape.from_config(SEVEN_B)
    full = dataclasses.replace(LOAD, method="full")
    one, two, eight = (plan(shape, dataclasses.replace(full, devices=count), 1) for count in (1, 2, 8))
    for moment, alone in zip(two.moments, one.moments, strict=True):
        assert moment.parts["optimizer"] == alone.parts["optimizer"] / 2
        assert moment.parts["activations"] == alone.parts["activations"]
        if moment.name == "load":
            assert moment.parts["weights"] == alone.parts["weights"]
        else:
            assert alone.parts["weights"] / 2 < moment.parts["weights"] < alone.parts["weights"]
            assert moment.parts["gradients"] == alone.parts["gradients"] / 2
    assert eight.peak_bytes < two.peak_bytes < one.peak_bytes


def test_each_device_has_its_share_of_a_window() -> None:
    train = TrainSpec(optimizer="adamw", checkpointing="none", batch=16, devices=4, budget=10**12)
    found = fit(SEVEN_B, Setup(MethodSpec(precision="bf16"), train, "cpu", 0), every_sample((1,)))
    assert found.samples == 4
    assert next(one for one in found.moments if one.name == "loss").parts["gradients"] == 0


def test_a_given_micro_batch_is_kept() -> None:
    train = TrainSpec(optimizer="adamw", checkpointing="none", batch=16, micro_batch=16, budget=1)
    assert fit(SEVEN_B, Setup(MethodSpec(precision="fp32"), train, "cpu", 0), every_sample((1,))).samples == 16
