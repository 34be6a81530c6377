"""Adapters on disk: PEFT reads them and computes the same, and what does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from tests.toy import toy_folder
from xiaozao.errors import ArtefactError, NotFound
from xiaozao.hub.hashes import weights_hash
from xiaozao.hub.sources import ModelFolder
from xiaozao.models.adapter import (
    CONFIG,
    WEIGHTS,
    adapter_config,
    adapter_facts,
    adapter_tensors,
    attach,
    base_name,
    check_base,
    is_vouched_for,
)
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder, run
from xiaozao.models.layers.linear import adapt, adapters, matching
from xiaozao.models.load import load

CPU = torch.device("cpu")
IDS = torch.arange(3, 40)


def tuned(folder: Path, targets: tuple[str, ...] = ("all-linear",)) -> Decoder:
    """A toy with an adapter that is not zero, written to folder/adapter."""
    decoder = load(toy_folder(folder / "model"), torch.float32, CPU)
    adapt(decoder.model, matching(decoder.model, decoder.head.linear, targets), 4, 8.0, seed=1)
    for layer in adapters(decoder.model).values():
        nn.init.normal_(layer.lora_b, std=0.2)
    write(decoder, folder / "adapter")
    return decoder


def write(decoder: Decoder, folder: Path) -> None:
    config = adapter_config(decoder.model, "toy")
    checkpoint.write_folder(folder, {WEIGHTS: adapter_tensors(decoder.model)}, {CONFIG: config})


def logits(decoder: Decoder) -> torch.Tensor:
    with torch.no_grad():
        return decoder.head.logits(run(decoder, [IDS]))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks by the old name
@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "v_proj")])
def test_peft_loads_the_adapter_and_computes_the_same(tmp_path: Path, targets: tuple[str, ...]) -> None:
    ours = logits(tuned(tmp_path, targets))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(input_ids=IDS[None]).logits[0], rtol=1e-5, atol=1e-5)
        plain = theirs.get_base_model()
        with theirs.disable_adapter():
            assert not torch.allclose(ours, plain(input_ids=IDS[None]).logits[0], atol=1e-3)


def test_saved_and_attached_again_it_gives_the_same_bits(tmp_path: Path) -> None:
    before = tuned(tmp_path)
    again = load(tmp_path / "model", torch.float32, CPU)
    attach(again, tmp_path / "adapter")
    assert torch.equal(logits(before), logits(again))


def test_the_file_holds_the_trained_tensors_and_nothing_else(tmp_path: Path) -> None:
    decoder = tuned(tmp_path)
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(stored) == len(decoder.trainable()) == 28
    assert all(tensor.dtype == torch.float32 for tensor in stored.values())
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "toy" and str(tmp_path) not in json.dumps(config)
    assert config["lora_alpha"] / config["r"] == 2.0


def test_an_adapter_of_another_shape_or_a_missing_or_broken_one_is_refused(tmp_path: Path) -> None:
    tuned(tmp_path)
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    stored = load_file(path)
    name = sorted(stored)[0]
    save_file({**stored, name: torch.zeros(9, 9)}, path)
    with pytest.raises(ArtefactError, match=rf"1 tensor\(s\) differ, the first is {name}"):
        attach(load(tmp_path / "model", torch.float32, CPU), tmp_path / "adapter")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtefactError, match="adapter_model.safetensors is damaged"):
        attach(load(tmp_path / "model", torch.float32, CPU), tmp_path / "adapter")
    path.unlink()
    with pytest.raises(NotFound):
        attach(load(tmp_path / "model", torch.float32, CPU), tmp_path / "adapter")


@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True}, {"use_dora": True}, {"modules_to_save": ["lm_head", "embed_tokens"]},
     {"modules_to_save": ["norm"], "target_modules": r".*\.1\.mlp\..*_proj"}],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning", "ignore:.*tie.*:UserWarning")
def test_we_load_what_peft_wrote_and_compute_the_same(tmp_path: Path, options: dict[str, object]) -> None:
    toy_folder(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    known: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": "all-linear",
        "init_lora_weights": False,
        **options,
    }
    theirs = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **known))
    with torch.no_grad():
        for name, one in theirs.named_parameters():
            if "modules_to_save" in name or "magnitude" in name:
                one.mul_(1 + 0.1 * torch.rand_like(one))
    theirs.save_pretrained(str(tmp_path / "adapter"))
    ours = load(tmp_path / "model", torch.float32, CPU)
    attach(ours, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(logits(ours), theirs(input_ids=IDS[None]).logits[0], rtol=1e-5, atol=1e-5)


def test_the_base_is_named_so_that_a_reader_finds_it_or_nothing(tmp_path: Path) -> None:
    toy_folder(tmp_path / "model")
    cached = tmp_path / "models--owner--name" / "snapshots" / "0123"
    assert base_name(ModelFolder(cached, "cache", "owner/name", "0123")) == "owner/name"
    for origin in ("local", "gguf", "pypi", "modelscope", "cache"):
        found = ModelFolder(tmp_path / "model", origin, "owner/name", None)
        assert base_name(found) == str(tmp_path / "model")
    facts = adapter_facts(ModelFolder(tmp_path / "model", "local", "model", None))
    assert facts["base"] == {
        "name": "model", "origin": "local", "commit": None, "weights_sha256": weights_hash(tmp_path / "model"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha_pattern", {"q_proj": 3}), ("bias", "all"), ("init_lora_weights", "pissa"), ("peft_type", "LOHA")],
)
def test_an_adapter_that_is_another_function_than_ours_is_refused(tmp_path: Path, name: str, value: object) -> None:
    tuned(tmp_path)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ArtefactError, match=f"has {name}=.*does not support"):
        attach(load(tmp_path / "model", torch.float32, CPU), tmp_path / "adapter")


def test_an_adapter_for_layers_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    tuned(tmp_path)
    toy_folder(tmp_path / "smaller", num_hidden_layers=1)
    with pytest.raises(ArtefactError, match=r"14 tensor\(s\) differ, the first is .*layers.1.mlp.down_proj.lora_A"):
        attach(load(tmp_path / "smaller", torch.float32, CPU), tmp_path / "adapter")


@pytest.mark.parametrize(
    "text",
    [
        "[]", '"LORA"', "null", "", "{", '{"r": 4, "r": 4}', '{"peft_type": "LORA", "lora_alpha": NaN}',
        "[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}",
    ],
)  # fmt: skip
def test_an_adapter_config_that_is_no_plain_object_is_refused(tmp_path: Path, text: str) -> None:
    tuned(tmp_path)
    decoder = load(tmp_path / "model", torch.float32, CPU)
    (tmp_path / "adapter" / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtefactError, match="adapter_config.json") as caught:
        attach(decoder, tmp_path / "adapter")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [..., None, 0, -1, 10**18, 7, 4.0, "4", [4], {}, True, float("1e300")])
def test_a_rank_that_is_none_is_refused_before_anything_is_made(tmp_path: Path, value: object) -> None:
    assert "r is" in _refused(tmp_path, "r", value)


@pytest.mark.parametrize("value", [..., None, "8", [8], {}, False, 0, 0.0, 1e300, -(10**30)])
def test_an_alpha_that_is_none_is_refused(tmp_path: Path, value: object) -> None:
    assert "lora_alpha is" in _refused(tmp_path, "lora_alpha", value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("use_dora", "yes"), ("use_rslora", 1), ("bias", []), ("peft_type", 3), ("init_lora_weights", [])],
)
def test_a_field_of_an_adapter_of_another_type_is_refused(tmp_path: Path, field: str, value: object) -> None:
    assert f"{field} is" in _refused(tmp_path, field, value)


def _refused(place: Path, field: str, value: object) -> str:
    """The refusal of an adapter with another value in its config; `...` for none."""
    tuned(place)
    decoder = load(place / "model", torch.float32, CPU)
    path = place / "adapter" / "adapter_config.json"
    values = {**json.loads(path.read_text(encoding="utf-8")), field: value}
    path.write_text(json.dumps({name: one for name, one in values.items() if one is not ...}), encoding="utf-8")
    with pytest.raises(ArtefactError, match="adapter_config.json") as caught:
        attach(decoder, place / "adapter")
    assert not adapters(decoder.model)
    return str(caught.value)


def spoil(folder: Path, how: str) -> None:
    """An adapter that is still read, but is not the one that was trained."""
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if how == "a bit of the weights":
        data = bytearray(weights.read_bytes())
        data[-2] ^= 1
        weights.write_bytes(data)
    elif how == "a flag of the config":
        config.write_text(json.dumps({**json.loads(config.read_text()), "use_rslora": True}))
    else:
        weights.rename(folder.parent / "elsewhere")
        weights.symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize("how", ["a bit of the weights", "a flag of the config", "weights behind a link"])
def test_an_adapter_that_is_not_the_one_that_was_trained_is_refused(tmp_path: Path, how: str) -> None:
    tuned(tmp_path)
    assert is_vouched_for(tmp_path / "adapter")
    spoil(tmp_path / "adapter", how)
    with pytest.raises(ArtefactError, match="differs|size|bytes|link"):
        attach(load(tmp_path / "model", torch.float32, CPU), tmp_path / "adapter")


def test_without_hashes_an_adapter_is_read_but_no_link_out_of_its_folder(tmp_path: Path) -> None:
    tuned(tmp_path)
    (tmp_path / "adapter" / "manifest.json").unlink()
    assert not is_vouched_for(tmp_path / "adapter")
    attach(load(tmp_path / "model", torch.float32, CPU), tmp_path / "adapter")
    spoil(tmp_path / "adapter", "weights behind a link")
    with pytest.raises(ArtefactError, match="outside"):
        attach(load(tmp_path / "model", torch.float32, CPU), tmp_path / "adapter")


def test_an_adapter_is_not_put_onto_other_weights_than_those_it_learned_on(tmp_path: Path) -> None:
    tuned(tmp_path)
    facts = adapter_facts(ModelFolder(tmp_path / "model", "local", "model", None))
    check_base(tmp_path / "adapter", tmp_path / "model")  # nothing is said of a base
    (tmp_path / "adapter" / "xiaozao.json").write_text(json.dumps(facts))
    check_base(tmp_path / "adapter", tmp_path / "model")
    other = toy_folder(tmp_path / "other", seed=5)
    with pytest.raises(ArtefactError, match="trained on the weights of model"):
        check_base(tmp_path / "adapter", other)
    (tmp_path / "adapter" / "xiaozao.json").write_text("{}")
    with pytest.raises(ArtefactError, match="cannot be read"):
        check_base(tmp_path / "adapter", tmp_path / "model")
