"""Checks what would stop tonight's run, and names the way out of each problem.

In: the settings, and what opens connections. Out: checks in the order in which a run meets them. A check that cannot be made has failed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import metadata
from typing import Any, Literal, Self

from waybill import __version__, pgp
from waybill.configuration.catalog import DbApiSource, Entity, PostgresSource
from waybill.configuration.loading import Settings, load
from waybill.configuration.registration import Registration, resolve_entities
from waybill.configuration.selection import Selection
from waybill.connection import Connections
from waybill.deliveries.publishing import rehearsing
from waybill.errors import WaybillError, counted
from waybill.installation import Installation
from waybill.ledger import Ledger, registrations
from waybill.ledger.database.engine import POSTGRES_PORT
from waybill.ledger.registrations import Registered
from waybill.ledger.reports import usage
from waybill.sources import Snapshot, Source

__all__ = ["Check", "examine", "source_findings"]

PYTHONS = ((3, 11), (3, 15))
CLOCKS_APART = timedelta(seconds=10)
LITTLE_DISK, NO_DISK = 5 << 30, 200 << 20

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """`next_step` is empty if there is nothing to do."""

    name: str
    status: Status
    found: str
    next_step: str = ""


def examine(
    settings: Settings, connections: Connections, now: Callable[[], datetime], connect_db: Callable[[str], Any] | None
) -> list[Check]:
    """Return all checks that need no Airflow. This never raises because of what it finds."""
    found = [_python(), _versions(), _configuration(settings)]
    ledger = Ledger(settings.ledger_url)
    try:
        there = _ledger(ledger, settings)
        found += [there, *_disk(settings)]
        installation = Installation(settings, ledger, connections, now, connect_db)
        found += _archive(installation)
        if installation.configuration.shared_findings:
            return found
        found += [*_sources(installation), *_pools(installation)]
        if there.status == "ok":
            found += [*_without_rows(installation), *_keys(installation), *_destinations(installation)]
        else:
            step = "Run `waybill apply`, then `waybill doctor` again" if there.status == "warning" else there.next_step
            found.append(Check("destinations", "warning", "not rehearsed: the ledger does not know the tenants yet", step))
    finally:
        ledger.close()
    return found


def _python() -> Check:
    here = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Check("python", "ok", here)
    return Check("python", "failed", here, "Install Python 3.11 to 3.14")


def _versions() -> Check:
    """Compare the installed distributions with what this version of Waybill asks for."""
    from packaging.requirements import Requirement

    wrong = []
    for text in metadata.requires("waybill") or ():
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} {version} ({wanted.specifier})")
    if wrong:
        return Check("versions", "warning", f"waybill {__version__}; {', '.join(wrong)}", "pip install --upgrade waybill")
    return Check("versions", "ok", f"waybill {__version__}, and everything it needs")


def _configuration(settings: Settings) -> Check:
    found = load(settings.config_dir)
    if found.findings:
        more = f" (and {len(found.findings) - 1} more)" if len(found.findings) > 1 else ""
        status: Status = "failed" if found.shared_findings else "warning"
        return Check("configuration", status, f"{found.findings[0]}{more}", "`waybill check` lists every mistake")
    return Check(
        "configuration",
        "ok",
        f"{counted(len(found.catalog.entities), 'entity')}, {counted(len(found.tenants), 'tenant file')} in {settings.config_dir}",
    )


def _ledger(ledger: Ledger, settings: Settings) -> Check:
    shown = "SQLite" if settings.ledger_url.startswith("sqlite") else "PostgreSQL"
    try:
        ledger.require_known()
        revision, head = ledger.revision(), ledger.head()
    except WaybillError as error:
        return Check("ledger", "failed", error.what, error.next_step or "Correct WAYBILL_LEDGER_URL")
    if revision != head:
        is_own = shown == "SQLite"
        status: Status = "warning" if is_own else "failed"
        state = f"{shown} at {revision}, this version needs {head}" if revision else f"{shown}, without tables yet"
        return Check("ledger", status, state, "The next `waybill apply` or run brings it there" if is_own else "waybill ledger upgrade")
    return Check("ledger", "ok", f"{shown} at {revision}")


def _disk(settings: Settings) -> Iterator[Check]:
    folder = next(path for path in (settings.spool_dir, *settings.spool_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    room = f"{free / (1 << 30):,.1f} GiB free for {settings.spool_dir}"
    step = "" if free > LITTLE_DISK else "Free space, or set WAYBILL_SPOOL_DIR: the files of a run wait there until they are uploaded"
    yield Check("disk", "failed" if free < NO_DISK else "warning" if step else "ok", room, step)


def _archive(installation: Installation) -> Iterator[Check]:
    url = installation.settings.archive_url
    shared = "://" in url
    if not shared and not installation.settings.ledger_url.startswith("sqlite"):
        step = "Set WAYBILL_ARCHIVE_URL to s3://..., or to a folder that all machines mount"
        yield Check("archive", "warning", f"{url} is a folder of this machine, and the ledger is shared", step)
    else:
        yield Check("archive", "ok", url)


@contextmanager
def _failing_check(found: list[Check], name: str) -> Iterator[None]:
    """Add an error of the block to what was found, as a check that failed."""
    try:
        yield
    except WaybillError as error:
        found.append(Check(name, "failed", f"{error.where}: {error.what}" if error.where else error.what, error.next_step))


class _Looks:
    """A source's snapshot for many checks, and another after each check that fails: its error may have ended the transaction."""

    def __init__(self, source: Source, entities: Sequence[Entity]) -> None:
        self._source, self._entities = source, entities
        self._open: Snapshot | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open = None
        self._stack.close()

    def snapshot(self) -> Snapshot:
        if self._open is None:
            self._open = self._stack.enter_context(self._source.snapshot(self._entities))
        return self._open

    @contextmanager
    def one(self) -> Iterator[Snapshot]:
        try:
            yield self.snapshot()
        except WaybillError:
            self.__exit__()
            raise


