"""What came of a blind vote: the sign test on decisive questions, and what may have decided besides the answers.

    Votes, Key -> per question, over all voters -> wins, losses, ties, both bad -> Outcome

Several voters on the same question are not several questions: a question counts once, by the mean of its voters.
Repeated pairs count for the voters' consistency alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from xiaozao.evaluate.blind.ballot import BlindVote, Key
from xiaozao.evaluate.blind.votes import Choice, Votes, Why
from xiaozao.evaluate.statistics.agreement import Kappa, cohen, krippendorff
from xiaozao.evaluate.statistics.bias import Adjusted, Sides, adjusted_share, length_covariate, side_bias
from xiaozao.evaluate.statistics.intervals import SIGNIFICANT, Interval, wilson
from xiaozao.evaluate.statistics.paired import paired_difference, sign_test
from xiaozao.evaluate.statistics.power import detectable_preference, posterior, wins_needed
from xiaozao.evaluate.statistics.sequential import evidence, may_stop

Winner = Literal["tuned", "base", "tie", "bad"]
Verdict = Literal["tuned", "base", "equal", "none", "open"]
ALIKE = Interval(0.4, 0.6)  # only a 90 % interval inside it is called "about equal"


@dataclass(frozen=True)
class Question:
    """One question, over all voters. winner is None where all of them skipped it, or nobody has voted yet."""

    text: str
    tuned: str
    base: str
    tuned_on_a: bool
    winner: Winner | None
    votes: int


@dataclass(frozen=True)
class Consistency:
    """How often a voter chose the same answer when a pair came again with its sides swapped."""

    voter: str
    same: int
    of: int


@dataclass(frozen=True)
class Lengths:
    """The mean lengths in characters, and how often the longer answer won among those of different length."""

    base: float
    tuned: float
    longer_won: int
    of: int
    adjusted: Adjusted


@dataclass(frozen=True)
class Outcome:
    """The result. `skipped` questions have no winner; `same` ones had the same answer twice and were not asked."""

    voters: tuple[str, ...]
    questions: tuple[Question, ...]
    wins: int
    losses: int
    ties: int
    both_bad: int
    skipped: int
    same: int
    why: Why
    sides: Sides
    lengths: Lengths
    consistency: tuple[Consistency, ...]
    alpha: float | None
    kappa: Kappa | None

    @property
    def decisive(self) -> int:
        return self.wins + self.losses

    @property
    def voted(self) -> int:
        return self.decisive + self.ties + self.both_bad

    @property
    def p(self) -> float:
        """Of the exact sign test. It holds where the number of votes was fixed beforehand."""
        return sign_test(self.wins, self.losses)

    @property
    def interval(self) -> Interval:
        return wilson(self.wins, self.decisive)

    @property
    def posterior(self) -> float:
        """The probability that the tuned model is preferred."""
        return posterior(self.wins, self.losses)

    @property
    def evidence(self) -> float:
        """Holds however often one looked; 20 or more decides."""
        return evidence(self.wins, self.losses)

    @property
    def net(self) -> float:
        """(wins - losses) / all votes."""
        return (self.wins - self.losses) / self.voted if self.voted else 0.0

    @property
    def net_interval(self) -> Interval:
        return paired_difference(self.wins, self.losses, self.voted)

    @property
    def needed(self) -> int | None:
        """The wins that so many decisive votes would have needed."""
        return wins_needed(self.decisive)

    @property
    def detectable(self) -> float | None:
        """The true share of wins that so many decisive votes find with 80 % probability."""
        return detectable_preference(self.decisive)

    @property
    def verdict(self) -> Verdict:
        """Who is preferred; `none` if nobody is, `open` if the vote was looked into before it was decided."""
        decided = may_stop(self.wins, self.losses) if self.why != "finished" else self.p < SIGNIFICANT
        if decided:
            return "tuned" if self.wins > self.losses else "base"
        if self.why != "finished":
            return "open"
        narrow = wilson(self.wins, self.decisive, 1 - 2 * SIGNIFICANT)
        return "equal" if self.decisive and ALIKE.low < narrow.low and narrow.high < ALIKE.high else "none"


def outcome(vote: BlindVote, votes: Votes, why: Why) -> Outcome:
    """Count the votes."""
    questions = _questions(vote, votes.choices)
    winners = [question.winner for question in questions]
    decided = [question for question in questions if question.winner in ("tuned", "base")]
    categories = [
        [winner for chosen in votes.choices.values() if (winner := _winner(vote.key, id, chosen)) is not None]
        for id in vote.key.asked
    ]
    return Outcome(
        voters=votes.voters,
        questions=questions,
        wins=winners.count("tuned"),
        losses=winners.count("base"),
        ties=winners.count("tie"),
        both_bad=winners.count("bad"),
        skipped=winners.count(None),
        same=vote.ballot.same,
        why=why,
        sides=_sides(votes.choices),
        lengths=_lengths(questions, decided),
        consistency=tuple(_consistency(vote.key, voter, votes.choices[voter]) for voter in votes.voters),
        alpha=krippendorff(categories) if len(votes.voters) > 1 else None,
        kappa=_kappa(vote.key, votes),
    )


def standing(vote: BlindVote, votes: Votes) -> Why | None:
    """Why the result may be shown: all voters are through, or the only one may stop early; None while it may not."""
    pairs = [pair.id for pair in vote.ballot.pairs]
    waited_for = (set(votes.issued) - {""}) - set(votes.voters)
    if "" in votes.issued and not votes.returned:
        waited_for.add("")
    if votes.voters and not waited_for and not any(votes.open(voter, pairs) for voter in votes.voters):
        return "finished"
    if len(votes.voters) == 1 and not waited_for and decided_early(vote.key, votes.choices[votes.voters[0]]):
        return "decided"
    return None


def decided_early(key: Key, chosen: Mapping[str, Choice]) -> bool:
    """Whether the votes of one voter decide already, however often he looked."""
    winners = [_winner(key, id, chosen) for id in key.asked]
    return may_stop(winners.count("tuned"), winners.count("base"))


def decisive(key: Key, chosen: Mapping[str, Choice]) -> int:
    """How many votes of one voter are decisive; which way is not told."""
    return sum(chosen.get(id) in ("a", "b") for id in key.asked)


def _questions(vote: BlindVote, choices: Mapping[str, Mapping[str, Choice]]) -> tuple[Question, ...]:
    pairs = {pair.id: pair for pair in vote.ballot.pairs}
    questions = []
    for id in vote.key.asked:
        winners = [winner for chosen in choices.values() if (winner := _winner(vote.key, id, chosen)) is not None]
        side = vote.key.tuned_on[id]
        tuned, base = (pairs[id].a, pairs[id].b) if side == "a" else (pairs[id].b, pairs[id].a)
        questions.append(Question(pairs[id].question, tuned, base, side == "a", _together(winners), len(winners)))
    return tuple(questions)


def _winner(key: Key, id: str, chosen: Mapping[str, Choice]) -> Winner | None:
    """Whom a voter preferred; None for a pair that was skipped or not voted on."""
    choice = chosen.get(id)
    if choice == "tie" or choice == "bad":
        return choice
    if choice == "a" or choice == "b":
        return "tuned" if key.tuned_on[id] == choice else "base"
    return None


def _together(winners: Sequence[Winner]) -> Winner | None:
    """What the voters say together: the sign of their mean; where it is zero, both bad if more than half say so."""
    if not winners:
        return None
    mean = winners.count("tuned") - winners.count("base")
    if mean:
        return "tuned" if mean > 0 else "base"
    return "bad" if 2 * winners.count("bad") > len(winners) else "tie"


def _sides(choices: Mapping[str, Mapping[str, Choice]]) -> Sides:
    """The sides that were chosen, over all votes, repeated pairs too."""
    every = [choice for chosen in choices.values() for choice in chosen.values()]
    return side_bias(every.count("a"), every.count("b"))


def _lengths(questions: Sequence[Question], decided: Sequence[Question]) -> Lengths:
    voted = [question for question in questions if question.winner is not None] or list(questions)
    differences = [float(len(question.tuned) - len(question.base)) for question in decided]
    wins = [question.winner == "tuned" for question in decided]
    sides = [1.0 if question.tuned_on_a else -1.0 for question in decided]
    apart = [(win, more) for win, more in zip(wins, differences, strict=True) if more]
    return Lengths(
        base=sum(len(question.base) for question in voted) / len(voted),
        tuned=sum(len(question.tuned) for question in voted) / len(voted),
        longer_won=sum(win == (more > 0) for win, more in apart),
        of=len(apart),
        adjusted=adjusted_share(wins, [length_covariate(differences), sides]),
    )


def _consistency(key: Key, voter: str, chosen: Mapping[str, Choice]) -> Consistency:
    pairs = [(_winner(key, again, chosen), _winner(key, first, chosen)) for again, first in key.repeats.items()]
    both = [(second, first) for second, first in pairs if second is not None and first is not None]
    return Consistency(voter, sum(second == first for second, first in both), len(both))


def _kappa(key: Key, votes: Votes) -> Kappa | None:
    """Cohen's kappa, where there are exactly two voters."""
    if len(votes.voters) != 2:
        return None
    first, second = (votes.choices[voter] for voter in votes.voters)
    pairs = [(_winner(key, id, first), _winner(key, id, second)) for id in key.asked]
    both = [(left, right) for left, right in pairs if left is not None and right is not None]
    return cohen([left for left, _ in both], [right for _, right in both])
