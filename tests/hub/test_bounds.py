"""A config.json may not say that its model is larger than any, or than its weights; every real family passes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.models.make import model_folder as folder_of
from tests.models.make import safetensors_bytes
from xiaozao.errors import ArtefactError, XiaozaoError
from xiaozao.hub.bounds import ENTRIES, check_sizes
from xiaozao.hub.folder import check_folder, check_loadable, read_config
from xiaozao.plan.workload import ModelShape

SIZE = 64 * 32 * 4
WEIGHTS = {
    f"w{index}": {"dtype": "F32", "shape": [64, 32], "data_offsets": [index * SIZE, (index + 1) * SIZE]}
    for index in range(9)
}
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
    "num_key_value_heads": 2, "vocab_size": 64,
}  # fmt: skip


def small_folder(path: Path, **config: Any) -> Path:
    folder = folder_of(path, **{**SHAPE, **config})
    (folder / "model.safetensors").write_bytes(safetensors_bytes(WEIGHTS, bytes(9 * SIZE)))
    return folder


def refusal(folder: Path, check: Callable[[Path], None] = check_folder) -> str:
    with pytest.raises(ArtefactError) as caught:
        check(folder)
    assert caught.value.what("zh-CN") != caught.value.what("en")
    return str(caught.value)


def test_a_small_model_passes(tmp_path: Path) -> None:
    check_loadable(small_folder(tmp_path))


@pytest.mark.parametrize("place", ["", "text_config"])
@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("vocab_size", 10**9, "4194304"), ("vocab_size", 0, "1 to"), ("num_hidden_layers", 10**6, "1024"),
        ("num_hidden_layers", -1, "1 to"), ("n_layer", 10**18, "1024"), ("hidden_size", 10**7, "262144"),
        ("n_embd", -5, "1 to"), ("num_attention_heads", 0, "1 to"), ("num_attention_heads", -4, "1 to"),
        ("n_head", 0, "1 to"), ("num_key_value_heads", 0, "1 to"), ("head_dim", 10**9, "32768"),
        ("head_dim", 0, "1 to"), ("intermediate_size", 10**10, "4194304"), ("num_experts", 10**6, "65536"),
        ("num_labels", 10**9, "100000"), ("conv_kernel", 2**50, "4294967296"), ("num_codebooks", 10**7, "1048576"),
        ("attn_layers_offset", 10**5, "4096"), ("first_layers", [1, 10**9], "4096"),
    ],
)  # fmt: skip
def test_a_size_beyond_every_model_is_refused_with_field_value_and_bound(
    tmp_path: Path, place: str, field: str, value: Any, limit: str
) -> None:
    folder = small_folder(tmp_path, **({place: {field: value}} if place else {field: value}))
    message = refusal(folder)
    assert (f"{place}." if place else "") + field in message and limit in message, message
    with pytest.raises(XiaozaoError):
        read_config(folder)


@pytest.mark.parametrize("value", ["32", 32.0, True, {}, {"a": 1}, [], ["a"], [True], [None], "x" * 100_000])
@pytest.mark.parametrize("field", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim"])
def test_a_size_of_another_type_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    message = refusal(small_folder(tmp_path, **{field: value}))
    assert field in message and len(message) < 600


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text_config", [1]), ("text_config", "a"), ("quantization_config", "gptq"), ("quantization_config", [1]),
        ("rope_scaling", 3), ("id2label", ["a"]), ("layer_types", {}), ("tie_word_embeddings", "yes"),
        ("eos_token_id", "2"), ("eos_token_id", 2.5), ("bos_token_id", True), ("dtype", 16),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    assert field in refusal(small_folder(tmp_path, **{field: value}))


@pytest.mark.parametrize("value", [None, [32, 32], 32])
def test_null_and_one_number_per_layer_are_no_reason_to_refuse(tmp_path: Path, value: Any) -> None:
    folder = small_folder(tmp_path, intermediate_size=value, text_config=None, quantization_config=None)
    check_folder(folder)
    assert ModelShape.from_config(read_config(folder).values).width in (32, 128)


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"num_hidden_layers": 10}, ("10 layers", "9 tensors")),
        ({"vocab_size": 64 * 64 * 9 + 1}, ("vocab_size x hidden_size", "18432")),
        ({"head_dim": 10_000}, ("num_attention_heads x head_dim", "18432")),
        ({"intermediate_size": 40_000}, ("intermediate_size", "18432")),
    ],
)
def test_a_model_larger_than_its_files_is_refused_with_both_numbers(
    tmp_path: Path, changes: dict[str, Any], numbers: tuple[str, str]
) -> None:
    folder = small_folder(tmp_path, **changes)
    check_folder(folder)  # enough for a plan
    message = refusal(folder, check_loadable)
    assert all(number in message for number in numbers), message


@pytest.mark.parametrize("field", ["id2label", "label2id", "task_specific_params"])
def test_an_object_with_very_many_entries_is_refused_by_their_count(tmp_path: Path, field: str) -> None:
    message = refusal(small_folder(tmp_path, **{field: {str(index): index for index in range(ENTRIES + 1)}}))
    assert field in message and str(ENTRIES + 1) in message and str(ENTRIES) in message


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    folder = small_folder(tmp_path)
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    assert str(folder / "a") in refusal(folder)


def test_every_decoder_of_transformers_is_within_the_bounds(tmp_path: Path) -> None:
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            values = CONFIG_MAPPING[kind]().to_dict()
        except StrictDataclassError:  # one whose defaults do not go together
            continue
        values = json.loads(json.dumps(values, default=str))
        values.pop("quantization_config", None)
        check_sizes(tmp_path / kind, values)


@pytest.mark.parametrize(
    "largest",
    [
        {"num_hidden_layers": 126, "hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128},
        {"n_routed_experts": 384, "num_hidden_layers": 61, "hidden_size": 7168, "vocab_size": 163840},
        {"num_experts": 2048, "vocab_size": 1_000_000, "max_position_embeddings": 10_485_760, "sliding_window": 2**31},
        {"n_layer": 70, "n_embd": 14336, "n_head": 112, "eos_token_id": [2, 10**6], "pad_token_id": -1},
        {"intermediate_size": [16384] * 35, "num_key_value_heads": [1, 0, 8], "num_kv_shared_layers": 0},
    ],
)  # fmt: skip
def test_the_largest_models_there_are_lie_within_the_bounds(tmp_path: Path, largest: dict[str, Any]) -> None:
    check_sizes(tmp_path, {"model_type": "llama", **largest})


def test_an_index_of_a_million_names_is_refused_by_its_count(tmp_path: Path) -> None:
    folder = small_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    names = ",".join(f'"{index}":"a.safetensors"' for index in range(10**6))
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map":{{{names}}}}}')
    began = time.process_time()
    message = refusal(folder)
    assert "1000000" in message and "500000" in message
    assert time.process_time() - began < 20


def test_a_header_of_very_many_tensors_is_refused_by_its_bytes(tmp_path: Path) -> None:
    folder = small_folder(tmp_path)
    empty = {f"w{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(150_000)}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(empty, b""))
    assert "8388608" in refusal(folder)
