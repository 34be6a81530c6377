"""Batched answers with a key-value cache: greedy or sampled.

Prompts of unlike length are padded on the left and masked. A row that has ended leaves the batch, so a few long
answers do not keep all the others waiting. A model that does not give the same numbers so is read without a cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from xiaozao.models.blocks import Decoder, distance, run
from xiaozao.models.families import rounding
from xiaozao.models.layers.attention import implementation, own_attention
from xiaozao.models.layers.kvcache import roomy_cache
from xiaozao.models.loading.architecture import FAILURES

TRIED = (6, 9)  # tokens of two prompts
CACHED: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # what came of it


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
    model = decoder.model
    training = model.training
    model.eval()
    generator = torch.Generator(decoder.device).manual_seed(sampling.seed)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    with torch.no_grad():
        reader = _Cached(decoder, prompts) if can_be_cached(decoder) else _Whole(decoder, prompts)
        logits = reader.read()
        for left in reversed(range(sampling.max_tokens)):
            tokens = _choose(logits, sampling, generator)
            keep = []
            for place, token in enumerate(tokens.tolist()):
                ended = token in ends
                if not ended:
                    answers[rows[place]].append(token)
                    ended = on_token(rows[place], token) is True
                if not ended:
                    keep.append(place)
            if not keep or not left:
                break
            rows = [rows[place] for place in keep]
            reader.take(keep, tokens[keep])
            logits = reader.read()
    model.train(training)
    return answers


class _Cached:
    """Rows padded on the left, with the keys and values of what was read."""

    def __init__(self, decoder: Decoder, prompts: Sequence[Sequence[int]]) -> None:
        self.decoder = decoder
        self.ids, self.mask = _left_padded(prompts, decoder.device)
        self.positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        self.cache = roomy_cache(decoder.model.config)

    def read(self) -> Tensor:
        """The logits of what follows (rows, vocabulary)."""
        model = self.decoder.model
        reading = model if self.decoder.tail else model.base_model
        with implementation(model, own_attention(model)):
            out = reading(
                input_ids=self.ids, attention_mask=self.mask, position_ids=self.positions, past_key_values=self.cache,
                use_cache=True,
            )  # fmt: skip
        if self.decoder.tail:  # more lies between its base and its head
            logits: Tensor = out.logits[:, -1].float()
            return logits
        return self.decoder.head.logits(out.last_hidden_state[:, -1])

    def take(self, keep: list[int], tokens: Tensor) -> None:
        """Go on with these rows, each one token longer."""
        if len(keep) < len(self.mask):
            chosen = torch.tensor(keep, device=self.mask.device)
            self.cache.batch_select_indices(chosen)
            self.mask, self.positions = self.mask[chosen], self.positions[chosen]
        self.ids = tokens[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(keep), 1)], dim=1)
        self.positions = self.positions[:, -1:] + 1


class _Whole:
    """Rows that are recomputed as a whole for every token, as in training. Slow, but right for every model."""

    def __init__(self, decoder: Decoder, prompts: Sequence[Sequence[int]]) -> None:
        self.decoder = decoder
        self.rows = [torch.tensor(prompt, device=decoder.device) for prompt in prompts]

    def read(self) -> Tensor:
        """The logits of what follows (rows, vocabulary)."""
        ends = torch.tensor([len(row) for row in self.rows]).cumsum(0) - 1
        return self.decoder.head.logits(run(self.decoder, self.rows)[ends.to(self.decoder.device)])

    def take(self, keep: list[int], tokens: Tensor) -> None:
        """Go on with these rows, each one token longer."""
        self.rows = [torch.cat([self.rows[place], token[None]]) for place, token in zip(keep, tokens, strict=True)]


def can_be_cached(decoder: Decoder) -> bool:
    """Whether padding and cache give the same logits as recomputing everything. Tried once for each model.

    Some architectures take no positions, keep a state of another kind, or let padding into it.
    """
    if decoder.model not in CACHED:
        with torch.no_grad():
            CACHED[decoder.model] = _gap(decoder) < rounding(decoder.model)
    return CACHED[decoder.model]


def _gap(decoder: Decoder) -> float:
    """How far the two ways are apart over a few tokens; infinite where the cached one fails."""
    high = min(decoder.model.config.get_text_config(decoder=True).vocab_size, 1000)
    ids = torch.randint(5, high, (sum(TRIED),), generator=torch.Generator().manual_seed(0))
    prompts = [part.tolist() for part in ids.split(list(TRIED))]
    gap = 0.0
    try:
        readers = (_Cached(decoder, prompts), _Whole(decoder, prompts))
        for _ in range(2):
            cached, whole = (one.read() for one in readers)
            gap = max(gap, distance(cached, whole)) if cached.shape == whole.shape else float("inf")
            for reader in readers:
                reader.take(list(range(len(prompts))), whole.argmax(dim=1))
    except torch.OutOfMemoryError:
        raise
    except FAILURES:
        return float("inf")
    return gap if gap == gap else float("inf")  # NaN


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """ids and mask (rows, longest). Masked places are never attended to, so they may hold any id."""
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
