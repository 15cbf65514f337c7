"""Brings the ledger to what the configuration files say, for `waybill apply` and the DAG `apply_config`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from waybill.access import Visible
from waybill.configuration.loading import TenantFile, TenantFiles
from waybill.configuration.registration import Difference, ExportOption, Registration, difference
from waybill.configuration.rules.sharing import Reader, reader, same_rows, shared_rows
from waybill.configuration.values.encryption import key_hash
from waybill.errors import Finding, PermanentError, TransientError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations, streams
from waybill.ledger.database.rows import UNREADABLE
from waybill.ledger.delivered import keys
from waybill.ledger.registrations import FILE_ORIGIN, LostUpdate, Provenance, Recorded, Registered
from waybill.registrations import encryption_keys, locking_columns, redefining
from waybill.registrations.locking_columns import FrozenColumns
from waybill.registrations.sharing import rivals, without_files
from waybill.states import GenerationReason

TRIES = 5
MOST_DEACTIVATED = 0.25
_KEY = re.compile(r"-----BEGIN (?:[^\"\\]|\\.)+")
"""A key inside JSON. Its comments may hold quotes, which are escaped there."""
_SIGNS = {"create": "+", "change": "~", "deactivate": "-"}


@dataclass(frozen=True)
class Change:
    """What apply does to one tenant. `action`: create, change, deactivate, keep. `fields` are those of the body whose value changes: old
    and new.
    """

    tenant: str
    action: str
    file: str
    difference: Difference
    fields: dict[str, tuple[object, object]] = field(default_factory=dict)
    version: int | None = None


@dataclass(frozen=True)
class Applied:
    """The change of every tenant, and the findings of files that were left out. Those tenants stay on their last good version.

    `refusal` is why a dry run's changes would not be carried out.
    """

    changes: list[Change]
    findings: tuple[Finding, ...]
    refusal: PermanentError | None = None
    notes: tuple[str, ...] = ()
    """The columns that were frozen, and what changes of the catalog and of registrations mean for what was delivered already."""

    @property
    def changed(self) -> list[Change]:
        return [change for change in self.changes if change.action != "keep"]

    def first_loads(self) -> dict[str, tuple[str, ...]]:
        """Return, by tenant, the entities that it gets for the first time, or again."""
        return {change.tenant: change.difference.activated for change in self.changed if change.difference.activated}

    def lines(self, *, dry_run: bool) -> Iterator[str]:
        """Yield the changes for a terminal or a task's log, and a count at the end."""
        for change in self.changed:
            yield f"{_SIGNS[change.action]} {change.tenant}  ({change.file})"
            for key, (old, new) in change.fields.items():
                before = "" if change.action == "create" else f"{_shown(old)} -> "
                yield f"    {key}: {before}{_shown(new)}"
            yield from (f"    + {entity}  (full load first)" for entity in change.difference.activated)
            yield from (f"    - {entity}" for entity in change.difference.deactivated)
        yield from (f"note: {note}" for note in self.notes)
        counts = Counter(change.action for change in self.changes)
        parts = (f"{counts[action]} to {action}" if dry_run else f"{counts[action]} {action.removesuffix('e')}ed" for action in _SIGNS)
        yield f"{', '.join(parts)}, {counts['keep']} unchanged"


def _shown(value: object) -> str:
    """Return a value of a body on one line. A key has thousands of characters, so it is shown by its hash."""
    text = json.dumps(value, ensure_ascii=False)
    return _KEY.sub(lambda key: "key with SHA-256 " + key_hash(json.loads(f'"{key[0]}"')), text)


