"""What stands behind a relation or a query of PostgreSQL: relations, functions, operators and policies, in one statement.

The server records what views and functions with parsed bodies (`BEGIN ATOMIC`) read. Of a body that is text, and of a query, the words
tell: whatever has the name of one counts as read. A name that a function puts together at run time is not found.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

from waybill.sources.definitions import words
from waybill.sources.sql import Bind, Sql, join, sql

Ask = Callable[[Sql], Sequence[Any]]
"""Executes a statement with whatever driver, and returns its rows."""

_PARSED_BODIES = 140_000
"""The version since which functions may have a parsed body."""
_SYMBOLS = re.compile(r"[-+*/<>=~!@#%^&|`?]+")
_CHANCE = (
    r"\b(?:now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|gen_random_uuid)\s*\(\s*\)"
    r"|\b(?:random|nextval|current_setting)\s*\(|\btablesample\b"
    r"|\b(?:current_date|current_time|current_timestamp|localtime|localtimestamp)\b"
    r"|\bage\((?:[^(),]|\([^(),]*\))*\)"
)
"""What gives another value each time, or whenever somebody sets it. `age` of one time counts from today."""
_LOCKABLE = ("r", "p", "v")
_STORING = ("r", "p", "m")
_HEAPS = ("r", "m", "f")

_NEXT = """
SELECT 'view', d.refclassid, d.refobjid
  FROM pg_class v
  JOIN pg_rewrite w ON w.ev_class = v.oid AND w.ev_type = '1'
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjid <> v.oid
 WHERE b.catalog = 'pg_class'::regclass AND v.oid = b.place AND v.relkind IN ('v', 'm') AND d.refclassid IN {kinds}
 UNION ALL
SELECT 'policy', d.refclassid, d.refobjid
  FROM pg_policy p
  JOIN pg_class t ON t.oid = p.polrelid AND t.relrowsecurity
  JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refobjid <> t.oid
 WHERE b.catalog = 'pg_class'::regclass AND p.polrelid = b.place AND d.refclassid IN {kinds}
 UNION ALL
SELECT 'body', d.refclassid, d.refobjid
  FROM pg_depend d
 WHERE b.catalog IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.classid = b.catalog AND d.objid = b.place
   AND d.refclassid IN {kinds}
 UNION ALL
SELECT 'call', c.catalog, c.place FROM calls c WHERE b.catalog = 'pg_proc'::regclass AND c.caller = b.place
""".replace("{kinds}", "('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)")
"""What `b` reads. An operator reads what its function reads, and an aggregate what its functions read."""

_WORDS = """
SELECT s.caller, 'pg_class'::regclass::oid, c.oid
  FROM said s
  JOIN pg_class c ON lower(c.relname) = s.word AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE pg_table_is_visible(c.oid) OR EXISTS (SELECT FROM said o WHERE o.caller = s.caller AND o.word = lower(n.nspname))
 UNION
SELECT s.caller, 'pg_proc'::regclass::oid, p.oid
  FROM said s
  JOIN pg_proc p ON lower(p.proname) = s.word AND p.oid >= 16384 AND p.prorettype <> 'trigger'::regtype
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE pg_function_is_visible(p.oid) OR EXISTS (SELECT FROM said o WHERE o.caller = s.caller AND o.word = lower(n.nspname))
 UNION
SELECT s.caller, 'pg_operator'::regclass::oid, o.oid
  FROM said s
  JOIN pg_operator o ON o.oprname = s.word AND o.oid >= 16384
"""
"""What is younger than the server's own (16384) and is found by that name: in the search path, or where its schema is named too."""

