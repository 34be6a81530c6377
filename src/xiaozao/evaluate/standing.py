"""Where a model stands after training: the standard tests before and after, judged together.

    what certifies       answers that the model writes (one group per language), bits per byte of solutions and of texts
    what is shown        the topics of the answers, and multiple choice: a model can lose all its manners and keep those

A group is not informative where the base model hardly does better than guessing, or hardly fails: then its answers can
show neither a loss nor a gain, and the bits per byte decide.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from xiaozao.evaluate.record import Record
from xiaozao.evaluate.statistics.retention import is_informative
from xiaozao.evaluate.statistics.verdict import Outcome, Verdict, flips, jointly, verdict, verdict_of_means
from xiaozao.evaluate.suite import Kind, Suite

CEILING = 0.95  # of the items; above it hardly any is left to be gained
ANSWERS = "answers"
Overall = Literal["regressed", "no_regression", "improved", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """One group of items, judged. noise: how many of `noise_n` items two evaluations of the base differ in, or the mean
    difference of their bits; None where the base was evaluated once."""

    name: str
    kind: Kind
    certifies: bool
    informative: bool
    chance: float
    verdict: Verdict
    noise: float | None

    @property
    def outcome(self) -> Outcome:
        """The verdict. Bits per byte move with every training; a rise that is surely within the margin is none."""
        judged = self.verdict
        if self.kind == "text" and judged.outcome == "regressed" and judged.worst > -judged.margin:
            return "inconclusive" if judged.few else "no_regression"
        return judged.outcome


@dataclass(frozen=True)
class Topic:
    """Right answers of one suite, before and after."""

    name: str
    n: int
    before: float
    after: float


@dataclass(frozen=True)
class Standing:
    """All groups and topics of one evaluation."""

    groups: tuple[Group, ...]
    topics: tuple[Topic, ...]

    @property
    def outcome(self) -> Overall:
        """Regressed if any group that certifies did; no regression only if each of them shows so."""
        outcomes = {one.outcome for one in self.groups if one.certifies and one.informative}
        if not outcomes or "regressed" in outcomes:
            return "regressed" if outcomes else "inconclusive"
        if "inconclusive" in outcomes:
            return "inconclusive"
        return "improved" if "improved" in outcomes else "no_regression"

    def to_json(self) -> dict[str, object]:
        """Shares and margins are fractions of 1, or bits per byte."""
        return {
            "outcome": self.outcome,
            "groups": [_document(one) for one in self.groups],
            "topics": [asdict(one) for one in self.topics],
        }


def judge(
    suites: Sequence[Suite], records: Iterable[Record], margin: float, drift: Mapping[str, float], twice: bool
) -> Standing:
    """Judge the records of "base" and "tuned", against the noise between "base" and "again" if the base sat twice.

    margin: of right answers. drift: of bits per byte, by topic, as a share of what they were before.
    """
    told = {one.key: one for one in records}
    groups = [_group(name, ours, told, margin, drift, twice) for name, ours in _groups(suites).items()]
    certified = jointly({one.name: one.verdict for one in groups if one.certifies and one.informative})
    done = [Group(**{**vars(one), "verdict": certified.get(one.name, one.verdict)}) for one in groups]
    topics = [
        Topic(one.name, len(one.items), _mean(_values(told, "base", [one])), _mean(_values(told, "tuned", [one])))
        for one in suites
        if one.kind == "generated"
    ]
    return Standing(tuple(done), tuple(topics))


def _groups(suites: Sequence[Suite]) -> dict[str, list[Suite]]:
    """The suites that are judged together: all that is generated in one language; every other suite alone."""
    groups: dict[str, list[Suite]] = {}
    for suite in suites:
        language = suite.name.rpartition(".")[2]
        groups.setdefault(f"{ANSWERS}.{language}" if suite.kind == "generated" else suite.name, []).append(suite)
    return groups


def _group(
    name: str,
    suites: Sequence[Suite],
    told: Mapping[tuple[str, str, str], Record],
    margin: float,
    drift: Mapping[str, float],
    twice: bool,
) -> Group:
    kind, n = suites[0].kind, sum(len(one.items) for one in suites)
    chance = sum(one.chance * len(one.items) for one in suites) / n
    before, after = _values(told, "base", suites), _values(told, "tuned", suites)
    again = _values(told, "again", suites) if twice else None
    if kind == "text":
        noise = None if again is None else _mean([abs(one - other) for one, other in zip(before, again, strict=True)])
        # Identical runs differ in the last bits; what they differ by in the mean is what a mean can be off by.
        judged = verdict_of_means(before, after, drift[name.partition(".")[0]] * _mean(before), noise or 0.0)
        return Group(name=name, kind=kind, certifies=True, informative=True, chance=0.0, verdict=judged, noise=noise)
    was, now = ([value > 0.5 for value in values] for values in (before, after))
    flipped = None if again is None else flips(was, [value > 0.5 for value in again])
    return Group(
        name=name,
        kind=kind,
        certifies=name.partition(".")[0] == ANSWERS,
        informative=is_informative(sum(was), n, chance) and sum(was) <= CEILING * n,
        chance=chance,
        verdict=verdict(was, now, margin, flipped or 0),
        noise=flipped,
    )


def _values(told: Mapping[tuple[str, str, str], Record], who: str, suites: Sequence[Suite]) -> list[float]:
    return [told[who, suite.name, item.id].value for suite in suites for item in suite.items]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _document(group: Group) -> dict[str, object]:
    judged = group.verdict
    return {
        "name": group.name, "kind": group.kind, "outcome": group.outcome, "certifies": group.certifies,
        "informative": group.informative, "n": judged.n, "before": judged.before, "after": judged.after,
        "difference": judged.difference, "low": judged.interval.low, "high": judged.interval.high, "p": judged.p,
        "p_adjusted": judged.p_adjusted, "psi": judged.psi, "mde": judged.mde, "margin": judged.margin,
        "chance": group.chance, "noise": group.noise, "n_needed": judged.n_needed,
        "n_least": judged.least, "few": judged.few,
    }  # fmt: skip
