"""How a worker started by torchrun ends: with torchrun, with the other ranks, and with which error.

torchrun died          nobody would end us if another rank hangs: we leave by ourselves
another rank failed    its word in the store is the run's error; ours would only be that a connection broke
torchrun ends us       SIGTERM, because another rank failed: the first rank still writes down why
"""

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from xiaozao.errors import TrainingError, XiaozaoError
from xiaozao.events import Ended
from xiaozao.train.ranks import Ranks

GONE = "rank_gone"
POLL_SECONDS = 1.0
WORD_SECONDS = 5.0  # that another rank may take to say why it failed
GRACE_SECONDS = 20.0  # for the first rank to write down how it ended
BROKEN = ("gloo", "nccl", "connection", "socket", "timed out", "store")  # in what torch says when a peer is gone


class TornDown(RuntimeError):
    """torchrun asks this rank to end."""


@contextmanager
def among(ranks: Ranks) -> Iterator[None]:
    """A context in which this process ends if torchrun or another rank does; does nothing for a single process."""
    if ranks.world == 1:
        yield
        return
    threading.Thread(target=_watch, args=(GRACE_SECONDS if ranks.is_first else 0.0,), daemon=True).start()
    signal.signal(signal.SIGTERM, _torn_down if ranks.is_first else signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def outlive(work: Callable[[], Ended], lost: Callable[[], Ended], ranks: Ranks) -> Ended:
    """The result of `work`, or of `lost` if torchrun ends this rank meanwhile, even while it reports an error."""
    try:
        try:
            return work()
        finally:
            if ranks.world > 1:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except TornDown:
        return lost()


def agreed(ended: Ended, ranks: Ranks) -> Ended:
    """How a run that failed here ended for all: by the first word that any rank left, which may be this one's."""
    lost = ended.key == GONE
    with contextlib.suppress(RuntimeError):  # the store may be gone with the process that kept it
        if not lost:
            ranks.tell_failure(dataclasses.asdict(ended))
        deadline = time.monotonic() + WORD_SECONDS
        while (word := ranks.failure()) is None and lost and time.monotonic() < deadline:
            time.sleep(0.1)
        if word is not None:
            return Ended(**{name: value for name, value in word.items() if name != "rank"})
    return ended


def is_lost(error: BaseException, ranks: Ranks) -> bool:
    """Whether an error only says that another rank is gone."""
    said = str(error).lower()
    return ranks.world > 1 and (isinstance(error, TornDown) or any(one in said for one in BROKEN))


def gone(log: object) -> XiaozaoError:
    """Another rank ended without a word."""
    return TrainingError(GONE, log=log)


def _torn_down(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise TornDown("ended by torchrun")


def _watch(grace: float) -> None:
    """Leave when who started us is gone."""
    number = os.getppid()
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(number)
        while os.getppid() == number and parent.is_running():
            time.sleep(POLL_SECONDS)
    time.sleep(grace)
    os._exit(1)
