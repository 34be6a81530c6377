"""The kinds of clusters that a job can be written for. We write files and schedule nothing."""

from xiaozao.launch.job import Target
from xiaozao.launch.kubernetes import trainjob
from xiaozao.launch.skypilot import task
from xiaozao.launch.slurm import script

TARGETS: dict[str, Target] = {
    "slurm": Target(script, ".sbatch", lambda file: ["sbatch", file]),
    "kubernetes": Target(trainjob, ".yaml", lambda file: ["kubectl", "apply", "-f", file]),
    "skypilot": Target(task, ".yaml", lambda file: ["sky", "launch", file]),
}
