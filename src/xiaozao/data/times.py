"""Reads the time of a message in the many formats of chat exports.

Only differences matter (sessions are cut at gaps), so all times become seconds on one clock: with a zone as UTC,
without one as if it were UTC.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

DATE = re.compile(r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})日?")
DATE_KOREAN = re.compile(r"(\d{4})년\s*(\d{1,2})월\s*(\d{1,2})일")
DATE_OPEN = re.compile(r"(\d{1,2})\s?[-/.]\s?(\d{1,2})\s?[-/.]\s?(\d{4}|\d{2})(?!\d)\.?")
MONTHS = {name: place for place, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
DATE_NAMED = re.compile(r"(?:\w{3,9},? )?(?:(\d{1,2})\.? ([A-Za-z]{3,9})|([A-Za-z]{3,9}) (\d{1,2})),? (\d{4})(?: at)?")
ORDERS = {"dmy": (2, 1, 0), "mdy": (2, 0, 1), "ymd": (0, 1, 2)}  # the places of year, month and day
CLOCK = re.compile(r"(\d{1,2})\s*[:：时点.]\s*(\d{1,2})(?:\s*[:：分]\s*(\d{1,2})(?:[.,](\d{1,6}))?)?")
ZONE = re.compile(r"(Z|[+-]\d{2}:?\d{2})$")
AFTERNOON = re.compile(r"下午|晚上|傍晚|中午|오후|午後|p\.?\s?m\b|μ\.?μ", re.IGNORECASE)
MORNING = re.compile(r"上午|凌晨|清晨|早上|오전|午前|a\.?\s?m\b|π\.?μ", re.IGNORECASE)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
AHEAD = 400 * 86_400  # seconds; calendars hold what is planned for a year
EXCEL_ZERO = datetime(1899, 12, 30, tzinfo=UTC)


def parse_time(value: Any, order: str = "") -> float | None:
    """Seconds since 1970, or None if the value is no time in a known format.

    The known formats: cells that are dates; 2024-03-05 14:02[:33], 2024/3/5, 2024年3月5日 下午2:02, ISO 8601 with
    T and zone, 3/5/2024 2:02 PM in the order of day, month and year that `order` says (without it month first, unless
    that cannot be); numbers as unix seconds, milliseconds, or Excel's days.
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip().strip("[]").strip()
    try:
        return _number(float(text)) if NUMBER.fullmatch(text) else _text(text, order)
    except (ValueError, OverflowError):
        return None


def has_clock_alone(value: Any) -> bool:
    """Whether a value is a time of day without a day."""
    return (
        isinstance(value, str) and CLOCK.search(value) is not None and not re.search(r"\d+\D\d+\D\d{4}|\d{4}\D", value)
    )


@dataclass(frozen=True)
class Order:
    """The order of day, month and year in a file. example: a value that shows it. certain: no other can be."""

    name: str
    example: str = ""
    certain: bool = True
    matters: bool = False  # another order gives other distances between the times


def order_of(values: Sequence[Any], asked: str, now: float | None = None) -> Order:
    """The order in which a file writes its dates: in which most can be dates, then the one without steps back.

    now: in seconds, after which nobody has written anything; by default the clock's.
    """
    open_values = [value for value in values if isinstance(value, str) and DATE_OPEN.match(value.strip().strip("[] "))]
    if asked != "auto" or not open_values:
        return Order(asked if asked != "auto" else "")
    long_years = any(len(match[3]) == 4 for value in open_values if (match := DATE_OPEN.match(value.strip("[] "))))
    last = (datetime.now(UTC).timestamp() if now is None else now) + AHEAD
    judged = sorted((*_judged(open_values, name, last), name) for name in ORDERS if name != "ymd" or not long_years)
    best, second = judged[0], judged[1]
    times = {name: [parse_time(value, name) for value in open_values] for name in (best[-1], second[-1])}
    matters = best[0] < second[0] or _steps(times[best[-1]]) != _steps(times[second[-1]])
    example = next((value for value in open_values if _cannot_be(value, second[-1], last)), open_values[0])
    return Order(best[-1], example, certain=best[0] < second[0], matters=matters)


def _cannot_be(value: str, order: str, last: float) -> bool:
    """Whether a value is no date in an order, or one that is still to come."""
    time = parse_time(value, order)
    return time is None or time > last


def _judged(values: Sequence[str], order: str, last: float) -> tuple[int, int, float, int]:
    """What speaks against an order: dates that cannot be, steps back in time, a long time in all, being the rarer."""
    times = [parse_time(value, order) for value in values]
    steps = _steps(times)
    back = min(sum(step < 0 for step in steps), sum(step > 0 for step in steps))
    known = [time for time in times if time is not None]
    span = max(known) - min(known) if known else 0.0
    years = sum(order == "ymd" and len(value) > 0 for value in values[:1])
    impossible = sum(_cannot_be(value, order, last) for value in values)
    return impossible, back, span, years * 2 + (order == "mdy")


def _steps(times: Sequence[float | None]) -> list[float]:
    known = [time for time in times if time is not None]
    return [later - earlier for earlier, later in pairwise(known)]


def _number(value: float) -> float | None:
    if 20_000 <= value < 80_000:  # days of the years 1954 to 2119
        return (EXCEL_ZERO + timedelta(days=value)).timestamp()
    if 1e8 <= value < 1e10:
        return value
    return value / 1000 if 1e11 <= value < 1e13 else None


def _text(text: str, order: str) -> float | None:
    day = _day(text, order)
    if day is None:
        return None
    rest = text[day[1] :].strip()
    clock = CLOCK.search(rest)
    if rest.strip(" T,，.()（）星期周一二三四五六日天") and clock is None:
        return None
    moment = day[0] + (_clock(clock, rest) if clock else timedelta())
    zone = ZONE.search(rest) if clock else None
    return (moment - _offset(zone[1] if zone else "Z")).timestamp()


def _day(text: str, order: str) -> tuple[datetime, int] | None:
    if match := DATE.match(text) or DATE_KOREAN.match(text):
        year, month, day = (int(part) for part in match.groups())
    elif match := DATE_OPEN.match(text):
        places = ORDERS["dmy"] if order == "ymd" and len(match[3]) == 4 else ORDERS[order or "mdy"]
        year, month, day = (int(match[place + 1]) for place in places)
        if not order and month > 12:
            month, day = day, month
        year += 2000 if year < 100 else 0
    elif (match := DATE_NAMED.match(text)) and (named := MONTHS.get((match[2] or match[3])[:3].lower())):
        year, month, day = int(match[5]), named, int(match[1] or match[4])
    else:
        return None
    return datetime(year, month, day, tzinfo=UTC), match.end()


def _clock(match: re.Match[str], rest: str) -> timedelta:
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if hour > 24 or minute > 59 or second > 60:
        raise ValueError(rest)
    if AFTERNOON.search(rest) and hour < 12:
        hour += 12
    if MORNING.search(rest) and hour == 12:
        hour = 0
    return timedelta(hours=hour, minutes=minute, seconds=second + float(f"0.{match[4] or 0}"))


def _offset(zone: str) -> timedelta:
    if zone == "Z":
        return timedelta()
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    return timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
