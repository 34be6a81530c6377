"""Kill a run at random moments, resume it with one command, and compare the final weights bit by bit.

    python -m bench.kills --kills 20

A toy model is trained once without interruption. Then, for each kill: a new run of the same spec, SIGKILL to its
worker at a random moment (every third one while a checkpoint is being written), `zao train --resume RUN`, and the
SHA-256 of the adapter against the uninterrupted run's.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.toy import toy_folder, write_chats
from xiaozao.runs.launch import launch
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import read_records
from xiaozao.store.lock import holder


@dataclass(frozen=True)
class Kitchen:
    """Where the toy and its runs lie."""

    folder: Path

    def run(self, name: str) -> RunFolder:
        """A fresh run folder with the one spec that all runs share."""
        folder = RunFolder(self.folder / name)
        folder.path.mkdir()
        spec = RunSpec.from_options(
            {
                "model": str(self.folder / "model"), "data": str(self.folder / "data.jsonl"), "validation": 0.1,
                "rank": 4, "epochs": 6, "batch": 8, "micro_batch": 4, "learning_rate": 1e-3, "length": 128,
                "save_every": 2, "eval_every": 10, "threads": 1, "precision": "fp32", "output": str(folder.path),
            }
        )  # fmt: skip
        folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
        return folder

    def digest(self, folder: RunFolder) -> str:
        """The SHA-256 of the adapter's weights."""
        return hashlib.sha256((folder.adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


def steps(folder: RunFolder) -> int:
    """How many Step records the journal holds."""
    return sum(record.get("type") == "step" for record in read_records(folder.events)[0])


def kill_once(folder: RunFolder, draw: random.Random, in_save: bool) -> str:
    """Start the run, let it get somewhere, kill it. Returns where it was hit."""
    process = launch(folder)
    wanted = draw.randrange(1, 90)
    while process.poll() is None and steps(folder) < wanted:
        time.sleep(0.002)
    if in_save:
        while process.poll() is None and not any(folder.checkpoints.glob(".*")):
            time.sleep(0.0002)
        where = "inside a save"
    else:
        time.sleep(draw.random() * 0.05)
        where = f"after step {steps(folder)}"
    process.kill()
    process.wait()
    assert holder(folder) is None
    return where


def resume(folder: RunFolder) -> int:
    """`zao train --resume RUN`, the one command."""
    command = [sys.executable, "-m", "xiaozao.cli", "train", "--resume", str(folder.path), "--format", "quiet"]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env={**os.environ}).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ZAO_HOME"] = str(Path(temporary) / "home")
        kitchen = Kitchen(Path(temporary))
        toy_folder(kitchen.folder / "model")
        write_chats(kitchen.folder / "data.jsonl", 160)
        whole = kitchen.run("whole")
        launch(whole).wait()
        expected = kitchen.digest(whole)
        same = 0
        for number in range(options.kills):
            folder = kitchen.run(f"killed-{number}")
            where = kill_once(folder, draw, in_save=number % 3 == 2)
            code = resume(folder)
            equal = code == 0 and kitchen.digest(folder) == expected
            same += equal
            sys.stdout.write(json.dumps({"kill": number, "where": where, "exit": code, "equal": equal}) + "\n")
            sys.stdout.flush()
        sys.stdout.write(json.dumps({"kills": options.kills, "equal": same, "sha256": expected}) + "\n")
    return 0 if same == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
