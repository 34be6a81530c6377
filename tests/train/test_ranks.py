"""What ranks say to each other, without starting any: shares, the word of one that failed, turns."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._C._distributed_c10d import HashStore

from xiaozao.errors import DoesNotFit, EnvironmentProblem
from xiaozao.events import Ended
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.texts.catalogue import LANGUAGES
from xiaozao.train.ranks import ALONE, Place, Ranks, cut, join, joined, made_whole
from xiaozao.worker import family
from xiaozao.worker.family import GONE, TornDown, agreed, among, gone, is_lost
from xiaozao.worker.main import together
from xiaozao.worker.ready import check_devices
from xiaozao.worker.resolve import on_devices

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def two() -> tuple[Ranks, Ranks]:
    """Two ranks with one store, as if torchrun had started them."""
    store = HashStore()
    return Ranks(Place(0, 2, 0, 2), store), Ranks(Place(1, 2, 1, 2), store)


def test_a_place_is_what_torchrun_says_and_alone_without_it() -> None:
    assert Place.of(TORCHRUN) == Place(3, 4, 1, 2)
    assert Place.of({}) == Place.of({"RANK": "3"}) == Place(0, 1, 0, 1)
    assert join({}) is ALONE
    assert ALONE.is_first


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_shares_hold_every_item_once_and_are_equally_long(world: int, count: int) -> None:
    items = [f"item {number}" for number in range(count)]
    shares = [Ranks(Place(rank, world)).share(items) for rank in range(world)]
    assert {len(share) for share in shares} == {-(-count // world)}
    real = [piece for share in shares for piece in share if piece.weight]
    assert sorted(piece.item for piece in real) == sorted(items)
    assert all(piece.item == items[piece.number] and piece.weight == 1.0 for piece in real)
    fillers = [piece for share in shares for piece in share if not piece.weight]
    assert all(piece.item == items[-1] for piece in fillers)
    assert len({piece.number for share in shares for piece in share}) == sum(map(len, shares))


def test_one_process_needs_no_others() -> None:
    assert ALONE.sum(1.5, 2.0) == (1.5, 2.0)
    assert ALONE.first(3.0) == ALONE.maximum(3.0) == ALONE.norm(3.0) == 3.0
    assert ALONE.in_turn(lambda: "done") == "done"
    assert ALONE.connect(torch.device("cpu")) is ALONE
    assert ALONE.failure() is None
    weight = torch.ones(3, 2)
    assert ALONE.gather({"w": weight})["w"] is weight
    for one in (cut(weight, weight), joined(weight, weight), made_whole(weight)):
        assert one is weight


def test_the_first_rank_does_it_before_the_others() -> None:
    first, second = two()
    order: list[str] = []
    waiting = threading.Thread(target=second.in_turn, args=(lambda: order.append("second"),))
    waiting.start()
    first.in_turn(lambda: order.append("first"))
    waiting.join(30)
    assert order == ["first", "second"]


def test_ranks_that_wait_for_one_that_failed_do_not_wait_for_ever() -> None:
    first, second = two()
    first.in_turn(lambda: None)
    second.tell_failure({"state": "failed"})
    with pytest.raises(RuntimeError, match="another rank"):
        first.connect(torch.device("cpu"))


def test_the_first_word_of_a_failure_stands() -> None:
    first, second = two()
    assert first.failure() is None
    second.tell_failure({"code": "A", "text": "没有"})
    first.tell_failure({"code": "B"})
    assert first.failure() == second.failure() == {"code": "A", "text": "没有", "rank": 1}


def test_a_run_ends_with_the_error_of_the_rank_that_failed_first(tmp_path: Path) -> None:
    first, second = two()
    error = DoesNotFit("does_not_fit", peak="9.00", budget="8.00", moment="loss", samples=1, tokens=5)
    own = Ended("failed", error.code, error.what(), error.key, dict(error.params), exit_code=4, output="run")
    assert agreed(own, second) == own
    lost = replace(own, key=GONE, code="TRAINING_FAILED", message=gone(tmp_path).what(), exit_code=5)
    assert agreed(lost, first) == own


def test_a_rank_that_left_no_word_is_told_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "WORD_SECONDS", 0.0)
    lost = Ended("failed", "TRAINING_FAILED", "m", GONE, exit_code=5)
    assert agreed(lost, two()[0]) == lost
    words = {"en": "without a message", "zh-CN": "没有留下原因"}
    for language in LANGUAGES:
        assert words[language] in gone("log").what(language)
        assert "devices=1" in gone("log").fix(language)


def test_only_a_broken_connection_is_taken_for_a_lost_rank() -> None:
    ranks = two()[0]
    assert is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:9"), ranks)
    assert is_lost(TornDown(), ranks)
    assert not is_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ranks)
    assert not is_lost(RuntimeError("Connection closed by peer"), ALONE)


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM between processes")
def test_the_first_rank_hears_that_torchrun_ends_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(TornDown), among(two()[0]):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM between processes")
def test_a_rank_that_torchrun_ends_while_it_says_its_error_still_ends_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> Ended:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(family, "WORD_SECONDS", 0.0)
    monkeypatch.setattr("xiaozao.train.ranks.join", lambda environment: two()[0])
    monkeypatch.setattr("xiaozao.worker.jobs.run", broken)
    monkeypatch.setattr("traceback.print_exc", lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        ended = together(RunFolder(tmp_path), None, ())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (ended.state, ended.key, ended.exit_code) == ("failed", GONE, 5)


def test_more_processes_than_gpus_are_refused() -> None:
    check_devices(torch.device("cpu"), Place(0, 64, 0, 64))
    with pytest.raises(EnvironmentProblem) as caught:
        check_devices(torch.device("cuda"), Place(0, 64, 0, 64))
    for language in LANGUAGES:
        assert "devices=64" in caught.value.what(language)
        assert "zao doctor" in caught.value.fix(language)


def test_a_resumed_run_takes_the_processes_that_there_are() -> None:
    spec = RunSpec.from_options(
        {"model": "m", "data": "d", "device": "cpu", "devices": 2, "threads": 1, "batch": 8, "micro_batch": 2}
    )
    assert on_devices(spec, Place(0, 2), True) is spec
    alone = on_devices(spec, Place(), True)
    assert (alone.train.devices, alone.train.threads, alone.train.micro_batch) == (1, 2, 2)
    assert on_devices(spec, Place(0, 4), False).train.devices == 4
    whole = spec.with_options(devices=1, micro_batch=8, threads=2, budget=100)
    shared = on_devices(whole, Place(0, 2), True, own_budget=False)
    assert (shared.train.micro_batch, shared.train.threads, shared.train.budget) == (4, 1, 50)
    assert on_devices(whole, Place(0, 2), True).train.budget == 100  # the user's own, for each process
    fused = spec.with_options(fused_update=True, micro_batch=4)
    assert on_devices(fused, Place(), True).train.micro_batch == 8
