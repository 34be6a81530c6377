"""LLaMA-Factory's preparation of a file, timed, in its environment: `... FILE MODEL LENGTH CORES FOLDER`."""

import json
import sys
import time
from pathlib import Path

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer


def main() -> None:
    file, model, length, cores, folder = sys.argv[1:]
    (Path(folder) / "dataset_info.json").write_text(
        json.dumps({"given": {
            "file_name": file, "formatting": "sharegpt", "columns": {"messages": "messages"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                     "system_tag": "system"},
        }}),
        encoding="utf-8",
    )  # fmt: skip
    model_args, data_args, training_args, _, _ = get_train_args({
        "stage": "sft", "do_train": True, "model_name_or_path": model, "dataset": "given", "dataset_dir": folder,
        "template": "smollm2", "cutoff_len": int(length), "finetuning_type": "lora", "output_dir": f"{folder}/lf",
        "overwrite_output_dir": True, "overwrite_cache": True, "preprocessing_num_workers": int(cores),
        "use_cpu": True, "report_to": "none",
    })  # fmt: skip
    tools = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tools["tokenizer"], data_args)
    begun = time.perf_counter()
    module = get_dataset(template, model_args, data_args, training_args, stage="sft", **tools)
    seconds = time.perf_counter() - begun
    tokens = sum(len(row["input_ids"]) for row in module["train_dataset"])
    told = {"seconds": seconds, "tokens": tokens}
    (Path(folder) / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
