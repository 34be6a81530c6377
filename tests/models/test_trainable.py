"""What is trained moves, all of it; the rest keeps its bits; what was trained comes back from disk, merged or not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tests.models.test_adapter import CPU, IDS, logits, write
from tests.toy import toy_decoder, toy_folder, toy_samples
from xiaozao.errors import UsageError
from xiaozao.export.merge import merge_adapter
from xiaozao.models.adapter import attach
from xiaozao.models.blocks import Decoder
from xiaozao.models.layers.linear import adapters
from xiaozao.models.load import load
from xiaozao.models.save import write_model
from xiaozao.models.trainable import KINDS, is_tied, make_trainable, rate_factors
from xiaozao.spec.parts import MethodSpec
from xiaozao.train.batches import packed_row
from xiaozao.train.losses import sft

Also = tuple[str, ...]
ALSO: list[Also] = [("embeddings",), ("head",), ("embeddings", "head"), ("norms",), ("embeddings", "head", "norms")]
quiet_peft = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning",  # PEFT asks by the old name
    "ignore:.*tied:UserWarning",
    "ignore:.*modules_to_save:UserWarning",
)


def method(**options: object) -> MethodSpec:
    return MethodSpec.model_validate({"rank": 4, "alpha": 8.0, **options})


def opened(folder: Path, dtype: torch.dtype = torch.float32, tied: bool = True, **options: object) -> Decoder:
    """A toy of `folder`, as the method opens it."""
    source = folder if folder.is_dir() else toy_folder(folder, tie_word_embeddings=tied)
    decoder = load(source, dtype, CPU)
    make_trainable(decoder, method(**options), seed=1)
    return decoder


def train(decoder: Decoder, steps: int = 2) -> None:
    """A few steps of SGD with momentum, large enough to be seen."""
    optimizer = torch.optim.Adam(decoder.trainable().values(), lr=0.02)
    row = packed_row(toy_samples([20, 30, 11]), range(3), CPU)
    for _ in range(steps):
        with decoder.attention.segments(row.lengths):
            (sft(decoder, row) / row.units).backward()
        optimizer.step()
        optimizer.zero_grad()


def embedding(decoder: Decoder) -> nn.Parameter:
    return decoder.model.get_input_embeddings().get_parameter("weight")


def snapshot(decoder: Decoder) -> dict[str, torch.Tensor]:
    tensors = decoder.model.named_parameters(remove_duplicate=False)
    return {name: one.detach().clone() for name, one in tensors}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [*({"adapter": kind} for kind in KINDS), *({"also": also} for also in ALSO),
     {"method": "full", "last_blocks": 1}, {"adapter": "dora", "also": ("norms", "head"), "targets": ("*.mlp.*",)}],
    ids=str,
)  # fmt: skip
def test_every_trainable_tensor_moves_and_every_other_keeps_its_bits(
    tmp_path: Path, options: dict[str, Any], dtype: torch.dtype
) -> None:
    decoder = opened(tmp_path / "model", dtype, **options)
    before, trainable = snapshot(decoder), {id(one) for one in decoder.trainable().values()}
    assert all(one.dtype == torch.float32 for one in decoder.trainable().values())
    train(decoder)
    for name, now in decoder.model.named_parameters(remove_duplicate=False):
        assert torch.equal(before[name], now) is not (id(now) in trainable), name
    for name, now in decoder.model.named_parameters():
        assert id(now) in trainable or now.grad is None, name
    assert torch.isfinite(logits(decoder)).all()


@quiet_peft
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("also", ALSO, ids=str)
def test_trained_saved_merged_and_read_back_the_logits_are_the_same(tmp_path: Path, also: Also, tied: bool) -> None:
    decoder = opened(tmp_path / "model", tied=tied, also=also)
    train(decoder)
    write(decoder, tmp_path / "adapter")
    ours = logits(decoder)
    stays = tied and len({"embeddings", "head"} & set(also)) != 1
    assert is_tied(decoder) is stays

    again = load(tmp_path / "model", torch.float32, CPU)
    attach(again, tmp_path / "adapter")
    assert torch.equal(logits(again), ours) and is_tied(again) is stays

    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(input_ids=IDS[None]).logits[0], rtol=1e-5, atol=1e-5)

    merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "merged", torch.float32)
    plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        assert (plain(input_ids=IDS[None]).logits[0] - ours).abs().max() < 1e-4
    assert plain.config.tie_word_embeddings is stays
    assert torch.equal(plain.get_output_embeddings().weight, plain.get_input_embeddings().weight) is stays


def test_a_head_that_trains_leaves_the_tied_input_embedding_alone(tmp_path: Path) -> None:
    decoder = opened(tmp_path / "model", also=("head",))
    before = embedding(decoder).detach().clone()
    train(decoder)
    assert torch.equal(embedding(decoder), before)
    assert not torch.equal(decoder.head.linear.get_parameter("weight"), before)


def test_both_ends_of_a_tied_model_are_one_matrix_with_the_gradient_of_both(tmp_path: Path) -> None:
    both = opened(tmp_path / "model", also=("embeddings", "head"))
    apart = opened(tmp_path / "model", also=("embeddings", "head"))
    apart.head.linear.weight = nn.Parameter(apart.head.linear.get_parameter("weight").detach().clone())
    row = packed_row(toy_samples([20, 30]), range(2), CPU)
    for decoder in (both, apart):
        with decoder.attention.segments(row.lengths):
            sft(decoder, row).backward()
    first, second = embedding(apart).grad, apart.head.linear.get_parameter("weight").grad
    assert first is not None and second is not None
    torch.testing.assert_close(both.head.linear.get_parameter("weight").grad, first + second)


@quiet_peft
@pytest.mark.parametrize("kind", list(KINDS))
def test_peft_and_we_read_each_kind_of_adapter_and_compute_what_was_trained(tmp_path: Path, kind: str) -> None:
    decoder = opened(tmp_path / "model", adapter=kind)
    train(decoder, 4)
    write(decoder, tmp_path / "adapter")
    ours = logits(decoder)
    again = load(tmp_path / "model", torch.float32, CPU)
    untouched = logits(again)
    layers = attach(again, tmp_path / "adapter")
    assert (ours - untouched).abs().max() > 0.1
    torch.testing.assert_close(logits(again), ours, rtol=1e-5, atol=1e-5 if kind == "pissa" else 0)
    scale = 8.0 / (2.0 if kind == "rslora" else 4.0)  # alpha / sqrt(rank), alpha / rank
    assert {layer.scale for layer in adapters(decoder.model).values()} == {scale}
    assert {layer.scale for layer in layers.values()} == {scale}
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(input_ids=IDS[None]).logits[0], rtol=1e-5, atol=1e-5)
    merged = merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "merged", torch.float32)
    assert merged.gap < 1e-5
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["use_dora"] is (kind == "dora") and config["r"] == (8 if kind == "pissa" else 4)


@quiet_peft
def test_gpt2_goes_through_peft_and_merging(tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder = toy_decoder(kind="gpt2", lora=None, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)
    decoder.model.save_pretrained(tmp_path / "model")
    decoder = opened(tmp_path / "model", adapter="dora")
    decoder.model.eval()
    train(decoder)
    write(decoder, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(logits(decoder), theirs(input_ids=IDS[None]).logits[0], rtol=1e-4, atol=1e-4)
    assert merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "merged", torch.float32).gap < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_at_step_zero_each_adapter_is_the_base_bit_for_bit(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    plain = logits(load(toy_folder(tmp_path / "model"), dtype, CPU))
    assert torch.equal(logits(opened(tmp_path / "model", dtype, adapter=kind)), plain)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_opening_whole_modules_changes_nothing_but_rounding(tmp_path: Path, dtype: torch.dtype, bound: float) -> None:
    plain = logits(load(toy_folder(tmp_path / "model"), dtype, CPU))
    for also in ALSO:
        ours = logits(opened(tmp_path / "model", dtype, also=also))
        assert float((ours - plain).norm() / plain.norm()) < bound


def test_the_last_blocks_train_and_the_model_is_written_whole(tmp_path: Path) -> None:
    decoder = opened(tmp_path / "model", tied=False, method="full", last_blocks=1)
    names = set(decoder.trainable())
    assert {"lm_head.weight", "model.norm.weight"} < names and len(names) == 11
    assert all(".layers.1." in name for name in names - {"lm_head.weight", "model.norm.weight"})
    train(decoder)
    (tmp_path / "out").mkdir()
    ours = logits(decoder)
    write_model(decoder.model, tmp_path / "out", tmp_path / "model", torch.float32)
    assert torch.equal(logits(load(tmp_path / "out", torch.float32, CPU)), ours)
    tied = opened(tmp_path / "tied", method="full", last_blocks=2)
    assert len(tied.trainable()) == 19 and not any("embed" in name or "head" in name for name in tied.trainable())
    with pytest.raises(UsageError, match="last_blocks=3, but this model has 2 blocks"):
        opened(tmp_path / "model", method="full", last_blocks=3)


def test_blocks_that_lie_deeper_in_the_model_are_the_last_blocks_too(tmp_path: Path) -> None:
    """OPT keeps its blocks and the final norm in a decoder inside its base model; they are found as for an adapter."""
    config = AutoConfig.for_model(
        "opt", hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=3, num_attention_heads=4,
        vocab_size=300, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    decoder = opened(tmp_path / "model", method="full", last_blocks=1)
    names = set(decoder.trainable())
    final, head = "model.decoder.final_layer_norm.", "lm_head.weight"
    assert {f"{final}weight", f"{final}bias", head} < names
    assert all(name.startswith(("model.decoder.layers.2.", final)) for name in names - {head})


def test_last_blocks_in_bf16_have_the_gradients_of_autocast(tmp_path: Path) -> None:
    """Masters in fp32 under autocast, as full training has them; only the frozen blocks are stored in bf16."""
    row = packed_row(toy_samples([20, 30]), range(2), CPU)
    ours = opened(tmp_path / "model", torch.bfloat16, method="full", last_blocks=1)
    whole = load(tmp_path / "model", torch.bfloat16, CPU)
    nn.Module.to(whole.model, torch.float32)
    with ours.attention.segments(row.lengths):
        sft(ours, row).backward()
    with torch.autocast("cpu", torch.bfloat16), whole.attention.segments(row.lengths):
        sft(whole, row).backward()
    reference = dict(whole.model.named_parameters())
    for name, one in ours.trainable().items():
        other = reference[name].grad
        assert one.grad is not None and other is not None
        assert float((one.grad - other).norm() / other.norm()) < 0.05, name


def test_lora_plus_names_every_b_and_nothing_else() -> None:
    decoder = toy_decoder()
    assert rate_factors(decoder, None) == {}
    factors = rate_factors(decoder, 16.0)
    assert set(factors) == {name for name in decoder.trainable() if name.endswith("lora_b")} and len(factors) == 14
    assert set(factors.values()) == {16.0}


def test_the_same_seed_gives_the_same_start_and_pissa_resumes_on_the_same_base(tmp_path: Path) -> None:
    for kind in KINDS:
        one, other = (snapshot(opened(tmp_path / "model", adapter=kind)) for _ in range(2))
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
