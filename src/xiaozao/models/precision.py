"""The compute dtype of a decoder: autocast if its weights have another dtype."""

import torch

from xiaozao.models.blocks import Decoder
from xiaozao.models.loading.paged import store_of


def computing(decoder: Decoder, compute: torch.dtype) -> torch.autocast:
    """Weights that are already in the compute dtype need no autocast; fp32 masters of a bf16 run do."""
    differs = all(one.dtype != compute for one in decoder.model.parameters())
    cached = store_of(decoder.model) is None  # the shorter copies of all weights at once; not of those in a file
    return torch.autocast(decoder.device.type, dtype=compute, enabled=differs, cache_enabled=cached)
