import json
import os
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from xiaozao.errors import ArtefactError, TrainingError
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.artefacts.checkpoint import (
    newest,
    read_document,
    read_tensors,
    rotate,
    step_folder,
    verify,
    write_folder,
)
from xiaozao.models.artefacts.disk import DISK, Disk

FILES = ("model.safetensors", "moments.safetensors", "state.json", "manifest.json")


def save(checkpoints: Path, step: int, payload: int | None = None, disk: Disk = DISK) -> Path:
    """A checkpoint whose every file is made from `payload`; two payloads give files of equal size."""
    generator = torch.Generator().manual_seed(step if payload is None else payload)
    tensors = {
        "model": {"a": torch.randn(40, 40, generator=generator), "b": torch.randn(3, generator=generator).bfloat16()},
        "moments": {"a.first": torch.randn(40, 40, generator=generator)},
    }
    folder = step_folder(checkpoints, step)
    write_folder(folder, tensors, {"state": {"payload": 10 + (step if payload is None else payload)}}, disk)
    return folder


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    written = {
        "fp32": torch.randn(5, 7, generator=generator),
        "bf16": torch.randn(5, generator=generator).bfloat16(),
        "fp16": torch.randn(5, generator=generator).half(),
        "fp64": torch.randn(5, generator=generator).double(),
        "int": torch.arange(9),
        "bytes": torch.arange(9).to(torch.uint8),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "transposed": torch.randn(5, 7, generator=generator).T,
        "parameter": torch.nn.Parameter(torch.randn(3, generator=generator)),
    }
    folder = tmp_path / "step-00000001"
    size = write_folder(folder, {"all": written}, {"state": {"step": 1, "text": "小灶", "share": 0.1}})
    verify(folder)
    read = read_tensors(folder, "all")
    assert set(read) == set(written)
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name
    assert read_document(folder, "state") == {"step": 1, "text": "小灶", "share": 0.1}
    assert size == sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_who_may_read_one_file_may_read_all(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        folder = save(tmp_path, 1)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {mode}


def test_a_save_leaves_nothing_but_safetensors_and_json(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 1, payload=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert {path.name for path in (tmp_path / "step-00000001").iterdir()} == set(FILES)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_tensor_that_is_not_finite_is_refused_before_anything_is_written(tmp_path: Path, bad: float) -> None:
    old = save(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    weights = torch.zeros(checkpoint.CHUNK + 5)
    weights[-1] = bad
    with pytest.raises(TrainingError) as caught:
        write_folder(old, {"model": {"fine": torch.ones(2), "layer.weight": weights}}, {})
    assert caught.value.params["tensor"] == "layer.weight"
    assert "layer.weight" in str(caught.value)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    assert list(tmp_path.iterdir()) == [old]


def test_a_document_that_is_not_strict_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_folder(tmp_path / "step-00000001", {}, {"state": {"loss": float("nan")}})
    assert not list(tmp_path.iterdir())


# --- damage ------------------------------------------------------------------------------------------------------


def cut(count: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, count(path.stat().st_size))


def zero_tail(path: Path) -> None:
    data = path.read_bytes()
    tail = min(4096, len(data))
    path.write_bytes(data[:-tail] + bytes(tail))


def flip(seed: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        place = random.Random(seed).randrange(len(data) * 8)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)

    return damage


def swap(path: Path) -> None:
    shutil.copyfile(path.parent.with_name("step-00000001") / path.name, path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "one byte short": cut(lambda size: size - 1),
    "half": cut(lambda size: size // 2),
    "emptied": cut(lambda size: 0),
    "tail zeroed": zero_tail,
    "deleted": Path.unlink,
    "of another step": swap,
    **{f"bit {seed}": flip(seed) for seed in range(64)},
}


@pytest.mark.parametrize("file", FILES)
def test_every_damage_is_found_named_and_passed_over(tmp_path: Path, file: str) -> None:
    old, new = save(tmp_path, 1), save(tmp_path, 2)
    whole = (new / file).read_bytes()
    for name, damage in DAMAGES.items():
        damage(new / file)
        with pytest.raises(ArtefactError) as caught:
            verify(new)
        named = str(caught.value.params["file"])
        assert named == file or file == "manifest.json", name  # a damaged manifest may accuse the file it vouched for
        assert named in str(caught.value)
        found = newest(tmp_path)
        assert found.folder == old, name
        assert [(path, str(error)) for path, error in found.rejected] == [(new, str(caught.value))]
        (new / file).write_bytes(whole)
        verify(new)


def test_no_bit_of_a_manifest_can_be_flipped_unseen(tmp_path: Path) -> None:
    folder = tmp_path / "step-00000001"
    write_folder(folder, {}, {"a": {"x": 1}, "c": {"x": 2}})
    manifest = folder / "manifest.json"
    whole = manifest.read_bytes()
    digests = [range(*found.span()) for found in re.finditer(rb"[0-9a-f]{64}", whole)]  # the damages above flip some
    for place in range(len(whole) * 8):
        if any(place // 8 in digest for digest in digests):
            continue
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        manifest.write_bytes(data)
        with pytest.raises(ArtefactError):
            verify(folder)


def write_manifest(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"schema":1}',
        '{"schema":0,"files":{}}',
        '{"schema":true,"files":{}}',
        '{"schema":"1","files":{}}',
        '{"schema":1,"files":[]}',
        '{"schema":1,"files":{"a.json":null}}',
        '{"schema":1,"files":{"a.json":{"size":1}}}',
        '{"schema":1,"files":{"a.json":{"size":1,"sha256":"","mode":7}}}',
        '{"schema":1,"files":{},"files":{}}',
        '{"schema":1,"files":{},"extra":1}',
        "[" * 100_000,
        "\ud83d".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    write_manifest(tmp_path / "step-00000001", text)
    with pytest.raises(ArtefactError) as caught:
        verify(tmp_path / "step-00000001")
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.json", "..", "/etc/passwd", "C:\\\\x", "a/b.json", "", "x\\u0000", "C:x"])
def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.json").write_text("{}")
    write_manifest(
        tmp_path / "step-00000001", f'{{"schema":1,"files":{{"{name}":{{"size":2,"sha256":"44136fa355b3678a"}}}}}}'
    )
    with pytest.raises(ArtefactError) as caught:
        verify(tmp_path / "step-00000001")
    assert caught.value.key == "checkpoint_manifest"


def test_a_checkpoint_from_the_future_is_refused_with_both_versions(tmp_path: Path) -> None:
    old, new = save(tmp_path, 1), save(tmp_path, 2)
    manifest = json.loads((new / "manifest.json").read_text())
    write_manifest(new, json.dumps({**manifest, "schema": 7, "signature": "?"}))
    with pytest.raises(ArtefactError, match="schema 7, this version knows 1"):
        verify(new)
    assert newest(tmp_path).folder == old


def test_an_incomplete_folder_is_refused_when_named_and_passed_over_when_searched(tmp_path: Path) -> None:
    old, new = save(tmp_path, 1), save(tmp_path, 2)
    (new / "manifest.json").unlink()
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        verify(new)
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        verify(tmp_path / "step-00000099")
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        read_document(new, "state")
    assert newest(tmp_path).folder == old


def test_a_file_that_the_manifest_does_not_list_is_ignored_and_not_read(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    (folder / "optimizer.pt").write_bytes(b"\x80\x04.")
    (folder / "extra.json").write_text('{"step": 9}')
    (folder / "__MACOSX").mkdir()
    verify(folder)
    with pytest.raises(ArtefactError) as caught:
        read_document(folder, "extra")
    assert caught.value.params["file"] == "extra.json"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there, and there are no FIFOs in folders")
@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "replaced", "folder"])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: str) -> None:
    folder = save(tmp_path / "checkpoints", 1)
    if kind == "link":
        (folder / "extra").symlink_to(tmp_path)
    elif kind == "dangling":
        (folder / "extra").symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(folder / "extra")
    elif kind == "replaced":
        (folder / "state.json").rename(tmp_path / "state.json")
        (folder / "state.json").symlink_to(tmp_path / "state.json")
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtefactError):
        verify(folder)
    assert newest(tmp_path / "checkpoints").folder is None


@pytest.mark.parametrize("content", [b"PK\x03\x04rest", b"\x80\x04.", b"\x7fELF", b"\x89HDF\r\n", b"\xff" * 64])
def test_a_vouched_for_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, content: bytes) -> None:
    with checkpoint.staged_folder(tmp_path / "step-00000001") as staging:
        (staging / "model.safetensors").write_bytes(content)
        (staging / "state.json").write_bytes(content)
    verify(tmp_path / "step-00000001")
    with pytest.raises(ArtefactError, match=r"model\.safetensors"):
        read_tensors(tmp_path / "step-00000001", "model")
    with pytest.raises(ArtefactError, match=r"state\.json"):
        read_document(tmp_path / "step-00000001", "state")


def test_a_copy_is_as_good_as_the_original(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", 1)
    assert not [path for path in folder.iterdir() if str(tmp_path).encode() in path.read_bytes()]
    copy = shutil.copytree(folder, tmp_path / "b" / "renamed")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "c")
    shutil.rmtree(folder)
    for place in (copy, tmp_path / "c"):
        verify(place)
        assert read_document(place, "state") == {"payload": 11}


# --- choosing and clearing ---------------------------------------------------------------------------------------


def test_newest_goes_by_number_and_looks_at_nothing_else(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") == checkpoint.Found(None, ())
    for step in (9, 100_000_000, 10):
        save(tmp_path, step)
    for name in ("step-9", "best", "step-00000011x", ".step-00000012"):
        shutil.copytree(step_folder(tmp_path, 9), tmp_path / name)
    assert newest(tmp_path).folder == tmp_path / "step-100000000"
    assert checkpoint.step_of(tmp_path / "step-100000000") == 100_000_000


def test_leftovers_are_swept_and_a_folder_that_was_set_aside_returns(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    shutil.copytree(folder, tmp_path / "step-00000002.partial")
    shutil.copytree(folder, tmp_path / "step-00000000.trash")
    folder.rename(tmp_path / "step-00000001.aside")
    assert newest(tmp_path, sweep=False).folder is None
    assert newest(tmp_path).folder == folder
    assert list(tmp_path.iterdir()) == [folder]


def test_of_a_new_and_a_set_aside_folder_the_whole_one_stays(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, payload=2)
    shutil.copytree(folder, tmp_path / "step-00000001.aside")
    save(tmp_path / "other", 1, payload=3)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "other" / "step-00000001", folder)
    (folder / "state.json").unlink()
    assert newest(tmp_path).folder == folder
    assert read_document(folder, "state") == {"payload": 12}
    assert not list(tmp_path.glob("step-00000001.*"))


def test_a_left_over_partial_folder_does_not_hinder_the_next_save(tmp_path: Path) -> None:
    partial = tmp_path / "step-00000001.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    (partial / "stray.json").write_bytes(b"{}")
    folder = save(tmp_path, 1)
    verify(folder)
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_rotation_keeps_the_newest_whole_ones_and_the_protected(tmp_path: Path) -> None:
    folders = {step: save(tmp_path, step) for step in range(1, 7)}
    (folders[6] / "state.json").unlink()
    rotate(tmp_path, 2, frozenset({folders[1], tmp_path / "." / "step-00000002"}))
    assert {path.name for path in tmp_path.iterdir()} == {folders[step].name for step in (1, 2, 4, 5)}


def test_rotation_removes_nothing_while_no_checkpoint_is_whole(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step) / "state.json").unlink()
    rotate(tmp_path, 1, frozenset())
    assert len(list(tmp_path.iterdir())) == 2


class Watcher(Disk):
    """Looks, before and after every change, whether a whole checkpoint exists."""

    def __init__(self, checkpoints: Path) -> None:
        self.checkpoints = checkpoints
        self.looks = 0

    def look(self) -> None:
        assert newest(self.checkpoints, sweep=False).folder is not None
        self.looks += 1

    def rename(self, source: Path, target: Path) -> None:
        self.look()
        super().rename(source, target)
        self.look()

    def remove(self, path: Path) -> None:
        if path.exists():
            self.look()
            for one in sorted(path.iterdir()):
                one.unlink()
                self.look()
        super().remove(path)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_whole_checkpoint_exists_at_every_instant_of_saving_and_rotating(tmp_path: Path, keep: int) -> None:
    save(tmp_path, 0)
    watcher = Watcher(tmp_path)
    for step in range(1, 6):
        save(tmp_path, step, disk=watcher)
        rotate(tmp_path, keep, frozenset(), watcher)
        assert len(list(tmp_path.iterdir())) == min(keep, step + 1)
    assert watcher.looks > 20
