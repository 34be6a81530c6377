import json
from collections.abc import Sequence

import pytest

from xiaozao.evaluate.compare import Pair, choose, compare
from xiaozao.evaluate.contract import Answer, Judgement

REFERENCE = '{"intent": "refund", "order": null}'
WRONG = '{"intent": "other", "order": null}'


def side(answers: Sequence[str]) -> list[Answer]:
    return [Answer(f"question {number}", REFERENCE, answer) for number, answer in enumerate(answers)]


def pairs(kinds: Sequence[tuple[bool, bool]]) -> tuple[Pair, ...]:
    """Questions of which base and tuned were right or not."""
    answer = Answer("q", REFERENCE, REFERENCE)
    return tuple(
        Pair(number, answer, answer, Judgement(True, before, {}), Judgement(True, after, {}))
        for number, (before, after) in enumerate(kinds, 1)
    )


def test_from_nothing_to_everything_is_better_by_more_than_chance() -> None:
    found = compare(side(["sorry"] * 60), side([REFERENCE] * 41 + [WRONG] * 19))
    valid, exact = found.changes
    assert (valid.measure, valid.before, valid.after, valid.outcome) == ("valid_json", 0, 60, "better")
    assert (exact.measure, exact.before, exact.after, exact.outcome) == ("exact", 0, 41, "better")
    assert (found.outcome, found.missed) == ("better", 19)


def test_a_few_questions_cannot_prove_a_small_change() -> None:
    found = compare(side([WRONG] * 8 + [REFERENCE] * 4), side([WRONG] * 5 + [REFERENCE] * 7))
    assert found.changes[1].p == pytest.approx(0.25)
    assert found.outcome == "unclear"


def test_two_measures_are_corrected_for_each_other() -> None:
    """Six gained of six has p = 0.031 alone, but not when another measure was tested beside it."""
    found = compare(side([WRONG] * 6), side([REFERENCE] * 6))
    exact = found.changes[1]
    assert exact.p < 0.05 < exact.p_adjusted
    assert found.outcome == "unclear"


def test_losing_what_the_base_model_could_do_is_worse() -> None:
    assert compare(side([REFERENCE] * 20), side(["no"] * 20)).outcome == "worse"


def test_better_form_with_worse_content_is_mixed() -> None:
    before = ["no"] * 40 + [REFERENCE] * 20
    after = [WRONG] * 60
    assert compare(side(before), side(after)).outcome == "mixed"


def test_plain_text_has_one_measure() -> None:
    answers = [Answer("q", "Paris", "Paris")]
    assert [change.measure for change in compare(answers, answers).changes] == ["exact"]


def test_no_questions_compare_to_nothing() -> None:
    found = compare([], [])
    assert (found.n, found.outcome) == (0, "unclear")


def test_the_ten_shown_are_a_mix_that_includes_misses() -> None:
    kinds = [(False, True)] * 40 + [(False, False)] * 15 + [(True, True)] * 3 + [(True, False)] * 2
    shown = choose(pairs(kinds))
    seen = [(pair.base_verdict.exact, pair.tuned_verdict.exact) for pair in shown]
    assert len(shown) == 10
    assert seen.count((True, False)) == 2
    assert seen.count((False, False)) == 3
    assert seen.count((True, True)) == 1
    assert [pair.number for pair in shown] == sorted(pair.number for pair in shown)


@pytest.mark.parametrize(
    "kinds",
    [
        [(False, False)] * 60,
        [(False, True)] * 60,
        [(True, True)] * 60,
        [(True, False)] * 60,
        [(False, False)] * 9 + [(True, True)],
        [(False, True)] * 59 + [(False, False)],
        [(True, True)] * 3 + [(False, False)] * 20 + [(True, False)],
    ],
)
def test_ten_are_shown_whatever_the_result(kinds: list[tuple[bool, bool]]) -> None:
    shown = choose(pairs(kinds))
    assert len({pair.number for pair in shown}) == 10
    assert any(not pair.tuned_verdict.exact for pair in shown) == any(not after for _, after in kinds)


def test_fewer_than_ten_are_all_shown() -> None:
    assert [pair.number for pair in choose(pairs([(False, True), (False, False), (True, True)]))] == [1, 2, 3]


def test_an_answer_in_another_key_order_is_not_a_change() -> None:
    turned = json.dumps({"order": None, "intent": "refund"})
    found = compare(side([REFERENCE]), side([turned]))
    assert (found.changes[1].gained, found.changes[1].lost) == (0, 0)
