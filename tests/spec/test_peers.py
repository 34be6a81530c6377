"""Options of other tools: each is answered with ours and its value, or with what is done here instead."""

from typing import Any

import pytest

from xiaozao.errors import UsageError
from xiaozao.spec.fields import OPTIONS
from xiaozao.spec.peers import PEERS, told
from xiaozao.spec.run import RunSpec
from xiaozao.texts.catalogue import LANGUAGES, has

REQUIRED = {"model": "m", "data": "d.jsonl"}

# What people bring, and what is to be written in its place.
WRITTEN: list[tuple[dict[str, Any], str]] = [
    ({"lr": 1e-4}, "learning_rate=0.0001"),
    ({"max_steps": 100}, "steps=100"),
    ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}, "batch=16"),
    ({"micro_batch_size": 4, "gradient_accumulation_steps": 4, "num_gpus": 2}, "batch=32"),
    ({"per_device_train_batch_size": 3}, "batch=3"),
    ({"cutoff_len": 1024}, "length=1024"),
    ({"sequence_len": 4096}, "length=4096"),
    ({"max_seq_length": 512}, "length=512"),
    ({"lora_r": 8}, "rank=8"),
    ({"lora_alpha": 16}, "alpha=16"),
    ({"lora_target": "all"}, "targets=all-linear"),
    ({"lora_target_modules": ["q_proj", "v_proj"]}, "targets=q_proj,v_proj"),
    ({"num_train_epochs": 3.0}, "epochs=3.0"),
    ({"num_epochs": 4}, "epochs=4"),
    ({"n_epochs": 2}, "epochs=2"),
    ({"learning_rate_multiplier": 2}, "learning_rate=0.0004"),
    ({"load_in_4bit": True}, "base=nf4"),
    ({"load_in_8bit": "true"}, "base=int8"),
    ({"quantization_bit": 4}, "base=nf4"),
    ({"quantization_bit": "8"}, "base=int8"),
    ({"save_total_limit": 3}, "keep=3"),
    ({"bf16": True}, "precision=bf16"),
    ({"fp16": True}, "precision=fp16"),
    ({"torch_dtype": "bfloat16"}, "precision=bf16"),
    ({"warmup_ratio": 0.1}, "warmup=0.1"),
    ({"warmup_steps": 10}, "warmup=10"),
    ({"lr_scheduler_type": "linear"}, "schedule=linear"),
    ({"lr_scheduler_type": "constant_with_warmup"}, "schedule=constant"),
    ({"eval_steps": 50}, "eval_every=50"),
    ({"save_steps": 50}, "save_every=50"),
    ({"finetuning_type": "lora"}, "method=lora"),
    ({"finetuning_type": "full"}, "method=full"),
    ({"val_set_size": 0.05}, "validation=0.05"),
    ({"val_size": 0}, "validation=none"),
    ({"gradient_checkpointing": True}, "checkpointing=block"),
    ({"use_gradient_checkpointing": "unsloth"}, "checkpointing=block"),
    ({"use_rslora": True}, "adapter=rslora"),
    ({"use_dora": "yes"}, "adapter=dora"),
    ({"adapter": "qlora"}, "method=lora base=nf4"),
    ({"optim": "adamw_torch"}, "optimizer=adamw"),
    ({"optim": "paged_adamw_8bit"}, "optimizer=adamw8bit"),
    ({"optimizer": "adamw_bnb_8bit"}, "optimizer=adamw8bit"),
    ({"output_dir": "out"}, "output=out"),
    ({"model_name_or_path": "org/m"}, "model=org/m"),
    ({"base_model": "org/m"}, "model=org/m"),
    ({"dataset": "a.jsonl"}, "data=a.jsonl"),
    ({"datasets": [{"path": "a.jsonl", "type": "alpaca"}, {"path": "b.jsonl"}]}, "data=a.jsonl,b.jsonl"),
    ({"stage": "pt"}, "objective=pretrain"),
    ({"pref_beta": 0.2}, "beta=0.2"),
    ({"lora_modules_to_save": ["embed_tokens", "lm_head"]}, "also=embeddings,head"),
    ({"report_to": "wandb"}, "track=wandb"),
    ({"LORA-R": 8}, "rank=8"),
]
# What has no option here: a word of what is said instead.
INSTEAD: list[tuple[dict[str, Any], str]] = [
    ({"packing": True}, "always packed"),
    ({"sample_packing": False}, "always packed"),
    ({"lora_dropout": 0.05}, "patience="),
    ({"gradient_accumulation_steps": 8}, "batch=16 micro_batch=2"),
    ({"logging_steps": 10}, "journal"),
    ({"deepspeed": "zero3.json"}, "stream=disk"),
    ({"trust_remote_code": True}, "never run"),
    ({"lr_scheduler_type": "polynomial"}, "cosine, linear and constant"),
    ({"optim": "lion_8bit"}, "adafactor"),
    ({"n_epochs": "auto"}, "leave it out"),
    ({"use_dora": False}, "always so here"),
    ({"bf16": True, "fp16": True}, "bf16 is set as well"),
    ({"max_steps": 5, "num_train_epochs": 3}, "max_steps"),
    ({"template": "qwen"}, "model's own"),
    ({"load_in_4bit": "maybe"}, "load_in_4bit=maybe"),
    ({"save_total_limit": "many"}, "save_total_limit=many"),
    ({"stage": "ppo"}, "dpo, orpo, simpo"),
]


