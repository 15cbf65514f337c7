"""Looks at, rehearses, replaces and restores a tenant's registration, for the API. The rules are those of the files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from waybill.access import LONGEST_ID, TENANT_ID, tenant_id
from waybill.configuration.findings import validated
from waybill.configuration.loading import tenant_files
from waybill.configuration.registration import Difference, FolderDestination, Registration, difference, listed_entities
from waybill.configuration.rules.sharing import copy_problem, reader, same_rows, shared_rows
from waybill.errors import Finding, InvalidInput, PermanentError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations, streams
from waybill.ledger.database.rows import UNREADABLE
from waybill.ledger.registrations import LostUpdate, Provenance, Registered
from waybill.ledger.streams import Stream
from waybill.registrations import encryption_keys
from waybill.registrations.applying import changed_fields, record
from waybill.registrations.estimating import Estimate, estimate
from waybill.registrations.sharing import rivals

API_ORIGIN = "api"


@dataclass(frozen=True)
class Standing:
    """A tenant's registration in force with what it means: active entities by id, and the last stream of every inactive one."""

    registered: Registered
    active: tuple[str, ...]
    inactive: tuple[Stream, ...]
    managed_by: str | None


@dataclass(frozen=True)
class Rehearsal:
    """What a replace would do. `fields` are those of the body whose value changes: old and new."""

    difference: Difference
    fields: dict[str, tuple[object, object]]
    estimates: list[Estimate]

    @property
    def changes_nothing(self) -> bool:
        return self.difference.is_empty and not self.fields


@dataclass(frozen=True)
class Version:
    """A recorded registration with the fields it changed: old and new. `restored` is the earlier version whose words these are again."""

    registered: Registered
    fields: dict[str, tuple[object, object]]

    @property
    def restored(self) -> int | None:
        return self.registered.diff.get("restored_from")


@dataclass(frozen=True)
class Replaced:
    """What a replace did. `created` is true for a tenant's first registration."""

    standing: Standing
    difference: Difference
    created: bool
    changed: bool


def read(raw: Mapping[str, Any], installation: Installation, tenant: str) -> tuple[Registration, tuple[str, ...]]:
    """Return a tenant's body and its entity ids. Raises InvalidInput with every finding."""
    findings: list[Finding] = []
    wanted = validated(Registration, raw, "", findings)
    if wanted is None:
        raise InvalidInput(findings)
    entities = listed_entities(wanted, raw, installation.catalog.offered_to(tenant), "", findings)
    if findings:
        raise InvalidInput(findings)
    return wanted, entities


def _in_force(before: Registered | None) -> Registration:
    """Return the words in force, and of a registration that can no longer be read those that can: it must be possible to replace it."""
    if before is None or registrations.readable([before]):
        return before.registration if before else Registration()
    return validated(Registration, before.body, "", []) or Registration()


def _refuse_chosen_destination(
    installation: Installation, tenant: str, wanted: Registration, before: Registered | None, operator: bool
) -> None:
    """Refuse a destination that the caller may not name.

    A call may always repeat the one in force. Policy says which others it may name, and only operators may name a folder.
    """
    in_force = _in_force(before).destination
    policy, chosen = installation.configuration.policy, wanted.destination
    if chosen == in_force or policy.api_destinations == "any":
        return
    if policy.api_destinations == "policy":
        raise InvalidInput(
            [Finding("", "destination", tell("finding.operators_destination"), tell("allowed.operators_destination"), code="not_allowed")]
        )
    if operator or chosen is None:
        return
    if not isinstance(chosen, FolderDestination) and _may_name(installation, tenant, chosen.connection):
        return
    what, allowed = tell("finding.foreign_destination"), tell("allowed.foreign_destination")
    raise InvalidInput([Finding("", "destination", what, allowed, code="not_allowed")])


def _may_name(installation: Installation, tenant: str, connection_id: str) -> bool:
    """Return whether the tenant may name the connection.

    Only tenants whose id is part of its name could have a better claim, so the others are not asked for.
    """
    configuration, ends = installation.configuration, range(1, len(connection_id) + 1)
    parts = {connection_id.lower()[start:end] for end in ends for start in range(max(0, end - LONGEST_ID), end - len(tenant))}
    longer = [part for part in parts if TENANT_ID.match(part)]
    with installation.ledger.read() as connection:
        registered = registrations.versions(connection, longer)
    named = configuration.policy.named_tenants
    rivals = [name for name in longer if name in registered or name in named or configuration.has_file(name)]
    return configuration.policy.may_name(tenant, connection_id, rivals)


