"""Checks whether a relation is still what the catalog says, and how to correct it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity, Mode, closest
from waybill.configuration.selection import Selection
from waybill.configuration.values.columns import Column, sources
from waybill.errors import PermanentError, counted
from waybill.sources.equality import ADDRESSES, can_equal
from waybill.sources.query import Query
from waybill.sources.sql import Flavour, Natives

_HOLDS = {
    ColumnType.INTEGER: {ColumnType.INTEGER},
    ColumnType.DECIMAL: {ColumnType.DECIMAL, ColumnType.INTEGER},
    ColumnType.FLOAT: {ColumnType.FLOAT, ColumnType.INTEGER},
    ColumnType.BOOLEAN: {ColumnType.BOOLEAN},
    ColumnType.DATE: {ColumnType.DATE},
    ColumnType.TIMESTAMP: {ColumnType.TIMESTAMP},
    ColumnType.UUID: {ColumnType.UUID, ColumnType.STRING},
    ColumnType.JSON: {ColumnType.JSON, ColumnType.STRING},
    ColumnType.BINARY: {ColumnType.BINARY},
}
_NEVER_IDS = frozenset([ColumnType.FLOAT, ColumnType.BOOLEAN, ColumnType.DATE, ColumnType.TIMESTAMP, ColumnType.JSON, ColumnType.BINARY])
_SHAPES = frozenset(["point", "line", "lseg", "box", "path", "polygon", "circle", "geometry", "xml", "tsvector", "tsquery", "money"])
"""Types of PostgreSQL and MySQL that no catalog type stands for, and that hold no ids either."""
_IDS = "a column of text, whole numbers, decimal numbers or UUIDs"
_HOURS = re.compile(r"(time|time_ns|timetz|interval)\b", re.IGNORECASE)
"""Times of a day and spans, of which the same one is written in many ways: an id in another way than it is delivered would find no row."""
_TIMES = frozenset({ColumnType.TIMESTAMP, ColumnType.DATE})
_CHANGE_KINDS = _TIMES | {ColumnType.INTEGER}
_MAYBE_WHOLE = re.compile(r"^(decimal|numeric)(\(\d+(,\s*(0|-\d+))?\))?$", re.IGNORECASE)
"""Numbers without declared decimals. Each value shows whether it is whole."""


MISFIT = "a value does not fit its catalogued type"
_MOST_NAMED = 5
_TIGHT = ("numeric(", "hugeint")


class Misfit(PermanentError):
    """A value does not fit its catalogued type. Whoever found it does not say in which column."""

    code = "schema_drift"


class EngineMisfit(Misfit):
    """DuckDB found the value. Its text may be right and only its Arrow type too narrow."""


def holds(native: str, natural: ColumnType | None, kind: ColumnType) -> bool:
    """Return whether every value of the native type has a canonical text of the catalogued type."""
    if kind is ColumnType.STRING:
        return natural is not ColumnType.BINARY
    return natural in _HOLDS[kind] or (kind is ColumnType.INTEGER and bool(_MAYBE_WHOLE.match(native)))


def check_columns(
    selection: Selection,
    natives: Natives,
    flavour: Flavour,
    excepted: Callable[[str, ColumnType], bool | None] = lambda native, kind: None,
    *,
    lists_all: bool = True,
) -> None:
    """Raise PermanentError `schema_drift` for a needed column that is missing or cannot hold its catalogued type.

    `excepted` may know more about a native type than `holds`. It returns None if it does not. Without `lists_all`, the source names no
    columns that are not granted.
    """
    entity = selection.entity
    scoped = [name for level, name in entity.scopes.items() if level in selection.scope]
    needed = dict.fromkeys(
        [*entity.needed_columns, *sources(selection.columns), *scoped, *(condition.column for condition in selection.where)]
    )
    by_time = entity.time_column if selection.time_from or selection.time_to or selection.time_cut else ""
    if by_time:
        needed[by_time] = None
    types = catalogued_types(selection)
    for name in needed:
        if name not in natives:
            raise _missing(selection, name, natives, lists_all=lists_all)
        if name in types and (reason := flavour.unfit(natives[name])):
            raise _unfit(selection, name, natives[name], *reason)
        for kind in types.get(name, ()):
            fits = excepted(natives[name], kind)
            if not (holds(natives[name], flavour.kind(natives[name]), kind) if fits is None else fits):
                raise _retyped(selection, name, natives[name], kind, flavour.kind(natives[name]))
    if by_time and flavour.kind(natives[by_time]) not in _TIMES:
        raise _timeless(entity, by_time, natives[by_time])
    change = entity.changes.column
    if change and entity.changes.mode not in (Mode.SNAPSHOT, Mode.FULL) and flavour.kind(natives[change]) not in _CHANGE_KINDS:
        raise PermanentError(
            f"the change column {change} is {natives[change] or 'a column without a type'}, which tells neither a time nor a rising number",
            where=entity.id,
            allowed="a timestamp, date or integer column",
            code="schema_drift",
            next_step=f"Set entities.{entity.id}.changes.column to such a column",
        )


def _timeless(entity: Entity, name: str, native: str) -> PermanentError:
    return PermanentError(
        f"the time column {name} is {native or 'a column without a type'}, which tells no time",
        where=entity.id,
        allowed="a timestamp or date column",
        code="schema_drift",
        next_step=f"Set entities.{entity.id}.time_column to such a column; a view or query can cast it",
    )


def check_tenant(query: Query) -> None:
    """Raise PermanentError `schema_drift` for a column of `tenant_through` that is missing, and `tenant_unfit` if the column that tells the
    tenant cannot hold the tenant's id: no row could be found, and the consumer would be told that the tenant has none. The same holds of
    the columns of the levels that are asked for: `scope_unfit`.
    """
    query.tenant()
    entity, tenant = query.entity, query.selection.tenant
    steps = entity.tenant_through
    column, natives = (steps[-1].column, query.parents[-1].natives) if steps else (entity.tenant_column, query.natives)
    native = natives.get(column, "")
    kind = query.flavour.kind(native)
    if _holds_no_ids(query.flavour, native):
        key = "tenant_through" if steps else "tenant_column"
        raise PermanentError(
            f"{column}, which tells the tenant, is {native}, which holds no ids",
            where=entity.id,
            allowed=_IDS,
            code="tenant_unfit",
            next_step=f"Set {key} of entities.{entity.id} of the catalog to such a column",
        )
    for level, scope in entity.scopes.items():
        if level in query.selection.scope and _holds_no_ids(query.flavour, query.natives[scope]):
            raise PermanentError(
                f"{scope}, which tells the {level}, is {query.natives[scope]}, which holds no ids",
                where=entity.id,
                allowed=_IDS,
                code="scope_unfit",
                next_step=f"Set scopes.{level} of entities.{entity.id} of the catalog to such a column",
            )
    if not tenant or can_equal(query.flavour, native, tenant):
        return
    bounds = query.flavour.bounds(native)
    number = "a number such as 42 or 7.5, without needless zeros" if kind is ColumnType.DECIMAL else "a whole number such as 42"
    whole = f"a whole number from {bounds[0]} to {bounds[1]}" if bounds else number
    address = "an address with its length, such as 10.0.0.1/32" if native in ADDRESSES else ""
    raise PermanentError(
        f"the tenant's id in the data is {tenant}, and {column}, which tells the tenant, is {native}",
        where=entity.id,
        allowed="a UUID such as 0190f6b2-7c3e-7d11-8f00-3c5c6a1e9b42" if kind is ColumnType.UUID else address or whole,
        code="tenant_unfit",
        next_step=f"Set sourceTenant to the id that {column} holds, or have entities.{entity.id} of the catalog lead to the other id"
        " by tenant_through",
    )


def _holds_no_ids(flavour: Flavour, native: str) -> bool:
    declared = native.lower()
    never = flavour.kind(native) in _NEVER_IDS and not declared.startswith("tinyint")  # MySQL's boolean holds small numbers
    return not flavour.dynamic and (never or declared.partition("(")[0] in _SHAPES or bool(_HOURS.match(declared)))


def nobodys(tenant: str) -> str:
    """Return what is said of an entity without a row of the tenant: it may be new, or its id may be misspelt."""
    return f"no row carries the tenant's id, {tenant}"


def place(selection: Selection, where: str) -> str:
    """Return where a selection is read, for messages. A check of the catalog asks for no tenant."""
    of_tenant = f" of {selection.tenant}" if selection.tenant else ""
    return f"{selection.entity.id}{of_tenant} in {where}"


def catalogued_types(selection: Selection) -> dict[str, set[ColumnType]]:
    """Return the types that columns of the source are read as, by column."""
    found: dict[str, set[ColumnType]] = {}
    for name, column in (*selection.entity.columns.items(), *selection.columns.items()):
        found.setdefault(column.source(name), set()).add(column.type)
    return found


def _missing(selection: Selection, name: str, natives: Natives, *, lists_all: bool) -> PermanentError:
    entity = selection.entity
    delivered = entity.exported(name)
    rename = closest(name, [column for column in natives if column not in entity.needed_columns])
    follow = f"write `from: {rename or 'NEW_NAME'}` at {delivered}, so that consumers keep its values," if delivered else "name the new one"
    otherwise = f"take {delivered} out of" if delivered and name not in entity.key else "name another column in"
    meant = (
        f"{rename} is new there: if {name} was renamed, {follow} in"
        if rename
        else f"Bring it back, {'' if lists_all else 'grant SELECT on it, '}{follow} if it was renamed, or {otherwise}"
    )
    return PermanentError(
        f"column {name} is missing from {entity.read_from}{'' if lists_all else ', or not granted to the login'}",
        where=entity.id,
        code="schema_drift",
        next_step=f"{meant} entities.{entity.id} of the catalog",
    )


def _retyped(selection: Selection, name: str, native: str, kind: ColumnType, natural: ColumnType | None) -> PermanentError:
    entity = selection.entity
    return PermanentError(
        f"column {name} of {entity.read_from} is {native}, which cannot hold the catalogued type {kind}",
        where=entity.id,
        code="schema_drift",
        next_step=f"Change the column back, or set its type in entities.{entity.id}.columns to {natural or ColumnType.STRING}",
    )


def _unfit(selection: Selection, name: str, native: str, why: str, what_to_do: str) -> PermanentError:
    entity = selection.entity
    return PermanentError(
        f"column {name} of {entity.read_from} is {native}, {why}",
        where=entity.id,
        code="schema_drift",
        next_step=f"{what_to_do}, or take {name} out of entities.{entity.id} of the catalog",
    )


def doubtful(selection: Selection, natives: Natives, flavour: Flavour, binding: bool) -> list[str]:
    """Return the columns of which a value may not fit, as a sentence names them: those catalogued as something else than they are by
    nature, and times that may be finer, or further away, than a timestamp says. All that are no text where declared types are not
    `binding`.
    """
    typed = [
        (name, natives[name], kind)
        for name, kinds in catalogued_types(selection).items()
        for kind in sorted(kinds - {ColumnType.STRING})
        if name in natives
    ]
    return [
        f"column {name} is {native or 'of no declared type'} and catalogued as {kind}"
        for name, native, kind in typed
        if not (binding and _always_holds(flavour.kind(native), kind))
        or kind is ColumnType.JSON
        or native.startswith("TIMESTAMP_")
        or native.endswith("_NS")
    ]


def _always_holds(natural: ColumnType | None, kind: ColumnType) -> bool:
    return natural is kind or (natural is ColumnType.INTEGER and kind in (ColumnType.DECIMAL, ColumnType.FLOAT))


@contextmanager
def naming(selection: Selection, natives: Natives, flavour: Flavour, *, binding: bool = True) -> Iterator[None]:
    """Name the columns in question: an engine says that a value does not fit its type, but never in which column."""
    try:
        yield
    except Misfit as error:
        found = doubtful(selection, natives, flavour, binding)
        if not found:
            raise
        raise PermanentError(
            f"{MISFIT}: {', or '.join(found[:_MOST_NAMED])}",
            where=error.where,
            code="schema_drift",
            next_step=f"Correct the value, or set the column's type in entities.{selection.entity.id} of the catalog to string",
        ) from error


def tight(native: str, column: Column) -> bool:
    """Return whether the Arrow type of a number cannot hold every value of its native type: NaN, or more than 38 digits."""
    declared = native.lower()
    if column.leaves_as is ColumnType.INTEGER and "int" not in declared:
        return True  # text, or a number with digits of its own
    return column.leaves_as in (ColumnType.INTEGER, ColumnType.DECIMAL) and declared.startswith(_TIGHT)


@contextmanager
def fitting(selection: Selection, natives: Natives) -> Iterator[None]:
    """Name the columns in question if a value does not fit into its Arrow type, although its text is right."""
    try:
        yield
    except EngineMisfit as error:
        found = tight_columns(selection, natives)
        if not found:
            raise
        step = "Choose NDJSON, JSON or CSV, which hold every value, or catalogue the column as string"
        raise too_large(selection.entity.id, found, step) from error


def tight_columns(selection: Selection, natives: Natives) -> list[str]:
    read = {name: (natives[column.source(name)], column) for name, column in selection.columns.items()}
    return [f"column {name} is {native}" for name, (native, column) in read.items() if tight(native, column)]


def too_large(entity_id: str, found: list[str], next_step: str) -> PermanentError:
    named = f": {', or '.join(found[:_MOST_NAMED])}" if found else ""
    return PermanentError(
        f"a value does not fit into the type that Parquet and XLSX have for its column{named}",
        where=entity_id,
        allowed="numbers of at most 38 digits, and no NaN",
        code="row_limit_format",
        next_step=next_step,
    )


def null_changes(selection: Selection, count: int) -> PermanentError:
    column = selection.entity.changes.column
    return PermanentError(
        f"{counted(count, 'row')} of the tenant {'has' if count == 1 else 'have'} no {column}, so their changes would never be seen",
        where=selection.entity.id,
        code="change_column_null",
        next_step=f"Fill {column} and make it NOT NULL with a default and an update trigger",
    )


def changes_ahead(selection: Selection, count: int, example: str) -> PermanentError:
    column = selection.entity.changes.column
    return PermanentError(
        f"{count} row{'s' if count != 1 else ''} of the tenant hold a {column} that the cluster has not reached, as {example},"
        " so their changes would never be seen",
        where=selection.entity.id,
        code="change_column_ahead",
        next_step=f"UPDATE these rows so that the trigger sets {column} again; rows restored from another cluster keep its numbers",
    )


def unreadable_times(selection: Selection, column: str, count: int) -> PermanentError:
    return _unreadable(selection, column, count, "time", "text such as 2026-01-31 12:00:00 or 2026-01-31T12:00:00Z")


def unreadable_ids(selection: Selection, column: str, count: int) -> PermanentError:
    return _unreadable(selection, column, count, "whole number", "whole numbers")


def _unreadable(selection: Selection, column: str, count: int, what: str, allowed: str) -> PermanentError:
    return PermanentError(
        f"{counted(count, 'row')} of the tenant {'holds' if count == 1 else 'hold'} something in {column} that is not a {what}",
        where=selection.entity.id,
        allowed=allowed,
        code="change_column_unreadable",
        next_step=f"Correct {column} in these rows; no row of the entity is delivered before",
    )


def null_keys(selection: Selection, count: int) -> PermanentError:
    key = ", ".join(selection.entity.key)
    return PermanentError(
        f"{counted(count, 'row')} of the tenant {'has' if count == 1 else 'have'} no value in a column of the key ({key}),"
        " so nobody could tell them apart from others",
        where=selection.entity.id,
        code="key_null",
        next_step=f"Fill these columns and make them NOT NULL, or name others in entities.{selection.entity.id}.key",
    )


def repeated_key(selection: Selection) -> PermanentError:
    key = ", ".join(selection.entity.key)
    return PermanentError(
        f"the key ({key}) is not unique among the tenant's rows in {selection.entity.read_from}",
        where=selection.entity.id,
        code="key_not_unique",
        next_step=f"Name the columns that identify a row in entities.{selection.entity.id}.key",
    )
