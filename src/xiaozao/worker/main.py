"""The worker: one process, one run. `python -P -m xiaozao.worker.main RUN_FOLDER [CONFIG.yaml | key=value ...]`.

Options make the run where there is none in the folder yet; where there is one, it goes on. Started by torchrun, several
of these are one run: the first holds the folder and writes, the others compute and are silent (worker/family.py).

It ends with an Ended event unless it is killed (worker/held.py), and stops when a request lies in the run folder.
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xiaozao.errors import XiaozaoError
from xiaozao.events import Ended
from xiaozao.spec.run import RunSpec, read_options
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import Journal
from xiaozao.worker.held import detach_from_console, failed, guarded, hold

if TYPE_CHECKING:
    from xiaozao.train.ranks import Ranks


def main(arguments: list[str]) -> int:
    """Run the folder named by the first argument; the exit code is the one of the Ended event."""
    folder = RunFolder(Path(arguments[0]).absolute())
    detach_from_console()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK") != "0":
        return together(folder, None, ()).exit_code
    return hold(folder, lambda journal: together(folder, journal, arguments[1:]))


def together(folder: RunFolder, journal: Journal | None, options: Sequence[str]) -> Ended:
    """The run, with all ranks that torchrun started; only the first has a journal."""
    # Here and not above, because transformers must find `kernels` refused when it is imported.
    from xiaozao.train.ranks import join, leave
    from xiaozao.worker.family import agreed, among, gone, is_lost, outlive

    ranks = join(os.environ)

    def lost(error: RuntimeError) -> XiaozaoError | None:
        return gone(folder.log) if is_lost(error, ranks) else None

    with among(ranks):
        run = partial(guarded, folder, partial(_run, folder, journal, options, ranks), lost)
        ended = outlive(run, lambda: failed(folder, gone(folder.log)), ranks)
        if ended.state == "failed":
            sys.stderr.write(f"[{ended.code}] {ended.message}\n")
            return agreed(ended, ranks)
        leave()
    return ended


def _run(folder: RunFolder, journal: Journal | None, options: Sequence[str], ranks: "Ranks") -> Ended:
    from xiaozao.worker.jobs import run
    from xiaozao.worker.tracking import tracked

    if journal is None:
        return run(folder, lambda event: None, ranks)
    if options:  # nobody has cleared an old request
        folder.stop.unlink(missing_ok=True)
    if options and not folder.spec.is_file():
        spec = RunSpec.from_options({**read_options(options), "output": str(folder.path)})
        folder.spec.write_text(spec.to_yaml(), encoding="utf-8")
    return tracked(folder, journal.record, partial(run, ranks=ranks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
