"""Proposes entities for the tables of a source. Each decision comes with what speaks for it, and each omission with why."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration.catalog import is_credential
from waybill.configuration.values.columns import Column
from waybill.configuration.values.credentials import secret_value, words
from waybill.discovery.naming import entity_id, slug
from waybill.discovery.tenants import owners, tenant_names
from waybill.errors import WaybillError
from waybill.errors import counted as of
from waybill.sources.sql import Sql, join, sql
from waybill.sources.structures.base import FoundColumn, FoundTable, Structure, written

SMALL = 100_000
"""Tables with at most so many rows may be delivered whole each time."""
_LAG = 10_000
"""So many ids are read again where rows are found by ids: databases give these out before they commit."""
PROVABLE = 5_000_000
"""In tables with more rows, nothing is searched for a unique key."""
MOST_STATES = 100
"""A column with more values is no state."""

_TIMES = frozenset({ColumnType.TIMESTAMP, ColumnType.DATE})
_KEYS = frozenset({ColumnType.INTEGER, ColumnType.UUID, ColumnType.STRING, ColumnType.DATE, ColumnType.TIMESTAMP, ColumnType.DECIMAL})
_UPDATED = frozenset(
    ["updated_at", "updated_on", "updated", "update_time", "update_date", "last_update", "last_updated", "last_updated_at", "date_updated",
     "modified_at", "modified_on", "modified", "modified_date", "modification_time", "last_modified", "last_modified_at", "date_modified",
     "changed_at", "last_changed", "last_changed_at", "mtime"]
)  # fmt: skip
_CREATED = ("occurred_at", "happened_at", "created_at", "created_on", "created", "created_date", "date_created", "inserted_at", "logged_at")
_DELETED = frozenset(
    ["deleted_at", "deleted_on", "date_deleted", "deleted_date", "deletion_time", "deletion_date", "deleted_time", "delete_time", "deleted",
     "soft_deleted_at", "removed_at", "removed_on", "date_removed", "discarded_at", "trashed_at"]
)  # fmt: skip
_DELETED_MARK = frozenset(["is_deleted", "deleted", "is_removed", "soft_deleted", "deleted_flag", "delete_flag", "del_flag"])
_STATES = frozenset(["status", "state", "row_status", "record_status", "lifecycle", "lifecycle_state"])
_DELETED_WORDS = frozenset(["deleted", "removed", "soft_deleted"])
_EVENTS = frozenset(
    ["event", "events", "log", "logs", "login", "logins", "audit", "audits", "history", "activity", "activities", "visits", "views"]
)


@dataclass(frozen=True)
class Proposal:
    """An entity that passes `check`: its body, remarks by key, and the columns that are left out, with the reason."""

    id: str
    body: dict[str, Any]
    remarks: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A relation that cannot be exported as it is, and why."""

    relation: str
    why: str


@dataclass(frozen=True)
class Proposed:
    entities: tuple[Proposal, ...]
    skipped: tuple[Skipped, ...]
    tenant_columns: tuple[str, ...]


def propose(
    structure: Structure,
    source: str,
    tables: Sequence[FoundTable],
    wanted: Sequence[str],
    taken: Collection[str] = (),
    known: Collection[str] = (),
) -> Proposed:
    """Return an entity for every table that can be exported. `wanted` are names of tenant columns, `taken` are ids and names in use.

    Relations in `known` lead to tenants, but are not proposed.
    """
    names = tenant_names(tables, wanted)
    owned, unfit = owners(tables, names)
    used = {word.casefold() for word in taken}
    plain = {table.name for table in tables if slug(table.name) == table.name}
    entities, skipped = [], []
    # Tables of the usual schema come first, then names that are ids already, so that their entities have the plain names.
    for table in sorted(
        (table for table in tables if table.relation not in known),
        key=lambda table: (table.relation != written(table.name), table.name not in plain),
    ):
        why = table.obstacle or unfit.get(table.relation) or _unsayable(table)
        if not why and table.relation not in owned:
            looked = f"no column {' or '.join(names)}" if names else "no tenant column"
            why = f"{looked}, and no foreign key leads to a table with one; name the column with --tenant-column, or write a query"
        if why:
            skipped.append(Skipped(table.relation, why))
            continue
        try:
            others = used | plain - {table.name}
            found = _entity(structure, source, table, owned[table.relation].body(), others)
        except WaybillError as error:
            found = Skipped(table.relation, error.what)
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            entities.append(found)
            used |= {found.id, str(found.body.get("name", found.id)).casefold()}
    return Proposed(tuple(entities), tuple(skipped), names)


