"""Weights on disk: the same numbers as in memory, nothing left behind, and only ever a tile of a matrix at a time."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.small import small_model
from tests.toy import toy_folder, toy_samples, toy_tokenizer
from xiaozao.errors import UnsupportedModel, UsageError
from xiaozao.hub.tensorfile import read_header
from xiaozao.models.adapter import CONFIG, WEIGHTS, adapter_config, adapter_tensors, attach
from xiaozao.models.artefacts.checkpoint import write_folder
from xiaozao.models.blocks import Decoder, blocks_of, few_blocks, run
from xiaozao.models.generate import Sampling, generate
from xiaozao.models.layers.bases import Base, DenseBase, parameter_count
from xiaozao.models.layers.linear import FrozenLinear, adapters, without_adapters
from xiaozao.models.layers.quantize import Int8Base, Nf4Base
from xiaozao.models.load import InMemory, Streamed, load
from xiaozao.models.loading.converted import is_there, name_of, read_folder, write_index, write_matrix
from xiaozao.models.loading.mapped import Mapped
from xiaozao.models.loading.stream import (
    TILE,
    ReadAhead,
    StreamedBase,
    StreamedEmbedding,
    streamed_bases,
)
from xiaozao.models.recompute import recompute
from xiaozao.models.swap import fuse
from xiaozao.models.trainable import make_trainable
from xiaozao.spec.parts import MethodSpec
from xiaozao.train.batches import packed_row
from xiaozao.train.losses import LOSSES, sft
from xiaozao.train.preference_losses import Strength

CPU = torch.device("cpu")
SAMPLES = toy_samples([24, 17, 30, 9])
IDS = torch.arange(3, 40)


def decoder_of(folder: Path, streams: Path | None, base: str = "none", adapter: str = "lora") -> Decoder:
    """A decoder with an adapter that does something."""
    decoder = load(folder, torch.float32, CPU, "batched", Streamed(streams, base) if streams else InMemory(base))
    make_trainable(decoder, MethodSpec.model_validate({"rank": 4, "alpha": 8.0, "adapter": adapter}), 0)
    fuse(decoder)
    recompute(decoder, "block")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, one in decoder.trainable().items():
            if name.endswith("lora_b"):
                one.copy_(torch.randn(one.shape, generator=generator) * 0.1)
    return decoder


def loss_and_gradients(decoder: Decoder) -> dict[str, Tensor]:
    decoder.model.train()
    row = packed_row(SAMPLES, range(4), CPU)
    with decoder.attention.segments(row.lengths):
        loss = sft(decoder, row) / row.units
        loss.backward()
    found = {"loss": loss.detach()}
    for name, one in decoder.trainable().items():
        assert one.grad is not None
        found[name] = one.grad
    return found


def logits(decoder: Decoder) -> Tensor:
    decoder.model.eval()
    with torch.no_grad():
        return decoder.head.logits(run(decoder, [IDS]))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    wrong = [name for name in one if not torch.equal(one[name], other[name])]
    assert not wrong, wrong


def folder_of(folder: Path, kind: str) -> Path:
    """A small model of that type, as a hub would give it."""
    model = small_model(kind)
    model.save_pretrained(folder)
    toy_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("base", ["none", "int8", "nf4"])
def test_loss_and_gradients_are_those_of_weights_in_memory_bit_for_bit(tmp_path: Path, base: str, tied: bool) -> None:
    folder = toy_folder(tmp_path / "model", tie_word_embeddings=tied)
    streamed = decoder_of(folder, tmp_path / "streams", base)
    resident = decoder_of(folder, None, base)
    same(loss_and_gradients(streamed), loss_and_gradients(resident))
    assert parameter_count(streamed.model) == parameter_count(resident.model)


def test_a_bf16_file_is_computed_with_in_fp32_as_if_it_had_been_loaded_so(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model")
    path = folder / "model.safetensors"
    halves = {name: load_tensor(path, name).bfloat16() for name in read_header(path)}
    save_file(halves, path, {"format": "pt"})
    streamed, resident = decoder_of(folder, tmp_path / "streams"), decoder_of(folder, None)
    same(loss_and_gradients(streamed), loss_and_gradients(resident))


def load_tensor(path: Path, name: str) -> Tensor:
    return Mapped.of(path, read_header(path)[name]).whole().clone()


# Biases; matrices that lie transposed; experts that are loaded in another form than they are stored in; a scaled
# embedding; a parallel block with layer norms.
@pytest.mark.parametrize("kind", ["qwen2", "gpt2", "gemma2", "phi", "gpt_neox"])
def test_other_families_answer_as_they_do_from_memory(tmp_path: Path, kind: str) -> None:
    folder = folder_of(tmp_path / "model", kind)
    streamed = load(folder, torch.float32, CPU, way=Streamed(tmp_path / "streams"))
    resident = load(folder, torch.float32, CPU)
    torch.testing.assert_close(logits(streamed), logits(resident), rtol=0, atol=0)
    assert any(True for _ in streamed_bases(streamed.model))


def test_fused_experts_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", "mixtral")
    with pytest.raises(UnsupportedModel) as caught:
        load(folder, torch.float32, CPU, way=Streamed(tmp_path / "streams"))
    assert "stream=disk" in caught.value.what("en")


def test_dora_learns_on_weights_on_disk(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model")
    same(
        loss_and_gradients(decoder_of(folder, tmp_path / "streams", adapter="dora")),
        loss_and_gradients(decoder_of(folder, None, adapter="dora")),
    )


def test_a_weighted_loss_and_the_model_without_its_adapter_come_from_disk_too(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model")
    found = []
    for streams in (tmp_path / "streams", None):
        decoder = decoder_of(folder, streams)
        row = packed_row(SAMPLES, range(4), CPU)
        loss = LOSSES["simpo"](Strength(2.0, 0.5, 0.0, 1.0, 1.0))
        assert loss is not None
        with decoder.attention.segments(row.lengths), torch.no_grad(), without_adapters(decoder.model):
            found.append(sft(decoder, row))
    assert torch.equal(*found)


def test_what_is_resident_are_adapters_norms_and_biases(tmp_path: Path) -> None:
    decoder = decoder_of(toy_folder(tmp_path / "model"), tmp_path / "streams")
    assert {one.ndim for name, one in decoder.model.named_parameters() if "lora_" not in name} == {1}
    assert isinstance(decoder.model.get_input_embeddings(), StreamedEmbedding)
    assert isinstance(decoder.head.linear, FrozenLinear)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize("base", ["none", "nf4"])
def test_nothing_stays_mapped_after_a_step(tmp_path: Path, base: str) -> None:
    decoder = decoder_of(toy_folder(tmp_path / "model"), tmp_path / "streams", base)
    held = next(streamed_bases(decoder.model)).matrix.parts[0].rows(0, 1)
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    del held
    loss_and_gradients(decoder)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("form", ["plain", "int8", "nf4"])
def test_a_matrix_in_tiles_multiplies_like_a_whole_one(tmp_path: Path, form: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(TILE // 2048 + 1000, 2050, generator=generator)
    bias = torch.randn(len(weight), generator=generator)
    kinds: dict[str, Callable[[Tensor], Base]] = {"plain": DenseBase, "int8": Int8Base, "nf4": Nf4Base}
    resident = kinds[form](weight)
    parts = {"weight": weight} if form == "plain" else resident.state_dict()
    entry = write_matrix(tmp_path, 0, form, parts, weight.shape)
    write_index(tmp_path, {"x": entry}, {})
    base = StreamedBase(read_folder(tmp_path)["x"], torch.float32, CPU, 0)
    tiles = base.tiles()
    assert len(tiles) > 1 and tiles[0].start == 0 and tiles[-1].stop == len(weight)
    assert all(one.stop == after.start for one, after in zip(tiles, tiles[1:], strict=False))
    assert max((one.stop - one.start) * 2050 for one in tiles) <= TILE
    assert torch.equal(base.dense(torch.float32), resident.dense(torch.float32))
    rows, grad = torch.randn(5, 2050, generator=generator), torch.randn(5, len(weight), generator=generator)
    torch.testing.assert_close(base.product(rows, bias), resident.product(rows, bias), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(base.product(rows, None), resident.product(rows, None), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(base.product_back(grad, None), resident.product_back(grad, None), rtol=1e-4, atol=1e-2)
    into = torch.ones(5, 2050)
    back = base.product_back(grad, into)
    assert back is into
    torch.testing.assert_close(back, resident.product_back(grad, torch.ones(5, 2050)), rtol=1e-4, atol=1e-2)


def test_the_next_block_is_read_ahead_in_the_direction_of_the_visits(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(4)}, tmp_path / "x.safetensors")
    one = Mapped.of(tmp_path / "x.safetensors", read_header(tmp_path / "x.safetensors")["x"])
    asked: list[int] = []

    class Watched(dict[int, list[Mapped]]):
        def __missing__(self, block: int) -> list[Mapped]:
            asked.append(block)
            return [one]

    ahead = ReadAhead(Watched())
    for block in (0, 0, 1, 2, 2, 3, 2, 2, 1, 0, 0, 1):
        ahead.visit(block)
    assert asked == [1, 2, 3, 4, 1, 0, -1, 2]
    ahead.thread.shutdown(wait=True)


def test_converted_weights_are_made_once_and_made_again_where_they_are_not_whole(tmp_path: Path) -> None:
    folder, streams = toy_folder(tmp_path / "model"), tmp_path / "streams"
    first = logits(load(folder, torch.float32, CPU, way=Streamed(streams, "int8")))
    made = streams / name_of(folder, "int8")
    assert is_there(made)
    before = (made / "manifest.json").stat().st_mtime_ns
    assert torch.equal(logits(load(folder, torch.float32, CPU, way=Streamed(streams, "int8"))), first)
    assert (made / "manifest.json").stat().st_mtime_ns == before
    (made / "00003.safetensors").write_bytes(b"short")
    assert not is_there(made)
    assert torch.equal(logits(load(folder, torch.float32, CPU, way=Streamed(streams, "int8"))), first)
    other = toy_folder(tmp_path / "other" / "model", seed=5)
    assert name_of(other, "int8") != made.name


def test_plain_weights_are_read_where_they_lie_and_copied_nowhere(tmp_path: Path) -> None:
    load(toy_folder(tmp_path / "model"), torch.float32, CPU, way=Streamed(tmp_path / "streams"))
    assert not (tmp_path / "streams").exists()


def test_answers_are_those_of_the_model_in_memory(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model")
    prompts = [[3, 4, 5, 6], [9, 8, 7]]
    answers = [
        generate(decoder_of(folder, streams), prompts, frozenset(), Sampling(max_tokens=6))
        for streams in (tmp_path / "streams", None)
    ]
    assert answers[0] == answers[1]


def test_an_adapter_goes_to_disk_and_comes_back_onto_streamed_weights(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path / "model")
    decoder = decoder_of(folder, tmp_path / "streams")
    saved = {WEIGHTS: adapter_tensors(decoder.model)}
    write_folder(tmp_path / "adapter", saved, {CONFIG: adapter_config(decoder.model, "toy")})
    again = load(folder, torch.float32, CPU, way=Streamed(tmp_path / "streams"))
    assert len(attach(again, tmp_path / "adapter")) == len(adapters(decoder.model))
    torch.testing.assert_close(logits(again), logits(decoder))


def test_embeddings_and_head_on_disk_cannot_be_trained(tmp_path: Path) -> None:
    decoder = load(toy_folder(tmp_path / "model"), torch.float32, CPU, way=Streamed(tmp_path / "streams"))
    with pytest.raises(UsageError) as caught:
        make_trainable(decoder, MethodSpec(rank=4, alpha=8.0, also=("head",)), 0)
    assert "head" in caught.value.what("en") and "stream" in caught.value.fix("en")
    norms = load(tmp_path / "model", torch.float32, CPU, way=Streamed(tmp_path / "streams"))
    make_trainable(norms, MethodSpec(rank=4, alpha=8.0, also=("norms",)), 0)
    assert any("norm" in name for name in norms.trainable())


def test_a_model_is_cut_to_one_block_of_each_kind_and_whole_again_afterwards(tmp_path: Path) -> None:
    decoder = load(toy_folder(tmp_path / "model", num_hidden_layers=5), torch.float32, CPU)
    whole = logits(decoder)
    with few_blocks(decoder.model):
        assert len(blocks_of(decoder.model)) == 2
        assert not torch.equal(logits(decoder), whole)
    assert len(blocks_of(decoder.model)) == 5 and torch.equal(logits(decoder), whole)


@pytest.mark.real
@pytest.mark.parametrize("base", ["none", "nf4"])
def test_the_real_model_has_the_same_loss_and_gradients_from_disk(tmp_path: Path, real_model: Path, base: str) -> None:
    streamed, resident = decoder_of(real_model, tmp_path / "streams", base), decoder_of(real_model, None, base)
    same(loss_and_gradients(streamed), loss_and_gradients(resident))
