"""One run of TRL's SFTTrainer, in TRL's own environment: `python run_trl.py TASK.json`.

Reads a task (rig/task.py), trains on its tokens in their order, saves, and writes what the Trainer says of itself.
Everything that the task does not name is TRL's default.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer


def rows_of(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The samples, after a look that this tool's own tokenizer renders the same ids."""
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    lines = Path(task["tokens"]).read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for row in rows:
        if row["messages"]:
            text = str(tokenizer.apply_chat_template(row["messages"], tokenize=False))
            assert tokenizer.encode(text, add_special_tokens=False) == row["input_ids"], (
                "this tokenizer renders the row differently"
            )
    return rows


def config_of(task: dict[str, Any]) -> SFTConfig:
    """The task in TRL's words."""
    narrow = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[task["precision"]]
    start: dict[str, Any] = {"dtype": narrow if task["method"] == "lora" else torch.float32}
    if task["base"] == "nf4":
        start["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=narrow,
        )  # fmt: skip
    return SFTConfig(
        output_dir=task["output"], model_init_kwargs=start, max_length=task["length"],
        per_device_train_batch_size=task["micro_batch"],
        gradient_accumulation_steps=task["batch"] // task["micro_batch"],
        num_train_epochs=task["epochs"], learning_rate=task["learning_rate"], lr_scheduler_type=task["schedule"],
        warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0, optim=task["optimizer"],
        bf16=task["precision"] == "bf16", fp16=task["precision"] == "fp16",
        gradient_checkpointing=task["checkpointing"],
        use_cpu=task["device"] == "cpu", train_sampling_strategy="sequential", seed=task["seed"],
        logging_steps=1, save_strategy="no", report_to="none",
    )  # fmt: skip


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    rows = rows_of(task)
    dataset = Dataset.from_list([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])
    lora = LoraConfig(
        r=task["rank"], lora_alpha=task["alpha"], lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer = SFTTrainer(
        model=task["model"], args=config_of(task), train_dataset=dataset,
        peft_config=lora if task["method"] == "lora" else None,
    )  # fmt: skip
    begun = time.perf_counter()
    done = trainer.train()
    seconds = time.perf_counter() - begun
    trainer.save_model(task["output"])
    seen = [sum(one != -100 for one in row["labels"]) for row in trainer.train_dataset]
    result = {
        "seconds": done.metrics["train_runtime"],
        "outer_seconds": seconds,
        "losses": [one["loss"] for one in trainer.state.log_history if "loss" in one],
        "targets": sum(seen),
        "tokens": sum(len(row["input_ids"]) for row in trainer.train_dataset),
        "trainable": sum(one.numel() for one in trainer.model.parameters() if one.requires_grad),
        "cuda_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "cuda_reserved_bytes": torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0,
    }
    Path(task["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
