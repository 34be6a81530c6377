"""GGUF -> a folder of bf16 safetensors, through transformers. Run by convert.py in a process of its own."""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from xiaozao.errors import UnsupportedModel
from xiaozao.hub.conversions import write_settings
from xiaozao.hub.folder import check_folder
from xiaozao.hub.ggufheader import read_gguf
from xiaozao.models.artefacts.disk import DISK


def convert(file: Path, folder: Path) -> None:
    """Write config, bf16 weights and tokenizer of a GGUF file into the new folder `folder`.

    Raises ArtefactError for a damaged file, UnsupportedModel for an architecture that transformers cannot read.
    """
    header = read_gguf(file)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".gguf-") as alone:
        # Alone in a folder: the loaders also read whatever JSON lies beside a model.
        source = Path(alone) / "model.gguf"
        _put(file, source)
        try:
            _write(source, folder)
        except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            detail = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UnsupportedModel("gguf_architecture", model=header.architecture, detail=detail) from error
    write_settings(folder)  # nothing in them names this machine or gives orders
    check_folder(folder)
    for path in folder.iterdir():
        DISK.sync_file(path)
    DISK.sync_folder(folder)


def _write(source: Path, folder: Path) -> None:
    where = {"gguf_file": source.name, "local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **where
    )
    torch.nn.Module.to(model, torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _put(file: Path, target: Path) -> None:
    """A link where the system lets us make one, else a copy."""
    for link in (os.symlink, os.link):
        try:
            link(file.resolve(), target)
            return
        except OSError:
            continue
    shutil.copyfile(file, target)
