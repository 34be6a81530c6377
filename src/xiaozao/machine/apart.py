"""Reads untrusted files in a process of its own, with a limit on its memory and a time limit on its answers.

The process gets one line a question on its standard input, and answers in lines of JSON; the last one has "end". It
waits for the next question for a moment, because to start it and to import its libraries takes half a second.

    for answer in ask("xiaozao.data.reading", {...}, hook): ...         in the program
    serve(answers)                                                    in the process: question -> its answers
    with Crew("...", 4) as crew: crew.answers(questions)              several processes side by side
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Any, Self

MEMORY = 6_000_000_000  # bytes of addresses; of those most libraries reserve one or two without using them
SECONDS = 120.0  # without a word; the largest row group of a real file takes some seconds
IDLE_SECONDS = 2.0  # after which a process that nobody asks ends: it would hold memory that training wants
Json = dict[str, Any]


class Lost(Exception):
    """The process ended or was killed before its last answer. why: "ended" or "silent". last: its last output."""

    def __init__(self, why: str, last: str) -> None:
        super().__init__(why, last)
        self.why, self.last = why, last


class _Process:
    """One process of a module, and the watch that ends it."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.words = tempfile.TemporaryFile()  # what libraries print, such as the panic of a library in Rust
        environment = {**os.environ, "PYTHONUTF8": "1", "POLARS_MAX_THREADS": "1", "RUST_BACKTRACE": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.words,
            env=environment,
        )  # fmt: skip
        self.since: float | None = None  # when the answer was asked for that has not come yet
        self.seconds = SECONDS
        self.silent = False
        self.over = threading.Event()
        self.timer: threading.Timer | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def ask(self, question: Json, hook: Callable[[Json], Any], seconds: float) -> Iterator[Json]:
        self.seconds = seconds
        stdin, stdout = _pipes(self.process)
        try:
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._lost() from None
        while True:
            self.since = time.monotonic()
            line = stdout.readline()
            self.since = None
            if not line.endswith(b"\n"):
                raise self._lost()
            answer: Json = json.loads(line, object_hook=hook)
            yield answer
            if "end" in answer:
                return

    def end(self) -> None:
        """End it, whatever it does."""
        self.over.set()
        self.process.kill()
        for pipe in _pipes(self.process):
            with suppress(OSError):  # what was not read yet by one that is gone
                pipe.close()
        self.process.wait()
        self.words.close()

    def _watch(self) -> None:
        while not self.over.wait(0.5):
            since = self.since
            if since is not None and time.monotonic() - since > self.seconds:
                self.silent = True
                self.process.kill()

    def _lost(self) -> Lost:
        self.process.kill()
        self.process.wait()
        self.words.seek(0)
        lines = self.words.read().decode("utf-8", "replace").strip().splitlines()
        telling = [line for line in lines if not line.startswith("note:")]
        code = f"exit code {self.process.returncode}"
        return Lost("silent" if self.silent else "ended", (telling or [code])[-1][:300])


class _Idle:
    """Processes that wait for the next question, each for a moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: dict[str, _Process] = {}

    def take(self, module: str) -> _Process:
        with self.lock:
            process = self.waiting.pop(module, None)
        if process is None:
            return _Process(module)
        if process.timer is not None:
            process.timer.cancel()
        if process.process.poll() is None:
            return process
        process.end()
        return _Process(module)

    def put(self, process: _Process) -> None:
        process.timer = threading.Timer(IDLE_SECONDS, self._expire, (process,))
        process.timer.daemon = True
        with self.lock:
            before = self.waiting.get(process.module)
            self.waiting[process.module] = process
        process.timer.start()
        if before is not None:
            self._end(before)

    def close(self) -> None:
        with self.lock:
            processes = list(self.waiting.values())
            self.waiting.clear()
        for process in processes:
            self._end(process)

    def _expire(self, process: _Process) -> None:
        with self.lock:
            if self.waiting.get(process.module) is not process:
                return
            del self.waiting[process.module]
        process.end()

    def _end(self, process: _Process) -> None:
        if process.timer is not None:
            process.timer.cancel()
        process.end()


def _same(value: Json) -> Json:
    return value


_IDLE = _Idle()
atexit.register(_IDLE.close)


def ask(
    module: str, question: Json, hook: Callable[[Json], Any] = _same, seconds: float = SECONDS
) -> Generator[Json, None, None]:
    """Ask a process of `module` and yield its answers, the last of which has "end".

    hook: is called with every object in the answers. seconds: how long the process may be silent before it is killed.

    Raises Lost.
    """
    process = _IDLE.take(module)
    whole = False
    try:
        yield from process.ask(question, hook, seconds)
        whole = True
    finally:
        if whole:
            _IDLE.put(process)
        else:  # it failed, or nobody wants the rest
            process.end()


class Crew:
    """Processes of one module that answer questions side by side. To be used in a `with`; then they end.

    questions -> answers, in the order of the questions, with a few questions on their way at a time.
    """

    def __init__(self, module: str, count: int, seconds: float = SECONDS) -> None:
        self._module, self._count, self._seconds = module, count, seconds
        self._local = threading.local()
        self._processes: list[_Process] = []
        self._lock, self._over = threading.Lock(), False
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="crew")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.end()
        self._pool.shutdown()  # a process that was just being started is ended by the thread that starts it

    def answers(self, questions: Iterable[Json]) -> Iterator[Json]:
        """The first answer to each question. Raises Lost where a process ended."""
        waiting: deque[Future[Json]] = deque()
        for question in questions:
            waiting.append(self.ask(question))
            if len(waiting) > 2 * self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def ask(self, question: Json) -> Future[Json]:
        """The first answer to one question, which is on its way."""
        return self._pool.submit(self._answer, question)

    def _answer(self, question: Json) -> Json:
        process: _Process | None = getattr(self._local, "process", None)
        if process is None:
            process = _Process(self._module)
            with self._lock:
                if not self._over:
                    self._processes.append(process)
            if self._over:
                process.end()
                raise Lost("ended", self._module)
            self._local.process = process
        return list(process.ask(question, _same, self._seconds))[0]


def serve(answers: Callable[[Json], Iterable[str]], memory: int = MEMORY) -> int:
    """Answer the questions on standard input until it ends; what libraries print goes to standard error."""
    limit_memory(memory)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        for answer in answers(json.loads(line)):
            out.write(answer.encode() + b"\n")
        out.write(b'{"end": true}\n')
        out.flush()
    return 0


if sys.platform == "linux":
    import resource

    def limit_memory(count: int) -> None:
        """Let this process map no more than so many bytes; a stricter limit that stands already is kept."""
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
else:

    def limit_memory(count: int) -> None:
        """Does nothing: only Linux enforces such a limit. Elsewhere the process may be killed by the system."""


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout
