"""Spans of time and times of day, as YAML and request bodies spell them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from waybill.language import unfit

LONGEST_DAYS = 36_500
"""A longer span leaves the calendar when it is counted from today."""
_DURATION = re.compile(r"^(\d+)\s*(s|m|h|d|w)\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(value: Any) -> timedelta:
    """Return `90s`, `30m`, `24h`, `7d`, `2w` as a timedelta of at most a hundred years. Raises ValueError for anything else."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise unfit("duration")
    number, unit = int(match[1][:20]), timedelta(**{_UNITS[match[2]]: 1})
    if number > timedelta(days=LONGEST_DAYS) // unit:
        raise unfit("too_long_duration")
    return number * unit


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]

_CLOCK = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)\Z")


def _clock(value: Any) -> Any:
    # YAML 1.1 reads an unquoted 02:00 as the number 120.
    if not isinstance(value, str) or not _CLOCK.match(value):
        raise unfit("time_of_day")
    return value


Clock = Annotated[str, BeforeValidator(_clock), WithJsonSchema({"type": "string", "pattern": _CLOCK.pattern.replace(r"\Z", "$")})]
"""A local time of day."""
