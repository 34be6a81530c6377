"""The command that asks for an evaluation, from what was asked."""

import shlex

import pytest

from xiaozao.spec.evaluation import BenchSpec, FormatSpec, command_of
from xiaozao.spec.parts import parse_bytes


@pytest.mark.parametrize(
    ("spec", "command"),
    [
        (BenchSpec(run="r"), "zao eval bench my-run"),
        (BenchSpec(run="r", tasks={"a": "/b c"}, margin=0.001, noise=False),
         "zao eval bench my-run --task 'a=/b c' --margin 0.1 --once"),
        (FormatSpec(run="r", questions="/q", tokens=32, examples=0, limit=4),
         "zao eval format my-run --questions /q --limit 4 --tokens 32 --examples 0"),
    ],
)  # fmt: skip
def test_a_command_has_all_that_was_asked_otherwise(spec: BenchSpec | FormatSpec, command: str) -> None:
    assert command_of(spec, "my-run") == command


@pytest.mark.parametrize("budget", [1, 970_000_123, 4_000_000_000])
def test_a_budget_is_read_back_to_the_byte(budget: int) -> None:
    words = shlex.split(command_of(BenchSpec(run="r", budget=budget), "r"))
    assert parse_bytes(words[-1]) == budget
