"""What engines spell differently: the vocabulary `waybill.sources.query` builds its statements from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from waybill.catalog import ColumnType
from waybill.sources.sql import Bind, Sql

Natives = Mapping[str, str]
"""Column name to native type, as the engine spells it."""


class Flavour(Protocol):
    """How one engine spells what the builder needs. `x` is always a quoted column or an expression."""

    @property
    def naive(self) -> str:
        """The native name of a timestamp without zone."""
        ...

    def name(self, identifier: str) -> str: ...

    def kind(self, native: str) -> ColumnType | None:
        """The catalog type a native type is by nature; None when it has none."""
        ...

    def text(self, x: str, kind: ColumnType, native: str) -> str:
        """The canonical text (waybill.canonical) of a value; NULL stays NULL."""
        ...

    def instant(self, x: str, native: str) -> str:
        """A date or time as a timestamp without zone, in UTC."""
        ...

    def bind_instant(self, value: datetime, native: str) -> Sql:
        """An aware instant, typed so that comparing the bare column with it can use an index."""
        ...

    def order(self, x: str, kind: ColumnType, native: str) -> str:
        """The sort term: ascending, NULLs first, text bytewise."""
        ...

    def equal(self, x: str, native: str, value: str) -> Sql:
        """Exact, bytewise equality of a text column (or an integer or UUID, `value` being its canonical text), servable by an index."""
        ...

    def quoted(self, x: str, delimiter: str) -> str:
        """`canonical.csv_field` of a text, except that NULL stays NULL."""
        ...

    def concat(self, pieces: list[str]) -> str:
        """All pieces in a row, NULL as nothing."""
        ...

    def literal(self, text: str) -> str: ...

    def pseudonym(self, x: str, inner: Bind, outer: Bind) -> Sql:
        """Hex of sha256(outer || sha256(inner || text)); NULL stays NULL."""
        ...

    def sha16(self, x: str) -> Sql:
        """The first 16 bytes of the SHA-256 of a text."""
        ...

    def among(self, x: Sql, digests: tuple[bytes, ...]) -> Sql: ...
