"""The promise of a registration (`deliverBy`): until when the data of a boundary is there. The module is pure, and the clock is an
argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from waybill.window import Frequency, local_time


class PromiseState(StrEnum):
    """`kept`: everything that was due is there. `open`: there is time. `at_risk`: little time is left. `breached`: the time is over."""

    KEPT = "kept"
    OPEN = "open"
    AT_RISK = "at_risk"
    BREACHED = "breached"


@dataclass(frozen=True)
class Promise:
    """The earliest data that is owed. All changes before `boundary` are there at `deliver_by`, and people are warned from `warn_at` on."""

    boundary: datetime
    run_at: datetime
    warn_at: datetime
    deliver_by: datetime

    def state(self, now: datetime) -> PromiseState:
        if now < self.run_at:
            return PromiseState.KEPT  # what was due before is there, and the next is not due yet
        if now < self.warn_at:
            return PromiseState.OPEN
        return PromiseState.AT_RISK if now < self.deliver_by else PromiseState.BREACHED


@dataclass(frozen=True)
class Terms:
    """When a tenant's runs start (`at`), and when they must have delivered (`by`): at a local time of day, or a length of time later."""

    zone: ZoneInfo
    frequency: Frequency
    at: time
    by: time | timedelta

    def run_for(self, boundary: datetime) -> datetime:
        """Return when the run that delivers up to a boundary starts."""
        return local_time(boundary.astimezone(self.zone).date(), self.at, self.zone)

    def deadline(self, boundary: datetime) -> datetime:
        """Return the first `by` after that run starts, on the same day or on the next one."""
        run_at = self.run_for(boundary)
        if isinstance(self.by, timedelta):
            return run_at + self.by
        today = boundary.astimezone(self.zone).date()
        same_day = local_time(today, self.by, self.zone)
        return same_day if same_day > run_at else local_time(today + timedelta(days=1), self.by, self.zone)

    def owed(self, watermark: datetime | None, since: datetime) -> datetime:
        """Return the first boundary that a stream has not reached. Runs that started before `since`, when the promise was made, do not
        count.
        """
        boundary = self.frequency.floor(since, self.zone)
        while self.run_for(boundary) < since:
            boundary = self.frequency.following(boundary, self.zone)
        return boundary if watermark is None else max(boundary, self.frequency.following(watermark, self.zone))

    def promise(self, boundaries: Iterable[datetime], warn_before: timedelta) -> Promise:
        """Return the promise about the earliest of these boundaries. The warning comes no sooner than half the time from start to
        promise.
        """
        boundary = min(boundaries)
        run_at, deliver_by = self.run_for(boundary), self.deadline(boundary)
        return Promise(boundary, run_at, deliver_by - min(warn_before, (deliver_by - run_at) / 2), deliver_by)
