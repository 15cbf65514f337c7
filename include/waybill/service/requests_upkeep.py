"""What keeps requests true without anybody asking: stalls, expiry, history, orphans."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from waybill.destinations.archives import Archives, open_archives
from waybill.errors import TransientError
from waybill.ledger import registrations, requests
from waybill.policy import Knobs
from waybill.request import ExportRequest
from waybill.request.model import FAILURES, stalled
from waybill.service.estate import Estate

ORPHANED_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """What one sweep did: how many requests expired, were given up as stalled, left history; files and folders removed."""

    expired: int = 0
    stalled: int = 0
    history: int = 0
    files: int = 0


def archives_of(estate: Estate) -> Archives:
    return open_archives(estate.settings.archive_url, estate.settings.base, estate.connections)


def spool_of(estate: Estate) -> Path:
    return estate.settings.spool_dir / "requests"


def mail_about(one: ExportRequest, kind: str, knobs: Knobs) -> str | None:
    """`kind` when policy wants that mail and there is somebody to write to."""
    return kind if kind in knobs.notify.requests and one.email else None


def fail_stalled(connection: Connection, estate: Estate, tenant: str | None = None) -> int:
    """Give up running requests without a sign of life; they are never started again by themselves. Returns how many."""
    count = 0
    for one in requests.running(connection, tenant):
        knobs, now = estate.configuration.knobs(one.tenant), estate.now()
        if stalled(one, knobs.stall_after, now):
            count += requests.fail(connection, one, FAILURES["stalled"], mail_about(one, "failed", knobs), now)
    return count


def keep_requests(estate: Estate) -> Kept:
    """One sweep over all requests. Safe at any time and from several processes at once."""
    now, archives = estate.now(), archives_of(estate)
    with estate.ledger.begin() as connection:
        given_up = fail_stalled(connection, estate)
        expired = requests.expire(connection, now)
        dead = requests.with_dead_archives(connection)
    for one in dead:
        archives.remove(one.archive or "")
        with estate.ledger.begin() as connection:
            requests.forget_archive(connection, one)
    history = _forget_history(estate, archives, now)
    return Kept(expired, given_up, history, len(dead) + _remove_orphans(estate, archives, now) + _empty_spool(estate, now))


def _forget_history(estate: Estate, archives: Archives, now: datetime) -> int:
    with estate.ledger.begin() as connection:
        tenants = requests.tenants(connection)
    count = 0
    for tenant in tenants:
        kept = estate.configuration.knobs(tenant).history_ttl
        if kept is None:
            continue
        with estate.ledger.begin() as connection:
            over = requests.ended_before(connection, tenant, now - kept)
        for one in over:
            if one.archive:
                archives.remove(one.archive)
            with estate.ledger.begin() as connection:
                if requests.remove(connection, one):
                    count += 1
                    registrations.note(connection, tenant, "waybill", "forget_export", {"request": one.id}, now)
    return count


def _remove_orphans(estate: Estate, archives: Archives, now: datetime) -> int:
    """Remove what no request speaks of and nobody has written for a day: archives of lost attempts, and parts of dead ones."""
    old = [name for name, written in archives.entries() if written <= now - ORPHANED_AFTER]
    if not old:
        return 0
    with estate.ledger.begin() as connection:
        known = requests.archives(connection)
    orphans = [name for name in old if name not in known]
    for name in orphans:
        archives.remove(name)
    return len(orphans)


def _empty_spool(estate: Estate, now: datetime) -> int:
    count = 0
    for folder in spool_of(estate).glob("*.*"):
        try:
            newest = max(path.stat().st_mtime for path in [folder, *folder.iterdir()])
        except FileNotFoundError:
            continue  # its worker is tidying up just now
        except OSError as error:
            raise TransientError(f"the spool cannot be read: {error.strerror}", where=str(folder), code="spool") from error
        if newest <= (now - ORPHANED_AFTER).timestamp():
            shutil.rmtree(folder, ignore_errors=True)
            count += 1
    return count
