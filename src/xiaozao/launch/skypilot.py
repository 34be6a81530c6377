"""SkyPilot: a task file. Its variables name the machines of the task, of which the first is where all meet.

Source: https://docs.skypilot.co/en/latest/running-jobs/distributed-jobs.html
"""

from typing import Any

import yaml

from xiaozao.launch.job import PORT, Job, quoted

GPU = "L4"
BUCKET, MOUNT = "xiaozao-runs", "/workspace"
HEAD = """\
# Change: the kind of GPU; the bucket and its mount path, where output and data lie; how Xiaozao is installed.
"""


def task(job: Job) -> str:
    """The job as a SkyPilot task in YAML."""
    run = f"""\
head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
torchrun --nnodes={job.nodes} --nproc-per-node={job.devices} --max-restarts=0 --node-rank="$SKYPILOT_NODE_RANK" \\
    --master-addr="$head" --master-port={PORT} \\
    {quoted(job.words)}
"""
    resources: dict[str, Any] = {"accelerators": f"{GPU}:{job.devices}"} if job.gpu else {"cpus": f"{job.devices}+"}
    document = {
        "name": job.label,
        "num_nodes": job.nodes,
        "resources": resources,
        "file_mounts": {MOUNT: {"name": BUCKET, "mode": "MOUNT"}},
        "setup": "pip install xiaozao\n",
        "run": run,
    }
    return HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Scripts stand as blocks, so that they can be read and changed."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
