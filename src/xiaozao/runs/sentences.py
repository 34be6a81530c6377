"""What happened in a run, as sentences in the reader's language."""

from collections.abc import Mapping
from typing import Any

from xiaozao.events import (
    Ended,
    Noticed,
)
from xiaozao.texts.catalogue import Language, has, say


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


def dropped_text(dropped: Mapping[str, int], language: Language) -> str:
    """`3 too long, 1 empty answer`."""
    names = {reason: say(f"dropped.{reason}", language) if has(f"dropped.{reason}") else reason for reason in dropped}
    return ", ".join(f"{count} {names[reason]}" for reason, count in dropped.items() if count)


def _text(key: str, language: Language, params: dict[str, Any]) -> str:
    try:
        return say(key, language, **params)
    except (KeyError, IndexError):
        return ""
