"""The facts of a report: both models' answers to the same questions, and the numbers of the run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xiaozao.evaluate.contract import Answer


@dataclass(frozen=True)
class Side:
    """The results of one model: its answers to the held-out questions, and its losses (nats per target token)."""

    answers: tuple[Answer, ...] = ()
    loss: float | None = None  # on the held-out answers
    validation_loss: float | None = None


@dataclass(frozen=True)
class Machine:
    """Where the run was made."""

    cores: int
    memory_bytes: int
    device: str
    system: str


@dataclass(frozen=True)
class ReportFacts:
    """Everything a report says. Base and tuned answered the same questions, in the same order."""

    model: str
    data: str
    rows: int
    base: Side
    tuned: Side
    steps: int
    train_seconds: float
    total_seconds: float
    tokens_per_second: float
    peak_rss_bytes: int
    predicted_peak_bytes: int
    predicted_parts: Mapping[str, int]
    settings: Mapping[str, object]
    machine: Machine
    versions: Mapping[str, str] = field(default_factory=dict)
    curve: Path | None = None  # the loss curve as SVG

    def __post_init__(self) -> None:
        asked = [[(one.question, one.reference) for one in side.answers] for side in (self.base, self.tuned)]
        if asked[0] != asked[1]:
            raise ValueError("base and tuned must have answered the same questions")