def apply(
    installation: Installation, *, actor: str, dry_run: bool = False, allow_mass_deactivation: bool = False, only: str = ""
) -> Applied:
    """Bring the ledger to what the files say: one transaction per tenant, so a bad file harms nobody else.

    Raises ConfigError when the catalog or the policy is broken, PermanentError when more than a quarter of the active tenants would be
    deactivated, or have lost their files, where `only` narrows it to one tenant whose file is gone. Nothing is changed then. A dry run
    returns that refusal beside the changes.
    """
    installation.configuration.require_catalog()
    frozen = locking_columns.freeze(installation, dry_run=dry_run)
    installation.configuration.require_catalog()
    files = installation.configuration.files_of(only) if only else installation.configuration.files
    with installation.ledger.read() as connection:
        found = [registrations.current(connection, only)] if only else registrations.all_current(connection)
        before = {registered.tenant: registered for registered in found if registered}
        active = streams.active_entities(connection, only)
        samples = [] if only else streams.samples(connection)
        keyed = keys.known(connection, [stream.id for stream in samples])
    others = None if only else without_files(files, before, active)
    unusable = [found for file in files.tenants.values() for found in _unusable(installation, file, before.get(file.tenant), others)]
    refused = {tenant_of(finding) for finding in unusable}
    sound = [file for file in files.tenants.values() if file.tenant not in refused and not _waits(file, active, frozen)]
    changes = [change_of(file, before.get(file.tenant), active.get(file.tenant, [])) for file in sound]
    gone = [registered for registered in before.values() if is_gone(files, registered)]
    changes += [
        Change(registered.tenant, "deactivate", registered.managed_by_file or "", difference(active.get(registered.tenant, []), []))
        for registered in gone
    ]
    consequences = [note for change in changes for note in _consequences(installation, change, files, before.get(change.tenant))]
    refusal = None
    if not allow_mass_deactivation:
        refusal = _lost_with_others(installation, gone) if only else _mass_deactivation(changes, before)
    if not dry_run:
        if refusal:
            raise refusal
        carried = [_carried_out(installation, change, files, before.get(change.tenant), actor) for change in changes]
        changes = [change for change in carried if isinstance(change, Change)]
        unusable += [finding for finding in carried if isinstance(finding, Finding)]
    findings = (*files.findings, *frozen.waiting.values(), *unusable)
    notes = (*frozen.sentences, *redefining.announced(installation.catalog, samples, before, keyed), *consequences)
    return Applied(changes, findings, refusal, notes)


def _consequences(installation: Installation, change: Change, files: TenantFiles, before: Registered | None) -> Iterator[str]:
    """Yield what a changed file means for what was delivered before, if its fields do not say it themselves."""
    file = files.tenants.get(change.tenant)
    if file is None or before is None:
        return
    if other := _of_other_rows(installation, before, file.registration, change.difference.kept):
        yield tell("changed.rows", tenant=change.tenant, entities=", ".join(other))
    if "destination" in change.fields and not file.registration.is_disabled:
        yield tell("changed.destination", tenant=change.tenant)


def _waits(file: TenantFile, active: Mapping[str, Collection[str]], frozen: FrozenColumns) -> bool:
    """Return whether the tenant receives an entity whose columns are not frozen yet. Its stream must not end meanwhile."""
    return not file.registration.is_disabled and any(entity in frozen.waiting for entity in active.get(file.tenant, ()))


def _unusable(
    installation: Installation, file: TenantFile, before: Registered | None, others: Mapping[str, Sequence[Reader]] | None
) -> Iterator[Finding]:
    """Yield what is wrong with a file that only the ledger and gpg can tell.

    `others` are the tenants without a file, by their id in the data: no file has been compared with them. It is None if this file was not
    compared with any other.
    """
    yield from encryption_keys.findings(file.registration, before, file.file)
    mine = reader(file.tenant, file.registration, file.entities)
    if others is not None:
        found = others.get(mine.owner, ())
    elif mine.id_in_data == file.tenant:
        found = ()
    else:
        with installation.ledger.read() as connection:
            found = list(rivals(connection, mine).values())
    if shared := shared_rows(mine, found):
        yield same_rows(shared, file.file)


def is_gone(files: TenantFiles, registered: Registered) -> bool:
    """Return whether a registration's file is gone. A file with mistakes is not gone."""
    return bool(registered.managed_by_file) and registered.tenant not in files.tenants and registered.tenant not in files.broken


def tenant_of(finding: Finding) -> str:
    """Return the tenant of a finding, if it is about a tenant's file."""
    return finding.file.rpartition("/")[2].removesuffix(".yaml").removesuffix(".yml")


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    """Return the fields of a registration's body whose value changes, with the old and the new value.

    A field that a body leaves out is None.
    """
    return {key: (old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)}


