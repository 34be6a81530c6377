"""The cache with room, beside the one of transformers that copies everything for each token."""

import torch
from transformers import DynamicCache, Gemma3TextConfig, LlamaConfig
from transformers.cache_utils import DynamicLayer

from xiaozao.models.layers.kvcache import ROOM, RoomyLayer, roomy_cache

CONFIG = LlamaConfig(num_hidden_layers=2)


def test_it_holds_what_the_cache_of_transformers_holds() -> None:
    """While tokens come over the end of a room one by one, and rows leave at the start, in the middle, at the end."""
    draw = torch.Generator().manual_seed(0)
    own, theirs = roomy_cache(CONFIG), DynamicCache(config=CONFIG)
    rows = 5
    for tokens in (ROOM - 3, *[1] * 8, 2 * ROOM, *[1] * 3):
        for layer in range(2):
            keys, values = torch.randn(2, rows, 2, tokens, 4, generator=draw)
            found, expected = (one.update(keys, values, layer) for one in (own, theirs))
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert own.get_seq_length() == theirs.get_seq_length()
        if tokens == 1 and rows > 2:
            kept = torch.tensor([one for one in range(rows) if one != (0, 2, 1)[rows - 3]])
            for one in (own, theirs):
                one.batch_select_indices(kept)
            rows -= 1


def test_a_token_within_the_room_moves_nothing() -> None:
    cache = roomy_cache(CONFIG)
    keys, _ = cache.update(torch.ones(2, 1, 3, 4), torch.ones(2, 1, 3, 4), 0)
    later, _ = cache.update(torch.ones(2, 1, 1, 4), torch.ones(2, 1, 1, 4), 0)
    assert later.data_ptr() == keys.data_ptr() and later.shape[2] == 4
    cache.batch_select_indices(torch.tensor([1]))
    last, _ = cache.update(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4), 0)
    assert last.data_ptr() == keys.data_ptr() and last.shape == (1, 1, 5, 4)


def test_layers_that_look_back_a_little_only_stay_as_they_are() -> None:
    config = Gemma3TextConfig(num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"])
    kinds = [type(one) for one in roomy_cache(config).layers]
    assert kinds[1] is RoomyLayer and kinds[0] is not RoomyLayer and kinds[0] is not DynamicLayer


def test_what_was_forgotten_is_not_remembered() -> None:
    cache = roomy_cache(CONFIG)
    cache.update(torch.ones(1, 1, 3, 4), torch.ones(1, 1, 3, 4), 0)
    cache.reset()
    keys, _ = cache.update(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), 0)
    assert keys.shape[2] == 2 and not keys.any()
