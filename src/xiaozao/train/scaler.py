"""Loss scaling for fp16, whose smallest number is 6e-8: the loss is multiplied, the gradients are divided again.

An overflow costs no data: the same window is computed again at half the scale, and the step does not count until it has
succeeded. What loss scaling cannot mend is a loss that is not finite itself: that ends the run at once.

    scale  65536 -> halved at each overflow, doubled after GROW good steps; after LIMIT overflows in a row the run ends
"""

from dataclasses import dataclass

import torch

from xiaozao.errors import TrainingError
from xiaozao.train.state import Position

START, LARGEST = 2.0**16, 2.0**24
GROW = 200  # good steps in a row; runs of fine-tuning are short
LIMIT = 20  # overflows in a row


@dataclass(frozen=True)
class Scaler:
    """The scale of the loss; what it remembers is in Progress, and so in every checkpoint."""

    compute: torch.dtype

    @property
    def active(self) -> bool:
        return self.compute == torch.float16

    def scale(self, progress: Position) -> float:
        return (progress.loss_scale or START) if self.active else 1.0

    def overflowed(self, progress: Position) -> None:
        """Halve. Raises TrainingError after too many in a row: it is not the scale then that is at fault."""
        progress.overflows += 1
        progress.good_steps = 0
        if progress.overflows > LIMIT:
            raise TrainingError(
                "fp16_overflow", step=progress.step + 1, count=progress.overflows, scale=f"{self.scale(progress):g}"
            )
        progress.loss_scale = self.scale(progress) / 2

    def succeeded(self, progress: Position) -> None:
        """Count a good step, and double now and then."""
        if not self.active:
            return
        progress.overflows = 0
        progress.good_steps += 1
        progress.loss_scale = self.scale(progress)
        if progress.good_steps == GROW:
            progress.good_steps, progress.loss_scale = 0, min(LARGEST, 2 * progress.loss_scale)
