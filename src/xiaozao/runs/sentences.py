"""Notices, failures and stages of a run as sentences in the reader's language.

The terminal's sentences for steps, validations and results are made in cli/run_text.py. The words themselves are in
the catalogues, texts/*.json.
"""

from collections.abc import Mapping
from typing import Any

from xiaozao.events import (
    Ended,
    Noticed,
)
from xiaozao.texts.catalogue import Language, has, say

MANY = 0.05  # of the rows


def notice_text(event: Noticed, language: Language) -> str:
    """The sentence of a notice; a journal of another version may hold one that we do not know."""
    try:
        return say(f"notice.{event.key}", language, **event.params)
    except KeyError:
        return f"{event.key} {event.params}"


def failure(ended: Ended, language: Language) -> tuple[str, list[str], str]:
    """What happened, the problems and what to do of a failed run, in the reader's language where we know the text."""
    params = dict(ended.params)
    what = _text(f"error.{ended.key}", language, params) or ended.message
    problems = [_text(f"problem.{one.get('key')}", language, one.get("params") or {}) or str(one)
                for one in ended.problems]  # fmt: skip
    return what, problems, _text(f"error.{ended.key}.fix", language, params)


def stage_name(stage: str, language: Language) -> str:
    """What a stage is called; a file that is fetched is its own name."""
    return say(f"stage.{stage}", language) if has(f"stage.{stage}") else stage


def left_out(dropped: Mapping[str, int], read: int, language: Language) -> str:
    """A warning where more than MANY of the rows are left out: the share, the reasons and what to do; else nothing."""
    counts = {reason: count for reason, count in dropped.items() if reason != "not_sampled" and count}
    wanted, count = read - dropped.get("not_sampled", 0), sum(counts.values())
    if not count or count <= MANY * wanted:
        return ""
    most = max(counts, key=lambda reason: counts[reason])
    key = f"left_out.{'row' if most.startswith('row_') else most}"
    advice = say(key if has(key) else "left_out.other", language)
    share = f"{count / wanted:.0%}"
    return say("left_out", language, share=share, count=count, read=wanted, reasons=counts, advice=advice)


def _text(key: str, language: Language, params: dict[str, Any]) -> str:
    try:
        return say(key, language, **params)
    except (KeyError, IndexError):
        return ""
