"""Quantised while loading: what is made of each tensor, what stays as it was, and how little memory it takes."""

import json
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tests.toy import SHAPE, toy_folder, toy_model
from xiaozao.errors import UnsupportedModel, XiaozaoError
from xiaozao.models.blocks import Decoder, run
from xiaozao.models.generate import Sampling, generate
from xiaozao.models.layers.linear import FrozenLinear
from xiaozao.models.layers.quantize import BASES
from xiaozao.models.load import InMemory, Paged, Streamed, Way, converts, load, load_model
from xiaozao.models.trainable import replaces
from xiaozao.spec.parts import MethodSpec

CPU, MAPS = torch.device("cpu"), Path("/proc/self/maps")
IDS = torch.arange(3, 40)
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": False},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "phi3": {},
    "gemma2": {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
}


def family_folder(folder: Path, kind: str, **changes: object) -> Path:
    """A random model of a family, without a tokenizer."""
    torch.manual_seed(0)
    toy_model(AutoConfig.for_model(kind, **{**SHAPE, **changes})).save_pretrained(folder)
    return folder


def frozen(model: nn.Module) -> dict[str, FrozenLinear]:
    return {name: one for name, one in model.named_modules() if isinstance(one, FrozenLinear)}


def logits(decoder: Decoder) -> Tensor:
    with torch.no_grad():
        return decoder.head.logits(run(decoder, [IDS[:15], IDS[15:]]))


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_another_type_are_read_one_by_one_and_are_what_transformers_reads(
    tmp_path: Path, family: str
) -> None:
    folder = family_folder(tmp_path, family, **FAMILIES[family])
    short = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    short.generation_config.eos_token_id = [2, 7]
    short.save_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert converts(folder, torch.float32) and not converts(folder, torch.bfloat16)
    mine = load_model(folder, torch.float32, CPU)
    assert mine.generation_config.eos_token_id == [2, 7]
    expected = dict(theirs.named_parameters())
    assert {name: one.dtype for name, one in mine.named_parameters()} == dict.fromkeys(expected, torch.float32)
    assert all(torch.equal(one, expected[name]) for name, one in mine.named_parameters())


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_the_model_computes_with_the_dequantised_weights(
    tmp_path: Path, family: str, kind: str
) -> None:
    folder = family_folder(tmp_path, family, **FAMILIES[family])
    mine, plain = load(folder, torch.float32, CPU, way=InMemory(kind)), load(folder, torch.float32, CPU)
    before = logits(plain)
    for name, layer in frozen(mine.model).items():
        old = plain.model.get_submodule(name)
        assert isinstance(old, nn.Linear | Conv1D)
        weight = old.weight.detach()
        dense = BASES[kind](weight.t().contiguous() if layer.transposed else weight).dense(torch.float32)
        assert torch.equal(layer.base.dense(torch.float32), dense)
        old.weight = nn.Parameter(dense.t() if layer.transposed else dense)
    assert mine.packing == plain.packing
    torch.testing.assert_close(logits(mine), logits(plain), rtol=1e-4, atol=1e-4)
    assert (logits(mine) - before).abs().max() > 1e-4


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("tied", [True, False])
def test_from_several_files_only_the_linear_layers_of_the_blocks_change(tmp_path: Path, kind: str, tied: bool) -> None:
    torch.manual_seed(0)
    model = toy_model(AutoConfig.for_model("llama", **{**SHAPE, "tie_word_embeddings": tied}))
    nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    found = load_model(tmp_path, torch.bfloat16, CPU, InMemory(kind))
    assert len(frozen(found)) == 14 and not any(one.is_meta for one in found.state_dict().values())
    head = found.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    assert (head.weight is found.get_input_embeddings().weight) is tied
    kept = {name: one for name, one in found.state_dict().items() if ".base." not in name}
    assert set(kept) == {name for name in model.state_dict() if "proj" not in name}
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in kept.items())
    assert found.dtype == torch.bfloat16 and not hasattr(found.config, "quantization_config")