def _refuse_chosen_channels(
    installation: Installation, tenant: str, wanted: Registration, before: Registered | None, operator: bool
) -> None:
    """Refuse channels whose connection the caller may not name. It may name those in force, and those that it may name for destinations."""
    in_force = _in_force(before).notify
    if operator or installation.configuration.policy.api_destinations == "any":
        return
    what, allowed = tell("finding.foreign_connection"), tell("allowed.foreign_connection")
    findings = [
        Finding("", f"notify.{number}.connection", what, allowed, code="not_allowed")
        for number, channel in enumerate(wanted.notify)
        if channel not in in_force and channel.kind != "mail" and not _may_name(installation, tenant, channel.connection)
    ]
    if findings:
        raise InvalidInput(findings)


def _refuse_chosen_rows(
    installation: Installation, tenant: str, wanted: Registration, entities: Collection[str], before: Registered | None, operator: bool
) -> None:
    """Refuse an id in the data that the caller may not choose.

    Whoever names it chooses whose rows a tenant receives, so only callers who may change every tenant may do that.
    """
    stored = before.body if before else {}
    others_id, others_copy = wanted.source_tenant != stored.get("sourceTenant"), wanted.copy_of != stored.get("copyOf")
    if (others_id or others_copy or stored == UNREADABLE) and not operator:
        what, allowed = tell("finding.operators_id"), tell("allowed.operators_id")
        field = "copyOf" if others_copy and not others_id else "sourceTenant"
        raise InvalidInput([Finding("", field, what, allowed, code="not_allowed")])
    mine = reader(tenant, wanted, entities)
    with installation.ledger.read() as connection:
        others = rivals(connection, mine)
    if problem := copy_problem(mine, others | {tenant: mine}):
        raise InvalidInput([problem])
    if shared := shared_rows(mine, others.values()):
        raise InvalidInput([same_rows(shared)])


def _refuse_key(wanted: Registration, before: Registered | None) -> None:
    """Refuse a key that nothing can be encrypted to, before it is in force."""
    if found := encryption_keys.unusable(wanted, before):
        raise InvalidInput(found)


def find(installation: Installation, tenant: str) -> Registered | None:
    """Return the registration in force, or None."""
    with installation.ledger.read() as connection:
        return registrations.current(connection, tenant_id(tenant))


def require(installation: Installation, tenant: str) -> Registered:
    """Return the registration in force. Raises not_found, and the error names no other tenant."""
    found = find(installation, tenant)
    if found is None:
        raise PermanentError(tell("call.no_registration", tenant=tenant), code="not_found")
    return found


def standing(installation: Installation, tenant: str) -> Standing:
    """Raises not_found for a tenant that was never registered."""
    registered = require(installation, tenant)
    with installation.ledger.read() as connection:
        every = streams.every(connection, tenant)
    active = {stream.entity for stream in every if stream.active}
    latest: dict[str, Stream] = {}
    for stream in every:  # newest generation first
        latest.setdefault(stream.entity, stream)
    inactive = tuple(stream for entity, stream in latest.items() if entity not in active)
    return Standing(registered, _in_catalog_order(installation, active), inactive, managing_file(installation, tenant, registered))


def _in_catalog_order(installation: Installation, entities: Collection[str]) -> tuple[str, ...]:
    # Also with a catalog that is broken just now: what the ledger knows can be told.
    known = [entity for entity in installation.configuration.catalog.entities if entity in entities]
    return (*known, *sorted(set(entities) - set(known)))


def managing_file(installation: Installation, tenant: str, registered: Registered | None) -> str | None:
    """Return the file that manages a tenant: one that exists, valid or not, or the one that its registration in force came from."""
    folder = installation.settings.config_dir
    file = next((path for path in tenant_files(folder / "tenants", tenant_id(tenant)) if path.is_file()), None)
    if file:
        return f"{folder.name}/tenants/{file.name}"
    return registered.managed_by_file if registered else None


def _refuse_managed_as_code(installation: Installation, tenant: str) -> Registered | None:
    registered = find(installation, tenant)
    file = managing_file(installation, tenant, registered)
    if file is not None:
        raise PermanentError(
            tell("call.managed_as_code", tenant=tenant, file=file),
            next_step=tell("call.managed_as_code_step"),
            code="managed_as_code",
        )
    return registered


