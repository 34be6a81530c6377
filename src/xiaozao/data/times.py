"""Reads the time of a message in the many formats of chat exports.

Only differences matter (sessions are cut at gaps), so all times become seconds on one clock: with a zone as UTC,
without one as if it were UTC.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

DATE = re.compile(r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})日?")
DATE_YEAR_LAST = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})(?!\d)")
CLOCK = re.compile(r"(\d{1,2})\s*[:：时点]\s*(\d{1,2})(?:\s*[:：分]\s*(\d{1,2})(?:[.,](\d{1,6}))?)?")
ZONE = re.compile(r"(Z|[+-]\d{2}:?\d{2})$")
AFTERNOON = re.compile(r"下午|晚上|傍晚|pm\b|p\.m\.", re.IGNORECASE)
MORNING = re.compile(r"上午|凌晨|早上|am\b|a\.m\.", re.IGNORECASE)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
EXCEL_ZERO = datetime(1899, 12, 30, tzinfo=UTC)


def parse_time(value: Any) -> float | None:
    """Seconds since 1970, or None if the value is no time in a known format.

    The known formats: cells that are dates; 2024-03-05 14:02[:33], 2024/3/5, 2024年3月5日 下午2:02, ISO 8601 with
    T and zone, 3/5/2024 2:02 PM (month first unless that cannot be); numbers as unix seconds, milliseconds,
    or Excel's days.
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    try:
        return _number(float(text)) if NUMBER.fullmatch(text) else _text(text)
    except (ValueError, OverflowError):
        return None


def _number(value: float) -> float | None:
    if 20_000 <= value < 80_000:  # days of the years 1954 to 2119
        return (EXCEL_ZERO + timedelta(days=value)).timestamp()
    if 1e8 <= value < 1e10:
        return value
    return value / 1000 if 1e11 <= value < 1e13 else None


def _text(text: str) -> float | None:
    day = _day(text)
    if day is None:
        return None
    rest = text[day[1] :].strip()
    clock = CLOCK.search(rest)
    if rest.strip(" T,，()（）星期周一二三四五六日天") and clock is None:
        return None
    moment = day[0] + (_clock(clock, rest) if clock else timedelta())
    zone = ZONE.search(rest) if clock else None
    return (moment - _offset(zone[1] if zone else "Z")).timestamp()


def _day(text: str) -> tuple[datetime, int] | None:
    if match := DATE.match(text):
        year, month, day = (int(part) for part in match.groups())
    elif match := DATE_YEAR_LAST.match(text):
        month, day, year = (int(part) for part in match.groups())
        if month > 12:
            month, day = day, month
        year += 2000 if year < 100 else 0
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
