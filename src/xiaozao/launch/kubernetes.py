"""Kubernetes: a TrainJob of Kubeflow Trainer v2, on its runtime `torch-distributed`.

That runtime hands torchrun its machines, processes and meeting point through variables (PET_NNODES and others), so
the command has none of them. Source: https://www.kubeflow.org/docs/components/trainer/
"""

from typing import Any

import yaml

from xiaozao.launch.job import Job

IMAGE = "registry.example.com/xiaozao:latest"
CLAIM, MOUNT = "xiaozao", "/workspace"
HEAD = """\
# Change: the image, which holds Xiaozao; the claim and its mount path, where output and data lie.
"""


def trainjob(job: Job) -> str:
    """The job as a TrainJob in YAML."""
    trainer: dict[str, Any] = {
        "image": IMAGE,
        "numNodes": job.nodes,
        "numProcPerNode": job.devices,
        "command": ["torchrun", "--max-restarts=0", *job.words],
    }
    if job.gpu:
        trainer["resourcesPerNode"] = {"limits": {"nvidia.com/gpu": job.devices}}
    else:
        trainer["resourcesPerNode"] = {"requests": {"cpu": job.devices}}
    mounts = [{"name": "storage", "mountPath": MOUNT}]
    volumes = [{"name": "storage", "persistentVolumeClaim": {"claimName": CLAIM}}]
    document = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": job.label},
        "spec": {
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": trainer,
            "podTemplateOverrides": [
                {
                    "targetJobs": [{"name": "node"}],
                    "spec": {"containers": [{"name": "node", "volumeMounts": mounts}], "volumes": volumes},
                }
            ],
        },
    }
    return HEAD + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