def _sources(installation: Installation) -> list[Check]:
    """Open each source, and check what every entity needs of it, the rights its mode needs, and its clock."""
    found: list[Check] = []
    for name in installation.catalog.sources:
        entities = [entity for entity in installation.catalog.entities.values() if entity.source == name]
        before = len(found)
        with _failing_check(found, f"source {name}"), _Looks(installation.source(name), entities) as looks:
            apart = abs(installation.now() - looks.snapshot().clock)
            for entity in entities:
                with _failing_check(found, f"entity {entity.id}"), looks.one() as snapshot:
                    _readable(installation, snapshot, entity)
                    _tell_narrowed(snapshot, entity, found)
            if apart > CLOCKS_APART:
                step = "Set both clocks by NTP: nothing is delivered that lies ahead of the source's clock"
                found.append(Check(f"source {name}", "warning", f"its clock is {apart.total_seconds():.0f} s apart from ours", step))
        if len(found) == before:
            found.append(Check(f"source {name}", "ok", f"{counted(len(entities), 'entity')} can be read"))
    return found


def _pools(installation: Installation) -> Iterator[Check]:
    """Name the sources that are read through the ledger's pool. A delivery asks the ledger while it reads, and would wait for itself."""
    ledger = installation.ledger
    with suppress(WaybillError):
        if not ledger.is_pooled():
            return
        for name, spec in installation.catalog.sources.items():
            if isinstance(spec, PostgresSource | DbApiSource):
                to = installation.connections(spec.connection)
                place = to.host, to.port or POSTGRES_PORT, to.schema, to.login
                if place == (ledger.url.host, ledger.url.port or POSTGRES_PORT, ledger.url.database, ledger.url.username):
                    what = "it is read through the pool of the ledger: deliveries ask the ledger while they read, and wait for each other"
                    step = "Give the ledger a pool of its own: another database, or another user"
                    yield Check(f"source {name}", "warning", what, step)


def source_findings(installation: Installation, tenants: Mapping[str, Registration]) -> list[Check]:
    """Return what keeps entities from being read for these tenants: missing rights and columns, NULLs in a change column, keys that repeat.

    A warning names what may keep rows from being seen.
    """
    found: list[Check] = []
    for name in installation.catalog.sources:
        entities = [entity for entity in installation.catalog.entities.values() if entity.source == name]
        with _failing_check(found, f"source {name}"), _Looks(installation.source(name), entities) as looks:
            looks.snapshot()
            for entity in entities:
                _unreadable(installation, looks, entity, tenants, found)
    return list({(check.found, check.next_step): check for check in found}.values())


def narrowed(installation: Installation, entities: Iterable[str]) -> list[str]:
    """Return what keeps connections from seeing every row of these entities. A source that does not answer now adds nothing here."""
    wanted = [entity for name in entities if (entity := installation.catalog.entity(name))]
    found: list[str] = []
    for source in dict.fromkeys(entity.source for entity in wanted):
        mine = [entity for entity in wanted if entity.source == source]
        with suppress(WaybillError), installation.source(source).snapshot(mine) as snapshot:
            found += [f"{entity.id}: {note}" for entity in mine if (note := snapshot.narrowed(entity))]
    return found


