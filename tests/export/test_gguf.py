"""GGUF files: llama.cpp reads them as transformers and the trained model compute; broken ones are refused by name."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType as Kind
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM

from tests.toy import SHAPE, SPECIAL, TEMPLATE, toy_folder
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.errors import ArtefactError, UnsupportedModel, UsageError
from xiaozao.export.gguf import deliver
from xiaozao.export.gguf.deliver import export_gguf
from xiaozao.export.gguf.llamacpp import ask
from xiaozao.export.gguf.parity import compare
from xiaozao.export.gguf.types import FILE_TYPES, Model, kind_of
from xiaozao.export.gguf.vocabulary import read_vocabulary, split_of
from xiaozao.export.gguf.write import write_gguf
from xiaozao.export.weights import open_weights
from xiaozao.machine.hardware import look
from xiaozao.models.adapter import adapter_tensors, attach
from xiaozao.models.layers.linear import adapt, matching
from xiaozao.models.load import load

IDS = [1, *range(20, 60)]
CPU = torch.device("cpu")
FAMILIES: dict[str, dict[str, object]] = {
    "llama": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
                                  "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
    "mistral": {}, "qwen2": {}, "qwen3": {}, "smollm3": {}, "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3_text": {"query_pre_attn_scalar": 16},
    "granite": {"attention_multiplier": 0.3, "embedding_multiplier": 2.0, "residual_multiplier": 0.5,
                "logits_scaling": 2.0},
}  # fmt: skip


def bytes_tokenizer() -> Tokenizer:
    """One token per byte and two merges, split as GPT-2 splits."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġt", "Ġth"]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, [("Ġ", "t"), ("Ġt", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def model_folder(folder: Path, kind: str = "llama", **changes: object) -> Path:
    """A small random model of a family, with a tokenizer that llama.cpp knows."""
    toy_folder(folder)
    torch.manual_seed(0)
    shape = {**SHAPE, "hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "torch_dtype": "float32", **changes}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    bytes_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    return folder


@pytest.mark.parametrize("kind", FAMILIES)
def test_llama_cpp_computes_what_transformers_computes(tmp_path: Path, kind: str) -> None:
    folder = model_folder(tmp_path / "model", kind, **FAMILIES[kind])
    written = write_gguf(tmp_path / "out.gguf", folder, open_weights(folder), "f32", "toy")
    answer = ask(written.path, [{"messages": [{"role": "user", "content": "the"}], "ids": IDS, "thinking": False}])[0]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        expected = model(torch.tensor([IDS])).logits[0, -1].log_softmax(-1)
    told = torch.tensor([answer["logprobs"][str(number)] for number in range(len(expected))])
    assert (told - expected).abs().max() < 1e-3
    prompt = ChatTokenizer.from_folder(folder).encode_prompt(())
    assert answer["ids"][-len(prompt) :] == prompt


def adapted(root: Path, change: Callable[[dict[str, torch.Tensor]], object] = lambda _: None) -> tuple[Path, Path]:
    """A base and an adapter that has learned much; `change` spoils the adapter's tensors."""
    base = model_folder(root / "model")
    decoder = load(base, torch.float32, CPU)
    adapt(decoder.model, matching(decoder.model, decoder.head.linear, ("all-linear",)), 4, 8.0, 0)
    torch.manual_seed(1)
    tensors = {name: one if "lora_A" in name else torch.randn_like(one) * 0.3
               for name, one in adapter_tensors(decoder.model).items()}  # fmt: skip
    change(tensors)
    adapter = root / "adapter"
    adapter.mkdir()
    save_file({name: one.contiguous() for name, one in tensors.items()}, adapter / "adapter_model.safetensors")
    names = sorted({name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors})
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8.0, "target_modules": names}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    return base, adapter


def test_the_adapter_is_inside_and_llama_cpp_answers_as_the_trained_model(tmp_path: Path) -> None:
    base, adapter = adapted(tmp_path)
    done = export_gguf(base, adapter, tmp_path / "out", "toy", "f32")
    assert done.parity is not None and done.parity.mean < 1e-4 and done.parity.same_first == done.parity.prompts
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json", "toy-f32.gguf", "xiaozao.json",
    ]  # fmt: skip
    decoder = load(base, torch.float32, CPU)
    with pytest.raises(ArtefactError, match="nats away"):  # the base alone is another model
        compare(done.written.path, decoder, ChatTokenizer.from_folder(base), False, "f32")


def scaled(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        if "lora_B" in name:
            tensors[name] = tensors[name] * 0.5


def without_a_layer(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if ".layers.1." in name]:
        del tensors[name]


@pytest.mark.parametrize("change", [scaled, without_a_layer])
def test_a_file_of_another_adapter_is_refused(tmp_path: Path, change: Callable[..., object]) -> None:
    base, adapter = adapted(tmp_path / "right")
    _, other = adapted(tmp_path / "wrong", change)
    written = write_gguf(tmp_path / "out.gguf", base, open_weights(base, other), "f32", "toy")
    decoder = load(base, torch.float32, CPU)
    attach(decoder, adapter)
    with pytest.raises(ArtefactError, match="nats away"):
        compare(written.path, decoder, ChatTokenizer.from_folder(base), False, "f32")


def wrong_base_of_positions(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}))


