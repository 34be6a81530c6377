import pytest

from xiaozao.evaluate.contract import Answer, Contract, judge, learn_contract, read_object, score

REFERENCE = '{"intent": "refund", "order": null, "urgency": 1}'
TICKET = learn_contract([REFERENCE])


def answered(answer: str, reference: str = REFERENCE) -> Answer:
    return Answer("Where is my money?", reference, answer)


def test_contract_is_the_keys_of_json_references_in_their_order() -> None:
    assert learn_contract([REFERENCE, '{"order": "A1", "intent": "x", "urgency": 2}']) == Contract(
        ("intent", "order", "urgency")
    )


def test_a_key_that_only_some_references_have_is_optional() -> None:
    contract = learn_contract(['{"a": 1}', '{"b": 2, "a": 1}'])
    assert contract == Contract(("a",), ("b",))
    assert judge(answered('{"a": 1}', '{"a": 1}'), contract).exact
    assert not judge(answered('{"a": 1}', '{"a": 1, "b": 2}'), contract).exact
    assert judge(answered('{"a": 1}', '{"a": 1, "b": 2}'), contract).valid


@pytest.mark.parametrize("references", [[], ["hello"], [REFERENCE, "hello"], ["[1]"], ["3"]])
def test_references_that_are_not_all_objects_make_a_plain_text_contract(references: list[str]) -> None:
    assert not learn_contract(references).is_json


@pytest.mark.parametrize("answer", [REFERENCE, f"\n  {REFERENCE}  ", '{"urgency":1,"order":null,"intent":"refund"}'])
def test_white_space_and_key_order_do_not_matter(answer: str) -> None:
    assert judge(answered(answer), TICKET).exact


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "refund",
        f"```json\n{REFERENCE}\n```",
        f"Here you are: {REFERENCE}",
        f"{REFERENCE} {REFERENCE}",
        f"[{REFERENCE}]",
        REFERENCE[:-1],
        '{"intent": "refund", "order": null}',
        '{"intent": "refund", "order": null, "urgency": 1, "note": "hi"}',
        '{"intent": "refund", "order": null, "urgency": NaN}',
        '{"intent": "x", "intent": "refund", "order": null, "urgency": 1}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
    ],
)
def test_anything_but_one_object_with_the_keys_is_not_valid(answer: str) -> None:
    verdict = judge(answered(answer), TICKET)
    assert verdict.valid is False
    assert not verdict.exact


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ('{"intent": "Refund", "order": null, "urgency": 1}', "intent"),
        ('{"intent": "refund", "order": "null", "urgency": 1}', "order"),
        ('{"intent": "refund", "order": null, "urgency": "1"}', "urgency"),
        ('{"intent": "refund", "order": null, "urgency": true}', "urgency"),
    ],
)
def test_one_wrong_value_or_type_is_valid_but_not_exact(answer: str, wrong: str) -> None:
    verdict = judge(answered(answer), TICKET)
    assert verdict.valid
    assert not verdict.exact
    assert [name for name, right in verdict.fields.items() if not right] == [wrong]


def test_score_counts_each_field_on_its_own() -> None:
    answers = [
        answered(REFERENCE),
        answered('{"intent": "refund", "order": "A1", "urgency": 1}'),
        answered('{"intent": "refund", "extra": 0}'),
        answered("no idea"),
    ]
    result = score(answers, TICKET)
    assert (result.n, result.valid_json, result.exact) == (4, 2, 1)
    assert result.fields == {"intent": 3, "order": 1, "urgency": 2}


def test_plain_text_is_compared_up_to_white_space() -> None:
    answers = [answered(" It  is\nParis. ", "It is Paris."), answered("it is Paris.", "It is Paris.")]
    result = score(answers, learn_contract(["It is Paris."]))
    assert (result.n, result.valid_json, result.exact, result.fields) == (2, None, 1, {})


def test_nested_values_are_equal_whatever_the_order_of_their_keys() -> None:
    reference = '{"item": {"name": "杯子", "count": 2}}'
    contract = learn_contract([reference])
    assert judge(answered('{"item": {"count": 2, "name": "\\u676f\\u5b50"}}', reference), contract).exact
    assert not judge(answered('{"item": {"count": 2.5, "name": "杯子"}}', reference), contract).exact


def test_a_lone_surrogate_or_huge_number_in_an_answer_does_no_harm() -> None:
    assert read_object('{"a": "\\ud800"}') == {"a": "\ud800"}
    assert judge(answered('{"intent": "\\ud800", "order": 1e999, "urgency": 1}'), TICKET).valid
