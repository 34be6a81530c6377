"""The verdict over all standard tests."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from xiaozao.evaluate.record import Record
from xiaozao.evaluate.standing import Standing, judge
from xiaozao.evaluate.statistics.power import items_for_margin
from xiaozao.evaluate.statistics.verdict import FEWEST
from xiaozao.evaluate.suite import Item, Kind, Suite
from xiaozao.evaluate.telling import standing_notes, standing_sentence
from xiaozao.spec.evaluation import DRIFT, MARGIN

N = 200


def suite(name: str, kind: Kind, chance: float = 0.0) -> Suite:
    return Suite(name, kind, tuple(Item(str(at), f"q{at}", ("a", "b"), "one_of", 0, chance) for at in range(N)))


ANSWERS, CHOICES = suite("facts.en", "generated"), suite("arc", "choice", 0.25)
TEXTS, SOLUTIONS = suite("texts.en", "text"), suite("solutions.en", "text")
Values = Callable[[int], float]


def records(who: str, asked: Suite, value: Values) -> list[Record]:
    return [Record(who, asked.name, item.id, "", "", value(at), 1, 0.0) for at, item in enumerate(asked.items)]


def standing(*sides: tuple[Suite, Values, Values], again: dict[str, Values] | None = None) -> Standing:
    told: list[Record] = []
    for asked, before, after in sides:
        told += [*records("base", asked, before), *records("tuned", asked, after)]
        if again is not None:
            told += records("again", asked, again.get(asked.name, before))
    return judge([asked for asked, _, _ in sides], told, MARGIN, DRIFT, again is not None)


def share(right: float) -> Values:
    return lambda at: float(at < right * N)


def bits(times: float) -> Values:
    """About one bit, which differs from item to item; `times` moves it by a little less or more in each."""
    return lambda at: (1 + at % 7 / 10) * (times + (at % 5 - 2) / 2000)


def outcomes(told: Standing) -> dict[str, str]:
    return {one.name: one.outcome for one in told.groups}


def test_lost_answers_are_a_loss_though_multiple_choice_stays() -> None:
    told = standing((ANSWERS, share(0.5), share(0.1)), (TEXTS, bits(1), bits(1)), (CHOICES, share(0.5), share(0.5)))
    assert outcomes(told) == {"answers.en": "regressed", "texts.en": "no_regression", "arc": "no_regression"}
    assert told.outcome == "regressed"


def test_lost_multiple_choice_is_shown_and_certifies_nothing() -> None:
    told = standing((ANSWERS, share(0.5), share(0.5)), (CHOICES, share(0.8), share(0.2)))
    assert outcomes(told)["arc"] == "regressed"
    assert [one.certifies for one in told.groups] == [True, False]
    assert told.outcome != "regressed"


def test_bits_per_byte_that_rise_within_the_margin_are_no_loss_and_beyond_it_are_one() -> None:
    told = standing((TEXTS, bits(1), bits(1.014)), (SOLUTIONS, bits(1), bits(1.05)))
    assert outcomes(told) == {"texts.en": "no_regression", "solutions.en": "no_regression"}
    assert told.outcome == "no_regression"
    told = standing((TEXTS, bits(1), bits(1.45)), (SOLUTIONS, bits(1), bits(1.05)))
    assert outcomes(told) == {"texts.en": "regressed", "solutions.en": "no_regression"}
    assert told.outcome == "regressed"


def test_a_model_that_cannot_do_the_items_is_judged_by_its_bits() -> None:
    told = standing((ANSWERS, share(0.01), share(0.0)), (TEXTS, bits(1), bits(1)))
    assert [one.informative for one in told.groups] == [False, True]
    assert told.outcome == "no_regression"


def test_a_model_that_can_do_nearly_all_is_not_judged_by_them_either() -> None:
    told = standing((ANSWERS, share(0.99), share(0.9)), (TEXTS, bits(1), bits(1)))
    assert not told.groups[0].informative


def test_without_anything_informative_nothing_is_said() -> None:
    assert standing((ANSWERS, share(0.0), share(0.0))).outcome == "inconclusive"


def test_a_change_within_the_noise_of_the_machine_is_no_verdict() -> None:
    def noisy(at: int) -> float:
        return float(at < 0.5 * N) if at >= 60 else 1 - float(at < 0.5 * N)

    quiet = standing((ANSWERS, share(0.5), share(0.3)), again={})
    assert quiet.outcome == "regressed" and quiet.groups[0].noise == 0
    loud = standing((ANSWERS, share(0.5), share(0.3)), again={"facts.en": noisy})
    assert loud.outcome == "inconclusive" and loud.groups[0].noise == 60


def test_nothing_changed_at_all_is_no_loss() -> None:
    told = standing((ANSWERS, share(0.5), share(0.5)), (TEXTS, bits(1), bits(1)), again={})
    assert told.outcome == "no_regression"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_order_of_suites_changes_no_verdict(order: Sequence[int]) -> None:
    sides = ((ANSWERS, share(0.5), share(0.4)), (TEXTS, bits(1), bits(1.05)), (SOLUTIONS, bits(1), bits(1.2)))
    plain = {one.name: one.verdict for one in standing(*sides).groups}
    assert {one.name: one.verdict for one in standing(*(sides[at] for at in order)).groups} == plain


def few(name: str, kind: Kind, n: int) -> Suite:
    return Suite(name, kind, suite(name, kind).items[:n])


@pytest.mark.parametrize(("n", "outcome"), [(3, "inconclusive"), (19, "inconclusive"), (20, "no_regression")])
def test_no_loss_is_not_said_of_few_items(n: int, outcome: str) -> None:
    told = standing((few("texts.en", "text", n), bits(1), bits(1)))
    document: dict[str, Any] = told.to_json()
    assert told.outcome == outcome
    notes = standing_notes(document["groups"], "en")
    if n < FEWEST:
        assert any("20 items would decide" in one for one in notes)
        assert any(f"only {n} were asked. Below 20" in one for one in notes)
    else:
        assert notes == [] and "(20 items or more" in standing_sentence(document, "en")


def test_few_items_may_show_a_loss_but_no_gain_of_a_mean() -> None:
    texts = few("texts.en", "text", 6)
    assert standing((texts, bits(1), bits(1.5))).outcome == "regressed"
    assert standing((texts, bits(1), bits(0.5))).outcome == "inconclusive"
    assert standing((texts, bits(1), bits(1.005))).outcome == "inconclusive"  # within the margin, of six


def test_a_verdict_that_drowns_in_noise_has_a_number_with_what_it_assumes() -> None:
    flipping: dict[str, Values] = {"facts.en": lambda at: float(at < N / 2) if at >= 12 else 0.0}
    told: dict[str, Any] = standing((ANSWERS, share(0.5), share(0.5)), again=flipping).to_json()
    group = told["groups"][0]
    assert group["outcome"] == "inconclusive" and group["n_needed"] is None
    assert group["n_least"] == items_for_margin(2 / (N + 2), MARGIN)
    note = next(one for one in standing_notes(told["groups"], "en") if "undecided" in one)
    assert f"at least {group['n_least']} items" in note and "margin of 3 %" in note
