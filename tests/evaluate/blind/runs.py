"""A run that has answered its questions, as small as one can be, and a vote on it."""

import json
from collections.abc import Callable
from pathlib import Path

from xiaozao.evaluate.blind.ballot import BlindVote, Side, freeze, start_vote
from xiaozao.evaluate.blind.pairs import read_pairs
from xiaozao.evaluate.blind.votes import Choice, VoteLog, Votes
from xiaozao.store.files import RunFolder

BASE = "I am the model SmolLM2-135M and can help with item {0}.<|im_end|>"
TUNED = "Please send item {0} back within 14 days.\nWe refund you."


def answered(
    path: Path, count: int = 50, same: tuple[int, ...] = (), base: str = BASE, tuned: str = TUNED
) -> RunFolder:
    """A run folder with answers to `count` questions; those in `same` have the same answer from both models."""
    folder = RunFolder(path)
    folder.report.mkdir(parents=True)
    folder.spec.write_text("model: HuggingFaceTB/SmolLM2-135M-Instruct\ndata: shop.jsonl\n", encoding="utf-8")
    folder.events.write_text("", encoding="utf-8")
    for who, text in (("base", base), ("tuned", tuned)):
        told = ["Same" if n in same else text.format(n) for n in range(count)]
        answers = [
            {"question": f"How do I return item {n}?", "reference": "-", "answer": answer}
            for n, answer in enumerate(told)
        ]
        folder.answers(who).write_text(json.dumps({"answers": answers, "loss": 1.0}), encoding="utf-8")
    return folder


def a_vote(path: Path, count: int = 50, same: tuple[int, ...] = (), seed: int = 4711_0815) -> BlindVote:
    """A vote on such a run."""
    folder = answered(path, count, same)
    return start_vote(folder, *freeze(read_pairs(folder, "shop"), "shop", seed=seed))


def log_of(vote: BlindVote) -> VoteLog:
    return VoteLog(vote.folder.votes, [pair.id for pair in vote.ballot.pairs], clock=lambda: 1_700_000_000.0)


def vote_all(vote: BlindVote, voter: str, choose: Callable[[int, Side], Choice]) -> Votes:
    """Vote on every pair. choose: from the question's number in the order of the voter, and the tuned model's side."""
    log = log_of(vote)
    for number, pair in enumerate(vote.order(voter)):
        log.vote(voter, pair.id, choose(number, vote.key.tuned_on[pair.id]))
    return log.read()


def for_tuned(number: int, side: Side) -> Choice:
    return side


def for_base(number: int, side: Side) -> Choice:
    return "b" if side == "a" else "a"
