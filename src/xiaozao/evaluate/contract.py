"""The form that answers must have, learned from the reference answers, and how many answers keep to it.

    references are all JSON objects    valid: the whole answer is one JSON object with the contract's keys
                                       exact: every field equals the reference's
    anything else                      exact: the same text, up to white space

There is no tolerance for a code fence or a friendly sentence around the object: the program that reads the tickets has
none either.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a model answered to a question whose right answer is known."""

    question: str
    reference: str
    answer: str


@dataclass(frozen=True)
class Contract:
    """The keys of the references, in their order: `required` in all of them, `optional` in some. None: plain text."""

    required: tuple[str, ...] | None = None
    optional: tuple[str, ...] = ()

    @property
    def is_json(self) -> bool:
        return self.required is not None

    @property
    def fields(self) -> tuple[str, ...]:
        return (*(self.required or ()), *self.optional)

    def allows(self, answer: dict[str, object]) -> bool:
        """Whether an object has every required key and none that no reference has."""
        return set(self.required or ()) <= answer.keys() <= set(self.fields)


@dataclass(frozen=True)
class Judgement:
    """One answer, judged. `valid` is None where the contract is plain text; `fields` says which are right."""

    valid: bool | None
    exact: bool
    fields: dict[str, bool]


@dataclass(frozen=True)
class Score:
    """Counts out of `n` answers; `valid_json` is None where the contract is plain text."""

    n: int
    valid_json: int | None
    exact: int
    fields: dict[str, int]


def learn_contract(references: Sequence[str]) -> Contract:
    """The contract that all references keep."""
    objects = [read_object(reference) for reference in references]
    parsed = [one for one in objects if one is not None]
    if not parsed or len(parsed) < len(objects):
        return Contract()
    keys = dict.fromkeys(key for one in parsed for key in one)
    required = tuple(key for key in keys if all(key in one for one in parsed))
    return Contract(required, tuple(key for key in keys if key not in required))


def judge(answer: Answer, contract: Contract) -> Judgement:
    """Whether one answer has the right form and the right content."""
    if not contract.is_json:
        return Judgement(None, answer.answer.split() == answer.reference.split(), {})
    given = read_object(answer.answer)
    expected = read_object(answer.reference) or {}
    if given is None:
        return Judgement(False, False, dict.fromkeys(contract.fields, False))
    fields = {name: same_value(given, expected, name) for name in contract.fields}
    valid = contract.allows(given)
    return Judgement(valid, valid and all(fields.values()), fields)


def score(answers: Sequence[Answer], contract: Contract) -> Score:
    """How many answers are valid, exact, and right in each field."""
    verdicts = [judge(answer, contract) for answer in answers]
    return Score(
        n=len(verdicts),
        valid_json=sum(verdict.valid is True for verdict in verdicts) if contract.is_json else None,
        exact=sum(verdict.exact for verdict in verdicts),
        fields={name: sum(verdict.fields[name] for verdict in verdicts) for name in contract.fields},
    )


def read_object(text: str) -> dict[str, object] | None:
    """The JSON object that is the whole text, or None. NaN and repeated keys are not JSON that others would read."""
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):  # a model may well answer with ten thousand brackets
        return None
    return value if isinstance(value, dict) else None


def same_value(given: dict[str, object], expected: dict[str, object], name: str) -> bool:
    """Whether a field has the same value in both, or is absent from both. In JSON, unlike Python, true is not 1."""
    if name not in given or name not in expected:
        return (name in given) == (name in expected)
    return json.dumps(given[name], sort_keys=True) == json.dumps(expected[name], sort_keys=True)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a key occurs twice")
    return unique


def _refuse(constant: str) -> object:
    raise ValueError(constant)
