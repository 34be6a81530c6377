"""What we export is read by the oldest transformers and PEFT that we write for, and by the newest: the same model."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from tests.models.test_adapter import tuned
from tests.readers import READERS, read_by
from tests.small import small_config
from tests.toy import SHAPE, TEMPLATE, toy_model, toy_tokenizer
from xiaozao.data.formats import Turn
from xiaozao.data.namedtemplates import PLAIN
from xiaozao.data.tokens import ChatTokenizer
from xiaozao.export.merge import merge_adapter
from xiaozao.hub.spellings import both_spellings, plain_tokenizer
from xiaozao.models.adapter import CONFIG, WEIGHTS, adapter_config, adapter_tensors, attach
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import run
from xiaozao.models.chatfiles import write_chat_files
from xiaozao.models.load import load
from xiaozao.models.save import write_model

CPU = torch.device("cpu")
IDS = torch.arange(200) * 37 % 300 + 5
LONG = [1.0 + number / 2 for number in range(4)]

# Families as their config.json on a hub says it; the numbers are no family's defaults, so that a lost one shows.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "theta": ("llama", {"rope_theta": 5e5}),
    "llama3": ("llama", {"rope_theta": 5e5, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}),
    "linear": ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "dynamic": ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4.0}, "max_position_embeddings": 128}),
    "yarn": ("qwen2", {"rope_theta": 1e6, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}),
    "qwen3": ("qwen3", {"rope_theta": 1e6, "head_dim": 16}),
    "experts": ("qwen3_moe", {"rope_theta": 1e6, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8,
                              "moe_intermediate_size": 16}),
    "mistral": ("mistral", {"rope_theta": 1e6, "sliding_window": 48}),
    "gemma": ("gemma3_text", {
        "rope_theta": 1e6, "rope_local_base_freq": 1234.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 48, "head_dim": 16}),
    "longrope": ("phi3", {"rope_theta": 7e4, "original_max_position_embeddings": 64, "rope_scaling": {
        "type": "longrope", "short_factor": [1.0] * 4, "long_factor": LONG}}),
    "partial": ("phi3", {"partial_rotary_factor": 0.5, "rope_theta": 7e4}),
    "neox": ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 5e4}),
}  # fmt: skip

LOGITS = """
said = {}
for name, folder in asked["folders"].items():
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", local_files_only=True)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([asked["ids"]]), use_cache=False).logits[0, -3:].float()
    said[name] = logits.tolist()
print(json.dumps(said))
"""


def base_folder(folder: Path, kind: str = "llama", template: str | None = TEMPLATE, **changes: Any) -> Path:
    """A model folder as transformers 5 writes it; its config says only what that reads."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = toy_model(AutoConfig.for_model(kind, **{**SHAPE, "tie_word_embeddings": False, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    toy_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<|im_start|>", "eos_token": "<|pad|>", "tokenizer_class": "TokenizersBackend"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, torch.Tensor]]:
    """A written model of each family, and what it says at the end of a row that is long enough for its scaling."""
    folders, said = {}, {}
    for name, (kind, changes) in FAMILIES.items():
        room = tmp_path_factory.mktemp(name)
        decoder = load(base_folder(room / "base", kind, **changes), torch.float32, CPU)
        with torch.no_grad():
            said[name] = decoder.head.logits(run(decoder, [IDS]))[-3:]
        folders[name] = room / "out"
        folders[name].mkdir()
        write_model(decoder.model, folders[name], room / "base", torch.float32)
    return folders, said


@pytest.mark.real
@pytest.mark.xdist_group("readers")
@pytest.mark.parametrize("reader", READERS)
def test_an_exported_model_says_the_same_to_every_reader(
    reader: str, exports: tuple[dict[str, Path], dict[str, torch.Tensor]]
) -> None:
    folders, ours = exports
    theirs = read_by(reader, LOGITS, folders=folders, ids=IDS.tolist())
    gaps = {name: float((torch.tensor(theirs[name]) - ours[name]).norm() / ours[name].norm()) for name in FAMILIES}
    assert all(gap < 1e-4 for gap in gaps.values()), gaps


