"""The catalog: every exportable entity with its columns, and the sources they are read from.

Structure is checked here, field by field, by pydantic; `problems` finds what only shows when parts are seen together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StringConstraints, WithJsonSchema

from waybill.canonical import ColumnType
from waybill.configuration.credentials import looks_secret, secret_value, words
from waybill.errors import Finding

SLUG = r"^[a-z][a-z0-9_]{0,62}$"
Slug = Annotated[str, StringConstraints(pattern=SLUG)]
"""An entity id: it becomes a folder and a file name."""

CONNECTION_ID = r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,249}$"
ConnectionId = Annotated[str, StringConstraints(pattern=CONNECTION_ID)]
"""The id of an Airflow connection. Neither `:` nor `@`: a URL with a password in it is no id and must not get into a file or a message."""

LONGEST_DAYS = 36_500
"""What is longer leaves the calendar when it is counted from today."""
_DURATION = re.compile(r"^(\d+)\s*(s|m|h|d|w)\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(value: Any) -> timedelta:
    """`90s`, `30m`, `24h`, `7d`, `2w` as a timedelta of at most a hundred years. Raises ValueError for anything else."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a duration; allowed: a whole number and a unit, as in 90s, 30m, 24h, 7d, 2w")
    number, unit = int(match[1][:20]), timedelta(**{_UNITS[match[2]]: 1})
    if number > timedelta(days=LONGEST_DAYS) // unit:
        raise ValueError("longer than a hundred years; allowed: at most 36500d")
    return number * unit


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]

_CLOCK = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)\Z")


def _clock(value: Any) -> Any:
    # YAML 1.1 reads an unquoted 02:00 as the number 120.
    if not isinstance(value, str) or not _CLOCK.match(value):
        raise ValueError('not a time of day; allowed: a quoted "HH:MM" from "00:00" to "23:59"')
    return value


Clock = Annotated[str, BeforeValidator(_clock), WithJsonSchema({"type": "string", "pattern": _CLOCK.pattern.replace(r"\Z", "$")})]
"""A local time of day."""


class Strict(BaseModel):
    """Base of everything read from YAML or a request body: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _yes(value: Any) -> Any:
    return "yes" if value is True else value  # YAML 1.1 reads a bare `yes` as true


class Column(Strict):
    """One column of the allow-list. `reason` is the written excuse for a name that looks like a credential."""

    type: ColumnType
    description: str = ""
    export: Annotated[Literal["yes", "anonymize"], BeforeValidator(_yes)] = "yes"
    reason: str = ""

    @property
    def leaves_as(self) -> ColumnType:
        """The type of what leaves: a pseudonym is text, whatever it stands for."""
        return ColumnType.STRING if self.export == "anonymize" else self.type


class Mode(StrEnum):
    SNAPSHOT = "snapshot"
    HORIZON = "horizon"
    LOOKBACK = "lookback"
    APPEND = "append"
    FULL = "full"


class Changes(Strict):
    """How an entity's changes are found (PROTOCOL.md section 2). `lag` is for `append` by id: how many ids below max(id) to hold back."""

    mode: Mode
    column: str = ""
    lookback: Duration = timedelta(hours=24)
    lag: Annotated[StrictInt, Field(ge=0)] = 0


ScopeLevel = Literal["project", "app", "study", "participant"]
FormatName = Literal["csv", "ndjson", "json", "xlsx", "parquet"]
FORMATS: tuple[FormatName, ...] = ("csv", "ndjson", "json", "xlsx", "parquet")


class Entity(Strict):
    """One exportable dataset. `id` is its key in the catalog file."""

    id: Slug
    name: str = ""
    description: str = ""
    source: str
    relation: Annotated[str, StringConstraints(min_length=1)]
    tenant_column: Annotated[str, StringConstraints(min_length=1)]
    key: Annotated[tuple[str, ...], BeforeValidator(lambda v: [v] if isinstance(v, str) else v), Field(min_length=1)]
    changes: Changes
    deleted_column: str = ""
    scopes: Mapping[ScopeLevel, str] = Field(default_factory=dict)
    time_column: str = ""
    formats: tuple[FormatName, ...] = FORMATS
    columns: Annotated[Mapping[str, Column], Field(min_length=1)]

    @property
    def display_name(self) -> str:
        return self.name or self.id

    @property
    def tombstone_column(self) -> str | None:
        """The exported column that tells a deletion, or None."""
        return self.deleted_column if self.deleted_column in self.columns else None

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """Every source column an extraction touches, exported or not, each once."""
        named = [*self.columns, *self.key, self.tenant_column, self.changes.column, self.deleted_column]
        return tuple(dict.fromkeys(name for name in named if name))


class DuckDBSource(Strict):
    """An embedded DuckDB file, opened read-only. `path` is relative to the parent of the configuration folder."""

    kind: Literal["duckdb"]
    path: str


class LakeSource(Strict):
    """Parquet files on disk or S3. `path` is put in front of each entity's glob; `connection` (aws) is needed for s3:// only."""

    kind: Literal["lake"]
    path: str = ""
    connection: ConnectionId | Literal[""] = ""


