"""How likely given texts are: log-likelihoods of continuations, each context read once however many continue it.

    one row:  [ context | choice A | choice B | choice C || context | choice A | choice B ]
    sees:       itself    context,   context,   context,   nothing of the first question
                          itself     itself     itself

Positions of every choice go on from the context's end, and a mask keeps the branches apart. The mask is additive and
handed to the model as a whole, which most architectures take as it is. A model that does not give the same numbers so,
or that looks back over a window shorter than the row's longest branch, reads every context and choice as a sample of
its own instead (`run` of models/blocks.py): slower, and right for every model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from xiaozao.models.blocks import Decoder, distance, evaluating, run
from xiaozao.models.families import rounding
from xiaozao.models.layers.attention import implementation, own_attention
from xiaozao.models.loading.architecture import FAILURES

ROW = 512  # tokens that are read at a time, unless one question has more
BRANCHING: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # whether the mask gives the same numbers


@dataclass(frozen=True)
class Branches:
    """The ids of a context, and those of the texts that may follow it. Neither is empty."""

    context: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        return len(self.context) + sum(len(choice) for choice in self.choices)

    @property
    def longest(self) -> int:
        """Tokens of the context with its longest choice."""
        return len(self.context) + max(len(choice) for choice in self.choices)


def log_likelihoods(
    decoder: Decoder,
    questions: Sequence[Branches],
    most: int = ROW,
    on_read: Callable[[int], object] = lambda read: None,
) -> list[tuple[float, ...]]:
    """For each question the summed log-probability (nats) of each choice after the context.

    most: tokens that are read at a time. `on_read` hears how many questions are done.
    """
    told: dict[int, tuple[float, ...]] = {}
    with evaluating(decoder), torch.no_grad():
        for row in rows_of(questions, most):
            asked = [questions[index] for index in row]
            read = _branched if branches(decoder, max(one.longest for one in asked)) else _apart
            told.update(zip(row, read(decoder, asked), strict=True))
            on_read(len(told))
    return [told[index] for index in range(len(questions))]


def rows_of(questions: Sequence[Branches], most: int) -> Iterator[list[int]]:
    """The questions in rows of at most `most` tokens, those of like length together."""
    row: list[int] = []
    size = 0
    for index in sorted(range(len(questions)), key=lambda index: questions[index].tokens):
        if row and size + questions[index].tokens > most:
            yield row
            row, size = [], 0
        row.append(index)
        size += questions[index].tokens
    if row:
        yield row


def branches(decoder: Decoder, longest: int) -> bool:
    """Whether questions of this length can share a row. Tried once for each model, with numbers."""
    if decoder.packing != "packed" or longest > _window(decoder.model):
        return False
    if decoder.model not in BRANCHING:
        with evaluating(decoder), torch.no_grad():
            BRANCHING[decoder.model] = _agrees(decoder)
    return BRANCHING[decoder.model]


def _window(model: PreTrainedModel) -> int:
    """How many tokens the layer with the shortest sight looks back over."""
    config = model.config.get_text_config(decoder=True)
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((one for one in windows if isinstance(one, int) and one > 0), default=1 << 40)


def _agrees(decoder: Decoder) -> bool:
    high = min(decoder.model.config.get_text_config(decoder=True).vocab_size, 1000)
    ids = torch.randint(5, high, (24,), generator=torch.Generator().manual_seed(0)).tolist()
    tried = [
        Branches(tuple(ids[:6]), (tuple(ids[6:9]), tuple(ids[9:11]))),
        Branches(tuple(ids[11:15]), (tuple(ids[15:20]), tuple(ids[20:24]))),
    ]
    try:
        gap = distance(*(torch.tensor(sum(read(decoder, tried), ())) for read in (_branched, _apart)))
    except torch.OutOfMemoryError:
        raise
    except FAILURES:
        return False
    return gap < rounding(decoder.model)


def _branched(decoder: Decoder, asked: Sequence[Branches]) -> list[tuple[float, ...]]:
    """All of a row at once. A choice's first token is predicted at the context's end, the others inside the choice."""
    ids: list[int] = []
    positions: list[int] = []
    groups: list[tuple[int, int]] = []
    sources: list[int] = []
    labels: list[int] = []
    lengths: list[int] = []
    for number, question in enumerate(asked):
        ids += question.context
        positions += range(len(question.context))
        groups += [(number, 0)] * len(question.context)
        last = len(ids) - 1
        for branch, choice in enumerate(question.choices, 1):
            first = len(ids)
            ids += choice
            positions += range(len(question.context), len(question.context) + len(choice))
            groups += [(number, branch)] * len(choice)
            sources += [last, *range(first, first + len(choice) - 1)]
            labels += choice
            lengths.append(len(choice))
    device = decoder.device
    hidden = _states(decoder, torch.tensor(ids, device=device), torch.tensor(positions, device=device),
                     _mask(torch.tensor(groups, device=device), decoder.model.dtype))  # fmt: skip
    return _per_question(asked, _chosen(decoder, hidden, sources, labels), lengths)


def _apart(decoder: Decoder, asked: Sequence[Branches]) -> list[tuple[float, ...]]:
    """Every context with each of its choices as a sample of its own."""
    samples: list[Tensor] = []
    sources: list[int] = []
    labels: list[int] = []
    lengths: list[int] = []
    start = 0
    for question in asked:
        for choice in question.choices:
            samples.append(torch.tensor([*question.context, *choice], device=decoder.device))
            first = start + len(question.context) - 1
            sources += range(first, first + len(choice))
            labels += choice
            lengths.append(len(choice))
            start += len(samples[-1])
    return _per_question(asked, _chosen(decoder, run(decoder, samples), sources, labels), lengths)


def _mask(groups: Tensor, dtype: torch.dtype) -> Tensor:
    """groups (T, 2): question and branch of each token, 0 for its context -> (1, 1, T, T), 0 where a token is seen."""
    question, branch = groups.unbind(1)
    seen = (question[:, None] == question) & ((branch[:, None] == branch) | (branch == 0))
    seen &= torch.ones_like(seen).tril_()
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)[
        None, None
    ]


def _states(decoder: Decoder, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
    """The states that enter the head (T, hidden size)."""
    model = decoder.model
    with implementation(model, own_attention(model)):
        states: Tensor = decoder.states(input_ids=ids[None], position_ids=positions[None], attention_mask=mask)
    return states[0]


def _chosen(decoder: Decoder, hidden: Tensor, sources: Sequence[int], labels: Sequence[int]) -> Tensor:
    """The log-probability of each label at its source, in fp32; the head is applied in chunks."""
    at, wanted = (torch.tensor(one, device=decoder.device) for one in (sources, labels))
    parts = []
    for places, label in zip(at.split(decoder.head.chunk), wanted.split(decoder.head.chunk), strict=True):
        logits = decoder.head.logits(hidden.index_select(0, places))
        parts.append(logits.gather(1, label[:, None])[:, 0] - logits.logsumexp(1))
    return torch.cat(parts).cpu()


def _per_question(asked: Sequence[Branches], chosen: Tensor, lengths: Sequence[int]) -> list[tuple[float, ...]]:
    sums = iter([float(one.double().sum()) for one in chosen.split(list(lengths))])
    return [tuple(next(sums) for _ in one.choices) for one in asked]
