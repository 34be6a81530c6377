"""Small model folders and GGUF files, whole or broken on purpose, without torch."""

import json
import struct
from pathlib import Path
from typing import Any

CONFIG = {"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1, "rope_parameters": {"rope_theta": 1e4}}


def safetensors_bytes(tensors: dict[str, Any] | None = None, data: bytes | None = None) -> bytes:
    """A file with one float tensor of four elements, or with the given header and data."""
    header = {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}} if tensors is None else tensors
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (bytes(16) if data is None else data)


def model_folder(path: Path, **config: Any) -> Path:
    """A folder that passes every check."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **config}), encoding="utf-8")
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    (path / "model.safetensors").write_bytes(safetensors_bytes())
    return path


def string(text: str | bytes, length: int | None = None) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data) if length is None else length) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor(
    name: str = "t", dims: tuple[int, ...] = (4, 2), kind: int = 0, offset: int = 0, n: int | None = None
) -> bytes:
    head = string(name) + struct.pack("<I", len(dims) if n is None else n)
    return head + b"".join(struct.pack("<Q", dim) for dim in dims) + struct.pack("<IQ", kind, offset)


ARCHITECTURE = pair("general.architecture", 8, string("llama"))


def gguf_bytes(
    pairs: tuple[bytes, ...] = (ARCHITECTURE,), tensors: tuple[bytes, ...] | None = None, data: bytes = bytes(64),
    n_pairs: int | None = None, n_tensors: int | None = None, start: bytes = b"GGUF\x03\x00\x00\x00",
) -> bytes:  # fmt: skip
    """A GGUF file with one fp32 tensor of eight elements, or with what is given."""
    infos = (tensor(),) if tensors is None else tensors
    counts = struct.pack(
        "<QQ", len(infos) if n_tensors is None else n_tensors, len(pairs) if n_pairs is None else n_pairs
    )
    head = start + counts + b"".join(pairs) + b"".join(infos)
    return head + bytes(-len(head) % 32) + data
