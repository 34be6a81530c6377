"""The data that a tracker gets: numbers by step, and the options that reveal nothing about the machine or the data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, Literal

from xiaozao.events import Evaluated, Event, Step

# Texts that may be shown to others. Any other text (a system prompt, names of columns and of people) stays here.
SHORTENED = ("model", "data", "validation", "questions")  # a file is shown without its folder
SHOWN = ("revision", "source", "targets", "also", "track")
HUB_ID = re.compile(r"(?:pypi:)?[\w.-]+(?:/[\w.-]+)?")


@dataclass(frozen=True)
class Point:
    """Numbers at one step."""

    kind: Literal["train", "validation"]
    step: int
    values: dict[str, float]


def point_of(event: Event) -> Point | None:
    """The numbers of an event; None for one that has no step."""
    match event:
        case Step():
            values = {
                "train/loss": event.loss,
                "train/learning_rate": event.learning_rate,
                "train/grad_norm": event.grad_norm,
                "train/epoch": event.epoch,
                "train/tokens_per_second": event.tokens_per_second,
                "train/peak_bytes": float(event.peak_bytes),
            }
            return Point("train", event.step, values)
        case Evaluated():
            numbers = {"loss": event.loss, "accuracy": event.accuracy, "margin": event.margin}
            measured = {f"validation/{name}": value for name, value in numbers.items() if value is not None}
            return Point("validation", event.step, measured)
    return None


def public_options(options: Mapping[str, Any], choices: Mapping[str, tuple[str, ...]]) -> dict[str, str | int | float]:
    """Numbers, switches and choices as they are, texts only where they are harmless, files by their name alone.

    `choices` are the values that an option can have, where there is a list of them.
    """
    shown: dict[str, str | int | float] = {}
    for name, value in options.items():
        if isinstance(value, int | float):
            shown[name] = value
        elif isinstance(value, str) and name in SHORTENED:
            shown[name] = _short(value)
        elif value and (name in SHOWN or choices.get(name)):
            shown[name] = ",".join(value) if isinstance(value, tuple | list) else str(value)
    return shown


def _short(value: str) -> str:
    """A hub's id as it is; of any other value, which is a path, only the file name."""
    return value if HUB_ID.fullmatch(value) else PureWindowsPath(value).name
