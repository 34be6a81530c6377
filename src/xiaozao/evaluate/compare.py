"""Is it better? Both models' answers judged, and each measure tested on the same questions before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

from xiaozao.evaluate.contract import Answer, Contract, Judgement, Score, judge, learn_contract, score
from xiaozao.evaluate.statistics.intervals import SIGNIFICANT
from xiaozao.evaluate.statistics.paired import holm, mcnemar

SHOWN = 10  # answers side by side


@dataclass(frozen=True)
class Change:
    """One measure before and after. gained: questions that became right. p_adjusted: corrected for all measures."""

    measure: str  # "valid_json" or "exact"
    before: int
    after: int
    gained: int
    lost: int
    p: float
    p_adjusted: float

    @property
    def outcome(self) -> str:
        """`better`, `worse`, or `unclear` where it may be chance."""
        if self.p_adjusted >= SIGNIFICANT:
            return "unclear"
        return "better" if self.gained > self.lost else "worse"


@dataclass(frozen=True)
class Pair:
    """One question with both answers, judged. `number` counts from 1."""

    number: int
    base: Answer
    tuned: Answer
    base_verdict: Judgement
    tuned_verdict: Judgement


@dataclass(frozen=True)
class Comparison:
    """Both models against the contract."""

    contract: Contract
    base: Score
    tuned: Score
    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]

    @property
    def n(self) -> int:
        return len(self.pairs)

    @property
    def outcome(self) -> str:
        """Over all measures: `better`, `worse`, `mixed` or `unclear`."""
        outcomes = {change.outcome for change in self.changes} - {"unclear"}
        return "mixed" if len(outcomes) > 1 else next(iter(outcomes), "unclear")

    @property
    def missed(self) -> int:
        """How many questions the tuned model did not get exactly right."""
        return self.n - self.tuned.exact


def compare(base: Sequence[Answer], tuned: Sequence[Answer]) -> Comparison:
    """Judge the answers of both models to the same questions, and test whether what changed is more than chance."""
    contract = learn_contract([answer.reference for answer in base])
    pairs = tuple(
        Pair(number, before, after, judge(before, contract), judge(after, contract))
        for number, (before, after) in enumerate(zip(base, tuned, strict=True), 1)
    )
    judged: dict[str, list[tuple[bool, bool]]] = {}
    if contract.is_json:
        judged["valid_json"] = [(bool(pair.base_verdict.valid), bool(pair.tuned_verdict.valid)) for pair in pairs]
    judged["exact"] = [(pair.base_verdict.exact, pair.tuned_verdict.exact) for pair in pairs]
    return Comparison(contract, score(base, contract), score(tuned, contract), pairs, _changes(judged))


def choose(pairs: Sequence[Pair], count: int = SHOWN) -> tuple[Pair, ...]:
    """Choose answers to show, in the order of the questions; up to half of them are mistakes of the tuned model.

    Mistakes that the base model did not make are preferred. Each kind is spread evenly over the list.
    """
    kinds: dict[tuple[bool, bool], list[Pair]] = {}
    for pair in pairs:
        kinds.setdefault((pair.base_verdict.exact, pair.tuned_verdict.exact), []).append(pair)
    lost, missed = kinds.get((True, False), []), kinds.get((False, False), [])
    gained, kept = kinds.get((False, True), []), kinds.get((True, True), [])
    wrong_places = max(count // 2, count - len(gained) - len(kept))
    wrong = _spread(lost, wrong_places)
    wrong += _spread(missed, wrong_places - len(wrong))
    right = _spread(kept, max(1, count - len(wrong) - len(gained)))
    right += _spread(gained, count - len(wrong) - len(right))
    return tuple(sorted([*wrong, *right], key=lambda pair: pair.number))


def _changes(judged: dict[str, list[tuple[bool, bool]]]) -> tuple[Change, ...]:
    p_values = [mcnemar(one.count((False, True)), one.count((True, False))) for one in judged.values()]
    return tuple(
        Change(
            measure,
            before=sum(before for before, _ in one),
            after=sum(after for _, after in one),
            gained=one.count((False, True)),
            lost=one.count((True, False)),
            p=p,
            p_adjusted=adjusted,
        )
        for (measure, one), p, adjusted in zip(judged.items(), p_values, holm(p_values), strict=True)
    )


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """At most `count` of the pairs, evenly spaced."""
    count = min(count, len(pairs))
    return [pairs[index * len(pairs) // count] for index in range(count)]
