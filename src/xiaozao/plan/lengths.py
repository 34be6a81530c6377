"""The real lengths of a run's samples, for plans of `zao plan data=FILE` and of workers. No torch."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from xiaozao.data.order import Order, in_order, worst_rows
from xiaozao.data.prepare import PreparedData
from xiaozao.plan.fit import Sizes
from xiaozao.spec.parts import EPOCHS
from xiaozao.spec.plan import RowSizes
from xiaozao.spec.run import RunSpec


@dataclass(frozen=True)
class Lengths:
    """The lengths of data that was read, as a plan needs them.

    longest, mean: tokens of a sequence; sequences: of a sample, 2 where it is a preference pair; steps: of the run.
    """

    sizes: Sizes
    samples: int
    longest: int
    mean: float
    sequences: int
    steps: int

    def usual(self, size: int, batch: int) -> list[RowSizes]:
        """The micro-batches of a step whose samples are all of the average length, each token a target."""
        whole, rest = divmod(batch, size)
        return [self._row(size)] * whole + ([self._row(rest)] if rest else [])

    def _row(self, count: int) -> RowSizes:
        length = max(1, round(self.mean))
        return RowSizes((length,) * count * self.sequences, length * count * self.sequences)


def lengths_of(spec: RunSpec, data: PreparedData) -> Lengths:
    """The lengths of data that was prepared."""
    lengths = np.diff(data.train.offsets)
    steps = order_of(spec, data, spec.train.batch).steps
    return Lengths(
        sizes_of(spec, data), len(data.train), int(lengths.max()), float(lengths.mean()), data.train.group, steps
    )


def order_of(spec: RunSpec, data: PreparedData, size: int | None = None) -> Order:
    """The order of samples that a spec describes."""
    size = size or spec.train.micro_batch
    assert size is not None
    train = spec.train
    return Order(data.train, train.batch, size, train.epochs or EPOCHS, train.seed, train.steps)


def sizes_of(spec: RunSpec, data: PreparedData) -> Sizes:
    """The largest micro-batches that will come in a run; each size of a micro-batch is looked at once."""

    @cache
    def rows(size: int) -> list[RowSizes]:
        return worst_rows(data.train, order_of(spec, data, size).worst())

    @cache
    def validation(size: int) -> list[RowSizes]:
        return worst_rows(data.validation, in_order(data.validation, size)) if data.validation else []

    return Sizes(rows, validation)
