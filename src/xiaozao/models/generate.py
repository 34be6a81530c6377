"""Batched answers with a key-value cache: greedy or sampled.

Prompts of unlike length are padded on the left and masked. A row that has ended leaves the batch, so a few long
answers do not keep all the others waiting.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from xiaozao.models.attention import implementation
from xiaozao.models.blocks import Decoder


@dataclass(frozen=True)
class Sampling:
    """How the next token is taken. temperature 0 is greedy."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    ends: frozenset[int],
    sampling: Sampling,
    on_token: Callable[[int, int], bool | None] = lambda row, token: None,
) -> list[list[int]]:
    """The token ids that follow each prompt, without the ending token.

    `on_token(row, token)` hears every token as it comes; when it returns True, that row ends.
    """
    model, device = decoder.model, decoder.device
    training = model.training
    model.eval()
    generator = torch.Generator(device).manual_seed(sampling.seed)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    ids, mask = _left_padded(prompts, device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    own = "sdpa" if model._supports_sdpa else "eager"
    with torch.no_grad(), implementation(model, own):
        for _ in range(sampling.max_tokens):
            states = model.base_model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            tokens = _choose(decoder.head.logits(states), sampling, generator)
            keep = []
            for place, token in enumerate(tokens.tolist()):
                ended = token in ends
                if not ended:
                    answers[rows[place]].append(token)
                    ended = on_token(rows[place], token) is True
                if not ended:
                    keep.append(place)
            if not keep:
                break
            if len(keep) < len(rows):
                chosen = torch.tensor(keep, device=device)
                cache.batch_select_indices(chosen)
                rows, tokens, mask = [rows[place] for place in keep], tokens[chosen], mask[chosen]
                positions = positions[chosen]
            ids = tokens[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
    model.train(training)
    return answers


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """ids and mask (rows, longest). What lies under the mask is never looked at, so any id will do."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """The next token of each row: the likeliest, or drawn from the smallest set with probability top_p."""
    if sampling.temperature <= 0:
        return logits.argmax(dim=1)
    shares, order = torch.softmax(logits / sampling.temperature, dim=1).sort(dim=1, descending=True)
    shares[shares.cumsum(1) - shares >= sampling.top_p] = 0.0
    return order.gather(1, torch.multinomial(shares, 1, generator=generator)).squeeze(1)
