"""YAML as people mean it, and nothing that could hurt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozao.errors import UsageError
from xiaozao.spec.yamlfile import DEPTH, LIMIT, read_scalar, read_yaml, write_yaml

MEANINGS: list[tuple[str, object]] = [
    ("1e-4", 0.0001),
    ("1E5", 100000.0),
    ("-.5", -0.5),
    ("3", 3),
    ("+3", 3),
    ("007", 7),
    ("no", "no"),
    ("Yes", "Yes"),
    ("on", "on"),
    ("true", True),
    ("False", False),
    ("0o10", "0o10"),
    ("0x10", "0x10"),
    ("1_000", "1_000"),
    (".inf", ".inf"),
    (".nan", ".nan"),
    ("12:30", "12:30"),
    ("2024-01-01", "2024-01-01"),
    ("null", None),
    ("~", None),
    ('"3"', "3"),
    ("'null'", "null"),
    ("a,b", "a,b"),
    ("8GB", "8GB"),
]


@pytest.mark.parametrize(("text", "value"), MEANINGS)
def test_a_scalar_means_the_same_in_a_file_and_on_the_command_line(text: str, value: object) -> None:
    for found in (read_scalar(text), read_yaml(f"key: {text}", "f.yaml")["key"]):
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["[1, 2]", "{a: 1}", "a: b", "*x", "- a", "!!python/name:os.system", "C:\\x", "a #b", ""]
)
def test_what_is_no_scalar_stays_text_on_the_command_line(text: str) -> None:
    assert read_scalar(text) == text


REFUSED = [
    ("a: 1\na: 2", "duplicate key 'a'"),
    ("a: &x [1]\nb: *x", "aliases"),
    ("a: !!python/object/apply:os.system ['true']", "tag"),
    ("a: !!python/name:os.system", "tag"),
    ("\ta: 1", "\\t"),
    ("a:\t1", "\\t"),
    ("a: b: c", "line 1"),
    ("a: \x00", "character"),
    ("a: [1", "line"),
    ("a: " + "9" * 5000, "digits"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_could_hurt_or_mislead_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_yaml(text, "run.yaml")
    assert caught.value.key == "yaml"
    assert "run.yaml" in str(caught.value)
    assert reason in str(caught.value)


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = 'a0: &a0 ["x","x"]\n' + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(UsageError, match="aliases"):
        read_yaml(bomb, "bomb.yaml")


def test_deep_nesting_is_refused_without_exhausting_the_stack() -> None:
    with pytest.raises(UsageError) as caught:
        read_yaml("a: " + "[" * 10_000, "deep.yaml")
    assert caught.value.key == "yaml_depth"
    assert str(DEPTH) in str(caught.value)


def test_a_file_that_is_too_long_is_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError) as caught:
        read_yaml("a" * (LIMIT + 1), "long.yaml")
    assert caught.value.key == "yaml_too_long"
    assert str(LIMIT) in str(caught.value)
    assert str(LIMIT + 1) in str(caught.value)


@pytest.mark.parametrize("text", ["- 1", "3", "text"])
def test_a_file_must_be_a_mapping(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_yaml(text, "f.yaml")
    assert caught.value.key == "yaml_mapping"


@pytest.mark.parametrize("text", ["", "# only a comment", "null"])
def test_an_empty_file_gives_nothing(text: str) -> None:
    assert read_yaml(text, "f.yaml") == {}


def test_a_key_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(UsageError):
        read_yaml("? [1]\n: 2", "f.yaml")


@given(
    st.dictionaries(
        st.text("abcdefgh_", min_size=1),
        st.none()
        | st.booleans()
        | st.integers(-(10**18), 10**18)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.sampled_from(
            ["no", "yes", "null", "~", "3", "1_000", "0o10", "1:30", "", " x ", "a: b", "#x", "中文", "'", "\\"]
        ),
    )
)
def test_what_is_written_reads_back(values: dict[str, object]) -> None:
    found = read_yaml(write_yaml(values), "f.yaml")
    assert found == values
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in values.items()}


@pytest.mark.parametrize("text", ["1e5", "08", "12e4567", "0e10", "+08"])
def test_a_text_that_looks_like_a_number_reads_back_as_text(text: str) -> None:
    assert read_yaml(write_yaml({"revision": text}), "f.yaml") == {"revision": text}
