import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tests.models.test_checkpoint import save
from xiaozao.errors import EnvironmentProblem, TrainingError, XiaozaoError
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.artefacts.checkpoint import newest, read_document, rotate, step_folder, verify, write_folder
from xiaozao.models.artefacts.disk import Disk


class Failing(Disk):
    """The k-th operation fails; a write leaves half of its bytes behind."""

    def __init__(self, fail_at: int, number: int) -> None:
        self.left = fail_at
        self.number = number

    def fail(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.number, os.strerror(self.number))

    def make_folder(self, path: Path) -> None:
        self.fail()
        super().make_folder(path)

    def write_bytes(self, path: Path, data: bytes) -> None:
        super().write_bytes(path, data[: len(data) // 2])
        self.fail()
        super().write_bytes(path, data)

    def write_tensors(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        path.write_bytes(b"half a header")
        self.fail()
        super().write_tensors(path, tensors)

    def sync_file(self, path: Path) -> None:
        self.fail()
        super().sync_file(path)

    def sync_folder(self, path: Path) -> None:
        self.fail()
        super().sync_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        self.fail()
        super().rename(source, target)


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_moment_leaves_the_old_checkpoint(
    tmp_path: Path, overwrite: bool, number: int
) -> None:
    failures = 0
    while True:
        checkpoints = tmp_path / str(failures)
        old = save(checkpoints, 1)
        try:
            save(checkpoints, 1 if overwrite else 2, payload=2, disk=Failing(failures + 1, number))
        except EnvironmentProblem as problem:
            assert problem.key == ("disk_space" if number == errno.ENOSPC else "disk_failed")
            assert "step-0000000" in str(problem)
        else:
            break
        failures += 1
        assert not list(checkpoints.glob("*.partial"))
        verify(old)
        found = newest(checkpoints)
        assert not found.rejected
        assert found.folder is not None
        verify(found.folder)
        after = save(checkpoints, 3)
        assert newest(checkpoints).folder == after
        assert all(path.suffix == "" for path in checkpoints.iterdir())
    assert failures >= 10


def test_an_old_checkpoint_that_cannot_be_removed_waits_for_the_next_rotation(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    rotate(tmp_path, 1, frozenset(), Failing(1, errno.EACCES))
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "step-00000003"}
    verify(tmp_path / "step-00000001")
    rotate(tmp_path, 1, frozenset())
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_disk_without_enough_space_is_told_before_anything_is_removed(tmp_path: Path) -> None:
    class Small(Disk):
        def free_bytes(self, folder: Path) -> int:
            return 15_000

    old = save(tmp_path, 1)  # its tensors take 12,806 bytes
    with pytest.raises(EnvironmentProblem) as caught:
        save(tmp_path, 1, payload=2, disk=Small())
    assert caught.value.params["free"] == 15_000
    assert caught.value.params["needed"] == int((12_806 + len('{"payload": 12}')) * 1.2)
    assert read_document(old, "state") == {"payload": 11}


def test_the_systems_own_refusal_inside_the_tensor_writer_is_understood(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no file size limits there")
    old = save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(EnvironmentProblem) as caught:
            write_folder(step_folder(tmp_path, 2), {"model": {"w": torch.ones(100_000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.key == "disk_space"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    verify(save(tmp_path, 1))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_fails_the_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(EnvironmentProblem):
        save(tmp_path, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(EnvironmentProblem) as caught:
            save(tmp_path, 1)
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.key == "not_writable"


def test_a_staged_folder_that_its_writer_gives_up_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with checkpoint.staged_folder(target) as staging:
        (staging / "adapter_config.json").write_text("{}")
    with pytest.raises(XiaozaoError), checkpoint.staged_folder(target) as staging:
        (staging / "adapter_config.json").write_text("[]")
        raise TrainingError("checkpoint_not_finite", folder=target, file="x", tensor="y")
    verify(target)
    assert (target / "adapter_config.json").read_text() == "{}"
    assert list(tmp_path.iterdir()) == [target]
