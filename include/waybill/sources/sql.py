"""SQL text and its bind parameters as one value, so that no value ever becomes part of the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from waybill.canonical import ColumnType


@dataclass(frozen=True)
class Bind:
    """A value for the driver. `cast` is the engine's type that the placeholder is cast to, if it needs one."""

    value: Any = field(repr=False)
    cast: str = ""


@dataclass(frozen=True)
class Sql:
    """A piece of SQL: raw text and bind parameters, in their order."""

    parts: tuple[str | Bind, ...] = ()

    def render(self, placeholder: Callable[[Bind], str], escape: Callable[[str], str] = str) -> tuple[str, list[Any]]:
        """Return the statement and its parameters. `escape` doubles what the driver's placeholder style reserves (`%`)."""
        text = "".join(placeholder(part) if isinstance(part, Bind) else escape(part) for part in self.parts)
        return text, [part.value for part in self.parts if isinstance(part, Bind)]

    def __bool__(self) -> bool:
        return bool(self.parts)


def sql(template: str, *fills: str | Bind | Sql) -> Sql:
    """Return `template` with each `{}` replaced: text as it is, a Bind as a parameter, an Sql inserted."""
    texts = template.split("{}")
    if len(texts) != len(fills) + 1:
        raise ValueError(f"{template!r} has {len(texts) - 1} places for {len(fills)} values")
    parts: list[str | Bind] = [texts[0]]
    for fill, text in zip(fills, texts[1:], strict=True):
        parts += fill.parts if isinstance(fill, Sql) else (fill,)
        parts.append(text)
    return Sql(tuple(part for part in parts if part != ""))


def join(separator: str, pieces: Iterable[Sql]) -> Sql:
    """Return the pieces with `separator` between them."""
    found = list(pieces)
    return sql(separator.join(["{}"] * len(found)), *found) if found else Sql()


_CHAIN = 200


def every(conditions: Iterable[Sql]) -> Sql:
    """Return all conditions joined by AND; TRUE when there are none."""
    return _tree(" AND ", conditions) or sql("1 = 1")


def either(conditions: Iterable[Sql]) -> Sql:
    """Return the conditions joined by OR; FALSE when there are none."""
    return _tree(" OR ", conditions) or sql("1 = 0")


def _tree(operator: str, conditions: Iterable[Sql]) -> Sql:
    """Return the conditions in brackets, and many of them in groups: SQLite follows no chain of more than a thousand."""
    terms = [sql("({})", condition) for condition in conditions if condition]
    while len(terms) > _CHAIN:
        terms = [sql("({})", join(operator, terms[at : at + _CHAIN])) for at in range(0, len(terms), _CHAIN)]
    return join(operator, terms)


def quote(identifier: str, mark: str = '"') -> str:
    """Return the identifier in quotes, so that a reserved word, a blank or a quote in it is just a name."""
    return mark + identifier.replace(mark, mark * 2) + mark


_PART = re.compile(r'(?:^|(?<=\.))("(?:[^"]|"")+"(?=\.|$)|[^.]*)')


def split_name(relation: str) -> list[str]:
    """`schema.table` as its parts. A part that begins with a double quote ends at the next single one, as in SQL: it may hold dots, and
    `""` stands for a quote. Anywhere else a quote is part of the name.
    """
    parts = _PART.findall(relation)
    return [part[1:-1].replace('""', '"') if len(part) > 1 and part[0] == part[-1] == '"' else part for part in parts]


def quoted_name(relation: str, mark: str = '"') -> str:
    """`schema.table` as a statement names it, each part in quotes."""
    return ".".join(quote(part, mark) for part in split_name(relation))


_INTEGER = re.compile(r"(u?)(tiny|small|medium|big|huge|)int(?:eger)?(?:\(\d+\))?( unsigned)?(?: zerofill)?|oid")
_BITS = {"tiny": 8, "small": 16, "medium": 24, "": 32, "big": 64, "huge": 128}


def integer_bounds(native: str) -> tuple[int, int] | None:
    """Return the least and the greatest value of an integer type of PostgreSQL, MySQL or DuckDB."""
    found = _INTEGER.fullmatch(native.lower())
    if found is None:
        return None
    bits = _BITS[found[2] or ""]
    return (0, 2**bits - 1) if found[1] or found[3] or found[0] == "oid" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


Natives = Mapping[str, str]
"""Column name to native type, as the engine spells it."""


class Flavour(Protocol):
    """How one engine spells what the builder needs. `x` is always a quoted column or an expression."""

    @property
    def naive(self) -> str:
        """Return the native name of a timestamp without zone."""
        ...

    @property
    def dynamic(self) -> bool:
        """Return whether a column may hold values of any type, whatever it is declared as."""
        ...

    def name(self, identifier: str) -> str: ...

    def kind(self, native: str) -> ColumnType | None:
        """Return the natural catalog type of a native type. None if it has none."""
        ...

    def bounds(self, native: str) -> tuple[int, int] | None:
        """Return the least and the greatest value of a type of whole numbers, or None if they are not known."""
        ...

    def unfit(self, native: str) -> tuple[str, str] | None:
        """Return why a native type cannot be delivered at all, and what to do. None if it can."""
        ...

    def text(self, x: str, kind: ColumnType, native: str) -> str:
        """Return the canonical text (waybill.canonical) of a value; NULL stays NULL."""
        ...

    def instant(self, x: str, native: str) -> str:
        """Return a date or time as a timestamp without zone, in UTC."""
        ...

    def bind_instant(self, value: datetime, native: str) -> Sql:
        """Return an aware instant, typed so that comparing the bare column with it can use an index."""
        ...

    def order(self, x: str, kind: ColumnType, native: str) -> str:
        """Return the sort term: ascending, NULLs first, text bytewise."""
        ...

    def joined(self, x: str, native: str, other: str) -> str:
        """Return a column as it leads from a row to its parent, or from there: by what foreign keys take for the same. `other` is the type
        of the column at the other end.
        """
        ...

    def mixes(self, x: str, native: str, other: str) -> bool:
        """Return whether such a column may equal different values at the other end."""
        ...

    def by_bytes(self, x: str) -> str:
        """Return a value as a text that compares by its bytes."""
        ...

    def equal(self, x: str, native: str, value: str) -> Sql:
        """Return exact, bytewise equality of a text column, an integer or a UUID. `value` is its canonical text. An index can serve it."""
        ...

    def quoted(self, x: str, delimiter: str) -> str:
        """`canonical.csv_field` of a text, except that NULL stays NULL."""
        ...

    def concat(self, pieces: list[str]) -> str:
        """Return all pieces in a row, NULL as nothing."""
        ...

    def literal(self, text: str) -> str: ...

    def pseudonym(self, x: str, inner: Bind, outer: Bind) -> Sql:
        """Return hex of sha256(outer || sha256(inner || text)); NULL stays NULL."""
        ...

    def sha16(self, x: str) -> Sql:
        """Return the first 16 bytes of the SHA-256 of a text."""
        ...

    def among(self, x: Sql, digests: tuple[bytes, ...]) -> Sql: ...