_WALK = (
    """
WITH RECURSIVE said(caller, word) AS (VALUES {}),
calls(caller, catalog, place) AS (VALUES {} UNION ({words})),
behind(way, beside, before, catalog, place) AS (
    SELECT 'named', 0::oid, named.number::oid, 'pg_class'::regclass::oid, to_regclass(named.name)::oid
      FROM (VALUES {}) AS named(number, name)
    UNION
    SELECT 'word', 0::oid, 0::oid, c.catalog, c.place FROM calls c WHERE c.caller = 0 AND c.place <> 0
    UNION
    SELECT n.way, b.catalog, b.place, n.catalog, n.place FROM behind AS b CROSS JOIN LATERAL ({next}) AS n(way, catalog, place)),
whole(way, beside, before, catalog, place) AS (
    SELECT * FROM behind
    UNION
    SELECT 'part', w.catalog, w.place, w.catalog, i.inhrelid
      FROM whole AS w JOIN pg_inherits i ON w.catalog = 'pg_class'::regclass AND i.inhparent = w.place),
found(catalog, place, ways) AS (
    SELECT catalog, place, array_agg(concat_ws(':', way, beside, before)) FROM whole GROUP BY catalog, place),
readers(number, oid, sees_all) AS (
    SELECT 0::bigint, oid, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user
     UNION ALL
    SELECT oid::bigint, oid, rolsuper OR rolbypassrls
      FROM pg_roles
     WHERE oid IN (SELECT v.relowner FROM found f JOIN pg_class v ON f.catalog = 'pg_class'::regclass AND v.oid = f.place
                   UNION ALL
                   SELECT p.proowner FROM found f JOIN pg_proc p ON f.catalog = 'pg_proc'::regclass AND p.oid = f.place))
SELECT f.catalog::bigint, f.place::bigint, f.ways, c.relkind::text, format('%I.%I', n.nspname, c.relname), c.oid::regclass::text,
       CASE WHEN {} AND c.relkind IN ('v', 'm') THEN md5(pg_get_viewdef(c.oid)) END,
       NULL,
       c.relowner::bigint,
       EXISTS (SELECT FROM pg_options_to_table(c.reloptions) AS o WHERE o.option_name = 'security_invoker' AND o.option_value::boolean),
       CASE WHEN c.relrowsecurity THEN array(
            SELECT r.number FROM readers r WHERE r.sees_all OR NOT c.relforcerowsecurity AND pg_has_role(r.oid, c.relowner, 'USAGE')) END,
       CASE WHEN {} AND c.relrowsecurity THEN (
            SELECT md5(string_agg(concat_ws(',', p.polname, p.polpermissive, p.polroles::text, pg_get_expr(p.polqual, p.polrelid)), E'\\n'
                                  ORDER BY p.polname))
              FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*')) END,
       c.relfilenode::bigint,
       {} AND (c.relkind = 'v' AND pg_get_viewdef(c.oid) ~* '{chance}' OR c.relrowsecurity AND EXISTS (
            SELECT FROM pg_policy p
             WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') AND pg_get_expr(p.polqual, p.polrelid) ~* '{chance}'))
  FROM found f
  JOIN pg_class c ON c.oid = f.place AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE f.catalog = 'pg_class'::regclass
 UNION ALL
SELECT f.catalog::bigint, f.place::bigint, f.ways, '', '', p.oid::regprocedure::text,
       CASE WHEN {} AND l.oid IS NOT NULL THEN
            md5(concat_ws(E'\\n', p.prosrc, {}, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
                          array_to_string(p.proconfig, ','), CASE WHEN p.prosecdef THEN p.proowner::text END)) END,
       CASE WHEN l.oid IS NOT NULL THEN p.prosrc || ' ' || coalesce(array_to_string(p.proconfig, ' '), '') END,
       p.proowner::bigint, p.prosecdef, NULL, NULL, 0, l.oid IS NOT NULL AND concat_ws(' ', p.prosrc, {}) ~* '{chance}'
  FROM found f
  JOIN pg_proc p ON p.oid = f.place
  LEFT JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('internal', 'c')
 WHERE f.catalog = 'pg_proc'::regclass
 UNION ALL
SELECT f.catalog::bigint, f.place::bigint, f.ways, '', '', '', NULL, NULL, 0, false, NULL, NULL, 0, false
  FROM found f
 WHERE f.catalog = 'pg_operator'::regclass
""".replace("{words}", _WORDS)
    .replace("{next}", _NEXT)
    .replace("{chance}", _CHANCE.replace(r"\b", r"\y"))
)
"""Who reads what, however far, and the parts of each table. The texts of what is found are only asked for closely: the server waits for
whoever replaces a table to spell a view over it.
"""


