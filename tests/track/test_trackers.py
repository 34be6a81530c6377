"""Each tracker with its real library, offline: what was written is read back. One session is resumed by a second."""

import os
import socket
import sqlite3
import struct
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.track.runs import PRIVATE, SECRET, notices, run_folder, session
from xiaozao.events import Evaluated
from xiaozao.store.files import RunFolder
from xiaozao.track.points import point_of
from xiaozao.track.trackers import TRACKERS

Curves = dict[str, dict[int, float]]  # name -> step -> value


def tensorboard(folder: Path) -> Curves:
    """Records of length, checksum, event, checksum."""
    event_type = import_module("tensorboardX.proto.event_pb2").Event
    curves: Curves = {}
    for path in sorted(folder.rglob("events.out.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = event_type.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    assert event.step not in curves.setdefault(value.tag, {})
                    curves[value.tag][event.step] = value.simple_value
    return curves


def wandb(folder: Path) -> Curves:
    """The transaction logs of offline runs; all of one id."""
    record_type = import_module("wandb.proto.wandb_internal_pb2").Record
    curves: Curves = {}
    ids = set()
    for path in sorted(folder.rglob("run-*.wandb")):
        for data in _log_records(path.read_bytes()):
            record = record_type.FromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            for name in items.keys() - {"step"}:
                if "/" in name:
                    step = int(items["step"])
                    assert step not in curves.setdefault(name, {})
                    curves[name][step] = float(items[name])
    assert len(ids) == 1
    return curves


def _log_records(data: bytes) -> Iterator[bytes]:
    """LevelDB's log: blocks of 32 KiB, of records with checksum, length and kind (whole, first, middle, last)."""
    at, parts = 7, b""  # after W&B's own header
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def mlflow(folder: Path) -> Curves:
    client = import_module("mlflow").MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("xiaozao").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["rank"] == "8"
    found = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    assert all(len({one.step for one in history}) == len(history) for history in found.values())
    return {name: {one.step: one.value for one in history} for name, history in found.items()}


def trackio(folder: Path) -> Curves:
    del folder  # its files lie where TRACKIO_DIR says
    (path,) = Path(os.environ["TRACKIO_DIR"]).glob("xiaozao*.db")
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
    assert len({name for name, _, _ in rows}) == 1
    curves: Curves = {}
    for _, step, metrics in rows:
        for name, value in import_module("orjson").loads(metrics).items():
            assert step not in curves.setdefault(name, {})
            curves[name][step] = value
    return curves


READERS: dict[str, Callable[[Path], Curves]] = {
    "tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow, "trackio": trackio,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "SWANLAB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    variables = {
        "WANDB_MODE": "offline", "SWANLAB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "trackio"),
        "WANDB_API_KEY": SECRET, "HF_TOKEN": SECRET, "HOME": str(tmp_path / "home"),
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home").mkdir()


def needs(name: str) -> None:
    for module in TRACKERS[name].modules:
        pytest.importorskip(module, reason=f'pip install "xiaozao[{name}]"')


def written(folder: RunFolder, name: str) -> Iterator[Path]:
    """Every file that the tracker wrote, for itself or in its place for all runs."""
    places = [folder.track / name, Path(os.environ["TRACKIO_DIR"])]
    for place in places:
        yield from (path for path in sorted(place.rglob("*")) if path.is_file() and not path.is_symlink())


@pytest.mark.real
@pytest.mark.parametrize("name", READERS)
def test_both_sessions_of_a_run_are_one_curve_without_gap_or_repetition(name: str, tmp_path: Path) -> None:
    needs(name)
    folder = run_folder(tmp_path / "运行 1", [name])
    assert session(folder, [name], 1, 20) == []
    # Killed after step 20, resumed from the checkpoint of step 16: four steps are done again.
    assert session(folder, [name], 17, 40) == []
    curves: Any = READERS[name](folder.track / name)
    assert set(curves) >= {
        "train/loss", "train/learning_rate", "train/grad_norm", "train/tokens_per_second", "train/peak_bytes",
        "validation/loss",
    }  # fmt: skip
    assert curves["train/loss"] == pytest.approx({step: 3.0 - step / 16 for step in range(1, 41)})
    assert curves["validation/loss"] == pytest.approx({step: 2.0 - step / 32 for step in range(4, 41, 4)})
    assert curves["train/peak_bytes"] == pytest.approx({step: 1e9 + step for step in range(1, 41)})


@pytest.mark.real
@pytest.mark.parametrize("name", TRACKERS)
def test_nothing_of_the_machine_or_the_data_goes_out(name: str, tmp_path: Path) -> None:
    needs(name)
    folder = run_folder(tmp_path / "run", [name])
    assert session(folder, [name], 1, 40) == []
    files = list(written(folder, name))
    assert files
    private = [SECRET, PRIVATE, str(tmp_path), socket.gethostname(), "/home/"]
    content = {path: path.read_bytes() for path in files if path.suffix not in (".log", ".lock")}
    leaks = {
        (path.relative_to(tmp_path).as_posix(), text)
        for path, data in content.items()
        for text in private
        if text.encode() in data
    }
    assert leaks == set()
    assert any(b"org/small-model" in data for data in content.values())


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_whose_package_is_missing_is_told_and_the_run_goes_on(name: str, tmp_path: Path) -> None:
    try:
        needs(name)
    except pytest.skip.Exception:
        folder = run_folder(tmp_path / "run", [name])
        (said,) = session(folder, [name], 1, 8)
        assert notices([said]) == [("tracker_failed", name)]
        assert "ModuleNotFoundError" in str(said)
    else:
        pytest.skip(f"{name} is installed")


def test_what_a_validation_of_preferences_found_is_shown_too() -> None:
    found = point_of(Evaluated(3, 0.6, 10, False, 0.75, 0.1))
    assert found is not None
    assert found.values == {"validation/loss": 0.6, "validation/accuracy": 0.75, "validation/margin": 0.1}
