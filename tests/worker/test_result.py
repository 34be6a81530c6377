"""What a run leaves: an adapter or a model that says what it learned on, and how it is asked and ends."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.worker.test_reference import heard, make
from xiaozao.data.namedtemplates import PLAIN
from xiaozao.export.merge import merge_adapter
from xiaozao.hub.hashes import weights_hash
from xiaozao.models.artefacts import checkpoint

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def bare(tmp_path: Path, model: Path) -> Path:
    """A base model without a template, which calls id 0 the end."""
    folder = tmp_path / "bare"
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<|pad|>"}))
    return folder


def test_an_adapter_brings_its_template_its_end_and_the_name_of_its_base(tmp_path: Path, bare: Path) -> None:
    run = make(tmp_path / "run", bare, "sft")
    heard(run)
    checkpoint.verify(run.adapter)
    assert (run.adapter / "chat_template.jinja").read_text(encoding="utf-8") == PLAIN
    assert json.loads((run.adapter / "generation_config.json").read_text())["eos_token_id"] == [0, 2]
    assert json.loads((run.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(bare)
    facts = json.loads((run.adapter / "xiaozao.json").read_text())
    assert facts["base"]["weights_sha256"] == weights_hash(bare)
    (bare / "chat_template.jinja").write_text("{{ 'another' }}", encoding="utf-8")
    merge_adapter(bare, run.adapter, tmp_path / "out", torch.float32)
    assert (tmp_path / "out" / "chat_template.jinja").read_text(encoding="utf-8") == PLAIN


def test_a_whole_model_brings_them_as_well(tmp_path: Path, bare: Path) -> None:
    run = make(tmp_path / "run", bare, "sft", method="full")
    heard(run)
    assert (run.model / "chat_template.jinja").read_text(encoding="utf-8") == PLAIN
    config = json.loads((run.model / "config.json").read_text())
    assert config["eos_token_id"] == [0, 2] and config["rope_theta"] == config["rope_parameters"]["rope_theta"]
