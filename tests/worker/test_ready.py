"""A run before it begins: what its budget decides on real data, and what is kept of a run that is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toy import toy_folder
from tests.worker.test_reference import make
from xiaozao.errors import DoesNotFit
from xiaozao.events import Event, Planned
from xiaozao.spec.parts import FIRST
from xiaozao.spec.run import RunSpec, read_file
from xiaozao.store.files import RunFolder
from xiaozao.worker.ready import Ready, get_ready


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return toy_folder(tmp_path_factory.mktemp("toy") / "model")


def begin(folder: RunFolder) -> tuple[Ready, Planned]:
    told: list[Event] = []
    ready = get_ready(folder, told.append)
    return ready, next(event for event in told if isinstance(event, Planned))


def options(ready: Ready) -> dict[str, Any]:
    named = ready.spec.options()
    return {name: named[name] for name in FIRST}


def test_all_that_is_open_is_decided_and_frozen(tmp_path: Path, model: Path) -> None:
    ready, planned = begin(make(tmp_path / "run", model, "sft", budget="16GB", checkpointing="auto"))
    assert options(ready) == FIRST
    assert ready.spec.train.micro_batch and not planned.ladder
    assert RunSpec.from_options(read_file(ready.folder.resolved)) == ready.spec
    again, planned = begin(ready.folder)
    assert again.spec == ready.spec and not planned.ladder


def test_a_run_that_is_refused_says_the_ways_out_and_is_not_frozen(tmp_path: Path, model: Path) -> None:
    folder = make(tmp_path / "run", model, "sft", budget=1)
    with pytest.raises(DoesNotFit) as caught:
        begin(folder)
    (*_, last) = caught.value.problems
    assert last.key == "way_out" and str(last.params["options"]).startswith("budget=")
    assert not folder.resolved.exists()
    name, value = str(last.params["options"]).split("=")
    spec = RunSpec.from_options({**read_file(folder.spec), name: value})
    folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
    assert begin(folder)[0].plan.fits