def change_of(file: TenantFile, before: Registered | None, active: list[str]) -> Change:
    """Return what applying the file does, given the registration in force and the active entities."""
    diff = difference(active, file.entities)
    fields = changed_fields(before.body if before else {}, file.registration.body())
    if before is None:
        action = "create"
    elif fields or not diff.is_empty or before.origin != FILE_ORIGIN + file.file:
        action = "deactivate" if file.registration.is_disabled and not _is_disabled(before) else "change"
    else:
        action = "keep"
    return Change(file.tenant, action, file.file, diff, fields, before.version if before else None)


def _is_disabled(registered: Registered) -> bool:
    """Return whether the registration disables exports.

    Its stored word counts, because that can be told even if the rest can no longer be read.
    """
    return bool(registered.body.get("exportOption") == ExportOption.DISABLE)


def _mass_deactivation(changes: list[Change], before: dict[str, Registered]) -> PermanentError | None:
    """Return why changes that deactivate many tenants at once are refused. A folder that is not mounted looks exactly like that."""
    active = {tenant for tenant, registered in before.items() if not _is_disabled(registered)}
    ending = sorted(change.tenant for change in changes if change.action == "deactivate" and change.tenant in active)
    if len(ending) <= MOST_DEACTIVATED * len(active):
        return None
    return PermanentError(
        f"this would deactivate {len(ending)} of {len(active)} active tenants: {', '.join(ending[:10])}"
        + (" ..." if len(ending) > 10 else ""),
        allowed="at most a quarter at once",
        next_step="Nothing was applied. If it is meant, run `waybill apply --allow-mass-deactivation`, or trigger the DAG apply_config "
        "with allow_mass_deactivation",
        code="mass_deactivation",
    )


def _lost_with_others(installation: Installation, gone: list[Registered]) -> PermanentError | None:
    """Return why a tenant whose file is gone is not deactivated: the files of too many others are gone with it."""
    if not gone:
        return None
    with installation.ledger.read() as connection:
        every = {registered.tenant: registered for registered in registrations.all_current(connection)}
    names, nothing = installation.configuration.file_names, difference([], [])
    lost = [found for found in every.values() if found.managed_by_file and found.tenant not in names]
    return _mass_deactivation([Change(found.tenant, "deactivate", found.managed_by_file or "", nothing) for found in lost], every)


def _carried_out(installation: Installation, change: Change, files: TenantFiles, before: Registered | None, actor: str) -> Change | Finding:
    """Make the change and return it. If what the ledger holds of the tenant cannot be read, a finding is returned instead."""
    try:
        return _carry_out(installation, change, files, before, actor)
    except PermanentError as error:
        if error.code != "registration_unreadable":
            raise
        return Finding(change.file, "", str(error), code=error.code)


def _carry_out(installation: Installation, change: Change, files: TenantFiles, before: Registered | None, actor: str) -> Change:
    if change.action == "keep":
        return change
    if file := files.tenants.get(change.tenant):
        wanted, entities, origin = file.registration, file.entities, FILE_ORIGIN + file.file
    else:  # the file was removed: keep its words, switch everything off, and let the API take over
        words = before.registration if before and registrations.readable([before]) else Registration()
        wanted, entities, origin = words.model_copy(update={"export_option": ExportOption.DISABLE}), (), f"removed:{change.file}"
    recorded = record(installation, change.tenant, wanted, entities, by=Provenance(origin, actor))
    return Change(change.tenant, change.action, change.file, recorded.difference, change.fields, recorded.version)


def record(
    installation: Installation, tenant: str, wanted: Registration, entities: tuple[str, ...], *, by: Provenance, expected: int | None = None
) -> Recorded:
    """Replace a tenant's registration in one transaction. Raises LostUpdate when `expected` is given and is not the version in force."""
    for _ in range(TRIES):
        try:
            with installation.ledger.begin() as connection:
                return replace_in(connection, installation, tenant, wanted, entities, by=by, expected=expected)
        except LostUpdate:
            if expected is not None:
                raise
    raise TransientError(f"the registration of {tenant} keeps changing", next_step="Try again", code="busy")


def replace_in(
    connection: Connection,
    installation: Installation,
    tenant: str,
    wanted: Registration,
    entities: tuple[str, ...],
    *,
    by: Provenance,
    expected: int | None = None,
) -> Recorded:
    """Replace a registration in an open transaction. Streams with other rows from now on begin a new generation. Raises LostUpdate."""
    done = registrations.replace(connection, tenant, wanted, entities, by=by, now=installation.now(), expected=expected)
    if done.before is not None:
        for entity in _of_other_rows(installation, done.before, wanted, done.difference.kept):
            registrations.begin_generation(connection, tenant, entity, GenerationReason.OTHER_ROWS, installation.now())
        _move_copies(connection, installation, tenant, wanted, by)
    return done