@pytest.mark.parametrize("kind", ["gemma3_text", "olmo3", "lfm3", "laguna", "modernbert-decoder", "mellum", "qwen2"])
def test_a_config_in_both_spellings_says_what_it_said_in_one(kind: str) -> None:
    """Where layers differ in their rotary numbers, the old names must not be taken for the numbers of all layers."""
    values = {name: one for name, one in small_config(kind).to_dict().items() if not name.startswith("_")}
    scaled = values["rope_parameters"].get("full_attention", values["rope_parameters"])
    scaled |= {"rope_type": "linear", "factor": 4.0, "rope_theta": 4321.0}
    once = AutoConfig.for_model(kind, **_described(values)).to_dict()
    again = AutoConfig.for_model(kind, **_described(both_spellings(once))).to_dict()
    assert _rotary(again["rope_parameters"]) == _rotary(once["rope_parameters"])


def _described(values: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy({name: one for name, one in values.items() if name != "model_type"})


def _rotary(values: Any) -> Any:
    """Without the old name of `rope_type`, which does not matter beside it."""
    return (
        {name: _rotary(one) for name, one in values.items() if name != "type"} if isinstance(values, dict) else values
    )


ADAPTED = """
import peft
model = peft.AutoPeftModelForCausalLM.from_pretrained(asked["adapter"])
with torch.no_grad():
    logits = model(input_ids=torch.tensor([asked["ids"]]), use_cache=False).logits[0, -3:].float()
print(json.dumps([peft.__version__, logits.tolist()]))
"""


@pytest.mark.real
@pytest.mark.xdist_group("readers")
@pytest.mark.parametrize("reader", READERS)
def test_an_adapter_finds_its_base_and_says_the_same_to_every_reader(tmp_path: Path, reader: str) -> None:
    decoder = tuned(tmp_path)
    documents = {CONFIG: adapter_config(decoder.model, str(tmp_path / "base"))}
    checkpoint.write_folder(
        tmp_path / "with", {WEIGHTS: adapter_tensors(decoder.model)}, documents,
        more=lambda folder: write_chat_files(folder, tmp_path / "model"),
    )  # fmt: skip
    base = load(tmp_path / "model", torch.float32, CPU)
    (tmp_path / "base").mkdir()
    write_model(base.model, tmp_path / "base", tmp_path / "model", torch.float32)  # both spellings in the base, too
    attached = load(tmp_path / "base", torch.float32, CPU)
    attach(attached, tmp_path / "with")
    with torch.no_grad():
        ours = attached.head.logits(run(attached, [IDS]))[-3:]
    version, theirs = read_by(reader, ADAPTED, adapter=tmp_path / "with", ids=IDS.tolist())
    assert (version == "0.18.0") == (reader == "old")
    torch.testing.assert_close(torch.tensor(theirs), ours, rtol=1e-4, atol=1e-4)


SPOKEN = """
said = {}
for name, folder in asked["folders"].items():
    speak = pipeline("text-generation", model=folder, device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(asked["turns"], add_generation_prompt=True, tokenize=False)
    ids = tokenizer(ids, add_special_tokens=False, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(folder)
    written = model.generate(**ids, max_new_tokens=9, do_sample=False)
    spoken = speak(asked["turns"], max_new_tokens=9, do_sample=False, return_full_text=False)
    said[name] = {
        "generated": written.shape[1] - ids["input_ids"].shape[1], "spoken": spoken[0]["generated_text"],
        "prompt": ids["input_ids"][0].tolist(), "eos": tokenizer.eos_token, "config": model.config.eos_token_id,
        "class": type(tokenizer).__name__,
    }
print(json.dumps(said))
"""


def closing(folder: Path, template: str | None, end: int) -> Path:
    """A base model that ends every text at once with the token `end`, and whose config knows another end: 0."""
    base_folder(folder, template=template, eos_token_id=0)
    decoder = load(folder, torch.float32, CPU)
    with torch.no_grad():
        parameters = dict(decoder.model.named_parameters())
        for name in ("lm_head.weight", "model.norm.weight"):
            parameters[name].zero_()
        parameters["model.embed_tokens.weight"][:, 0] = 100.0
        parameters["model.norm.weight"][0] = parameters["lm_head.weight"][end, 0] = 1.0
    decoder.model.set_attn_implementation("eager")
    decoder.model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, Path]]:
    """Models that end their turns: written whole and merged, with a template in every place where one can be."""
    room = tmp_path_factory.mktemp("spoken")
    bases = {"jinja": closing(room / "jinja", TEMPLATE, 2), "plain": closing(room / "plain", None, 0)}
    bases["json"] = closing(room / "json", None, 2)
    (bases["json"] / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}), encoding="utf-8")
    bases["settings"] = closing(room / "settings", None, 2)
    path = bases["settings"] / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}), encoding="utf-8")
    folders = {}
    for name, base in bases.items():
        folders[name] = room / f"{name}-out"
        folders[name].mkdir()
        write_model(load(base, torch.float32, CPU).model, folders[name], base, torch.float32)
    tuned(room / "other")
    write_chat_files(room / "other" / "adapter", bases["json"])  # as a run leaves it beside the adapter
    folders["merged"] = room / "merged"
    bases["merged"] = bases["json"]
    merge_adapter(bases["jinja"], room / "other" / "adapter", folders["merged"], torch.float32)
    return bases, folders


