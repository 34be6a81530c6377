"""One run of LLaMA-Factory, in its own environment: `python run_llamafactory.py TASK.json`.

Reads a task (rig/task.py), hands its tokens over through `tokenized_path`, and runs `run_exp` with the options that
`llamafactory-cli train` would read from YAML. Everything that the task does not name is LLaMA-Factory's default.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from llamafactory.train.tuner import run_exp
from transformers import AutoTokenizer, TrainerCallback


class Watch(TrainerCallback):
    """Keeps the losses and the number of trained parameters."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.trainable = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.trainable = sum(one.numel() for one in model.parameters() if one.requires_grad)


def write_tokens(task: dict[str, Any]) -> tuple[str, Dataset]:
    """The samples as LLaMA-Factory keeps tokenised data, after a look that its tokenizer renders the same ids."""
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    lines = Path(task["tokens"]).read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for row in rows:
        if row["messages"]:
            text = str(tokenizer.apply_chat_template(row["messages"], tokenize=False))
            assert tokenizer.encode(text, add_special_tokens=False) == row["input_ids"], (
                "this tokenizer renders the row differently"
            )
    columns = ("input_ids", "attention_mask", "labels")
    data = Dataset.from_list(
        [dict(zip(columns, (row["input_ids"], [1] * len(row["labels"]), row["labels"]), strict=True)) for row in rows]
    )
    folder = str(Path(task["output"]).with_suffix(".tokens"))
    DatasetDict({"train": data}).save_to_disk(folder)
    return folder, data


def options_of(task: dict[str, Any], tokens: str) -> dict[str, Any]:
    """The task in LLaMA-Factory's words."""
    options: dict[str, Any] = {
        "stage": "sft", "do_train": True, "model_name_or_path": task["model"], "tokenized_path": tokens,
        "dataset": "given_as_tokens",  # asked for, then ignored in favour of tokenized_path
        "template": "smollm2", "cutoff_len": task["length"], "finetuning_type": task["method"],
        "output_dir": task["output"], "overwrite_output_dir": True,
        "per_device_train_batch_size": task["micro_batch"],
        "gradient_accumulation_steps": task["batch"] // task["micro_batch"],
        "num_train_epochs": task["epochs"], "learning_rate": task["learning_rate"],
        "lr_scheduler_type": task["schedule"], "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0,
        "optim": task["optimizer"], "bf16": task["precision"] == "bf16", "fp16": task["precision"] == "fp16",
        "use_cpu": task["device"] == "cpu", "disable_gradient_checkpointing": not task["checkpointing"],
        "disable_shuffling": True, "seed": task["seed"], "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "trust_remote_code": False,
    }  # fmt: skip
    if task["method"] == "lora":
        options |= {"lora_rank": task["rank"], "lora_alpha": task["alpha"], "lora_dropout": 0.0, "lora_target": "all"}
    if task["base"] == "nf4":
        options |= {"quantization_bit": 4, "quantization_method": "bnb", "quantization_type": "nf4"}
    return options


def in_precision(model: Path, precision: str, beside: Path) -> Path:
    """The model folder, saying of itself that it is fp32 where that is asked for: LLaMA-Factory loads what it says.

    Else it would compute in bf16 on a processor that has no products in bf16.
    """
    if precision != "fp32":
        return model
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for file in model.iterdir():
        (beside / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (beside / "config.json").unlink()
    (beside / "config.json").write_text(json.dumps({**config, "dtype": "float32"}), encoding="utf-8")
    return beside


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    beside = Path(task["output"]).with_suffix(".model")
    task["model"] = str(in_precision(Path(task["model"]), task["precision"], beside))
    torch.set_num_threads(task["threads"])
    folder, data = write_tokens(task)
    watch = Watch()
    run_exp(options_of(task, folder), [watch])
    told = json.loads((Path(task["output"]) / "train_results.json").read_text(encoding="utf-8"))
    result = {
        "seconds": told["train_runtime"],
        "losses": watch.losses,
        "targets": sum(one != -100 for row in data["labels"] for one in row),
        "tokens": sum(len(row) for row in data["input_ids"]),
        "trainable": watch.trainable,
        "cuda_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "cuda_reserved_bytes": torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0,
    }
    Path(task["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
