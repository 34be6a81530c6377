"""Whole runs of all parameters with the weights on disk: what is learned is what is learned in memory, bit for bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.toy import toy_folder
from tests.worker.test_reference import heard, make
from tests.worker.test_stream import answered
from xiaozao.events import Evaluated, Planned, Step
from xiaozao.models.loading.trainstore import SUPPORTED
from xiaozao.spec.run import PAGED, read_file
from xiaozao.store.files import RunFolder

pytestmark = [
    pytest.mark.skipif(not SUPPORTED, reason="only Linux can release pages that were written to"),
    pytest.mark.usefixtures("own_cache"),
]
RUN = {"method": "full", "fused_update": True, "micro_batch": 4, "checkpointing": "block"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return toy_folder(tmp_path_factory.mktemp("toy") / "model", hidden_size=96)  # wide enough for states in 8 bits


def same_weights(one: RunFolder, other: RunFolder) -> bool:
    """Whether two runs wrote the same model."""
    ours, theirs = (load_file(folder.model / "model.safetensors") for folder in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("optimizer", PAGED)
@pytest.mark.parametrize(("weights", "precision"), [("fp32", "fp32"), ("fp32", "bf16"), ("bf16", "bf16")])
def test_a_run_from_disk_is_the_run_from_memory(
    tmp_path: Path, model: Path, optimizer: str, weights: str, precision: str
) -> None:
    told, folders = [], []
    for stream in ("disk", "none"):
        options = {**RUN, "optimizer": optimizer, "weights": weights, "precision": precision, "epochs": 2}
        folder = make(tmp_path / stream, model, "sft", stream=stream, **options)
        told.append([one.loss for one in heard(folder) if isinstance(one, Step | Evaluated)])
        folders.append(folder)
    assert told[0] == told[1] and told[0][0] != told[0][-1]
    assert same_weights(*folders)
    configs = [(folder.model / "config.json").read_text(encoding="utf-8") for folder in folders]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("optimizer", PAGED)
def test_it_goes_on_where_it_stopped(tmp_path: Path, model: Path, optimizer: str) -> None:
    options = {**RUN, "stream": "disk", "optimizer": optimizer}
    whole, parts = (make(tmp_path / name, model, "sft", **options) for name in ("whole", "parts"))
    heard(whole)
    heard(parts, lambda event: parts.stop.touch() if isinstance(event, Step) and event.step == 2 else None)
    parts.stop.unlink()
    assert [event.step for event in heard(parts) if isinstance(event, Step)] == [3]
    assert same_weights(whole, parts)
    assert {path.name for path in parts.path.iterdir()} == {path.name for path in whole.path.iterdir()}


def test_the_best_weights_are_taken(tmp_path: Path, model: Path) -> None:
    folders = []
    for stream in ("disk", "none"):
        options = {**RUN, "stream": stream, "learning_rate": 0.5, "schedule": "constant", "warmup": 0}
        folders.append(make(tmp_path / stream, model, "sft", **options))
        heard(folders[-1])
    assert same_weights(*folders)


@pytest.mark.parametrize("weights", ["bf16", "fp32"])
def test_questions_are_answered_by_what_was_written(tmp_path: Path, model: Path, weights: str) -> None:
    options = {**RUN, "precision": "bf16", "weights": weights}
    disk, memory = (answered(tmp_path / stream, model, stream=stream, **options) for stream in ("disk", "none"))
    assert disk and disk == memory


def test_what_is_not_said_is_decided(tmp_path: Path, model: Path) -> None:
    folder = make(tmp_path / "run", model, "sft", method="full", stream="disk", micro_batch=None)
    planned = next(one for one in heard(folder) if isinstance(one, Planned))
    resolved = read_file(folder.resolved)
    assert resolved["fused_update"] is True and resolved["checkpointing"] == "block" and resolved["micro_batch"] == 4
    assert planned.parts["optimizer"] < sum(one.numel() for one in load_file(model / "model.safetensors").values())
