"""Housekeeping removes what crashed attempts left behind and what is past its keeping, and ends what is stuck. It is safe at any time, also
twice at once.

What is removed at a destination is decided in `deliveries.sweeping`, and what of on-demand exports in `requests.upkeep`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from waybill.deliveries.publishing import resuming
from waybill.deliveries.sweeping import DestinationUpkeep, Limits, sweep
from waybill.errors import PermanentError, TransientError, WaybillError, unexpected
from waybill.installation import Installation, Reach
from waybill.ledger import registrations, upkeep
from waybill.ledger.database.engine import is_id
from waybill.ledger.database.rows import DAMAGED
from waybill.ledger.delivered import keys
from waybill.ledger.deliveries import Delivery
from waybill.ledger.registrations import Registered
from waybill.ledger.reports import notices
from waybill.requests.upkeep import keep_requests
from waybill.states import DeliveryStatus

DEAD_AFTER = timedelta(days=1)
NOTICES_KEPT_FOR = timedelta(days=90)
"""How long the ledger remembers what people were told."""

PARALLEL = 4

log = logging.getLogger(__name__)


@dataclass
class Housekeeping:
    """What was done. `stale` is the number of deliveries that have been open for over a day.

    `failed` has a message for each tenant whose destination could not be swept, and one about `exports`.
    """

    parts: int = 0
    files: int = 0
    spools: int = 0
    archives: int = 0
    foreign: list[str] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)
    stale: list[Delivery] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        stale = [
            {"delivery_id": delivery.id, "tenant": delivery.tenant, "entity": delivery.entity, "error": delivery.error or None}
            for delivery in self.stale
        ]
        return {**vars(self), "stale": stale}


def housekeeping(installation: Installation) -> Housekeeping:
    """Clean up once. If one tenant's destination is out of reach, or one step ends unexpectedly, the rest goes on.

    Raises ConfigError if the catalog or the policy is broken, because what to keep would be a guess.
    """
    installation.configuration.require_catalog()
    done = Housekeeping()
    now = installation.now()
    for name, step in (
        ("destinations", _sweep_destinations),
        ("spools", _clear_spool),
        ("archive", _clear_kept),
        ("exports", _keep_requests),
    ):
        try:
            step(installation, done, now)
        except WaybillError as error:
            done.failed[name] = f"{name}: {error}"
        except Exception as error:
            log.exception("housekeeping of %s ended unexpectedly", name)
            done.failed[name] = f"{name}: {unexpected(error)}"
    with installation.ledger.begin() as connection:
        upkeep.drop_ended_digests(connection)
        keys.forget_unfinished(connection)
        notices.forget(connection, now - NOTICES_KEPT_FOR)
        done.stale = upkeep.open_since(connection, now - DEAD_AFTER)
    return done


def _keep_requests(installation: Installation, done: Housekeeping, now: datetime) -> None:
    kept = keep_requests(installation)
    done.requests = {name: value for name, value in vars(kept).items() if isinstance(value, int)}
    done.foreign += kept.foreign
    if kept.failed:
        done.failed["exports"] = "exports: " + "; ".join(kept.failed)


def _sweep_destinations(installation: Installation, done: Housekeeping, now: datetime) -> None:
    """Sweep the tenants. Those whose destination is reached alike share a connection, and a few destinations are swept at a time."""
    with installation.ledger.read() as connection:
        tenants = registrations.readable(registrations.all_current(connection))
    shared: dict[Reach | str, list[Registered]] = {}
    for registered in tenants:
        shared.setdefault(_shared_by(installation, registered), []).append(registered)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="sweep") as pool:
        for swept, failed in pool.map(lambda group: _sweep_group(installation, group, now), shared.values()):
            done.failed |= failed
            done.parts += sum(upkeep.parts for upkeep in swept)
            done.files += sum(upkeep.files for upkeep in swept)
            done.foreign += [path for upkeep in swept for path in upkeep.foreign]


def _shared_by(installation: Installation, registered: Registered) -> Reach | str:
    """Return what tenants have in common that are swept together. A tenant whose rehearsal cannot be read is swept alone."""
    try:
        return installation.reach(registered)
    except DAMAGED:
        return registered.tenant


def _sweep_group(installation: Installation, group: list[Registered], now: datetime) -> tuple[list[DestinationUpkeep], dict[str, str]]:
    days = installation.configuration.policy.destination_days
    limits = Limits(now, DEAD_AFTER, now - timedelta(days=days) if days else None)
    swept: list[DestinationUpkeep] = []
    failed: dict[str, str] = {}
    tenants = [registered.tenant for registered in group]
    try:
        with installation.session(group[0]) as session:
            for tenant in tenants:
                try:
                    swept.append(sweep(installation.ledger, session, tenant, limits))
                except WaybillError as error:
                    failed[tenant] = str(error.located(f"tenant {tenant}"))
                except DAMAGED as error:
                    log.exception("the destination of tenant %s was not swept", tenant)
                    failed[tenant] = f"tenant {tenant}: what the ledger holds of it cannot be read ({type(error).__name__})"
                except Exception as error:
                    log.exception("the destination of tenant %s was not swept", tenant)
                    failed[tenant] = f"tenant {tenant}: {unexpected(error)}"
    except WaybillError as error:
        if error.code == "missing_connection" and all(registered.registration.is_disabled for registered in group):
            return [], {}  # the tenant has left, and its connection with it
        failed |= {tenant: f"tenant {tenant}: {error}" for tenant in tenants[len(swept) + len(failed) :]}
    except Exception as error:
        log.exception("the destination of %s was not opened or closed", ", ".join(tenants))
        failed |= {tenant: f"tenant {tenant}: {unexpected(error)}" for tenant in tenants[len(swept) + len(failed) :]}
    return swept, failed


def _clear_spool(installation: Installation, done: Housekeeping, now: datetime) -> None:
    """Remove spools that no process can still be writing. Delivered files that are not all kept yet for redelivery are kept now."""
    found = [path for path in _own(installation.settings.spool_dir) if _is_dead(path, now, done)]
    with installation.ledger.read() as connection:
        owners = upkeep.owners(connection, [path.name for path in found])
    for path in found:
        owner = owners.get(path.name)
        if owner is not None and owner.status == DeliveryStatus.OPEN and (owner.may_be_needed() or not _is_free(path)):
            continue
        kept = installation.kept if owner and owner.adopted else None
        try:
            if kept and owner and len(kept.files(owner.delivery)) < len(list(path.glob("*"))):
                kept.keep(owner.delivery, path)
        except (PermanentError, TransientError) as error:
            done.failed[path.name] = f"spool {path.name}: {error}"
            continue
        shutil.rmtree(path, ignore_errors=True)
        done.spools += 1


def _is_free(spool: Path) -> bool:
    """Return whether no worker is at the spool. A slow one writes nothing to it for long."""
    with resuming.locked(spool) as is_free:
        return is_free


def _clear_kept(installation: Installation, done: Housekeeping, now: datetime) -> None:
    """Remove delivered bytes that were kept for redelivery longer than the policy wants, counted from COMMIT."""
    keep = timedelta(days=installation.configuration.policy.archive_days)
    store = installation.all_kept
    try:
        found = {name: written for name, written in store.entries() if is_id(name)}
    except (PermanentError, TransientError) as error:
        done.failed["archive"] = f"archive: {error}"
        return
    with installation.ledger.read() as connection:
        committed = upkeep.committed_at(connection, list(found))
    for name, written in sorted(found.items()):
        if (committed.get(name) or written) < now - keep:
            store.remove(name)
            done.archives += 1


def _own(folder: Path) -> Iterator[Path]:
    """Return the folders that have an id of ours as their name."""
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if is_id(path.name) and path.is_dir() and not path.is_symlink())


def _is_dead(folder: Path, now: datetime, done: Housekeeping) -> bool:
    """Return whether nobody has written to a spool for so long that nobody will. What cannot be read, such as the spool of another
    account, stays, and the rest of housekeeping goes on.
    """
    try:
        return _youngest(folder) < now - DEAD_AFTER
    except OSError as error:
        done.failed[folder.name] = f"spool {folder.name}: cannot be read: {error.strerror}"
        return False


def _youngest(folder: Path) -> datetime:
    """Return when something last changed in a folder. One that its worker is removing right now is young."""
    try:
        times = [path.lstat().st_mtime for path in (folder, *folder.iterdir())]
    except FileNotFoundError:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.fromtimestamp(max(times), UTC)
