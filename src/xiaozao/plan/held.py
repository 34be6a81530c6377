"""A budget of a GPU has room for what its allocator holds, not only for what is in use of it. No torch."""

from collections.abc import Callable
from dataclasses import replace

from xiaozao.plan.ladder import Choice, larger_budget
from xiaozao.spec.run import RunSpec

Holds = Callable[[RunSpec], int | None]  # a decided run -> the bytes that are reserved at its peak, where that is known
TRIES = 3


def within(budget: int, choose: Callable[[int], Choice], holds: Holds) -> Choice:
    """The choice of which all that is reserved fits; what an allocator holds unused is taken off the next try's budget.

    Budget and choice as in plan/ladder.py. Where what is in use does not fit by itself, nothing is asked further.
    """
    asked = budget
    for last in [False] * (TRIES - 1) + [True]:
        choice = choose(asked)
        plan = replace(choice.plan, budget_bytes=budget)
        reserved = holds(choice.spec) if plan.fits else None
        if reserved is None:
            return replace(choice, plan=plan)
        held = plan.holding(reserved)
        if held.fits:
            return replace(choice, plan=held)
        if last or not choice.plan.fits:  # nothing is smaller
            break
        asked = max(1, budget - (held.peak_bytes - plan.peak_bytes))
    return replace(choice, plan=held, ways=(*choice.ways[:-1], larger_budget(held)))