class PostgresSource(Strict):
    """A PostgreSQL database behind an Airflow connection."""

    kind: Literal["postgres"]
    connection: ConnectionId
    statement_timeout: Duration = timedelta(hours=1)


class DbApiSource(Strict):
    """Any Airflow database connection."""

    kind: Literal["dbapi"]
    connection: ConnectionId


SourceSpec = Annotated[DuckDBSource | LakeSource | PostgresSource | DbApiSource, Field(discriminator="kind")]


class Catalog(Strict):
    """All sources and entities. Raises nothing itself: see `problems`."""

    sources: Mapping[str, SourceSpec] = Field(default_factory=dict)
    entities: Mapping[str, Entity] = Field(default_factory=dict)

    def entity(self, entity_id: str) -> Entity | None:
        return self.entities.get(entity_id)

    def ids_by_name(self) -> dict[str, str]:
        """Every accepted spelling of an entity, casefolded, to its id: ids and display names."""
        names = {entity.display_name.casefold(): entity.id for entity in self.entities.values()}
        return names | {entity_id.casefold(): entity_id for entity_id in self.entities}


def closest(word: str, options: Iterable[str]) -> str:
    """The option most like `word`, or an empty string."""
    by_fold = {option.casefold(): option for option in options}
    found = get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else ""


def unknown_source(entity: str, source: str, known: list[str], file: str) -> Finding:
    """An entity names a source that the catalog does not define."""
    return Finding(
        file,
        f"entities.{entity}.source",
        f"unknown source {source!r}",
        ", ".join(known) or "define it under sources",
        closest(source, known),
    )


def problems(catalog: Catalog, file: str) -> list[Finding]:
    """What is wrong between the parts of a structurally valid catalog."""
    found = [problem for entity in catalog.entities.values() for problem in _entity_problems(entity, catalog, file)]
    return found + _ambiguous_names(catalog, file)


def warnings(catalog: Catalog, file: str) -> list[Finding]:
    """What is allowed but seldom meant: deletions that consumers cannot tell from changes, since their time is not exported."""
    return [
        Finding(
            file,
            f"entities.{entity.id}.deleted_column",
            f"deleted rows are delivered looking like live ones: {entity.deleted_column} is not among the columns",
            "add it to columns, or leave deleted_column out",
        )
        for entity in catalog.entities.values()
        if entity.deleted_column and entity.tombstone_column is None
    ]


def _ambiguous_names(catalog: Catalog, file: str) -> list[Finding]:
    taken: dict[str, str] = {}
    found = []
    for entity in catalog.entities.values():
        for spelling in {entity.id.casefold(), entity.display_name.casefold()}:
            other = taken.setdefault(spelling, entity.id)
            if other != entity.id:
                found.append(
                    Finding(
                        file,
                        f"entities.{entity.id}.name",
                        f"{spelling!r} already names the entity {other}",
                        "names unlike every other id and name",
                    )
                )
    return found


def _entity_problems(entity: Entity, catalog: Catalog, file: str) -> Iterator[Finding]:
    at = f"entities.{entity.id}"
    source = catalog.sources.get(entity.source)
    if source is None:
        yield unknown_source(entity.id, entity.source, list(catalog.sources), file)
    if entity.changes.mode is not Mode.FULL and not entity.changes.column:
        yield Finding(
            file,
            f"{at}.changes.column",
            f"mode {entity.changes.mode} needs the column that tells when a row changed",
            "a column of the relation",
        )
    if source is not None and entity.changes.mode in (Mode.SNAPSHOT, Mode.HORIZON) and source.kind != "postgres":
        yield Finding(
            file,
            f"{at}.changes.mode",
            f"{entity.changes.mode} needs a postgres source, {entity.source} is {source.kind}",
            "lookback, append, full",
        )
    if any(separator in entity.display_name for separator in ",\n"):
        yield Finding(file, f"{at}.name", "a display name must not hold a comma or a line break, since entityList may be comma-separated")
    yield from _credentials(entity, file)


def _credentials(entity: Entity, file: str) -> Iterator[Finding]:
    """Columns that look like a credential by name, without a written reason; and credentials in the catalog itself."""
    for name, column in entity.columns.items():
        at = f"entities.{entity.id}.columns.{name}"
        if looks_secret(name) and _can_hold_a_secret(name, column) and not column.reason.strip():
            allowed = "leave it out, or say in `reason` why it is none"
            yield Finding(file, at, "looks like a credential, and credentials never leave", allowed, code="credential")
        for field in ("description", "reason"):
            if secret_value(getattr(column, field)):
                yield Finding(file, f"{at}.{field}", "holds what looks like a credential; revoke it", "plain words", code="credential")


def _can_hold_a_secret(name: str, column: Column) -> bool:
    if column.type in (ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.FLOAT):
        return words(name)[-1] != "tokens"  # how many were used
    return column.type not in (ColumnType.BOOLEAN, ColumnType.DATE, ColumnType.TIMESTAMP)
