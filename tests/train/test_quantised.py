"""Training over a quantised base: the loss falls, the base does not move, and what is saved comes back bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.toy import toy_folder, toy_samples
from xiaozao.errors import UsageError
from xiaozao.models.adapter import CONFIG, WEIGHTS, adapter_config, adapter_tensors, attach
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder, run
from xiaozao.models.layers.linear import FrozenLinear, adapt, adapters, matching, without_adapters
from xiaozao.models.layers.quantize import BASES
from xiaozao.models.load import InMemory, load
from xiaozao.models.recompute import recompute
from xiaozao.spec.run import RunSpec
from xiaozao.train.batches import packed_row
from xiaozao.train.losses import sft

CPU = torch.device("cpu")
IDS = torch.arange(3, 40)
SAMPLES = toy_samples([24, 17, 30, 9])


def adapted(folder: Path, base: str, targets: tuple[str, ...] = ("all-linear",)) -> Decoder:
    decoder = load(folder, torch.float32, CPU, way=InMemory(base))
    adapt(decoder.model, matching(decoder.model, decoder.head.linear, targets), 4, 8.0, seed=1)
    return decoder


def trained(decoder: Decoder, steps: int) -> list[float]:
    """The losses of a few steps on the same four samples."""
    optimizer = torch.optim.Adam(decoder.trainable().values(), 0.02)
    losses = []
    for _ in range(steps):
        row = packed_row(SAMPLES, range(4), CPU)
        with decoder.attention.segments(row.lengths):
            loss = sft(decoder, row) / row.units
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def logits(decoder: Decoder) -> Tensor:
    decoder.model.eval()
    with torch.no_grad():
        return decoder.head.logits(run(decoder, [IDS]))


@pytest.mark.parametrize("base", BASES)
def test_twenty_steps_lower_the_loss_and_move_the_adapter_alone(tmp_path: Path, base: str) -> None:
    decoder = adapted(toy_folder(tmp_path / "model"), base)
    learning = decoder.trainable()
    before = {name: one.clone() for name, one in decoder.model.state_dict().items()}
    losses = trained(decoder, 20)
    assert losses[-1] < 0.95 * losses[0]
    changed = {name for name, one in decoder.model.state_dict().items() if not torch.equal(one, before[name])}
    assert changed == set(learning) and len(changed) == 28


@pytest.mark.parametrize("base", BASES)
def test_layers_without_an_adapter_pass_the_gradient_on(tmp_path: Path, base: str) -> None:
    decoder = adapted(toy_folder(tmp_path / "model"), base, ("q_proj",))
    kinds = [type(one).__name__ for one in decoder.model.modules()]
    assert kinds.count("AdaptedLinear") == 2 and kinds.count("FrozenLinear") == 12
    first = adapters(decoder.model)["model.layers.0.self_attn.q_proj"]
    assert isinstance(decoder.model.get_submodule("model.layers.0.self_attn.k_proj"), FrozenLinear)
    losses = trained(decoder, 10)
    assert losses[-1] < losses[0] and first.lora_b.abs().max() > 0


@pytest.mark.parametrize("base", BASES)
def test_saved_and_attached_to_another_load_it_gives_the_same_bits(tmp_path: Path, base: str) -> None:
    folder = toy_folder(tmp_path / "model")
    decoder = adapted(folder, base)
    fresh = logits(decoder)
    trained(decoder, 3)
    tensors, config = adapter_tensors(decoder.model), adapter_config(decoder.model, "toy")
    assert len(tensors) == 28 and all(one.dtype == torch.float32 for one in tensors.values())
    checkpoint.write_folder(tmp_path / "adapter", {WEIGHTS: tensors}, {CONFIG: config})
    again = load(folder, torch.float32, CPU, way=InMemory(base))
    assert torch.equal(logits(again), fresh)
    attach(again, tmp_path / "adapter")
    assert torch.equal(logits(again), logits(decoder))
    with without_adapters(decoder.model):
        assert torch.equal(logits(decoder), fresh)


@pytest.mark.parametrize("base", BASES)
def test_recomputed_blocks_give_the_same_losses(tmp_path: Path, base: str) -> None:
    folder = toy_folder(tmp_path / "model")
    plain, recomputed = adapted(folder, base), adapted(folder, base)
    recompute(recomputed, "block")
    assert trained(plain, 4) == trained(recomputed, 4)


def test_full_training_of_a_quantised_base_is_refused() -> None:
    with pytest.raises(UsageError, match=r"base=nf4 has only rounded and frozen.*method=lora"):
        RunSpec.from_options({"model": "m", "data": "d", "method": "full", "base": "nf4"})
