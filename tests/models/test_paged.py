"""Tensors in a file: they hold what was written, and are no part of the resident set when they are not looked at."""

import copy
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.toy import SHAPE, toy_folder, toy_samples
from xiaozao.errors import EnvironmentProblem, UnsupportedModel
from xiaozao.hub.folder import WEIGHTS
from xiaozao.machine.heap import give_back
from xiaozao.machine.resident import peak_rss, reset_peak, rss
from xiaozao.models.artefacts.disk import DISK, Disk
from xiaozao.models.blocks import blocks_of
from xiaozao.models.layers.linear import is_plain
from xiaozao.models.load import InMemory, Paged, Streamed, load
from xiaozao.models.loading import choice as streamchoice
from xiaozao.models.loading import trainstore as paged
from xiaozao.models.loading.paged import store_of
from xiaozao.models.loading.trainstore import PAGE, PagedStore
from xiaozao.models.recompute import recompute
from xiaozao.models.save import write_model
from xiaozao.models.swap import fuse
from xiaozao.train.batches import packed_row
from xiaozao.train.losses import sft
from xiaozao.train.optim.engine import Optimizer, Options
from xiaozao.train.optim.rules import AdamW
from xiaozao.train.update import Fused

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not paged.SUPPORTED, reason="only Linux can release pages that were written to")


def resident() -> int:
    """Bytes of this process's resident set."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_what_is_written_is_there_after_its_pages_have_left(tmp_path: Path) -> None:
    store = PagedStore(tmp_path, 1 << 24, 0)
    values = torch.randn(300, 1001).to(torch.bfloat16)
    one, other = store.put("one", values), store.put("other", values)
    one.add_(1)
    store.leave([one, other, values])  # what lies elsewhere is not touched
    assert torch.equal(one, values + 1) and torch.equal(other, values)
    assert list(tmp_path.iterdir()) == []  # the file has no name that could be left behind


def test_pages_count_only_while_they_are_looked_at(tmp_path: Path) -> None:
    size = 64 << 20
    store = PagedStore(tmp_path, 2 * size, 0)
    before = resident()
    one = store.zeros("one", torch.empty(size // 4, device="meta"))
    assert resident() - before < size // 8
    one.add_(1)
    assert resident() - before > size * 3 // 4
    store.leave([one[: size // 8]])  # half of it
    assert size // 4 < resident() - before < size * 3 // 4
    store.leave([one])
    assert resident() - before < size // 8
    assert float(one.sum()) == size // 4


def test_a_name_keeps_its_place_and_its_zeros_are_zeros_again(tmp_path: Path) -> None:
    store = PagedStore(tmp_path, 1 << 20, 0)
    one = store.put("state", torch.ones(5, 7))
    again = store.zeros("state", torch.empty(5, 7, device="meta"))
    assert again.data_ptr() == one.data_ptr() and not bool(again.any())
    assert copy.deepcopy(store) is store


def test_more_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    store = PagedStore(tmp_path, PAGE, 0)
    with pytest.raises(RuntimeError, match="more than the"):
        store.put("large", torch.zeros(PAGE))


def test_a_disk_without_room_and_another_system_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(Disk):
        def free_bytes(self, folder: Path) -> int:
            return 10

    with pytest.raises(EnvironmentProblem) as error:
        PagedStore(tmp_path, 100, 100, Small())
    assert error.value.code == "ENVIRONMENT" and "100" in error.value.what()
    monkeypatch.setattr(paged, "SUPPORTED", False)
    with pytest.raises(EnvironmentProblem, match="only Linux"):
        PagedStore(tmp_path, 100, 0)


def test_a_file_written_in_pieces_is_the_one_that_the_library_writes(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5), "b": torch.randn(7).to(torch.bfloat16), "scale": torch.tensor(2.5),
        "codes": torch.randint(0, 255, (4, 4), dtype=torch.uint8), "none": torch.empty(0, 3),
    }  # fmt: skip
    done: list[str] = []

    def pieces(name: str) -> Iterator[torch.Tensor]:
        yield from tensors[name].reshape(-1).split(4)
        done.append(name)

    DISK.write_pieces(tmp_path / "ours.safetensors", tensors, pieces)
    save_file(tensors, tmp_path / "theirs.safetensors", {"format": "pt"})
    ours, theirs = load_file(tmp_path / "ours.safetensors"), load_file(tmp_path / "theirs.safetensors")
    assert done == list(tensors) and ours.keys() == theirs.keys()
    for name, one in theirs.items():
        assert one.dtype == ours[name].dtype and torch.equal(one, ours[name])


@pytest.mark.parametrize("tied", [True, False])
def test_the_matrices_lie_in_the_file_and_all_learn(tmp_path: Path, tied: bool) -> None:
    folder = toy_folder(tmp_path / "model", tie_word_embeddings=tied)
    decoder, plain = load(folder, torch.float32, CPU, way=Paged(tmp_path)), load(folder, torch.float32, CPU)
    store = store_of(decoder.model)
    assert store is not None and store_of(plain.model) is None
    own, theirs = decoder.trainable(), plain.trainable()
    assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)
    inside = {name for name, one in own.items() if store.of(one) is not None}
    assert inside == {name for name, one in own.items() if one.ndim == 2}
    head = decoder.head.linear.weight
    assert isinstance(head, torch.Tensor) and (head is decoder.model.get_input_embeddings().weight) == tied


def test_an_embedding_that_scales_what_it_gives_goes_there_too(tmp_path: Path) -> None:
    config = AutoConfig.for_model("gemma2", **{**SHAPE, "head_dim": 8, "tie_word_embeddings": True})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    decoder = load(tmp_path / "model", torch.float32, CPU, way=Paged(tmp_path))
    store = store_of(decoder.model)
    assert store is not None
    assert all(store.of(one) is not None for one in decoder.trainable().values() if one.ndim == 2)


def looked_at(store: PagedStore) -> int:
    """Bytes of the file that are resident now, as the kernel tells."""
    maps = Path("/proc/self/smaps").read_text(encoding="utf-8")
    rest = maps[maps.index(f"{store.base:x}-") :]
    return 1024 * int(rest[rest.index("\nRss:") :].split(maxsplit=2)[1])


def test_no_more_than_the_head_and_a_matrix_are_looked_at_in_a_step(tmp_path: Path) -> None:
    """A hook that was forgotten would leave all of the weights, or of the optimizer's states, in memory."""
    folder = toy_folder(tmp_path / "model", hidden_size=256, intermediate_size=1024, num_hidden_layers=6)
    decoder = load(folder, torch.float32, CPU, way=Paged(tmp_path))
    fuse(decoder)
    recompute(decoder, "block")
    store = store_of(decoder.model)
    assert store is not None
    optimizer = Optimizer(decoder.trainable(), AdamW(), Options(store=store))
    update, most = Fused(optimizer, 1.0), [0]

    def look(*_: object) -> None:
        most[0] = max(most[0], looked_at(store))

    for block in blocks_of(decoder.model):
        block.register_forward_hook(look)
        block.register_full_backward_hook(look)
    row = packed_row(toy_samples([30, 40]), [0, 1], CPU)
    for step in range(2):
        update.begin(step, 1e-3)
        with decoder.attention.segments(row.lengths):
            (sft(decoder, row) / row.units).backward()
        assert looked_at(store) <= 2 * PAGE
    everything = sum(one.nbytes for one in decoder.trainable().values() if one.ndim == 2)
    largest = max(one.nbytes for one in decoder.trainable().values())
    assert 0 < most[0] < 3 * largest < everything / 4


