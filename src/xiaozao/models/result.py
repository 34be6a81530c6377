"""A trained model from its run: the base with its adapter on it, or the model that was written whole."""

from dataclasses import dataclass
from pathlib import Path

import torch

from xiaozao.models.adapter import attach, is_vouched_for
from xiaozao.models.artefacts.checkpoint import verify
from xiaozao.models.blocks import Decoder
from xiaozao.models.load import DTYPES, InMemory, Streamed, load


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Where base and result of a run lie, and how they were computed in training.

    base: folder of the base model. result: adapter/ or model/ of the run. precision and stored as the run had them, so
    that the model answers as it was trained. streams: folder of converted weights if they stay on disk, else None.
    """

    base: Path
    result: Path
    whole: bool  # whether the result is a model of its own
    precision: str
    stored: str
    device: torch.device
    streams: Path | None = None

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES["fp32" if self.precision == "fp32" else "bf16"]

    @property
    def is_vouched_for(self) -> bool:
        """Whether the result has a manifest with hashes."""
        return is_vouched_for(self.result)

    def open_base(self) -> Decoder:
        """The model before training."""
        way = InMemory(self.stored) if self.streams is None else Streamed(self.streams, self.stored)
        return load(self.base, self.dtype, self.device, way=way)

    def open_tuned(self, base: Decoder | None = None) -> Decoder:
        """The model after training; onto an opened base an adapter is put. Raises ArtefactError for changed files."""
        if self.is_vouched_for:
            verify(self.result)
        if self.whole:
            return load(self.result, self.dtype, self.device, way=InMemory())
        decoder = base or self.open_base()
        attach(decoder, self.result)
        return decoder
