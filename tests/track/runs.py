"""A run folder with a journal, as a worker leaves it, and the trackers' processes beside it."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from xiaozao.events import Ended, Evaluated, Event, Loaded, Noticed, Planned, Started, Step
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal
from xiaozao.worker.tracking import Trackers

SECRET = "sk-b21f-do-not-tell"
PRIVATE = "你是王小明的私人助理"


def run_folder(path: Path, track: Sequence[str] = (), **changes: object) -> RunFolder:
    """A run folder with a spec, and nothing run yet."""
    path.mkdir(parents=True)
    folder = RunFolder(path)
    options: dict[str, object] = {
        "model": "org/small-model", "data": f"/home/{SECRET}/chats.jsonl", "system": PRIVATE, "rank": 8,
        "learning_rate": 2e-4, "track": tuple(track), "output": str(path), **changes,
    }  # fmt: skip
    folder.spec.write_text(RunSpec.from_options(options).to_yaml(), encoding="utf-8")
    return folder


def step(number: int) -> Step:
    """The event of a step, with numbers that can be told apart."""
    return Step(
        step=number, steps=40, epoch=number / 40, loss=3.0 - number / 16, learning_rate=2e-4, grad_norm=0.5 + number,
        tokens=100, target_tokens=50, seconds=0.5, tokens_per_second=200.0 + number, peak_bytes=10**9 + number,
        eta_seconds=1.0,
    )  # fmt: skip


BEGIN: tuple[Event, ...] = (
    Started("r", 1),
    Planned(4, 100, {"weights": 1}, "loss", 1, 2, 40),
    Loaded("org/small-model", 10, 1, "cpu", "fp32", "packed", 0.1),
)


def steps(first: int, last: int) -> Iterator[Event]:
    """Steps first..last, and a validation after every fourth."""
    for number in range(first, last + 1):
        yield step(number)
        if number % 4 == 0:
            yield Evaluated(number, 2.0 - number / 32, 50, True)


def session(folder: RunFolder, names: Sequence[str], first: int, last: int, seconds: float = 60.0) -> list[Event]:
    """One session of a run with its trackers; what they had to say."""
    said: list[Event] = []
    trackers = Trackers(folder, names, said.append)
    with Journal(folder.events) as journal:
        for event in chain(BEGIN, steps(first, last)):
            journal.record(event)
            trackers.look()
        trackers.finish("stopped" if last < 40 else "succeeded", seconds)
        for event in said:
            journal.record(event)
        journal.record(Ended("stopped" if last < 40 else "succeeded"))
    return said


def notices(events: Sequence[Event]) -> list[tuple[str, str]]:
    """The key and the tracker of each notice."""
    return [(one.key, str(one.params["tracker"])) for one in events if isinstance(one, Noticed)]
