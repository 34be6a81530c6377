"""lm-eval's verdicts on files of choices, in its own environment: `python run_lmeval.py MODEL FOLDER BATCH NAME...`.

FOLDER/NAME.jsonl holds rows of question, choices and answer. FOLDER/lmeval.json gets, for each name, the processor's
seconds of the evaluation (without imports and loading) and whether each item is right by `acc_norm`.
"""

import json
import sys
import time
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
"""


def main() -> None:
    model, folder, batch, *names = sys.argv[1:]
    tasks = Path(folder) / "tasks"
    tasks.mkdir(exist_ok=True)
    for name in names:
        text = TASK.format(name=name, file=Path(folder, f"{name}.jsonl").absolute())
        (tasks / f"{name}.yaml").write_text(text, encoding="utf-8")
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
    lm = HFLM(pretrained=loaded, tokenizer=AutoTokenizer.from_pretrained(model), batch_size=int(batch), device="cpu")
    told = {}
    for name in names:
        begun = time.process_time()
        done = simple_evaluate(model=lm, tasks=[name], task_manager=manager, log_samples=True, bootstrap_iters=0)
        seconds = time.process_time() - begun
        samples = sorted(done["samples"][name], key=lambda one: one["doc_id"])
        told[name] = {"seconds": seconds, "right": [int(one["acc_norm"]) for one in samples]}
    Path(folder, "lmeval.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