def _unsayable(table: FoundTable) -> str:
    if '"' in table.relation.replace('."', "").replace('".', "").strip('"'):
        return "its name holds a double quote; catalogue a view of it with another name"
    return "" if table.columns else "it has no columns"


def _entity(structure: Structure, source: str, table: FoundTable, owner: dict[str, Any], used: set[str]) -> Proposal | Skipped:
    remarks: dict[str, str] = {}
    columns, left_out = _columns(table)
    if not columns:
        return Skipped(table.relation, "no column of it may leave")
    if table.filtered:
        remarks["relation"] = "row-level security decides which rows the connection's user sees"
        if not _counted(structure, table):
            why = "row-level security shows the connection's user no row; give it a policy that does, or the attribute BYPASSRLS"
            return Skipped(table.relation, why)
    key, remarks["key"] = _key(structure, table, owner, columns)
    if not key:
        return Skipped(table.relation, remarks["key"])
    changes, remarks["changes"] = _changes(structure, table)
    name = entity_id(table.name, table.relation, source, used)
    shown = " ".join(table.name.split())
    body: dict[str, Any] = {"name": shown} if shown != name and "," not in shown and shown.casefold() not in used else {}
    if table.comment and not secret_value(table.comment):
        body["description"] = " ".join(table.comment.split())
    body |= {"source": source, "relation": table.relation, **owner, "key": list(key), "changes": changes}
    body |= _deleted(structure, table, remarks)
    body |= _deletes(body, remarks)
    for key_name, column in (("tenant_column", owner.get("tenant_column")), ("tenant_through", next(iter(_first_step(owner)), None))):
        if column is not None:
            remarks[key_name] = _without_tenant(structure, table, column)
    if (created := _named(table, _CREATED, _TIMES)) is not None:
        body["time_column"] = created.name
    return Proposal(name, {**body, "columns": columns}, {key: text for key, text in remarks.items() if text}, left_out)


def _columns(table: FoundTable) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    columns, left_out = {}, {}
    for column in table.columns:
        kind = column.kind or ColumnType.STRING
        if is_credential(column.name, Column(type=kind)):
            left_out[column.name] = "its name looks like a credential, and credentials never leave"
        elif column.native == "xid8":
            left_out[column.name] = "it only tells changes"
        elif column.unfit:
            left_out[column.name] = column.unfit
        else:
            description = {"description": " ".join(column.comment.split())} if column.comment and not secret_value(column.comment) else {}
            columns[column.name] = {"type": kind.value, **description}
    return columns, left_out | dict.fromkeys(table.withheld, "the connection's user may not read it")


def _plain(name: str) -> str:
    return "_".join(words(name))


def _named(table: FoundTable, names: Collection[str], kinds: Collection[ColumnType | None]) -> FoundColumn | None:
    """Return the column with one of these names. If their order means something, it is the first of them."""
    fit = {_plain(column.name): column for column in reversed(table.columns) if column.kind in kinds}
    return next((fit[name] for name in (names if isinstance(names, tuple) else fit) if name in fit and name in names), None)


def _deleted(structure: Structure, table: FoundTable, remarks: dict[str, str]) -> dict[str, Any]:
    at = _named(table, _DELETED, _TIMES)
    if at is not None and not at.not_null:
        return {"deleted_column": at.name}
    mark = _named(table, _DELETED_MARK, {ColumnType.BOOLEAN, ColumnType.INTEGER})
    if mark is not None:
        remarks["deleted_when"] = "by its name"
        return {"deleted_when": {"column": mark.name, "op": "=", "value": True if mark.kind is ColumnType.BOOLEAN else 1}}
    state = _named(table, _STATES, {ColumnType.STRING, None})
    if state is None or _rows(structure, table) > PROVABLE:
        return {}
    found = structure.ask(
        sql("SELECT {}, count(*) FROM {} GROUP BY {}", (name := structure.name(state.name)), structure.relation(table), name)
    )
    for value, rows in found if len(found) <= MOST_STATES else ():
        if isinstance(value, str) and value.casefold() in _DELETED_WORDS:
            remarks["deleted_when"] = f"{of(rows, 'row')} of today {'says' if rows == 1 else 'say'} so"
            return {"deleted_when": {"column": state.name, "op": "=", "value": value}}
    return {}


