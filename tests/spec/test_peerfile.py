"""Whole files of other tools, in the form that their documentation shows."""

import json
from pathlib import Path

import pytest

from xiaozao.errors import NotFound, UsageError
from xiaozao.spec.peerfile import read_peer_file, translate
from xiaozao.spec.run import RunSpec
from xiaozao.spec.yamlfile import read_yaml
from xiaozao.texts.catalogue import LANGUAGES

LLAMA_FACTORY = """
### model
model_name_or_path: Qwen/Qwen3-0.6B
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: identity,alpaca_en_demo
template: qwen3
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16

### output
output_dir: saves/qwen3/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
report_to: none

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
"""
AXOLOTL = """
base_model: NousResearch/Llama-3.2-1B
load_in_8bit: false
load_in_4bit: true
datasets:
  - path: mine.jsonl
    type: alpaca
val_set_size: 0.1
output_dir: ./outputs/qlora-out
adapter: qlora
lora_model_dir:
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
wandb_project:
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
tf32: false
gradient_checkpointing: true
flash_attention: true
warmup_steps: 10
evals_per_epoch: 4
weight_decay: 0.0
special_tokens:
   pad_token: "<|end_of_text|>"
"""
TRL = """
model_name_or_path: Qwen/Qwen2-0.5B
dataset_name: pairs.jsonl
learning_rate: 2.0e-5
max_steps: 200
packing: true
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
eos_token: <|im_end|>
use_peft: true
lora_r: 32
lora_alpha: 16
push_to_hub: true
"""
SWIFT = """
model: Qwen/Qwen2.5-7B-Instruct
train_type: lora
dataset: a.jsonl
torch_dtype: bfloat16
num_train_epochs: 1
per_device_train_batch_size: 1
learning_rate: 1e-4
lora_rank: 8
lora_alpha: 32
target_modules: all-linear
gradient_accumulation_steps: 16
eval_steps: 50
save_steps: 50
save_total_limit: 2
max_length: 2048
output_dir: output
system: You are a helpful assistant.
warmup_ratio: 0.05
dataloader_num_workers: 4
"""
FILES = {
    "llama-factory": (LLAMA_FACTORY, {
        "model": "Qwen/Qwen3-0.6B", "objective": "sft", "method": "lora", "rank": 8, "targets": "all-linear",
        "length": 2048, "rows": 1000, "output": "saves/qwen3/lora/sft", "save_every": 500, "batch": 8,
        "learning_rate": 1e-4, "epochs": 3.0, "schedule": "cosine", "warmup": 0.1, "precision": "bf16",
        "data": "data/identity.json,data/alpaca_en_demo.json",
    }),
    "axolotl": (AXOLOTL, {
        "model": "NousResearch/Llama-3.2-1B", "base": "nf4", "data": "mine.jsonl", "validation": 0.1,
        "output": "./outputs/qlora-out", "method": "lora", "length": 4096, "rank": 32, "alpha": 16,
        "targets": "all-linear", "batch": 8, "epochs": 4, "optimizer": "adamw8bit", "schedule": "cosine",
        "learning_rate": 0.0002, "checkpointing": "block", "warmup": 10, "weight_decay": 0.0,
    }),
    "trl": (TRL, {
        "model": "Qwen/Qwen2-0.5B", "data": "pairs.jsonl", "learning_rate": 2e-5, "steps": 200, "batch": 16,
        "method": "lora", "rank": 32, "alpha": 16,
    }),
    "swift": (SWIFT, {
        "model": "Qwen/Qwen2.5-7B-Instruct", "method": "lora", "data": "a.jsonl", "precision": "bf16", "epochs": 1,
        "batch": 16, "learning_rate": 1e-4, "rank": 8, "alpha": 32, "targets": "all-linear", "eval_every": 50,
        "save_every": 50, "keep": 2, "length": 2048, "output": "output", "system": "You are a helpful assistant.",
        "warmup": 0.05,
    }),
}  # fmt: skip


@pytest.mark.parametrize("tool", FILES)
def test_a_file_of_another_tool_becomes_options_and_every_line_is_accounted_for(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, options = FILES[tool]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    named = {name: {"file_name": f"{name}.json"} for name in ("identity", "alpaca_en_demo")}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(named), encoding="utf-8")
    (tmp_path / "theirs.yaml").write_text(text, encoding="utf-8")
    found = read_peer_file(tmp_path / "theirs.yaml")
    assert found.options == options
    assert len(found.taken) + len(found.left) == len(read_yaml(text, "theirs"))
    RunSpec.from_options(found.options)
    for language in LANGUAGES:
        assert all(problem.text(language) for problem in found.left)


def test_a_name_of_a_data_set_that_stands_for_no_file_is_left_out_and_told() -> None:
    found = translate({"dataset": "identity", "lora_rank": 8})
    assert found.options == {"rank": 8}
    assert [one.key for one in found.left] == ["peer_dataset_name"]


def test_two_lines_that_contradict_each_other_are_not_merged_in_silence() -> None:
    found = translate({"cutoff_len": 512, "max_seq_length": 1024})
    assert found.options == {"length": 512}
    assert "cutoff_len" in found.left[0].text() and "length=1024" in found.left[0].text()


def test_what_nobody_knows_is_listed() -> None:
    assert [one.key for one in translate({"foo": 1}).left] == ["peer_unknown"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: *x\n", "{"])
def test_a_file_that_is_no_configuration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError):
        read_peer_file(tmp_path / "x.yaml")
    with pytest.raises(NotFound):
        read_peer_file(tmp_path / "y.yaml")
