"""The first signal asks the run to stop, the second ends it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xiaozao.cli.console import Output
from xiaozao.cli.stop import stopping
from xiaozao.cli.verb import OutputSettings
from xiaozao.store.files import RunFolder

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
if sys.platform != "win32":
    SIGNALS.append((signal.SIGHUP, 129))

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that one process sends another")


@pytest.fixture
def as_usual() -> Iterator[None]:
    """No signal is ignored, as one is from the start where the tests run under nohup."""
    before = [(number, signal.signal(number, signal.default_int_handler)) for number, _ in SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.usefixtures("as_usual")
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_first_signal_writes_the_request_and_the_second_kills(
    number: signal.Signals, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, killed = RunFolder(tmp_path), []
    with stopping(folder, lambda: killed.append(1), Output(OutputSettings(language="en"))) as seen:
        assert not folder.stop.exists()
        os.kill(os.getpid(), number)
        assert folder.stop.exists()
        assert not killed
        assert "second Ctrl-C" in capsys.readouterr().err
        os.kill(os.getpid(), number)
        assert killed == [1]
    assert (seen.count, seen.exit_code) == (2, code)
    assert signal.getsignal(number) == signal.default_int_handler


def test_a_terminal_that_went_away_does_not_lose_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        with stopping(folder, lambda: None, Output(OutputSettings())):
            os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.undo()
        assert folder.stop.exists()
        with pytest.raises(BrokenPipeError):
            gone.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())


NOHUP = """
import os, signal, sys
from pathlib import Path
from xiaozao.cli.console import Output
from xiaozao.cli.stop import stopping
from xiaozao.cli.verb import OutputSettings
from xiaozao.store.files import RunFolder
signal.signal(signal.SIGHUP, signal.SIG_IGN)
folder = RunFolder(Path(sys.argv[1]))
with stopping(folder, lambda: None, Output(OutputSettings())):
    os.kill(os.getpid(), signal.SIGHUP)
print(folder.stop.exists())
"""


def test_nohup_is_respected(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NOHUP, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
