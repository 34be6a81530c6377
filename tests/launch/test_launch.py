"""Job files: what a cluster reads in them, and that every value survives its quoting."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from xiaozao.launch.job import Job, written
from xiaozao.launch.kubernetes import trainjob
from xiaozao.launch.skypilot import task
from xiaozao.launch.slurm import script
from xiaozao.launch.targets import TARGETS
from xiaozao.spec.run import RunSpec, read_options

OPTIONS: dict[str, object] = {
    "model": "org/m", "data": "/shared/it's a file.jsonl", "targets": ("q_proj", "v_proj"), "rank": 8,
    "system": 'Be kind; $(reboot) `x` "quoted"\nand brief', "fused_update": False, "patience": None, "revision": "123",
}  # fmt: skip
JOB = Job("My Run 1", "/shared/my run", OPTIONS, nodes=2, devices=8)
WORDS = ["-m", "xiaozao.worker.main", "/shared/my run"]


def same(words: list[str]) -> bool:
    """Whether the worker that is started with these words would read the job's options."""
    spec = RunSpec.from_options(read_options(words))
    return {name: spec.options()[name] for name in OPTIONS} == OPTIONS


def torchrun(text: str) -> list[str]:
    """The words of the torchrun line of a shell script, as the shell reads them."""
    start = text.index("torchrun ")
    return shlex.split(text[start:])


def test_the_slurm_script_asks_for_machines_and_meets_at_the_first(tmp_path: Path) -> None:
    text = script(JOB)
    for line in ("--job-name=my-run-1", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=8"):
        assert f"#SBATCH {line}\n" in text
    assert text.index("export SRUN_CPUS_PER_TASK=") < text.index("srun torchrun")  # else a task gets one core
    words = torchrun(text)
    for word in ("--nnodes=2", "--nproc-per-node=8", "--rdzv-backend=c10d", "--max-restarts=0",
                 "--rdzv-endpoint=$head:29500", "--rdzv-id=$SLURM_JOB_ID"):  # fmt: skip
        assert word in words
    place = words.index("-m")
    assert words[place : place + 3] == WORDS
    assert same(words[place + 3 :])
    file = tmp_path / "job.sbatch"
    file.write_text(text, encoding="utf-8")
    if bash := shutil.which("bash"):
        assert subprocess.run([bash, "-n", str(file)], capture_output=True, check=False).returncode == 0


def test_the_paths_of_a_script_are_quoted_exactly() -> None:
    job = Job("r", "/data/a b/r", {"data": "/d/x y.jsonl", "model": "m"})
    assert script(job).splitlines()[-1] == "    -m xiaozao.worker.main '/data/a b/r' 'data=/d/x y.jsonl' model=m"


def test_the_trainjob_holds_machines_processes_command_and_storage() -> None:
    document = yaml.safe_load(trainjob(JOB))
    assert (document["apiVersion"], document["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert document["metadata"]["name"] == "my-run-1"
    trainer = document["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    assert trainer["resourcesPerNode"] == {"limits": {"nvidia.com/gpu": 8}}
    assert trainer["command"][:5] == ["torchrun", "--max-restarts=0", *WORDS]
    assert same(trainer["command"][5:])
    assert document["spec"]["runtimeRef"] == {"name": "torch-distributed"}
    (override,) = document["spec"]["podTemplateOverrides"]
    (container,) = override["spec"]["containers"]
    assert container["volumeMounts"][0]["name"] == override["spec"]["volumes"][0]["name"]


def test_the_task_holds_machines_accelerators_and_a_script() -> None:
    document = yaml.safe_load(task(JOB))
    assert (document["name"], document["num_nodes"]) == ("my-run-1", 2)
    assert document["resources"] == {"accelerators": "L4:8"}
    words = torchrun(document["run"])
    for word in ("--nnodes=2", "--nproc-per-node=8", "--node-rank=$SKYPILOT_NODE_RANK", "--master-addr=$head"):
        assert word in words
    place = words.index("-m")
    assert words[place : place + 3] == WORDS
    assert same(words[place + 3 :])


@pytest.mark.parametrize("target", TARGETS)
def test_a_job_on_cpus_asks_for_no_gpu(target: str) -> None:
    text = TARGETS[target].write(Job("r", "/r", {"model": "m", "data": "d"}, 1, 4, gpu=False))
    assert "gpu" not in text.partition("\n")[2].lower().replace("change: the kind of gpu", "")
    assert "cpu" in text


@pytest.mark.parametrize(
    ("name", "label"), [("My Run 1", "my-run-1"), ("7b", "run-7b"), ("运行", "run"), ("a" * 80, "a" * 50)]
)
def test_a_label_is_one_that_every_scheduler_takes(name: str, label: str) -> None:
    assert Job(name, "/r", {}).label == label


@pytest.mark.parametrize(
    "value", ["123", "null", "true", "a: b", "# x", "it's", "1e3", " a ", "a\nb", "[x", "{}", "中"]
)
def test_text_that_looks_like_something_else_comes_back_as_text(value: str) -> None:
    assert read_options([f"system={written(value)}"])["system"] == value