def _move_copies(connection: Connection, installation: Installation, tenant: str, wanted: Registration, by: Provenance) -> None:
    """Let copies that the API manages read the id in the data that their original reads now. The old id may become another customer's."""
    for copy in registrations.copies(connection, tenant):
        if copy.managed_by_file or not registrations.readable([copy]):
            continue
        its = copy.registration
        if its.id_in_data(copy.tenant) != wanted.id_in_data(tenant):
            own = None if wanted.id_in_data(tenant) == tenant else wanted.id_in_data(tenant)
            entities = tuple(stream.entity for stream in streams.active(connection, copy.tenant))
            moved, origin = its.model_copy(update={"source_tenant": own}), by._replace(origin=copy.origin, restored=None)
            replace_in(connection, installation, copy.tenant, moved, entities, by=origin)


def _of_other_rows(installation: Installation, before: Registered, wanted: Registration, entities: Collection[str]) -> list[str]:
    """Return the entities of which a registration asks for other rows than the one before. Their streams begin a new generation."""
    catalogued = [entity for name in entities if (entity := installation.configuration.catalog.entity(name))]
    if registrations.readable([before]):
        words, tenant = before.registration, before.tenant
        return [entity.id for entity in catalogued if words.reads(tenant, entity) != wanted.reads(tenant, entity)]
    stored, body = before.body, wanted.body()
    is_other = stored == UNREADABLE or any(stored.get(field) != body.get(field) for field in ("sourceTenant", "copyOf", "where"))
    return [entity.id for entity in catalogued if is_other]


@dataclass(frozen=True)
class Failed:
    """Rounds of applying that failed since the last good one: when the first of them ended, and where the newest is below the
    shell's root.
    """

    since: datetime
    place: str


@dataclass(frozen=True)
class PendingChanges:
    """What one reader may know of it. `tenants` have a file with mistakes; `whole`: mistakes in what all share hold up every file.

    `findings` are those the reader may read: a tenant's by the right to see it, those of the shared files by seeing every tenant.
    """

    tenants: tuple[str, ...]
    whole: bool
    findings: tuple[Finding, ...]
    failed: Failed | None


def pending_changes(installation: Installation, visible: Visible, failed: Failed | None) -> PendingChanges | None:
    """Return what is not in force yet, or None if nothing is missing.

    Mistakes in files of tenants that `visible` does not let through do not count.
    """
    configuration = installation.configuration
    if not (configuration.findings or failed):
        return None
    shared = configuration.shared_findings
    seen = set(visible(sorted(configuration.broken)))
    own = tuple(finding for finding in configuration.tenants_findings if tenant_of(finding) in seen)
    if configuration.findings and not (shared or own):
        return None
    readable = shared if shared and _sees_all(installation, visible) else ()
    return PendingChanges(tuple(dict.fromkeys(tenant_of(finding) for finding in own)), bool(shared), (*readable, *own), failed)


def _sees_all(installation: Installation, visible: Visible) -> bool:
    with installation.ledger.read() as connection:
        every = {*registrations.ids(connection), *installation.configuration.file_names}
    return len(set(visible(sorted(every)))) == len(every)


@dataclass(frozen=True)
class File:
    """How a tenant's file relates to its registration in force. `outstanding` is what the next round does: change, deactivate, or nothing.

    `findings` keep the file from being applied.
    """

    findings: tuple[Finding, ...] = ()
    outstanding: str = ""


def file_of(installation: Installation, tenant: str, registered: Registered | None, active: Collection[str] = ()) -> File:
    """Return how a tenant's file relates to its registration in force. `active` are the entities that the tenant receives now."""
    files = installation.configuration.files_of(tenant)
    if tenant in files.broken:
        return File(files.findings)
    if file := files.tenants.get(tenant):
        action = change_of(file, registered, list(active)).action
        return File(outstanding="" if action == "keep" else action)
    return File(outstanding="deactivate" if registered and is_gone(files, registered) else "")
