"""The merged model: plain transformers reads it and computes what base + adapter did."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.models.test_adapter import IDS, logits, tuned
from xiaozao.errors import ArtefactError, UsageError
from xiaozao.export import merge as room
from xiaozao.export.merge import merge_adapter
from xiaozao.models.layers.linear import adapters


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_transformers_reads_the_merged_model_and_computes_the_same(tmp_path: Path, dtype: torch.dtype) -> None:
    adapted = logits(tuned(tmp_path))
    merged = merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "out", dtype)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == dtype
    with torch.no_grad():
        gap = (model(input_ids=IDS[None]).logits[0].float() - adapted).abs().max()
    assert gap < (1e-4 if dtype == torch.float32 else 0.1)
    assert merged.gap < room.BOUNDS[dtype] and (tmp_path / "out" / "tokenizer.json").is_file()
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


def test_what_was_trained_on_fewer_bits_is_also_held_against_that(tmp_path: Path) -> None:
    tuned(tmp_path)
    dense = merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "a", torch.float32)
    stored = merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "b", torch.float32, "int8")
    assert dense.trained_gap == dense.gap < 1e-4
    assert stored.gap < 1e-4 < stored.trained_gap < 0.1


def test_it_says_what_it_is_at_and_how_many_layers_are_merged(tmp_path: Path) -> None:
    layers = len(adapters(tuned(tmp_path).model))
    said: list[tuple[str, int, int]] = []
    merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "out", on_progress=lambda *one: said.append(one))
    merged = [("merge", done, layers) for done in range(layers + 1)]
    assert said == [("load", 0, 0), *merged, ("write", 0, 0), ("compare", 0, 0)]


def test_a_full_folder_is_not_overwritten(tmp_path: Path) -> None:
    tuned(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="is not empty"):
        merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(UsageError):
        merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "link")
    assert not list((tmp_path / "empty").iterdir())


def spoiled_weight(model: PreTrainedModel) -> None:
    next(one for name, one in model.named_parameters() if "q_proj" in name).mul_(-3.0)


def forgotten_block(model: PreTrainedModel) -> None:
    for name, layer in adapters(model).items():
        if ".layers.0." in name:
            layer.lora_b.zero_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("place", "fault"), [("write_model", spoiled_weight), ("merge", forgotten_block)])
def test_a_merge_that_changes_the_answers_is_refused_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    fault: Callable[[PreTrainedModel], None],
    dtype: torch.dtype,
) -> None:
    tuned(tmp_path)
    own = getattr(room, place)

    def spoiled(model: PreTrainedModel, *others: object) -> None:
        with torch.no_grad():
            fault(model)
        own(model, *others)

    monkeypatch.setattr(room, place, spoiled)
    with pytest.raises(ArtefactError, match="differs from the trained one by"):
        merge_adapter(tmp_path / "model", tmp_path / "adapter", tmp_path / "out", dtype)
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "model"]