@pytest.mark.real
@pytest.mark.xdist_group("readers")
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_stops_where_the_turn_ends_and_asks_as_it_was_trained(
    reader: str, spoken: tuple[dict[str, Path], dict[str, Path]]
) -> None:
    bases, folders = spoken
    turns = [{"role": "user", "content": "hello"}]
    said = read_by(reader, SPOKEN, folders=folders, turns=turns)
    for name, one in said.items():
        trained = ChatTokenizer.from_folder(bases[name])
        assert one["prompt"] == trained.encode_prompt([Turn("user", "hello")]), name
        assert one["class"].startswith("PreTrainedTokenizerFast") or reader == "new", name
        if name == "plain":
            assert one["config"] == 0 and one["eos"] == "<|pad|>"
        else:
            assert one["config"] == [2, 0] and one["eos"] == "<|im_end|>", name
        if name != "merged":  # whose weights are another model's
            assert one["generated"] == 1, name
    generation = json.loads((folders["merged"] / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, 0]


def test_the_template_that_stood_in_for_none_is_in_the_export(spoken: tuple[dict[str, Path], dict[str, Path]]) -> None:
    assert (spoken[1]["plain"] / "chat_template.jinja").read_text(encoding="utf-8") == PLAIN
    assert not (spoken[1]["settings"] / "chat_template.jinja").exists()  # it stands where readers look for it


def test_a_template_that_names_the_end_token_keeps_it(tmp_path: Path) -> None:
    template = TEMPLATE.replace("<|im_end|>\n", "<|im_end|>{{ eos_token }}\n")
    base = base_folder(tmp_path / "base", template=template, eos_token_id=0)
    (tmp_path / "out").mkdir()
    write_model(load(base, torch.float32, CPU).model, tmp_path / "out", base, torch.float32)
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|pad|>"
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [2, 0]


def test_what_only_the_loading_needed_is_no_part_of_a_tokenizer() -> None:
    settings = {"tokenizer_class": "TokenizersBackend", "local_files_only": True, "extra_special_tokens": ["<a>"],
                "is_local": True, "backend": "tokenizers", "eos_token": "</s>"}  # fmt: skip
    assert plain_tokenizer(settings) == {
        "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<a>"], "eos_token": "</s>",
        "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    kept = {"tokenizer_class": "GemmaTokenizer", "extra_special_tokens": {"image_token": "<i>"}}
    assert plain_tokenizer(kept) == kept