def _problems(given: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(UsageError) as caught:
        RunSpec.from_options({**REQUIRED, **given})
    return {str(one.params["name"]): one.text() for one in caught.value.problems}


@pytest.mark.parametrize(("given", "write"), WRITTEN, ids=[str(one) for one, _ in WRITTEN])
def test_an_option_of_another_tool_is_answered_with_ours(given: dict[str, Any], write: str) -> None:
    said = _problems(given)
    assert set(said) == set(given)
    for text in said.values():
        if "num_gpus" not in text:
            assert write in text and "did you mean" not in text


@pytest.mark.parametrize(("given", "words"), INSTEAD, ids=[str(one) for one, _ in INSTEAD])
def test_what_has_no_option_here_says_what_is_done_instead(given: dict[str, Any], words: str) -> None:
    assert any(words in text for text in _problems(given).values())


@pytest.mark.parametrize(("given", "write"), WRITTEN, ids=[str(one) for one, _ in WRITTEN])
def test_what_is_to_be_written_can_be_written(given: dict[str, Any], write: str) -> None:
    """The advice, followed to the letter."""
    ours = dict(word.split("=", 1) for word in write.split(" "))
    RunSpec.from_options({**REQUIRED, "batch": 64, "method": "lora", **_companions(ours), **ours})


def _companions(ours: dict[str, str]) -> dict[str, Any]:
    return {"objective": "dpo"} if "beta" in ours else {}


def test_a_missing_model_is_not_told_where_another_name_for_it_stands() -> None:
    with pytest.raises(UsageError) as caught:
        RunSpec.from_options({"model_name_or_path": "m", "data": "d.jsonl"})
    assert [one.key for one in caught.value.problems] == ["peer_is"]


def test_a_name_near_that_of_another_tool_is_answered_with_ours() -> None:
    assert "rank=8" in _problems({"lora_ranc": 8})["lora_ranc"]
    assert "did you mean steps?" in _problems({"stepz": 8})["stepz"]


ANYTHING: list[Any] = [True, False, "auto", None, "", 0, -1, 1e400, "x", "１", [], {}, [1], {"path": "a"}]


@pytest.mark.parametrize("name", PEERS)
def test_every_entry_takes_any_value_and_has_its_text_in_both_languages(name: str) -> None:
    for value in ANYTHING:
        found = told(name, value, {name: value})
        assert found is not None
        assert set(found.ours) <= set(OPTIONS)
        assert has(f"problem.peer_{found.text}")
        problems = []
        try:
            RunSpec.from_options({**REQUIRED, name: value})
        except UsageError as error:
            problems = [one.text(language) for language in LANGUAGES for one in error.problems]
        assert problems or name in OPTIONS
