"""Housekeeping for requests: stalls, expiry, history and orphaned files."""

from __future__ import annotations

import logging
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from waybill.configuration.policy import ExportPolicy
from waybill.destinations.archives import Archives, is_own, open_archives
from waybill.errors import WaybillError, unexpected
from waybill.installation import Installation
from waybill.ledger import registrations
from waybill.ledger.on_demand import recurring, requests
from waybill.ledger.on_demand.request_records import ExportRequest
from waybill.requests.lifecycle import failure, stalled

ORPHANED_AFTER = timedelta(days=1)
_SPOOL = re.compile(r"[0-9a-f]{32}\.\d+")
_WAITING = re.compile(r"[0-9a-f]{32}\.\d+\.zip\.part")
log = logging.getLogger(__name__)


@dataclass
class RequestUpkeep:
    """The result of one sweep: requests that expired, stalled or left the history, and files and folders removed.

    `foreign` are old entries of store and spool that are not ours and were left alone. `failed` is what could not be done.
    """

    expired: int = 0
    stalled: int = 0
    history: int = 0
    files: int = 0
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def archives_of(installation: Installation) -> Archives:
    return open_archives(installation.settings.archive_url, installation.settings.base, installation.connections)


def spool_of(installation: Installation) -> Path:
    return installation.settings.spool_dir / "requests"


def mail_about(request: ExportRequest, kind: str, export_policy: ExportPolicy) -> str | None:
    """Return `kind` if policy wants that mail and the request has an address."""
    return kind if kind in export_policy.notify.requests and request.email else None


def fail_stalled(connection: Connection, installation: Installation, tenant: str | None = None) -> int:
    """Give up running requests without a sign of life, and return how many. Nobody starts them again by itself."""
    count = 0
    for request in requests.running(connection, tenant):
        export_policy, now = installation.configuration.export_policy(request.tenant), installation.now()
        if stalled(request, export_policy.stall_after, now):
            with installation.speaking_to(request.tenant):
                why = failure("stalled")
            count += requests.fail(connection, request, why, mail_about(request, "failed", export_policy), now)
    return count


def keep_requests(installation: Installation) -> RequestUpkeep:
    """Sweep all requests once. It is safe at any time and in several processes at once. A failed section does not stop the others."""
    now, archives = installation.now(), archives_of(installation)
    with installation.ledger.begin() as connection:
        given_up = fail_stalled(connection, installation)
        expired = requests.expire(connection, now)
    kept = RequestUpkeep(expired, given_up)
    for section in (_drop_dead, _forget_history, _remove_orphans, _empty_spool):
        try:
            section(installation, archives, kept, now)
        except WaybillError as error:
            kept.failed.append(str(error))
        except Exception as error:
            log.exception("a step of the upkeep of exports ended unexpectedly")
            kept.failed.append(str(unexpected(error)))
    return kept


def _drop_dead(installation: Installation, archives: Archives, kept: RequestUpkeep, now: datetime) -> None:
    """Remove the archives of requests that ended without one."""
    with installation.ledger.read() as connection:
        dead = requests.with_dead_archives(connection)
    for request in dead:
        archives.remove(request.archive or "")
        with installation.ledger.begin() as connection:
            requests.forget_archive(connection, request)
        kept.files += 1


def _forget_history(installation: Installation, archives: Archives, kept: RequestUpkeep, now: datetime) -> None:
    with installation.ledger.read() as connection:
        tenants = requests.tenants(connection)
    for tenant in tenants:
        life = installation.configuration.export_policy(tenant).history_ttl
        if life is None:
            continue
        with installation.ledger.read() as connection:
            over = requests.ended_before(connection, tenant, now - life)
        for request in over:
            if request.archive:
                archives.remove(request.archive)
            with installation.ledger.begin() as connection:
                if requests.remove(connection, request):
                    kept.history += 1
                    registrations.note(connection, tenant, "waybill", "forget_export", {"request": request.id}, now)


def _remove_orphans(installation: Installation, archives: Archives, kept: RequestUpkeep, now: datetime) -> None:
    """Remove files that no request names and nobody has written to for a day: archives of lost attempts, and parts of dead ones."""
    old = [name for name, written in archives.entries() if written <= now - ORPHANED_AFTER]
    kept.foreign += [f"requests/{name} in the archive" for name in old if not is_own(name)]
    if not old:
        return
    with installation.ledger.read() as connection:
        known = requests.archives(connection)
    for name in old:
        if is_own(name) and name not in known:
            archives.remove(name)
            kept.files += 1


def _empty_spool(installation: Installation, _archives: Archives, kept: RequestUpkeep, now: datetime) -> None:
    """Remove what dead workers left: their folders, and archives that wait beside them for their upload."""
    oldest = (now - ORPHANED_AFTER).timestamp()
    for path in spool_of(installation).glob("*"):
        is_folder = path.is_dir() and not path.is_symlink()
        own = (_SPOOL if is_folder else _WAITING).fullmatch(path.name) is not None
        try:
            newest = max(item.lstat().st_mtime for item in (path, *(path.iterdir() if own and is_folder else ())))
        except FileNotFoundError:
            continue  # its worker is removing it right now
        except OSError as error:
            kept.failed.append(f"the spool cannot be read: {error.strerror} ({path})")
            continue
        if newest > oldest:
            continue
        if not own:
            kept.foreign.append(str(path))
        elif is_folder:
            shutil.rmtree(path, ignore_errors=True)
            kept.files += 1
        else:
            with suppress(OSError):
                path.unlink()
                kept.files += 1


def waiting(installation: Installation) -> list[str]:
    """Return one word for each thing that waits: due requests, mails, stalled requests and due templates."""
    now = installation.now()
    with installation.ledger.read() as connection:
        pending = [request.id for request in requests.pending(connection, now)]
        mails = [f"mail:{request.id}:{request.mail_tries}" for request in requests.mails_due(connection, now)]
        running = requests.running(connection)
        due = [f"template:{template.id}:{template.next_at.isoformat()}" for template in recurring.due(connection, now)]
    silent = [
        f"stalled:{request.id}"
        for request in running
        if stalled(request, installation.configuration.export_policy(request.tenant).stall_after, now)
    ]
    return [*pending, *mails, *silent, *due]
