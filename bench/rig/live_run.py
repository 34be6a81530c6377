"""`python -m bench.rig.live_run RUN`: trains a finished run once more, and prints the most bytes that were in use.

The same stages as the worker's, in a process of its own, under torch's profiler: its record of every allocation takes
memory too, so the resident set is measured in another run.
"""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from bench.rig.live import live_peak
from bench.rig.run_zao import NEVER
from xiaozao.store.files import RunFolder
from xiaozao.train.distributed import shard
from xiaozao.train.optim.by_blocks import ByBlocks
from xiaozao.train.ranks import ALONE
from xiaozao.train.state import Position
from xiaozao.worker.jobs import get_loop, get_model
from xiaozao.worker.ready import get_ready


def live_of(run: Path) -> int:
    """Bytes of weights, gradients, states and activations at the peak of the run's training."""
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        for file in ("spec.yaml", "resolved.yaml"):
            shutil.copy(run / file, folder.path)
        ready = get_ready(folder, _ignore)
        decoder = get_model(ready, _ignore)
        loop, optimizer = get_loop(ready, shard(decoder, ALONE), _ignore)
        held = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in (*decoder.model.parameters(), *decoder.model.buffers())
        }

        if isinstance(optimizer, ByBlocks):
            optimizer = within(optimizer)

        def work() -> None:
            """With the optimizer's states from the start, as after a rehearsal: step 1 may be the largest."""
            optimizer.begin(0)
            optimizer.prepare()
            loop.run(optimizer, Position())

        return sum(held.values()) + live_peak(work)


class _Within(ByBlocks):
    """In the middle of a turn from the first step on: with states."""

    def begin(self, step: int) -> None:
        super().begin(step + 1)


def within(optimizer: ByBlocks) -> ByBlocks:
    """One whose only turn is that which takes most: so short a run may never come to it."""
    found = _Within(optimizer.parameters, optimizer.rule, replace(optimizer.options, every=NEVER))
    found.blocks = [optimizer.turn(optimizer.heavy_turns()[0])]
    return found


def _ignore(_: object) -> None:
    return None


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.stdout.write(f"{live_of(Path(sys.argv[1]))}\n")