@pytest.mark.parametrize("kind", BASES)
def test_two_loads_give_the_same_bits(tmp_path: Path, kind: str) -> None:
    folder = family_folder(tmp_path, "llama")
    one, two = (load_model(folder, torch.bfloat16, CPU, InMemory(kind)).state_dict() for _ in range(2))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that operations touch, and their peak."""

    now = peak = 0

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, out)):
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if size and place not in self.sizes:
            self.sizes[place] = size
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, place)

    def _gone(self, place: int) -> None:
        self.now -= self.sizes.pop(place, 0)


@pytest.mark.parametrize("kind", BASES)
def test_the_model_is_never_whole_in_sixteen_bits(tmp_path: Path, kind: str) -> None:
    shape = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 8, "vocab_size": 256}
    folder = family_folder(tmp_path, "llama", **shape, dtype=torch.bfloat16)
    with Live() as live:
        model = load_model(folder, torch.bfloat16, CPU, InMemory(kind))
    state = {one.untyped_storage().data_ptr(): one.nbytes for one in (*model.parameters(), *model.buffers())}
    held, matrix = sum(state.values()), 128 * 512
    whole = 2 * sum(one.in_features * one.out_features for one in frozen(model).values())
    # One matrix in 16 bits, in fp32, its distances to the codes, the codes twice.
    assert live.peak - held < 16 * matrix < whole / 3
    assert live.now > 0.9 * held  # the counter sees what it should


def test_experts_that_are_no_linear_layers_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    shape = {"num_local_experts": 8, "num_experts_per_tok": 2}
    folder = family_folder(tmp_path, "mixtral", **shape)
    with pytest.raises(UnsupportedModel, match=r"base=nf4 would store only \d+%(?s:.*experts.*base=none)"):
        load(folder, torch.float32, CPU, way=InMemory("nf4"))
    assert not load(folder, torch.float32, CPU).model.training


def test_a_weight_that_is_not_in_the_files_is_missed_not_invented(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path)
    stored = load_file(folder / "model.safetensors")
    del stored["model.layers.1.mlp.up_proj.weight"]
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"1 weight\(s\).*model\.layers\.1\.mlp\.up_proj"):
        load(folder, torch.float32, CPU, way=InMemory("int8"))


def test_a_model_that_looks_into_its_layers_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toy_folder(tmp_path)
    model = load_model(folder, torch.float32, CPU)
    block = type(model.base_model.get_submodule("layers.0.mlp"))

    def curious(self: Any, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(x.to(self.gate_proj.weight.dtype))
        return out

    monkeypatch.setattr(block, "forward", curious)
    with pytest.raises(UnsupportedModel, match=r"llama cannot be computed with base=nf4.*weight"):
        load(folder, torch.float32, CPU, way=InMemory("nf4"))


@pytest.mark.parametrize("base", ["none", *BASES])
def test_fp16_is_a_dtype_to_compute_in(tmp_path: Path, base: str) -> None:
    folder = toy_folder(tmp_path)
    half, full = (
        load(folder, torch.float16, CPU, way=InMemory(base)),
        load(folder, torch.float32, CPU, way=InMemory(base)),
    )
    assert half.model.dtype == torch.float16 and half.packing == "packed"
    assert (logits(half) - logits(full)).norm() < 0.01 * logits(full).norm()


def test_a_saved_model_that_says_it_is_quantised_is_refused(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "xiaozao"}}))
    with pytest.raises(UnsupportedModel, match="stored quantised"):
        load(folder, torch.float32, CPU, way=InMemory("nf4"))


def test_nothing_of_the_quantiser_stays_on_the_model(tmp_path: Path) -> None:
    model: PreTrainedModel = load_model(toy_folder(tmp_path), torch.float32, CPU, InMemory("nf4"))
    assert not hasattr(model, "hf_quantizer") and "quantization_config" not in model.config.to_dict()


@pytest.mark.parametrize("base", ["none", *BASES])
def test_a_family_without_fused_attention_of_its_own_loads_and_answers(tmp_path: Path, base: str) -> None:
    decoder = load(family_folder(tmp_path, "gemma2", **FAMILIES["gemma2"]), torch.float32, CPU, way=InMemory(base))
    answers = generate(decoder, [[5, 6, 7], [8, 9]], frozenset(), Sampling(4))
    assert [len(one) for one in answers] == [4, 4]


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what a process has mapped")
@pytest.mark.parametrize("mapped", [True, False])
def test_weights_that_others_will_replace_are_no_pages_of_the_file(tmp_path: Path, mapped: bool) -> None:
    """A page of a mapped file stays resident while any tensor of the file is in use."""
    folder = toy_folder(tmp_path / "model", vocab_size=4000)
    decoder = load(folder, torch.float32, CPU, way=InMemory(mapped=mapped))
    assert (str(folder / "model.safetensors") in MAPS.read_text(encoding="utf-8")) == mapped
    plain = load(folder, torch.float32, CPU)
    assert all(
        torch.equal(one, other) for one, other in zip(decoder.model.parameters(), plain.model.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("options", "replaced"),
    [({}, False), ({"adapter": "dora"}, False), ({"adapter": "pissa"}, True), ({"also": ("norms",)}, True),
     ({"method": "full"}, False), ({"method": "full", "last_blocks": 1}, True)],
)  # fmt: skip
def test_which_methods_replace_weights(options: dict[str, Any], replaced: bool) -> None:
    assert replaces(MethodSpec(**options)) is replaced


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_hidden_layers": 3}, r"9 weight\(s\) are not in the model's files, the first is model.layers.2"),
        ({"intermediate_size": 64}, r"mlp.down_proj.weight would have the shape \[32, 64\].* \[32, 48\]"),
        ({"vocab_size": 400}, r"embed_tokens.weight would have the shape \[400, 32\]"),
        ({"mlp_bias": "yes"}, "mlp_bias"), ({"hidden_act": "none of them"}, "none of them"),
        ({"num_attention_heads": 5}, "32.*5"), ({"pad_token_id": 10**6}, "[Pp]adding_idx"),
        ({"rope_parameters": {"rope_type": "nothing", "rope_theta": 1e4}}, "nothing"),
        ({"model_type": "nothing"}, "nothing"),
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_is_not_that_of_the_weights_is_refused(
    tmp_path: Path, changes: dict[str, Any], told: str, weights: torch.dtype
) -> None:
    folder = toy_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    with pytest.raises(XiaozaoError, match=told):
        load(folder, weights, CPU)


def test_no_quantisation_is_none(tmp_path: Path) -> None:
    folder = toy_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": None}), encoding="utf-8")
    assert load(folder, torch.float32, CPU).packing == "packed"


WAYS: dict[str, Callable[[Path], Way]] = {
    "plain": lambda _: InMemory(),
    "int8": lambda _: InMemory("int8"),
    "from disk": Streamed,
    "int8 from disk": lambda place: Streamed(place, "int8"),
    "learning on disk": Paged,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"mlp_bias": True}, "6 weight.*mlp.down_proj.bias"),
        ({"tie_word_embeddings": False}, "1 weight.*lm_head"),
        ({"num_hidden_layers": 3}, "model.layers.2"),
        ({"hidden_size": 64, "head_dim": 8}, r"would have the shape \[.*64.*in the files it has \[.*32"),
    ],
)
def test_no_way_of_loading_makes_weights_up(tmp_path: Path, way: str, changes: dict[str, Any], told: str) -> None:
    folder = toy_folder(tmp_path / "model")
    (tmp_path / "place").mkdir()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    chosen = WAYS[way](tmp_path / "place")
    if not told:
        assert load(folder, torch.bfloat16, CPU, way=chosen).packing == "packed"
        return
    with pytest.raises(XiaozaoError, match=told):
        load(folder, torch.bfloat16, CPU, way=chosen)