def _deletes(body: dict[str, Any], remarks: dict[str, str]) -> dict[str, Any]:
    """Return how a row that is gone is reported if a delta would not show it."""
    marks_deletions = "deleted_column" in body or "deleted_when" in body
    if body["changes"]["mode"] == "full" or (marks_deletions and "tenant_through" not in body):
        return {}
    if body["changes"]["mode"] == "append" and "tenant_through" not in body:
        remarks["deletes"] = "the database has counted no deletion"
        return {"deletes": "never"}
    why = "a row's parent may go to another tenant" if marks_deletions else "nothing tells that a row is gone"
    remarks["deletes"] = f"{why}: reads every key of the tenant at each delivery; deletes_at says when instead"
    return {"deletes": "compare"}


def _first_step(owner: dict[str, Any]) -> Collection[str]:
    steps = owner.get("tenant_through")
    return steps[0]["on"] if steps else ()


def _without_tenant(structure: Structure, table: FoundTable, name: str) -> str:
    column = table.column(name)
    if column is None or column.not_null or _rows(structure, table) > PROVABLE:
        return ""
    rows = _empty(structure, table, name)
    return (
        f"{of(rows, 'row')} of today {'has' if rows == 1 else 'have'} none, and nobody receives {'it' if rows == 1 else 'them'}"
        if rows
        else ""
    )


# How an entity's changes are found


def _changes(structure: Structure, table: FoundTable) -> tuple[dict[str, Any], str]:
    """Return the mode and what speaks for it."""
    if (by_transaction := next((column for column in table.columns if column.native == "xid8"), None)) is not None:
        return {"mode": "snapshot", "column": by_transaction.name}, f"{by_transaction.name} holds the transaction that wrote the row"
    rows = _rows(structure, table)
    doubt = ""
    if (updated := _named(table, _UPDATED, _TIMES)) is not None:
        doubt = _doubt(structure, table, updated)
        evidence = _evidence(table, updated)
        if not doubt and (evidence or rows > SMALL or not _has_triggers(structure)):
            why = evidence or f"{updated.name} by its name only: make sure that every change sets it"
            return {"mode": "lookback", "column": updated.name, "lookback": "24h"}, why
        doubt = doubt or f"nothing shows that every change sets {updated.name}"
    counted = next((column for column in table.columns if column.identity and column.kind is ColumnType.INTEGER), None)
    if updated is None and counted is not None and table.only_inserts and _EVENTS & set(words(table.name)):
        at = next((column for column in (_named(table, _CREATED, _TIMES),) if column and column.not_null), None)
        why = "counted up, only ever inserted into, and named like events"
        late = {"column": at.name, "lookback": "24h"} if at else {"column": counted.name, "lag": _LAG}
        return {"mode": "append", **late}, why
    size = f"about {of(rows, 'row')}, delivered whole each time" if rows else "no row yet; delivered whole each time"
    if rows > SMALL:
        size += "; add a column that every change sets, with an index, and use lookback"
    return {"mode": "full"}, f"{size} ({doubt})" if doubt else size


def _has_triggers(structure: Structure) -> bool:
    """It is evidence of no trigger only if a source has triggers and reports them."""
    return type(structure).__name__ == "PostgresStructure"


def _evidence(table: FoundTable, column: FoundColumn) -> str:
    found = [
        text
        for text, holds in (
            ("the database sets it at each update", column.name in table.stamped),
            ("an index begins with it", column.name in table.indexed),
        )
        if holds
    ]
    return f"{column.name}: {' and '.join(found)}" if found else ""


def _doubt(structure: Structure, table: FoundTable, column: FoundColumn) -> str:
    if column.not_null:
        return ""
    empty = _empty(structure, table, column.name)
    if not empty:
        return ""
    return f"{empty:,} rows have no {column.name}" if empty > 1 else f"one row has no {column.name}"