def _tell_narrowed(snapshot: Snapshot, entity: Entity, found: list[Check]) -> None:
    if note := snapshot.narrowed(entity):
        step = "Give the connection's user a policy that shows every row, or the attribute BYPASSRLS, unless it is meant so"
        found.append(Check(f"entity {entity.id}", "warning", f"{entity.id}: {note}", step))


def _unreadable(installation: Installation, looks: _Looks, entity: Entity, tenants: Mapping[str, Registration], found: list[Check]) -> None:
    before = len(found)
    with _failing_check(found, entity.id), looks.one() as snapshot:
        natives = snapshot.columns(entity)
        for name in dict.fromkeys((*entity.needed_columns, *entity.scopes.values(), *filter(None, [entity.time_column]))):
            if name not in natives:
                step = f"Bring it back, or correct entities.{entity.id} of the catalog"
                found.append(Check(entity.id, "failed", f"{entity.id}: column {name} is missing from {entity.read_from}", step))
        if len(found) == before:
            _readable(installation, snapshot, entity)
    is_readable = len(found) == before
    if is_readable:
        with _failing_check(found, entity.id), looks.one() as snapshot:
            _tell_narrowed(snapshot, entity, found)
    for tenant, registration in tenants.items() if is_readable else ():
        wanted, _ = resolve_entities(registration, installation.catalog.offered_to(tenant), "")
        if entity.id in wanted:
            source_tenant, where = registration.reads(tenant, entity)
            with _failing_check(found, entity.id), looks.one() as snapshot:
                snapshot.check(Selection(entity, source_tenant, entity.columns, where=where))


def _readable(installation: Installation, snapshot: Snapshot, entity: Entity) -> None:
    snapshot.columns(entity)
    snapshot.extent(entity, "", None, installation.now() - CLOCKS_APART)
    # No tenant has an empty id, so the source checks every condition and reads no row.
    snapshot.check(Selection(entity, "", entity.columns, time_to=installation.now() if entity.time_column else None))


def _active(installation: Installation) -> list[Registered]:
    with installation.ledger.read() as connection:
        return [
            registered
            for registered in registrations.readable(registrations.all_current(connection))
            if not registered.registration.is_disabled
        ]


def _without_rows(installation: Installation) -> Iterator[Check]:
    """Name tenants that have received files and no row in any of them: new ones, or ones whose id in the data is another."""
    with installation.ledger.read() as connection:
        empty = usage.without_rows(connection)
    for registered in _active(installation):
        if registered.tenant in empty:
            known = registered.registration.id_in_data(registered.tenant)
            step = f"Let sourceTenant in its file be its id in the data, if that is not {known}; wait, if it has no rows yet"
            yield Check(f"tenant {registered.tenant}", "warning", "it has received files, and no row in any of them", step)


def _keys(installation: Installation) -> list[Check]:
    """Check each signing key once, and each key that a tenant's files are encrypted to."""
    found: list[Check] = []
    signing: set[str] = set()
    for registered in _active(installation):
        name = installation.configuration.export_policy(registered.tenant).signing
        if name and name not in signing:
            signing.add(name)
            with _failing_check(found, f"signing {name}"):
                if signer := installation.signer(registered.tenant):
                    found.append(Check(f"signing {name}", "ok", f"signs manifests with {signer.public[0].fingerprint}"))
        if encryption := registered.registration.encryption:
            with _failing_check(found, f"encryption {registered.tenant}"):
                to = pgp.recipient(encryption.public_key)
                found.append(Check(f"encryption {registered.tenant}", "ok", f"files are encrypted to {to.fingerprint}"))
    return found


def _destinations(installation: Installation) -> list[Check]:
    """Rehearse each destination once, below the folder of the first tenant that has it."""
    found: list[Check] = []
    active = _active(installation)
    first: dict[str, Registered] = {}
    for registered in active:
        first.setdefault(installation.destination_spec(registered).model_dump_json(), registered)
    for registered in first.values():
        spec = installation.destination_spec(registered)
        name = f"destination {getattr(spec, 'connection', '') or spec.kind}"
        with _failing_check(found, name):
            probe = rehearsing.probe(installation, registered.tenant)
            status: Status = "ok" if probe.profile == "full" else "warning"
            found.append(Check(name, status, f"profile {probe.profile.value}", "" if status == "ok" else rehearsing.ADVICE[probe.profile]))
    if not active:
        waiting = len(installation.configuration.file_names)
        state = f"no tenant is registered; {counted(waiting, 'tenant file')} not applied yet" if waiting else "no tenant is registered"
        found.append(
            Check("destinations", "warning", state, f"{'Run' if waiting else 'Add config/tenants/TENANT.yaml and run'} `waybill apply`")
        )
    return found