def transposed(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**tensors, name: tensors[name].t().contiguous()}, folder / "model.safetensors", {"format": "pt"})


def wrong_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("assistant\n", "assistant"))


def lost_merge(folder: Path) -> None:
    tokenizer = bytes_tokenizer()
    tokenizer.model = models.BPE(tokenizer.get_vocab(), [("Ġ", "t")])
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("spoil", "match"),
    [(wrong_base_of_positions, "nats away"), (transposed, "nats away"), (wrong_template, "other tokens"),
     (lost_merge, "other tokens")],
)  # fmt: skip
def test_broken_exports_are_named(tmp_path: Path, spoil: Callable[[Path], object], match: str) -> None:
    right, broken = model_folder(tmp_path / "right"), model_folder(tmp_path / "broken")
    spoil(broken)
    written = write_gguf(tmp_path / "out.gguf", broken, open_weights(broken), "f32", "toy")
    with pytest.raises(ArtefactError, match=match):
        compare(written.path, load(right, torch.float32, CPU), ChatTokenizer.from_folder(right), False, "f32")


def test_a_file_that_llama_cpp_does_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ArtefactError, match="does not read"):
        ask(tmp_path / "x.gguf", [{"messages": [], "ids": [1], "thinking": False}])


@pytest.mark.parametrize("wanted", FILE_TYPES)
def test_every_type_is_written_and_read_back(tmp_path: Path, wanted: str) -> None:
    folder = model_folder(tmp_path / "model", hidden_size=256, intermediate_size=256, head_dim=64)
    weights = open_weights(folder)
    written = write_gguf(tmp_path / "out.gguf", folder, weights, wanted, "toy")
    ask(written.path, [{"messages": [], "ids": IDS, "thinking": False}])
    stored = {one.name: one for one in GGUFReader(written.path).tensors}
    up = stored["blk.0.ffn_up.weight"]
    assert up.tensor_type == FILE_TYPES[wanted].kind
    if wanted == "f32":
        assert np.array_equal(up.data, weights.read("model.layers.0.mlp.up_proj.weight").numpy())
    assert not written.fallbacks


def test_rows_that_do_not_fit_fall_back_and_are_told(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    written = write_gguf(tmp_path / "out.gguf", folder, open_weights(folder), "q4_k_m", "toy")
    assert written.fallbacks["blk.0.ffn_up.weight"] == ("q4_k", "q5_0")
    assert written.fallbacks["token_embd.weight"] == ("q6_k", "q8_0")


def test_the_mix_gives_the_matrices_that_hurt_most_more_bits() -> None:
    model = Model(blocks=32, grouped=4, tied=False)
    down = [kind_of(f"blk.{block}.ffn_down.weight", (512, 512), "q4_k_m", model)[0] for block in range(32)]
    assert [block for block, kind in enumerate(down) if kind == Kind.Q6_K] == [
        0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31,
    ]  # fmt: skip
    assert kind_of("output.weight", (512, 512), "q4_k_m", model)[0] == Kind.Q6_K
    assert kind_of("token_embd.weight", (512, 512), "q4_k_m", model)[0] == Kind.Q4_K
    assert kind_of("blk.3.attn_norm.weight", (512,), "q4_k_m", model)[0] == Kind.F32


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    with pytest.raises(UsageError, match="no type q3"):
        write_gguf(tmp_path / "a.gguf", folder, open_weights(folder), "q3", "toy")
    other = toy_folder(tmp_path / "other")  # its text is split in a way of its own
    with pytest.raises(UnsupportedModel, match="no name for the way"):
        read_vocabulary(other, 384)
    with pytest.raises(UnsupportedModel, match="no name for the way"):
        split_of({"pre_tokenizer": None})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(UnsupportedModel, match="cannot be written as GGUF yet"):
        write_gguf(tmp_path / "a.gguf", folder, open_weights(folder), "f32", "toy")


def test_a_model_is_asked_without_thinking_where_it_learned_so(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    switch = "{% if add_generation_prompt %}{% if not enable_thinking %}<think></think>{% endif %}{% endif %}"
    (folder / "chat_template.jinja").write_text(TEMPLATE + switch)
    written = write_gguf(tmp_path / "out.gguf", folder, open_weights(folder), "f32", "toy")
    tokenizer, decoder = ChatTokenizer.from_folder(folder), load(folder, torch.float32, CPU)
    for thinking in (True, False):
        assert compare(written.path, decoder, tokenizer, thinking, "f32").mean < 1e-4


def test_what_there_is_no_memory_to_compare_is_written_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = model_folder(tmp_path / "model")
    monkeypatch.setattr(deliver, "look", lambda: dataclasses.replace(look(), memory_available=1000))
    done = export_gguf(base, None, tmp_path / "out", "toy", "f32")
    assert done.parity is None and done.needed > 1000 and done.written.path.is_file()


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="is not empty"):
        export_gguf(base, None, tmp_path / "out", "toy", "f32")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"