Key = tuple[int, int]
"""The catalog table that holds a thing, and its number there."""
_OUR_OWN = 16384
"""The first number that is no object of the server itself."""


@dataclass(frozen=True)
class Thing:
    """A relation, a function or an operator that is read. Only relations have a kind (`pg_class.relkind`), and operators have no name.

    `full_name` is a relation's with its schema, quoted; `digest` is of the text of a view or function.
    """

    catalog: int
    place: int
    ways: Sequence[str] = field(repr=False)
    """What reads it, each as `way:catalog:place`."""
    kind: str
    full_name: str
    name: str
    digest: str | None
    body: str | None = field(repr=False)
    owner: int
    turns: bool
    """Whether a view reads as its reader, or a function runs as its owner."""
    unhidden: Sequence[int] | None
    """The readers who see every row whatever the policies say, 0 for the session's user. None without row-level security."""
    policies: str | None
    storage: int
    varies: bool
    """Whether the text of a view or function, or a policy of a table, takes time, chance or a setting into account."""

    @property
    def key(self) -> Key:
        return self.catalog, self.place

    @property
    def is_function(self) -> bool:
        return not self.kind and bool(self.name)

    @property
    def is_own_table(self) -> bool:
        return self.kind in ("r", "p") and self.place >= _OUR_OWN


class _Reading(NamedTuple):
    """A thing that is read with the rights of `reader`. Functions that it calls run as `account`."""

    thing: Key
    reader: int
    account: int