def rehearse(
    installation: Installation, tenant: str, raw: Mapping[str, Any], *, expected: int | None = None, operator: bool = False
) -> Rehearsal:
    """Return what `replace` would do with this body, and change nothing. Raises what `replace` raises."""
    registered = _refuse_managed_as_code(installation, tenant)
    wanted, entities = read(raw, installation, tenant)
    if expected is not None and expected != (registered.version if registered else 0):
        raise _mismatch(tenant, expected)
    _refuse_chosen_destination(installation, tenant, wanted, registered, operator)
    _refuse_chosen_channels(installation, tenant, wanted, registered, operator)
    _refuse_chosen_rows(installation, tenant, wanted, entities, registered, operator)
    _refuse_key(wanted, registered)
    with installation.ledger.read() as connection:
        active = [stream.entity for stream in streams.active(connection, tenant)]
    diff = difference(active, entities)
    fields = changed_fields(registered.body if registered else {}, wanted.body())
    return Rehearsal(diff, fields, estimate(installation, tenant, wanted, diff.activated))


def replace(
    installation: Installation, tenant: str, raw: Mapping[str, Any], *, actor: str, expected: int | None = None, operator: bool = False
) -> Replaced:
    """Make this body the tenant's registration. `expected` is the version the caller saw (0: none yet).

    `operator`: the caller may change every tenant's registration, and so may say which rows are this one's.

    Raises managed_as_code, etag_mismatch when another version is in force, InvalidInput.
    """
    _refuse_managed_as_code(installation, tenant)
    return _record(installation, tenant, raw, Provenance(API_ORIGIN, actor), expected, operator)


def restore(
    installation: Installation, tenant: str, number: int, *, actor: str, expected: int | None = None, operator: bool = False
) -> Replaced:
    """Replace the registration by what an earlier version said, as a new version, held against today's catalog.

    Raises not_found, managed_as_code, etag_mismatch, InvalidInput when the catalog has lost what that version names.
    """
    earlier = version(installation, tenant, number)
    _refuse_managed_as_code(installation, tenant)
    return _record(installation, tenant, earlier.body, Provenance(API_ORIGIN, actor, restored=number), expected, operator)


def version(installation: Installation, tenant: str, number: int) -> Registered:
    """Return a version that the tenant ever had. Raises not_found."""
    found = next((registered for registered in versions(installation, tenant) if registered.version == number), None)
    if found is None:
        raise PermanentError(tell("call.no_version", tenant=tenant, number=number), code="not_found")
    return found


def _record(
    installation: Installation, tenant: str, raw: Mapping[str, Any], by: Provenance, expected: int | None, operator: bool
) -> Replaced:
    wanted, entities = read(raw, installation, tenant)
    before = find(installation, tenant)
    _refuse_chosen_destination(installation, tenant, wanted, before, operator)
    _refuse_chosen_channels(installation, tenant, wanted, before, operator)
    _refuse_chosen_rows(installation, tenant, wanted, entities, before, operator)
    _refuse_key(wanted, before)
    try:
        recorded = record(installation, tenant, wanted, entities, by=by, expected=expected)
    except LostUpdate as error:
        raise _mismatch(tenant, expected) from error
    created = recorded.changed and recorded.version == 1
    return Replaced(standing(installation, tenant), recorded.difference, created, recorded.changed)


def _mismatch(tenant: str, expected: int | None) -> PermanentError:
    if expected == 0:
        what, step = tell("call.registered_already", tenant=tenant), tell("call.registered_already_step")
    else:
        what, step = tell("call.other_version", tenant=tenant), tell("call.other_version_step")
    return PermanentError(what, next_step=step, code="etag_mismatch")


def versions(installation: Installation, tenant: str) -> list[Registered]:
    """Return every version, newest first. Raises not_found."""
    require(installation, tenant)
    with installation.ledger.read() as connection:
        return registrations.history(connection, tenant)


def history(installation: Installation, tenant: str) -> list[Version]:
    """Return every version with what it changed, newest first. Raises not_found."""
    found = versions(installation, tenant)
    bodies = [*(registered.body for registered in found[1:]), {}]
    return [Version(registered, changed_fields(before, registered.body)) for registered, before in zip(found, bodies, strict=True)]


def unusable_connection(installation: Installation, tenant: str, raw: Mapping[str, Any]) -> PermanentError | None:
    """Return what is wrong with the connection that a body names, as far as it shows from here. Returns None if the body names none."""
    wanted, _ = read(raw, installation, tenant)
    if wanted.destination is None or isinstance(wanted.destination, FolderDestination):
        return None
    try:
        installation.connections(wanted.destination.connection)
    except PermanentError as error:
        return error
    return None
