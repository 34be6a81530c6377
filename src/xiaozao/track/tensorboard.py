"""TensorBoard's event files, written by tensorboardX.

tensorboardX needs protobuf and nothing else that is not here already (3 MB); the package tensorboard brings grpc and a
data server (50 MB) that only its viewer needs, and torch.utils.tensorboard asks for both of them and for torch.
"""

from importlib import import_module

from xiaozao.track.points import Point
from xiaozao.track.sink import Tracked


class TensorBoard:
    """A folder of event files; a resumed run adds a file, which the viewer joins to the curve."""

    def __init__(self, run: Tracked) -> None:
        self._writer = import_module("tensorboardX").SummaryWriter(logdir=str(run.folder), flush_secs=10)
        rows = "\n".join(f"    {name}: {value}" for name, value in run.options.items())
        self._writer.add_text("options", rows, 0)

    def send(self, point: Point) -> None:
        for name, value in point.values.items():
            self._writer.add_scalar(name, value, point.step)

    def close(self, state: str) -> None:
        self._writer.add_text("state", state)
        self._writer.close()
