"""Slurm: a script for sbatch. One torchrun per machine, which meet at the first machine of the job.

Source: https://pytorch.org/docs/stable/elastic/run.html and sbatch(1).
"""

from xiaozao.launch.job import PORT, Job, quoted


def script(job: Job) -> str:
    """The job as an sbatch script.

    Settings that differ between clusters (partition, account, hours) are comments to fill in.
    """
    cpus = "##SBATCH --cpus-per-task=NUMBER"
    each = f"--gpus-per-node={job.devices}\n{cpus}" if job.gpu else f"--cpus-per-task={job.devices}"
    return f"""#!/usr/bin/env bash
#SBATCH --job-name={job.label}
#SBATCH --nodes={job.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH {each}
#SBATCH --output={job.label}-%j.log
##SBATCH --partition=NAME
##SBATCH --account=NAME
##SBATCH --time=24:00:00
set -euo pipefail

# source /path/to/venv/bin/activate
# srun does not take over sbatch's --cpus-per-task by itself.
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes={job.nodes} --nproc-per-node={job.devices} --max-restarts=0 \\
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head:{PORT}" \\
    {quoted(job.words)}
"""
