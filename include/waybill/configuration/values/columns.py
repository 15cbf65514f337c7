"""The columns of an entity: the names they are delivered under, and the columns of the source that they read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from waybill.canonical import ColumnType
from waybill.configuration.values.strict import Strict


def _yes(value: Any) -> Any:
    return "yes" if value is True else value  # YAML 1.1 reads a bare `yes` as true


class Column(Strict):
    """One column of the allow-list. `reason` is the written excuse for a name that looks like a credential.

    `reads` (`from` in the catalog) is the column of the source where that has another name.
    """

    type: ColumnType
    """What the value is delivered as, whatever the source calls it."""
    description: str = ""
    """What the column means, for consumers. It stands in manifests and data dictionaries."""
    export: Annotated[Literal["yes", "anonymize"], BeforeValidator(_yes)] = "yes"
    """`anonymize` delivers a pseudonym instead of the value: an HMAC with a salt of the tenant."""
    reason: str = ""
    """Why a column is delivered although its name or values look like a credential."""
    reads: str = Field("", alias="from")
    """The column of the source, where that has another name."""

    @property
    def leaves_as(self) -> ColumnType:
        """Return the type of what is delivered. A pseudonym is text, whatever it stands for."""
        return ColumnType.STRING if self.export == "anonymize" else self.type

    def source(self, name: str) -> str:
        """Return the column of the source that is read for this one. This one is delivered as `name`."""
        return self.reads or name

    def renamed(self, name: str, to: str) -> Column:
        """Return the same column under another name."""
        source = self.source(name)
        return self.model_copy(update={"reads": "" if source == to else source})


def reader(columns: Mapping[str, Column], source: str) -> str | None:
    """Return the name under which a column of the source is delivered: its own if it is, else the first other one. Nothing is no column."""
    if not source:
        return None
    own = columns.get(source)
    if own is not None and own.source(source) == source:
        return source
    return next((name for name, column in columns.items() if column.reads == source), None)


def described(columns: Mapping[str, Column], source: str) -> Column | None:
    """Return what is said of a column of the source by the column that reads it."""
    name = reader(columns, source)
    return None if name is None else columns[name]


def sources(columns: Mapping[str, Column]) -> list[str]:
    """Return the columns of the source that these read, in their order."""
    return [column.source(name) for name, column in columns.items()]
