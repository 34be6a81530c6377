"""What is written of a model still holds what it learned, also where that was less than the distance of two numbers."""

from pathlib import Path

import torch

from tests.toy import toy_folder
from xiaozao.models.blocks import Decoder, run
from xiaozao.models.layers.linear import adapt, adapters, matching, merge
from xiaozao.models.load import load
from xiaozao.models.save import write_model

CPU = torch.device("cpu")
Weights = dict[str, torch.Tensor]


def weights(decoder: Decoder) -> Weights:
    return {name: one.detach().float().clone() for name, one in decoder.model.named_parameters()}


def share(before: Weights, after: Weights, learned: Weights) -> float:
    """How much of what was learned is there, as the length of its shadow; 1 is all of it."""
    along = sum(float(((after[name] - before[name]) * step).sum()) for name, step in learned.items())
    return along / sum(float(step.square().sum()) for step in learned.values())


def test_full_weights_that_moved_a_little_are_written_as_moved(tmp_path: Path) -> None:
    decoder = load(toy_folder(tmp_path / "model"), torch.bfloat16, CPU)
    before = weights(decoder)
    torch.nn.Module.to(decoder.model, torch.float32)
    learned = {name: one * 2**-11 for name, one in before.items()}  # an eighth of the distance, or less
    with torch.no_grad():
        for name, one in decoder.model.named_parameters():
            one.add_(learned[name])
    (tmp_path / "out").mkdir()
    write_model(decoder.model, tmp_path / "out", tmp_path / "model", torch.bfloat16)
    written = load(tmp_path / "out", torch.bfloat16, CPU)
    assert abs(share(before, weights(written), learned) - 1) < 0.2
    # What is answered with the model in memory from here on is answered with what was written.
    held = weights(decoder)
    assert all(torch.equal(one, held[name]) for name, one in weights(written).items())


def test_far_into_a_text_the_model_in_memory_answers_as_the_written_one(tmp_path: Path) -> None:
    """Rotary frequencies are not written, and rounded to bf16 they would be wrong by whole turns there."""
    decoder = load(toy_folder(tmp_path / "model", max_position_embeddings=2048), torch.float32, CPU)
    (tmp_path / "out").mkdir()
    write_model(decoder.model, tmp_path / "out", tmp_path / "model", torch.bfloat16)
    written, ids = load(tmp_path / "out", torch.bfloat16, CPU), [torch.arange(1500) % 300 + 5]
    assert "xiaozao" not in (tmp_path / "out" / "config.json").read_text(encoding="utf-8")
    with torch.no_grad():
        assert torch.equal(run(decoder, ids), run(written, ids))


def test_an_adapter_that_learned_a_little_is_merged_whole(tmp_path: Path) -> None:
    decoder = load(toy_folder(tmp_path / "model"), torch.bfloat16, CPU)
    before = weights(decoder)
    adapt(decoder.model, matching(decoder.model, decoder.head.linear, ("all-linear",)), 4, 8.0, seed=1)
    learned = {}
    for name, layer in adapters(decoder.model).items():
        torch.nn.init.normal_(layer.lora_b, std=1e-4)
        learned[f"{name}.weight"] = (layer.scale * layer.lora_b @ layer.lora_a).detach()
    merge(decoder.model)
    assert abs(share(before, weights(decoder), learned) - 1) < 0.2