def test_the_result_is_written_a_piece_at_a_time_and_is_the_one_of_a_model_in_memory(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model", vocab_size=80_000, hidden_size=256, tie_word_embeddings=True)
    matrix = 80_000 * 256 * 4
    decoder, plain = (load(folder, torch.float32, CPU, way=way) for way in (Paged(tmp_path), InMemory()))
    for name in ("rehearsed", "ours", "theirs"):
        (tmp_path / name).mkdir()
    before = {name: one.clone() for name, one in decoder.trainable().items()}
    kind = decoder.model.config.dtype
    for keeps, name in ((False, "rehearsed"), (True, "ours")):
        give_back()
        reset_peak()
        held = rss()
        write_model(decoder.model, tmp_path / name, folder, torch.bfloat16, keeps)
        assert peak_rss() - held < matrix / 2
        if not keeps:
            assert all(torch.equal(one, before[key]) for key, one in decoder.trainable().items())
            assert decoder.model.config._attn_implementation == decoder.attention.name
            assert decoder.model.config.dtype == kind
    write_model(plain.model, tmp_path / "theirs", folder, torch.bfloat16)
    rehearsed, ours, theirs = (load_file(tmp_path / name / WEIGHTS) for name in ("rehearsed", "ours", "theirs"))
    assert rehearsed.keys() == ours.keys() == theirs.keys()
    assert all(torch.equal(rehearsed[key], one) and torch.equal(ours[key], one) for key, one in theirs.items())
    store = store_of(decoder.model)
    assert store is not None
    assert all(torch.equal(one, theirs[key]) for key, one in decoder.trainable().items())
    assert all(store.of(one) for one in decoder.trainable().values() if one.ndim == 2)


def test_a_head_of_another_kind_keeps_its_own_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = toy_folder(tmp_path / "model", tie_word_embeddings=False)
    monkeypatch.setattr(streamchoice, "is_plain", lambda one: is_plain(one) and one.out_features != SHAPE["vocab_size"])
    own, theirs = load(folder, torch.float32, CPU, way=Paged(tmp_path)), load(folder, torch.float32, CPU)
    first, second = own.trainable(), theirs.trainable()
    assert torch.equal(first["lm_head.weight"], second["lm_head.weight"])
    assert not torch.equal(first["lm_head.weight"], first["model.embed_tokens.weight"])


@pytest.mark.parametrize("trains", [True, False])
def test_two_matrices_that_the_config_calls_one_are_refused(tmp_path: Path, trains: bool) -> None:
    folder = toy_folder(tmp_path / "model", tie_word_embeddings=False)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8")
    way = Paged(tmp_path) if trains else Streamed(tmp_path / "streams")
    with pytest.raises(UnsupportedModel, match="lm_head.weight"):
        load(folder, torch.float32, CPU, way=way)


def test_a_disk_that_fills_up_later_is_told_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = PagedStore(tmp_path, 1 << 20, 0)
    one = store.put("one", torch.ones(7))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(EnvironmentProblem, match="disk"):
        store.put("two", torch.ones(7))
    assert torch.equal(one, torch.ones(7)) and torch.equal(store.put("one", one + 1), one)


def test_only_a_run_on_the_cpu_can(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model")
    with pytest.raises(UnsupportedModel, match="cuda"):
        load(folder, torch.float32, torch.device("cuda"), way=Paged(tmp_path))
