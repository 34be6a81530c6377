"""A model folder is looked at before anything loads it."""

import json
import os
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.make import model_folder, safetensors_bytes
from xiaozao.errors import ArtefactError, NotFound, XiaozaoError
from xiaozao.hub.folder import (
    check_folder,
    is_complete,
    is_file_name,
    parameter_count,
    read_config,
    tensor_bytes,
    tensors,
    weight_files,
)

ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes of POSIX")


def refusal(folder: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        check_folder(folder)
    assert caught.value.what("zh-CN") != caught.value.what("en")
    return str(caught.value)


def test_a_whole_folder_passes_and_is_counted(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    check_folder(folder)
    assert is_complete(folder)
    assert parameter_count(folder) == 4
    assert tensor_bytes(folder) == 16


@pytest.mark.parametrize(
    ("extra", "stripped"),
    [
        ({"auto_map": {"AutoConfig": "evil.Config"}}, ("auto_map",)),
        ({"trust_remote_code": True}, ("trust_remote_code",)),
        ({"a": {"b": {"trust_remote_code": True}}}, ("a.b.trust_remote_code",)),
        ({"layers": [{"auto_map": {}}]}, ("layers.auto_map",)),
        ({"_attn_implementation_internal": "evil/k"}, ("_attn_implementation_internal",)),
        ({"_attn_implementation": "evil/k"}, ("_attn_implementation",)),
        ({"attn_implementation": "evil/k"}, ("attn_implementation",)),
        ({"experts_implementation": "evil/k"}, ("experts_implementation",)),
        ({"text_config": {"_private": 1}}, ("text_config._private",)),
        ({"use_kernels": True}, ("use_kernels",)),
        ({"kwargs": {}}, ("kwargs",)),
        ({"_name_or_path": "/home/somebody"}, ()),
        ({"rope_scaling": {"factor": 2.0}}, ()),
    ],
)
def test_orders_in_a_config_are_dropped_at_every_depth(
    tmp_path: Path, extra: dict[str, Any], stripped: tuple[str, ...]
) -> None:
    config = read_config(model_folder(tmp_path, **extra))
    assert config.stripped == stripped
    text = json.dumps(config.values)
    for word in ("auto_map", "trust_remote_code", "implementation", "_private", "evil", "/home", "use_kernels"):
        assert word not in text
    assert config.values["rope_parameters"] == {"rope_theta": 1e4}


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b'{"model_type": NaN}', b'{"model_type": "llama", "model_type": "gpt2"}', b"\xff\xfe",
     b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a":' * 60 + b"1" + b"}" * 60, b'{"hidden_size": 4}',
     b'{"a": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_config_that_is_no_plain_object_is_refused(tmp_path: Path, text: bytes) -> None:
    folder = model_folder(tmp_path)
    (folder / "config.json").write_bytes(text)
    assert "config.json" in refusal(folder)


KINDS: dict[str, bytes] = {
    "zip": b"PK\x03\x04" + bytes(600),
    "tar": bytes(257) + b"ustar" + bytes(300),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(600),
    "ELF": b"\x7fELF" + bytes(600),
    **{f"pickle {protocol}": pickle.dumps({"w": 1}, protocol=protocol) for protocol in range(6)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "extra.json"])
def test_a_file_is_refused_by_its_content_whatever_its_name(tmp_path: Path, kind: str, name: str) -> None:
    folder = model_folder(tmp_path)
    (folder / name).write_bytes(KINDS[kind])
    assert name in refusal(folder)


def raw(length: int, text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", length) + text + data


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x01",
    "header of 2^63": raw(2**63, b"{}"),
    "header beyond the file": raw(200, b"{}"),
    "header of 100 MB": raw(100 * 2**20, b"{" + b" " * 10),
    "not json": raw(4, b"{ab}"),
    "padded with NUL": raw(8, b"{}\0\0\0\0\0\0"),
    "not an object": raw(2, b"[]"),
    "gap": safetensors_bytes({"w": {**ENTRY, "data_offsets": [4, 20]}}, bytes(20)),
    "overlap": safetensors_bytes({"w": ENTRY, "v": {**ENTRY, "data_offsets": [8, 24]}}, bytes(24)),
    "same place": safetensors_bytes({"w": ENTRY, "v": ENTRY}),
    "backwards": safetensors_bytes({"w": {**ENTRY, "data_offsets": [16, 0]}}),
    "shape of another size": safetensors_bytes({"w": {**ENTRY, "shape": [2, 3]}}),
    "shape that wraps": safetensors_bytes({"w": {**ENTRY, "shape": [2**33, 2**33]}}),
    "negative shape": safetensors_bytes({"w": {**ENTRY, "shape": [-2, -2]}}),
    "shape of floats": safetensors_bytes({"w": {**ENTRY, "shape": [2.0, 2]}}),
    "shape of booleans": safetensors_bytes({"w": {**ENTRY, "shape": [True, 4]}}),
    "unknown type": safetensors_bytes({"w": {**ENTRY, "dtype": "OBJECT"}}),
    "extra key": safetensors_bytes({"w": {**ENTRY, "load": "x"}}),
    "no entry": safetensors_bytes({"w": None}),
    "three offsets": safetensors_bytes({"w": {**ENTRY, "data_offsets": [0, 8, 16]}}),
    "truncated by a byte": safetensors_bytes()[:-1],
    "trailing byte": safetensors_bytes() + b"\0",
    "declared beyond the file": safetensors_bytes({"w": {**ENTRY, "shape": [2**20], "data_offsets": [0, 2**22]}}),
    "duplicate name": raw(
        len(b'{"w":%b,"w":%b}' % ((json.dumps(ENTRY).encode(),) * 2)),
        b'{"w":%b,"w":%b}' % ((json.dumps(ENTRY).encode(),) * 2),
        bytes(16),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_safetensors_file_with_a_broken_header_is_refused(tmp_path: Path, case: str) -> None:
    folder = model_folder(tmp_path)
    (folder / "model.safetensors").write_bytes(BROKEN[case])
    assert "model.safetensors" in refusal(folder)


def test_metadata_and_empty_tensors_are_no_reason_to_refuse(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    header = {"__metadata__": {"format": "pt"}, "w": ENTRY, "empty": {**ENTRY, "shape": [0], "data_offsets": [16, 16]}}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(header))
    check_folder(folder)
    assert parameter_count(folder) == 4


def sharded(folder: Path, weight_map: dict[str, str]) -> Path:
    model_folder(folder)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return folder


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    folder = sharded(tmp_path, {"w": "model-1.safetensors", "v": "model-2.safetensors"})
    header = {"v": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    (folder / "model-2.safetensors").write_bytes(safetensors_bytes(header, bytes(6)))
    check_folder(folder)
    assert {name: one.dtype for name, one in tensors(folder).items()} == {"w": "F32", "v": "BF16"}
    assert tensor_bytes(folder) == 22
    assert len(weight_files(folder)) == 2


@pytest.mark.parametrize(
    "name",
    ["../model-1.safetensors", "/etc/x.safetensors", "C:\\x.safetensors", "\\\\srv\\s\\x.safetensors", 
     "a\0.safetensors", "sub/x.safetensors", "..", "", "pytorch_model.bin", "missing.safetensors"],
)  # fmt: skip
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    assert "index.json" in refusal(sharded(tmp_path, {"w": name}))


def test_a_tensor_of_the_index_that_no_shard_holds_is_refused(tmp_path: Path) -> None:
    folder = sharded(tmp_path, {"w": "model-1.safetensors", "lost": "model-1.safetensors"})
    assert "lost" in refusal(folder)


@pytest.mark.parametrize("key", ["vocab_file", "merges_file", "tokenizer_file", "chat_template_file"])
@pytest.mark.parametrize("value", ["../../sentinel", "/sentinel", "C:\\sentinel", "\\\\srv\\sentinel", "a\0b"])
def test_a_path_in_a_config_that_leads_out_is_refused(tmp_path: Path, key: str, value: str) -> None:
    folder = model_folder(tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"nested": {key: value}}), encoding="utf-8")
    assert f"nested.{key}" in refusal(folder)


@pytest.mark.parametrize(("name", "good"), [("a.json", True), ("a b-1.model", True), (".", False), ("a/", False)])
def test_a_file_name_is_a_bare_one(name: str, good: bool) -> None:
    assert is_file_name(name) is good


@posix
def test_a_link_may_stay_in_its_folder_but_not_leave_it(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "again.json").symlink_to("config.json")
    check_folder(folder)
    (tmp_path / "sentinel.json").write_text("{}", encoding="utf-8")
    (folder / "again.json").unlink()
    (folder / "again.json").symlink_to("../sentinel.json")
    assert "sentinel" in refusal(folder)


@posix
def test_a_snapshot_of_a_hub_cache_may_link_to_its_own_blobs_only(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    folder = model_folder(repository / "snapshots" / ("0" * 40))
    blobs = repository / "blobs"
    blobs.mkdir()
    (folder / "model.safetensors").rename(blobs / "abc")
    (folder / "model.safetensors").symlink_to("../../blobs/abc")
    check_folder(folder)
    other = model_folder(tmp_path / "models--c--d" / "snapshots" / ("1" * 40))
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(other / "config.json")
    assert "config.json" in refusal(folder)


@posix
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "other", "later.json"])
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert name in refusal(folder)


@posix
def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "gone.json").symlink_to("nowhere")
    assert "gone.json" in refusal(folder)


