"""A key-value cache with spare room: a new token is written in place, and the earlier ones are not copied."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 128  # tokens by which a layer grows


def roomy_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache of a model; layers that keep anything else than all keys and values are transformers' own."""
    cache = DynamicCache(config=config)
    empty: Callable[[], DynamicLayer] = RoomyLayer
    cache.layers = [empty() if type(one) is DynamicLayer else one for one in cache.layers]
    return cache


class RoomyLayer(DynamicLayer):
    """Keys and values (rows, heads, tokens, head size), which are views of tensors with more tokens."""

    rooms: tuple[Tensor | None, Tensor | None]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is there yet."""
        super().lazy_initialization(key_states, value_states)
        self.rooms = (None, None)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """All keys and values, the new ones last."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        there = self.get_seq_length()
        keys, values = (
            _put(room, new, there) for room, new in zip(self.rooms, (key_states, value_states), strict=True)
        )
        return self._show(keys, values, there + key_states.shape[-2])

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows; they move to the front of the rooms, which keep their memory."""
        there = self.get_seq_length()
        if not there:
            return
        for room in self.rooms:
            assert room is not None
            room[: len(indices), :, :there] = room[:, :, :there][indices]
        keys, values = (room[: len(indices)] for room in self.rooms if room is not None)
        self._show(keys, values, there)

    def _show(self, keys: Tensor, values: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        self.rooms = (keys, values)
        self.keys, self.values = keys[..., :tokens, :], values[..., :tokens, :]
        return self.keys, self.values


def _put(room: Tensor | None, new: Tensor, start: int) -> Tensor:
    """Write the new tokens after the first `start` into the buffer, or into a larger one; returns the buffer."""
    end = start + new.shape[-2]
    if room is None or end > room.shape[-2]:
        larger = torch.empty(
            *new.shape[:-2], -(-end // ROOM) * ROOM, new.shape[-1], dtype=new.dtype, device=new.device
        )  # fmt: skip
        if room is not None:
            larger[..., :start, :] = room[..., :start, :]
        room = larger
    room[..., start:end, :] = new
    return room
