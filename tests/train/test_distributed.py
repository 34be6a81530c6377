"""Two ranks on CPUs (gloo) are one run: same losses, same weights, same checkpoints as one process alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.train.ranks import CASES, CROSSING, Case, begun, make_toys, results, start, train
from xiaozao.train.ranks import ALONE

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("ranks")]  # one process makes the runs of all tests
CLOSE = 1e-5


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any], list[dict[str, Any]]]]:
    """A folder, what one process found, and what each of two ranks found, of all cases."""
    folder = tmp_path_factory.mktemp("ranks")
    make_toys(folder)
    for case in CROSSING:
        begun(case, folder, ALONE, 2)
    processes = start("train", folder)
    try:
        alone = {case.name: vars(train(case, folder)) for case in [*CASES, *CROSSING]}
        yield folder, alone, results(processes, "train", folder)
    finally:
        for process in processes:
            process.kill()


def near(a: list[float], b: list[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < CLOSE for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_ranks_learn_what_one_process_learns(case: Case, runs: Any) -> None:
    """The windows of 7 samples are 4 micro-batches; the last window is one, which is fewer than there are ranks."""
    _, alone, (first, second) = runs
    one, two = alone[case.name], first[case.name]
    assert len(one["losses"]) == 4 * case.epochs
    assert near(one["losses"], two["losses"])
    assert near(one["validations"], two["validations"])
    if not case.fused:  # there each micro-batch of another size is a rank's own
        assert all(abs(a / b - 1) < 1e-3 for a, b in zip(one["norms"], two["norms"], strict=True))
    assert second[case.name]["losses"] == two["losses"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_first_rank_writes_whole_tensors_and_all_answer_alike(case: Case, runs: Any) -> None:
    _, alone, (first, second) = runs
    one, two = alone[case.name]["weights"], first[case.name]["weights"]
    assert one.keys() == two.keys()
    assert all(abs(a - b) < 1e-3 for name in one for a, b in zip(one[name], two[name], strict=True))
    assert second[case.name]["weights"] == {}
    assert first[case.name]["answers"] == second[case.name]["answers"] == alone[case.name]["answers"]


@pytest.mark.parametrize("case", CROSSING, ids=lambda case: case.name)
def test_a_run_may_go_on_with_more_or_fewer_ranks(case: Case, runs: Any) -> None:
    folder, alone, (first, second) = runs
    uninterrupted = alone[case.name]["losses"]
    assert first[f"{case.name} 2 to 1"]["stopped_at"] == second[f"{case.name} 2 to 1"]["stopped_at"] == 3
    assert near(first[f"{case.name} 2 to 1"]["losses"], uninterrupted[:3])
    assert near(train(case, folder, checkpoints=f"{case.name} 2 to 1").losses, uninterrupted[3:])
    assert near(first[f"{case.name} 1 to 2"]["losses"], uninterrupted[3:])