def test_pickle_weights_alone_are_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    text = refusal(folder)
    assert "pytorch_model.bin" in text
    assert "safetensors" in text
    assert not is_complete(folder)


def test_an_adapter_is_not_taken_for_a_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/base"}', encoding="utf-8")
    assert "adapter" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", None])
def test_what_is_missing_is_named(tmp_path: Path, name: str | None) -> None:
    folder = model_folder(tmp_path / "m")
    if name:
        (folder / name).unlink()
    with pytest.raises(NotFound) as caught:
        check_folder(folder if name else tmp_path / "nothing")
    assert caught.value.exit_code == 8
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("read", [check_folder, read_config, tensors, weight_files])
def test_no_pickle_is_opened(tmp_path: Path, read: Callable[[Path], object]) -> None:
    folder = model_folder(tmp_path)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "x.pkl", ".mdl", "modeling.py"):
        (folder / name).write_bytes(b"canary")
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)  # a hook cannot be taken off again; the flag silences it
    try:
        read(folder)
    except XiaozaoError as error:  # pragma: no cover
        pytest.fail(str(error))
    finally:
        watching = False
    names = {Path(name).name for name in opened}
    assert names & {"config.json", "model.safetensors"} or read is weight_files
    assert not names & {"pytorch_model.bin", "training_args.bin", "optimizer.pt", "x.pkl", ".mdl", "modeling.py"}
