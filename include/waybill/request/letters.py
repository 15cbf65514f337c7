"""The words of mail about requests: the same labels as page and API."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from waybill.policy import Knobs
from waybill.request.model import ExportRequest, Status, label
from waybill.request.ranges import spoken


def ready(one: ExportRequest, knobs: Knobs, names: list[str], zone: ZoneInfo, link: str) -> tuple[str, str]:
    """Subject and text of the mail that an export can be downloaded. `link` may be empty."""
    words = label(knobs, Status.DONE, 100)
    where = link or "Open the page of exports to download it."
    lines = [
        f"Your data export is ready for download ({words}).",
        "",
        *_about(one, names),
        f"Records: {one.rows}",
        "",
        where,
        "",
        f"It expires on {_date(one.expires_at, zone)}. After this date it can no longer be downloaded, but it may be requested again.",
    ]
    return f"Data export: {words} ({', '.join(names)})", "\n".join(lines) + "\n"


def failed(one: ExportRequest, knobs: Knobs, names: list[str]) -> tuple[str, str]:
    """Subject and text of the mail that an export failed, with the reason and what to do."""
    words = label(knobs, Status.FAILED, one.progress)
    lines = [
        f"Your data export could not be made ({words}).",
        "",
        *_about(one, names),
        "",
        " ".join(part for part in (one.error_message, one.error_advice) if part),
    ]
    return f"Data export: {words} ({', '.join(names)})", "\n".join(lines) + "\n"


def _about(one: ExportRequest, names: list[str]) -> list[str]:
    return [
        f"Data: {', '.join(names)}",
        f"Date range: {spoken(one.range_asked)}",
        f"Format: {', '.join(name.upper() for name in one.formats)}",
        f"Request: {one.id}",
    ]


def _date(value: datetime | None, zone: ZoneInfo) -> str:
    return f"{value.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key})" if value else "no date"