def _empty(structure: Structure, table: FoundTable, column: str) -> int:
    [(count,)] = structure.ask(sql("SELECT count(*) FROM {} WHERE {} IS NULL", structure.relation(table), structure.name(column)))
    return int(count)


def _rows(structure: Structure, table: FoundTable) -> int:
    return table.rows if table.rows is not None else _counted(structure, table)


def _counted(structure: Structure, table: FoundTable) -> int:
    [(count,)] = structure.ask(sql("SELECT count(*) FROM {}", structure.relation(table)))
    return int(count)


# Which columns identify a row


def _key(structure: Structure, table: FoundTable, owner: dict[str, Any], leaving: Collection[str]) -> tuple[tuple[str, ...], str]:
    """Return the key, with a remark if no constraint says so, or no key and the reason. All of it has to be delivered, because a consumer
    needs it.
    """
    never_null = {column.name for column in table.columns if column.not_null}
    declared = [key for key in table.keys if set(key) <= never_null]
    if known := [key for key in declared if set(key) <= set(leaving)]:
        return known[0], ""
    if declared:
        why = f"its key ({', '.join(declared[0])}) must not leave, and consumers need one: catalogue a view with another key"
        return (), why
    rows = _rows(structure, table)
    if not rows:
        return (), "no key is declared, and there are no rows to find one by"
    if rows > PROVABLE:
        return (), f"no key is declared, and {rows:,} rows are too many to find one by; add a unique index"
    for key in table.keys:
        if set(key) <= set(leaving) and not any(_empty(structure, table, name) for name in key):
            return key, f"unique by an index, and no column of it is empty among the {of(rows, 'row')} of today"
    proven = _unique_one(structure, table) or _unique_pair(structure, table, owner)
    if proven:
        return proven, f"unique among the {of(rows, 'row')} of today; no constraint says so"
    return (), "no key is declared, and no column or pair of columns is unique"


def _candidates(table: FoundTable) -> list[FoundColumn]:
    """Yield the likeliest first: `id`, then the table's own id, then other ids, then the rest."""
    own = f"{_plain(table.name).removesuffix('s')}_id"
    ranks = {"id": 0, "uuid": 1, own: 1, f"{_plain(table.name)}_id": 1}

    def rank(column: FoundColumn) -> int:
        plain = _plain(column.name)
        return ranks.get(plain, 2 if plain.endswith(("_id", "_no", "_number", "_key", "_code")) else 3)

    return sorted(
        (column for column in table.columns if column.kind in _KEYS and not is_credential(column.name, Column(type=column.kind))), key=rank
    )


def _unique_one(structure: Structure, table: FoundTable) -> tuple[str, ...]:
    candidates = [column for column in _candidates(table) if column.kind not in (ColumnType.DECIMAL, *_TIMES)][:16]
    if not candidates:
        return ()
    counts = join(
        ", ", (sql("count({}), count(DISTINCT {})", name, name) for name in (structure.name(column.name) for column in candidates))
    )
    [(rows, *found)] = structure.ask(sql("SELECT count(*), {} FROM {}", counts, structure.relation(table)))
    pairs = zip(candidates, found[::2], found[1::2], strict=True)
    return next(((column.name,) for column, filled, distinct in pairs if filled == distinct == rows), ())


def _unique_pair(structure: Structure, table: FoundTable, owner: dict[str, Any]) -> tuple[str, ...]:
    tenant = owner.get("tenant_column")
    ranked = _candidates(table)
    likely = [*(column for column in ranked if column.name == tenant), *(column for column in ranked if column.name != tenant)][:7]
    for size in (2, 3):
        for some in combinations(likely, size):
            if not structure.ask(_repeated(structure, table, [column.name for column in some]))[0][0]:
                return tuple(column.name for column in some)
    return ()


def _repeated(structure: Structure, table: FoundTable, names: list[str]) -> Sql:
    """Return how many groups of these columns hold several rows, or one with an empty column."""
    quoted = [structure.name(name) for name in names]
    empty = " OR ".join(f"{name} IS NULL" for name in quoted)
    return sql(
        "SELECT count(*) FROM (SELECT {} FROM {} GROUP BY {} HAVING count(*) > 1 OR {}) AS g",
        ", ".join(quoted), structure.relation(table), ", ".join(quoted), empty,
    )  # fmt: skip