class Behind:
    """What is behind the relations of these names, or behind a query that reads them. Looked for once, in one transaction.

    `version` is the server's, as libpq counts. What stands in no text (`lockable`) is known without looking `closely`.
    """

    def __init__(self, ask: Ask, names: Sequence[str], query: str = "", version: int = 0, *, closely: bool = True) -> None:
        self.names = names
        self._query = query
        self._version, self._closely = version, closely
        waiting, seen, calls = ({0: _words(query)} if query else {}), set[int](), set[tuple[int, ...]]()
        while True:
            things = [Thing(*row) for row in ask(self._walk(waiting, calls))]
            edges = [(way, thing, int(catalog), int(place)) for thing in things for way, catalog, place in map(_parts, thing.ways)]
            calls = {(place, *thing.key) for way, thing, _, place in edges if way in ("call", "word")}
            seen |= waiting.keys()
            waiting = {thing.place: _words(thing.body) for thing in things if thing.body is not None and thing.place not in seen}
            if not waiting:
                break
        self._things = {thing.key: thing for thing in things}
        self._reads: dict[Key, list[tuple[str, Thing]]] = defaultdict(list)
        for way, thing, catalog, place in edges:
            self._reads[catalog, place].append((way, thing))
        self._named = dict(sorted(((place, thing) for way, thing, _, place in edges if way == "named"), key=itemgetter(0)))
        self._said = [thing for way, thing, _, _ in edges if way == "word"]
        """The plan of a query tells its tables, but neither its views nor its functions. What has a table's name may be none."""

    def _walk(self, words_of_text: Mapping[int, Iterable[str]], calls: Iterable[tuple[int, ...]]) -> Sql:
        pairs = [sql("({}::oid, {}::text)", str(caller), Bind(word)) for caller in words_of_text for word in sorted(words_of_text[caller])]
        known = [f"({caller}::oid, {catalog}::oid, {place}::oid)" for caller, catalog, place in sorted(calls)]
        names = [sql("({}, {}::text)", str(number), Bind(name)) for number, name in enumerate(self.names)]
        closely = "true" if self._closely else "false"
        parsed = "pg_get_function_sqlbody(p.oid)" if self._version >= _PARSED_BODIES else "''"
        return sql(
            _WALK,
            join(", ", [sql("(0::oid, NULL::text)"), *pairs]),
            ", ".join(["(0::oid, 0::oid, 0::oid)", *known]),
            join(", ", [sql("(0, NULL::text)"), *names]),
            *(closely, closely, closely, closely),
            *(parsed, parsed),
        )

    def _reached(self, starts: Iterable[Thing], follows: Callable[[Thing, str], bool]) -> dict[Key, Thing]:
        found: dict[Key, Thing] = {}
        waiting = list(starts)
        while waiting:
            thing = waiting.pop()
            if thing.key not in found:
                found[thing.key] = thing
                waiting += [read for way, read in self._reads[thing.key] if follows(thing, way)]
        return found

    @cached_property
    def _whole(self) -> Collection[Thing]:
        """Return everything that gives rows their values, also when a materialized view is refreshed."""
        return self._reached((*self._named.values(), *self._said), lambda thing, way: way != "part").values()

    @cached_property
    def _live(self) -> Collection[Thing]:
        """Return everything that is read now: nothing behind a materialized view is."""
        return self._reached(self._starts(), _is_live).values()

    def _starts(self) -> list[Thing]:
        return [*self._named.values(), *(thing for thing in self._said if thing.kind in ("", "v"))]

    @cached_property
    def of_functions(self) -> list[Thing]:
        """Return the relations that functions read."""
        found = {read.key: read for thing in self._live if thing.is_function for _, read in self._reads[thing.key] if read.kind}
        return list(found.values())

    def lockable(self) -> list[str]:
        """Return the full names of the tables and views that LOCK TABLE takes: those that are named, and what functions read."""
        read = (*self._named.values(), *self.of_functions)
        return [thing.full_name for thing in read if thing.kind in _LOCKABLE and thing.place >= _OUR_OWN]

    def unheld(self, held: Container[str]) -> list[str]:
        """Return the full names of what is read and may be replaced while these relations are held: views are, with all they read."""
        locked = self._reached((thing for thing in self._things.values() if thing.full_name in held), _is_stored)
        read = self._reached(self._starts(), lambda thing, _: thing.kind != "m")
        return [thing.full_name for key, thing in read.items() if thing.kind in _STORING and key[1] >= _OUR_OWN and key not in locked]

    def is_table(self) -> bool:
        """Return whether the entity's relation is a table of its own."""
        return 0 in self._named and self._named[0].kind in ("r", "p")

    def heaps(self) -> list[Thing]:
        """Return what stores the entity's rows, down to every partition. Its parents (the other `names` of a relation) store none."""
        starts = [thing for number, thing in self._named.items() if self._query or number == 0]
        found = self._reached((*starts, *self.of_functions), _is_stored)
        return [thing for thing in found.values() if thing.kind in _HEAPS]

    @cached_property
    def relations(self) -> list[Thing]:
        """Return the relations that the entity names itself. Columns of others are read by their numbers, whatever they are called."""
        return [thing for thing in (self._said if self._query else self._named.values()) if thing.kind]

    def behind_relations(self) -> list[Thing]:
        """Return `relations` and all that views among them read."""
        return [thing for thing in self._reached(self.relations, lambda _, way: way == "view").values() if thing.kind]

    def materialized(self) -> list[Thing]:
        """Return the materialized views whose rows are read as the last refresh left them."""
        return sorted((thing for thing in self._live if thing.kind == "m"), key=lambda thing: thing.full_name)

    def stored(self, table: Thing) -> str:
        """Return a digest of the files that a table and its parts have. A table that is rewritten gets another one."""
        files = sorted((part.place, part.storage) for part in self._reached([table], lambda _, way: way == "part").values())
        return _digest(",".join(f"{place}:{storage}" for place, storage in files))

    def unfollowed(self) -> str:
        """Return which functions read what nobody can know before they run, in words. The text is empty if none does."""
        names = sorted(thing.name for thing in self._live if thing.body and "execute" in words(thing.body))
        said = "put statements together when they run (EXECUTE): if what those read is defined otherwise or hidden, nothing tells"
        return f"{', '.join(names)} {said}" if names else ""

    def elsewhere(self) -> str:
        """Return what comes from other servers or from files, in words. The text is empty if nothing does."""
        calls = (thing.name for thing in self._live if thing.is_function and "dblink" in words(thing.name))
        names = ", ".join(sorted({*calls, *(thing.full_name for thing in self.heaps() if thing.kind == "f")}))
        said = "from another server or a file: what appears there later than this stream looks back, or is defined otherwise there, may be"
        return f"rows come through {names} {said} missed; mode full misses nothing" if names else ""

    def varying(self) -> str:
        """Return what shows other rows or values by itself, in words. The text is empty if nothing does."""
        found = [thing for thing in self._live if thing.varies and (thing.kind in ("", "v") or thing in self._hiding)]
        names = [*(["the query"] if re.search(_CHANCE, self._query, re.IGNORECASE) else []), *sorted(thing.name for thing in found)]
        said = "take the time, chance or a setting into account: what changes, appears or vanishes by that alone may be missed"
        return f"{', '.join(names)} {said}; mode full misses nothing" if names else ""

    def views(self) -> dict[str, str]:
        """Return a digest of each view's text, by its full name."""
        return {thing.full_name: thing.digest[:16] for thing in self._whole if thing.kind and thing.digest}

    def functions(self) -> dict[str, str]:
        """Return a digest of each function's definition."""
        return {thing.name: thing.digest[:16] for thing in self._whole if thing.is_function and thing.digest}

    def policies(self) -> dict[str, str]:
        """Return a digest of the policies of each table that hides rows from this session."""
        return {thing.name: (thing.policies or "")[:16] for thing in self._hiding if thing.place >= _OUR_OWN}

    def hidden(self) -> list[str]:
        """Return the names of the tables whose row-level security decides what this session sees."""
        return [thing.name for thing in self._hiding]

    @cached_property
    def _hiding(self) -> list[Thing]:
        """A view that reads as its invoker reads as the session's user, also where a view with an owner's rights is in between. A function
        runs as that user, too, and as its owner where it says so (SECURITY DEFINER), with everything it calls.
        """
        seen: set[_Reading] = set()
        waiting = [_Reading(thing.key, 0, 0) for thing in self._starts()]
        while waiting:
            reading = waiting.pop()
            if reading not in seen:
                seen.add(reading)
                by = self._things[reading.thing]
                reader = _reader(by, reading)
                for way, read in self._reads[by.key]:
                    if _is_live(by, way):
                        runs_as = read.owner if read.is_function and read.turns else reading.account
                        waiting.append(_Reading(read.key, reader, runs_as))
        filtered = {key for key, reader, _ in seen if (unhidden := self._things[key].unhidden) is not None and reader not in unhidden}
        return sorted((self._things[key] for key in filtered), key=lambda thing: thing.name)


def _reader(by: Thing, reading: _Reading) -> int:
    """Return with whose rights something reads what it reads."""
    if by.kind == "v":
        return reading.account if by.turns else by.owner
    return reading.reader if by.kind else reading.account


def _is_live(thing: Thing, way: str) -> bool:
    """Return whether what a thing reads in this way is read whenever the thing is."""
    return way != "part" and thing.kind != "m"


def _is_stored(thing: Thing, way: str) -> bool:
    """Return whether what a thing reads in this way stores its rows, or leads to what does."""
    return way == "part" or (way == "view" and thing.kind == "v")


def _parts(way: str) -> list[str]:
    return way.split(":")


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]


def _words(text: str) -> set[str]:
    """Return what may name a relation, a function or an operator."""
    return {*words(text), *_SYMBOLS.findall(text)}
