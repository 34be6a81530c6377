"""What a run says. The journal, `zao train --json` and every page show these events and nothing else.

    Started -> Prepared -> Planned -> Loaded -> [Answered] -> Rehearsed -> Step* Evaluated* Saved*
            -> [Answered -> Reported] -> Ended          Split, Noticed and Progress may come anywhere

A record is `{"v": 1, "seq": n, "time": seconds since 1970, "type": "step", ...the fields}`. Bytes are integers, shares
are fractions of 1, numbers that are not finite are written as strings ("nan"), so that a record is always strict JSON.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xiaozao.texts.visible import json_visible

VERSION = 1
LARGEST = 2**53  # as a number of a record: what every reader of JSON has exactly
NOT_FINITE = ("nan", "inf", "-inf")

OnProgress = Callable[[str, int, int], object]  # stage, done, total (0: not known)


@dataclass(frozen=True)
class Started:
    """The worker took the run. `resumed_from` is the step of the checkpoint it continues, if any."""

    run: str
    pid: int
    resumed_from: int | None = None


@dataclass(frozen=True)
class Prepared:
    """The data was tokenised. rows_read = rows_used + rows_validation + sum(dropped), over both files together."""

    rows_read: int
    rows_used: int
    rows_validation: int
    dropped: dict[str, int]
    tokens: int
    target_tokens: int
    longest: int


@dataclass(frozen=True)
class Loaded:
    """The model is in memory."""

    model: str
    parameters: int
    trainable: int
    device: str
    precision: str
    packing: str  # "packed" or "padded": how samples are kept apart
    seconds: float


@dataclass(frozen=True)
class Planned:
    """What memory the run will need, in bytes."""

    micro_batch: int
    tokens: int
    parts: dict[str, int]
    moment: str
    peak_bytes: int
    budget_bytes: int
    steps: int
    live_bytes: int = 0  # in use at training's peak, without runtime and what the heap keeps; 0 where it is not known
    low_bytes: int = 0  # the interval that is stood behind; 0 where there is none
    high_bytes: int = 0
    # Where memory decided: each option that gave way (option, before, after), saves_bytes, and slower, a factor.
    ladder: list[dict[str, Any]] = field(default_factory=list)
    returns: bool = False  # whether the heap gives freed memory back at once


@dataclass(frozen=True)
class Rehearsed:
    """The largest micro-batch of the run went through everything once, and nothing of it was kept.

    peak_bytes is what was measured, planned_bytes what was predicted; limit_bytes what it has to stay below, null where
    only the allocator knows. A Split follows where it was too much.
    """

    tokens: int
    samples: int
    peak_bytes: int
    planned_bytes: int
    limit_bytes: int | None
    seconds: float


@dataclass(frozen=True)
class Split:
    """Memory ran out, or would have: from `step` on, micro-batches of more than `most` tokens are computed in parts.

    tokens: the size of the micro-batch that was too large. where: "rehearsal", "training" or "validation". The
    effective batch, the order of samples and the optimizer do not change. The step that ran out is computed again.
    """

    step: int
    tokens: int
    most: int
    where: str
    peak_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True)
class Step:
    """One optimizer step. `loss` is the mean over its units: target tokens, or pairs or answers of preferences;
    `grad_norm` is before clipping."""

    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    target_tokens: int
    seconds: float
    tokens_per_second: float
    peak_bytes: int
    eta_seconds: float


@dataclass(frozen=True)
class Evaluated:
    """The validation loss: the mean over all units of the validation set.

    For preferences, `accuracy` is the share of samples whose reward margin is positive; `margin` is the mean margin.
    """

    step: int
    loss: float
    target_tokens: int
    best: bool
    accuracy: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete on disk."""

    step: int
    path: str
    bytes: int


@dataclass(frozen=True)
class Noticed:
    """Something the user should know: the text `notice.<key>` with its parameters."""

    key: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """The progress of a long stage, named by the text `stage.<stage>`."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Answered:
    """The held-out questions were answered by `who` ("base" or "tuned").

    Shares are fractions of 1, null if not applicable.
    """

    who: str
    n: int
    loss: float
    exact: float
    valid_json: float | None
    seconds: float


@dataclass(frozen=True)
class Reported:
    """The report is written."""

    html: str
    json: str


@dataclass(frozen=True)
class Ended:
    """The run is over: succeeded, stopped (resumable) or failed."""

    state: str
    code: str = ""
    message: str = ""
    key: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int = 0
    step: int = 0
    steps: int = 0
    train_seconds: float = 0.0
    tokens_per_second: float = 0.0
    final_loss: float | None = None
    best_validation_loss: float | None = None
    peak_rss_bytes: int = 0
    predicted_peak_bytes: int = 0
    output: str = ""


Event = (
    Started
    | Prepared
    | Loaded
    | Planned
    | Rehearsed
    | Split
    | Step
    | Evaluated
    | Saved
    | Noticed
    | Progress
    | Answered
    | Reported
    | Ended
)
TYPES: dict[str, type[Event]] = {
    kind.__name__.lower(): kind
    for kind in (
        Started, Prepared, Loaded, Planned, Rehearsed, Split, Step, Evaluated, Saved, Noticed, Progress, Answered,
        Reported, Ended,
    )
}  # fmt: skip


def to_record(event: Event, seq: int, time: float) -> dict[str, Any]:
    """The record of an event."""
    kind = type(event).__name__.lower()
    return {"v": VERSION, "seq": seq, "time": time, "type": kind, **_strict(dataclasses.asdict(event))}


def from_record(record: dict[str, Any]) -> Event | None:
    """The event in a record; None for a type that this version does not know. Unknown fields are ignored."""
    kind = TYPES.get(record.get("type", ""))
    if kind is None:
        return None
    names = {one.name: one.type for one in dataclasses.fields(kind)}
    values = {name: _number(value) if names[name] in (float, float | None) else value
              for name, value in record.items() if name in names}  # fmt: skip
    return kind(**values)


def is_whole(record: object) -> bool:
    """Whether a record has a number, a time, and every field of its type, with values of the right types.

    A record of an unknown type counts as whole.
    """
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        return False
    number = record.get("seq", 0)
    if not _fits(number, int) or not 0 <= number <= LARGEST or not _fits(record.get("time", 0.0), float):
        return False
    kind = TYPES.get(record["type"])
    return kind is None or all(
        _fits(record[one.name], one.type) if one.name in record else _has_default(one)
        for one in dataclasses.fields(kind)
    )


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _fits(value: object, kind: Any) -> bool:
    """Whether a value from JSON has the declared type of a field."""
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one) for one in kind.__args__)
    if kind is float:
        return value in NOT_FINITE if isinstance(value, str) else isinstance(value, int | float)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, typing.get_origin(kind) or kind)


def to_line(record: dict[str, Any]) -> str:
    """A record as one line of strict JSON."""
    return json_visible(json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str))


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _strict(one) for key, one in value.items()}
    return [_strict(one) for one in value] if isinstance(value, list | tuple) else value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value
