"""TRL's preparation of a file, timed, in TRL's environment: `python prepare_trl.py FILE MODEL LENGTH CORES FOLDER`.

A trainer is made twice: with a single row, which takes what the model takes, and with the file; the difference counts.
The model is a random one of one small layer with the real tokenizer.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main() -> None:
    file, model, length, cores, folder = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    config = SFTConfig(
        output_dir=f"{folder}/trl", max_length=int(length), dataset_num_proc=int(cores), report_to="none",
        use_cpu=True, bf16=False,
    )  # fmt: skip
    small = AutoConfig.from_pretrained(model)
    small.num_hidden_layers, small.hidden_size, small.intermediate_size = 1, 48, 64
    small.num_attention_heads, small.num_key_value_heads, small.head_dim = 3, 3, 16

    def timed(data: Dataset) -> tuple[float, Any]:
        begun = time.perf_counter()
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_config(small), args=config, train_dataset=data, processing_class=tokenizer
        )
        return time.perf_counter() - begun, trainer

    alone, _ = timed(Dataset.from_list(rows[:1]))
    begun = time.perf_counter()
    data = Dataset.from_list(rows)
    loading = time.perf_counter() - begun
    whole, trainer = timed(data)
    tokens = sum(len(row["input_ids"]) for row in trainer.train_dataset)
    told = {"seconds": whole - alone + loading, "tokens": tokens}
    (Path(folder) / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
