"""What gives the rows of a relation their values: the definitions of views, and which column of a table has which name.

Columns that are renamed, rewritten or made again and views that are defined otherwise change what every row says, and no row changes.
A stream keeps the definition of its last delivery and compares it with the next one's.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NotRequired, TypedDict

from waybill.configuration.catalog import Entity

_WORDS = re.compile(r'"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|(\w+)')
_SCHEMA = re.compile(r'^(?:"(?:[^"]|"")+"|[^."]+)\.')
_MOST_NAMED = 5


class Table(TypedDict):
    """`of` identifies the table and `stored` its storage, where a source tells them. `columns` hold, by name, a place and a mark.

    With `stored` places never change. Without it only their order counts. A mark is the type; behind a slash may stand what changes with
    every alteration of the column, where that is known.
    """

    of: str
    stored: str
    columns: dict[str, tuple[int, str]]


class Definition(TypedDict):
    """Views, functions and the policies of tables by name, each with a digest of its text; tables by name. JSON.

    `types` holds what native types call their values: of one with a slash, what stands before it is the type's own name. `refreshed`
    holds a mark for each materialized view: what a refresh changed, and behind a slash what one that writes only differences changed.
    `stamps` holds, by table, a mark of the triggers that keep its change column. It changes when one is switched on or off, or made again.
    `timeline` is the one a cluster of PostgreSQL writes. It is empty where that is not known.
    """

    views: dict[str, str]
    functions: dict[str, str]
    policies: dict[str, str]
    types: dict[str, str]
    tables: dict[str, Table]
    refreshed: dict[str, str]
    stamps: NotRequired[dict[str, str]]
    timeline: NotRequired[str]


NOTHING: Definition = {"views": {}, "functions": {}, "policies": {}, "types": {}, "tables": {}, "refreshed": {}}


def short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def words(text: str) -> set[str]:
    """Return every word of a statement that may name a relation, in small letters."""
    return {next(filter(None, found)).casefold() for found in _WORDS.findall(text)}


def behind(text: str, views: Mapping[str, str]) -> dict[str, str]:
    """Return those views or functions of a database, by name, that a statement reads, directly or through others."""
    by_fold = {name.casefold(): name for name in views}
    found: dict[str, str] = {}
    waiting = [text]
    while waiting:
        for name in sorted(words(waiting.pop()) & by_fold.keys()):
            if by_fold[name] not in found:
                found[by_fold[name]] = views[by_fold[name]]
                waiting.append(views[by_fold[name]])
    return found


def read(text: str, views: Mapping[str, str], functions: Mapping[str, str]) -> Definition:
    """Return the views and functions that a statement reads."""
    found = behind(text, {**functions, **views})
    digests = {name: short(definition_text) for name, definition_text in found.items()}
    return {
        "views": {name: digest for name, digest in digests.items() if name in views},
        "functions": {name: digest for name, digest in digests.items() if name not in views},
        "policies": {},
        "types": {},
        "tables": {},
        "refreshed": {},
    }


def text_of(entity: Entity) -> str:
    """Return what an entity reads, in words that name relations."""
    return " ".join(table.query or table.relation for table in (entity, *entity.parents()))


def by_words(entity: Entity, views: Mapping[str, str], functions: Mapping[str, str], columns: Iterable[tuple[str, str, str]]) -> Definition:
    """Return what gives an entity's rows their values, in a database that tells the texts of its views and functions.

    That is each view, function and table that the entity reads. `columns` holds table, name and type of each column, in their order.
    """
    text = text_of(entity)
    found = read(text, views, functions)
    texts = [text, *(views[name] for name in found["views"]), *(functions[name] for name in found["functions"])]
    named = {entity.relation.casefold(), *words(" ".join(texts))}
    tables: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for table, column, native in columns:
        if table.casefold() in named and table not in found["views"]:
            tables[table].append((column, native))
    needed = None if entity.query or found["views"] else entity.needed_columns
    found["tables"] = {name: {"of": "", "stored": "", "columns": in_order(held, needed)} for name, held in tables.items()}
    return found


def in_order(columns: Iterable[tuple[str, str]], needed: Iterable[str] | None) -> dict[str, tuple[int, str]]:
    """Return the columns of a table in their order. Of those that are not needed only the place counts: another one may take their name."""
    wanted = None if needed is None else set(needed)
    return {name: (place, native if wanted is None or name in wanted else "") for place, (name, native) in enumerate(columns)}


def source_change(before: Definition, now: Definition) -> str:
    """Return what gives unchanged rows other values than at the last delivery, in words. The text is empty if nothing does."""
    was_on, is_on = before.get("timeline"), now.get("timeline")
    if was_on and is_on and was_on != is_on:
        return f"the cluster went through a failover or a restore (timeline {is_on}, was {was_on}), which may have put older versions back"
    for what, was_defined, is_defined in _texts(before, now):
        if changed := sorted(name for name in was_defined.keys() | is_defined.keys() if was_defined.get(name) != is_defined.get(name)):
            return f"{_listed(what, changed)} defined otherwise than at the last delivery"
    was_called, is_called = before.get("types", {}), now.get("types", {})
    if renamed := {name.partition("/")[0] for name in was_called.keys() & is_called.keys() if was_called[name] != is_called[name]}:
        return f"{_listed('type', sorted(renamed))} another one than at the last delivery"
    was_filled, is_filled = before.get("refreshed", {}), now["refreshed"]
    if filled := sorted(name for name in was_filled.keys() & is_filled.keys() if _altered(was_filled[name], is_filled[name])):
        return f"{_listed('materialized view', filled)} refreshed since the last delivery"
    was_stamped, is_stamped = before.get("stamps", {}), now.get("stamps", {})
    if unkept := sorted(name for name in was_stamped.keys() & is_stamped.keys() if was_stamped[name] != is_stamped[name]):
        return f"the trigger that stamps rows of {', '.join(unkept[:_MOST_NAMED])} was switched, or made again, since the last delivery"
    if elsewhere := _elsewhere(before["tables"], now["tables"]):
        return "{} is read in place of {} since the last delivery".format(*elsewhere)
    for table_name in sorted(before["tables"].keys() & now["tables"].keys()):
        was, table = before["tables"][table_name], now["tables"][table_name]
        if was["of"] != table["of"]:
            continue
        common = was["columns"].keys() & table["columns"].keys()
        if moved := _moved(was, table, common):
            return f"{_listed('column', moved)} of {table_name} another one than at the last delivery"
        rewritten = not table["stored"] or was["stored"] != table["stored"]
        if rewritten and (altered := sorted(name for name in common if _altered(was["columns"][name][1], table["columns"][name][1]))):
            return f"{_listed('column', altered)} of {table_name} altered since the last delivery"
    return ""


def _texts(before: Definition, now: Definition) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    yield "view", before["views"], now["views"]
    if "functions" in before:  # positions of older versions hold views and tables alone
        yield "function", before["functions"], now["functions"]
        yield "row-level security of the table", before["policies"], now["policies"]


def _elsewhere(before: Mapping[str, Table], now: Mapping[str, Table]) -> tuple[str, str] | None:
    """Return the table of another schema that a name without one means now, and the table that it meant: a search path was changed, or a
    schema ahead in it got a table of that name.
    """
    new, gone = sorted(now.keys() - before.keys()), sorted(before.keys() - now.keys())
    return next(
        (
            (name, other)
            for name in new
            for other in gone
            if _SCHEMA.sub("", name, count=1) == _SCHEMA.sub("", other, count=1) and now[name]["of"] != before[other]["of"]
        ),
        None,
    )


def _moved(was: Table, now: Table, common: Iterable[str]) -> list[str]:
    """Return the columns of a name that another column had."""
    if now["stored"]:
        return sorted(name for name in common if was["columns"][name][0] != now["columns"][name][0])
    before, after = (sorted(common, key=lambda name: table["columns"][name][0]) for table in (was, now))
    return sorted(name for name, other in zip(before, after, strict=True) if name != other)


def _altered(before: str, now: str) -> bool:
    (kind, _, mark), (new_kind, _, new_mark) = before.partition("/"), now.partition("/")
    return bool(kind and new_kind) and (kind != new_kind or bool(mark and new_mark and mark != new_mark))


def _listed(what: str, names: list[str]) -> str:
    return f"the {what} {names[0]} is" if len(names) == 1 else f"the {what}s {', '.join(names[:_MOST_NAMED])} are"


def is_renamed(before: Definition, now: Definition, old: str, new: str) -> bool:
    """Return whether a source that numbers its columns shows that two names are of one."""
    for name in before["tables"].keys() & now["tables"].keys():
        was, table = before["tables"][name], now["tables"][name]
        if table["stored"] and was["of"] == table["of"] and old in was["columns"] and new in table["columns"]:
            return was["columns"][old][0] == table["columns"][new][0]
    return False
