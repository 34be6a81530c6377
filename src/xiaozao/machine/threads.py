"""The limit on the number of threads."""

from xiaozao.errors import UsageError
from xiaozao.machine.hardware import cores

TIMES, ALWAYS = 4, 32  # so many times the cores, and so many wherever a run may have begun


def check_threads(threads: int | None) -> None:
    """Raises UsageError for far more threads than there are cores: the system does not start them, or they only wait
    for each other."""
    here = cores()
    most = max(ALWAYS, TIMES * here)
    if threads is not None and threads > most:
        raise UsageError("threads_many", threads=threads, cores=here, most=most)
