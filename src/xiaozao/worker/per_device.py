"""Starts one worker per device of this machine and ends them together: `python -m xiaozao.worker.per_device RUN COUNT`.

That is torchrun, through its own interface instead of its command line, because of two things that has not: -P for the
workers, and the exit code of the one that failed first. None is started a second time: the run is resumed instead.
"""

import sys
import tempfile
import uuid

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from xiaozao.runs.launch import MODULE

HERE = "localhost"


def main(arguments: list[str]) -> int:
    """Run the workers to their end. The exit code is 0, or that of the first that failed; 128 + a signal's number."""
    folder, count = arguments[0], int(arguments[1])
    with tempfile.TemporaryDirectory() as logs:  # torchrun wants a place; what is printed goes where ours goes
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
            rdzv_endpoint=f"{HERE}:0", local_addr=HERE, max_restarts=0, monitor_interval=0.2,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-P", "-m", MODULE, folder)
        except ChildFailedError as error:
            code = error.get_first_failure()[1].exitcode
            return code if code >= 0 else 128 - code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
