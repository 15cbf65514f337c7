"""The values that a scope may name: the levels a person may use, and the projects, apps, studies and participants that exist."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from waybill.access import Caller, Permission
from waybill.canonical import ColumnType
from waybill.configuration.catalog import Catalog, Entity, ScopeLevel, closest
from waybill.configuration.policy import Level
from waybill.configuration.selection import Selection
from waybill.configuration.values.columns import Column, described
from waybill.errors import Finding, InvalidInput, WaybillError
from waybill.installation import Installation
from waybill.language import tell
from waybill.requests.rights import organization_members, require
from waybill.requests.submission import Scope
from waybill.sources import Snapshot

MOST = 100_000
"""The most values of one level that are kept. A search finds only values among these."""
_KEPT_SECONDS = 60.0
_KEPT_LISTS, _KEPT_VALUES = 1_000, 10 * MOST
"""What one process keeps of the lists it read, for all tenants together."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """The values that fit a search, in order. `more` is true if there are others."""

    values: list[str]
    more: bool


def offered_levels(installation: Installation, caller: Caller, tenant: str) -> list[Level]:
    """Return the levels that this person can use here. A form begins with the first.

    A person who is bound to projects must name one. The organization is a level only if the person may export a second tenant of it.
    """
    export_policy, entities = installation.configuration.export_policy(tenant), installation.catalog.offered_to(tenant).entities.values()
    carried = {"tenant", "organization", *(level for entity in entities for level in entity.scopes)}
    return [
        level
        for level in export_policy.scopes
        if level in carried
        and (level != "organization" or len(organization_tenants(installation, caller, tenant)) > 1)
        and (caller.projects is None or level not in ("tenant", "organization"))
    ]


def organization_tenants(installation: Installation, caller: Caller, tenant: str) -> list[str]:
    """Return the tenants of this tenant's organization that the caller may export."""
    return caller.rights.among(Permission.EXPORTS_CREATE, organization_members(installation, tenant))


def scope_values(
    installation: Installation, caller: Caller, tenant: str, level: ScopeLevel, within: Mapping[str, str], search: str = "", most: int = 50
) -> Found:
    """Return the values of a level at the tenant, for the caller to choose from. `within` narrows them, for example to one project.

    A level that is exported as a pseudonym is not listed. Raises not_found, create_denied, and the errors of a source.
    """
    require(installation, caller, tenant, Permission.EXPORTS_CREATE)
    narrowed: dict[str, tuple[str, ...]] = {name: (value,) for name, value in within.items() if value}
    if caller.projects is not None and level != "project":  # nobody reads what their projects do not hold
        narrowed["project"] = tuple(sorted(caller.projects.intersection(narrowed.get("project", caller.projects))))
    known = _known(installation, tenant, level, narrowed) if all(narrowed.values()) else []
    word = search.strip().casefold()
    fitting = [value for value in known if word in value.casefold() and (level != "project" or caller.belongs_to(value))]
    return Found(fitting[:most], len(fitting) > most or len(known) >= MOST)


_kept: dict[tuple[str, ...], tuple[float, list[str]]] = {}
"""Values that were read a moment ago, by installation, tenant, level and narrowing scope."""


def _known(installation: Installation, tenant: str, level: ScopeLevel, within: Mapping[str, tuple[str, ...]]) -> list[str]:
    key = (str(installation.settings.config_dir), installation.settings.ledger_url, tenant, level, repr(sorted(within.items())))
    at, values = _kept.get(key, (0.0, []))
    if not at or time.monotonic() - at > _KEPT_SECONDS:
        listing = _listing(installation.catalog.offered_to(tenant), level, within)
        values = sorted(_values(installation, tenant, listing, level, within, MOST))[:MOST]
        _kept[key] = (time.monotonic(), values)
        for oldest in [*_kept]:
            if len(_kept) <= _KEPT_LISTS and sum(len(kept) for _, kept in [*_kept.values()]) <= _KEPT_VALUES:
                break
            _kept.pop(oldest, None)
    return values


def _listing(catalog: Catalog, level: ScopeLevel, within: Iterable[str]) -> list[Entity]:
    """Return the entities that hold the values of a level. None if one of them hides the level behind pseudonyms."""
    carrying = [entity for entity in catalog.entities.values() if level in entity.scopes and set(within) <= entity.scopes.keys()]
    hidden = any(column.export == "anonymize" for entity in carrying if (column := described(entity.columns, entity.scopes[level])))
    return [] if hidden else carrying


def _snapshots(installation: Installation, entities: Iterable[Entity]) -> Iterator[tuple[Snapshot, Entity]]:
    by_source: dict[str, list[Entity]] = {}
    for entity in entities:
        by_source.setdefault(entity.source, []).append(entity)
    for name, members in by_source.items():
        with installation.source(name).snapshot(members) as snapshot:
            for entity in members:
                yield snapshot, entity


def _values(
    installation: Installation, tenant: str, entities: Iterable[Entity], level: str, scope: Mapping[str, tuple[str, ...]], most: int
) -> set[str]:
    """Return up to `most` values among the tenant's rows of this scope.

    They come from the column of the level, or without a level from the first column of the key.
    """
    words, found = installation.words_of(tenant), set[str]()
    for snapshot, entity in _snapshots(installation, entities):
        column = next((name for carried, name in entity.scopes.items() if carried == level), entity.key[0])
        source_tenant, where = words.reads(tenant, entity)
        wanted = {column: Column(type=known.type if (known := described(entity.columns, column)) else ColumnType.STRING)}
        found.update(snapshot.values(Selection(entity, source_tenant, wanted, scope=scope, where=where), most))
        if len(found) >= most:
            break
    return found


def refuse_unknown(installation: Installation, tenants: Iterable[str], scope: Scope) -> None:
    """Raise InvalidInput for a project, app, study or participant that no row of the tenant names.

    A level without any value yet refuses nothing. If the source cannot be asked here, the worker asks it with `unknown`.
    """
    if not scope.filters():
        return
    try:
        findings = [finding for tenant in tenants for finding in unknown(installation, tenant, scope.filters())]
    except WaybillError as error:
        log.info("the scope of an export is looked at when it is carried out: %s", error)
        return
    if findings:
        raise InvalidInput(findings)


def unknown(installation: Installation, tenant: str, filters: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    """Return a finding for each unknown name of the first level of a scope that has one."""
    within: dict[str, tuple[str, ...]] = {}
    offered = installation.catalog.offered_to(tenant).entities.values()
    ordered: tuple[ScopeLevel, ...] = ("project", "app", "study", "participant")
    for level in ordered:
        if level not in filters:
            continue
        entities = [entity for entity in offered if {level, *within} <= entity.scopes.keys()]
        missing = [value for value in filters[level] if not _values(installation, tenant, entities, "", within | {level: (value,)}, 1)]
        if missing and _values(installation, tenant, entities, level, within, 1):
            known = _known(installation, tenant, level, within)
            outer, inner = next(((name, value) for name, [value, *_] in reversed(within.items())), ("", ""))
            form = "submission.unknown_inside" if outer else "submission.unknown"
            field = "scope.apps" if level == "app" else f"scope.{level}"
            return [
                Finding("", field, reason, "", closest(value, known), f"unknown_{level}")
                for value in missing
                for reason in [tell(form, level=level, name=repr(value), outer=outer, inside=repr(inner))]
            ]
        within[level] = filters[level]
    return []
