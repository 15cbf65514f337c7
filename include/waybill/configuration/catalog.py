"""The catalog: every exportable entity with its columns, and the sources that they are read from.

pydantic checks the structure field by field. `problems` finds what only shows when parts are seen together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StringConstraints

from waybill.access import TENANT_ID
from waybill.canonical import ColumnType
from waybill.configuration.values.columns import Column, reader, sources
from waybill.configuration.values.conditions import Condition, Step, query_problem
from waybill.configuration.values.credentials import looks_secret, secret_value, words
from waybill.configuration.values.deletes import Deletes, DeletesAt
from waybill.configuration.values.durations import Duration
from waybill.configuration.values.paths import LocalPath
from waybill.configuration.values.strict import Strict
from waybill.errors import Finding
from waybill_consumer.manifest import NOTICED

SLUG = r"^[a-z][a-z0-9_]{0,62}$"
Slug = Annotated[str, StringConstraints(pattern=SLUG)]
"""An entity id. It becomes a folder and a file name."""

CONNECTION_ID = r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,249}$"
ConnectionId = Annotated[str, StringConstraints(pattern=CONNECTION_ID)]
"""The id of an Airflow connection. It has neither `:` nor `@`: a URL with a password in it is no id, and must not get into a file or a
message.
"""

LONGEST_WORD = 250
SUGGESTED = 10
"""How many words of one list get a "did you mean". Each word is compared with everything that is allowed."""


class Mode(StrEnum):
    SNAPSHOT = "snapshot"
    HORIZON = "horizon"
    LOOKBACK = "lookback"
    APPEND = "append"
    FULL = "full"


class Changes(Strict):
    """How an entity's changes are found (docs/protocol.md section 2).

    `lag` is for `append` by id: how many ids below the highest are read again, for those committed late.
    """

    mode: Mode
    """How changed rows are found: snapshot, horizon, lookback, append or full."""
    column: str = ""
    """The column that tells when a row changed, or for `append` the id that only grows. `full` needs none."""
    lookback: Duration = timedelta(hours=24)
    """For `lookback`: how long after its change time a row may still be committed. It is read again for that long."""
    lag: Annotated[StrictInt, Field(ge=0)] = 0
    """For `append` by id: how many of the last ids are read again, for rows that were committed late."""


TenantId = Annotated[str, StringConstraints(pattern=TENANT_ID.pattern.replace(r"\Z", "$"))]


ScopeLevel = Literal["project", "app", "study", "participant"]
FormatName = Literal["csv", "ndjson", "json", "xlsx", "parquet"]
FORMATS: tuple[FormatName, ...] = ("csv", "ndjson", "json", "xlsx", "parquet")


def _or_all(schema: dict[str, Any]) -> None:
    """The file may say `all except [..]`, which is a list by the time an entity is made of it (waybill.configuration.column_lock)."""
    listed = {key: schema.pop(key) for key in ("additionalProperties", "minProperties", "type") if key in schema}
    schema["anyOf"] = [listed, {"type": "string", "pattern": r"^\s*all(\s+except\s+\[.*\])?\s*$"}]


class Entity(Strict):
    """One exportable dataset. `id` is its key in the catalog file."""

    id: Slug
    name: str = ""
    """What people read instead of the id, and may write in `entityList`."""
    description: str = ""
    """What the entity is, for people who choose it."""
    source: str
    """The name of the source that holds it."""
    relation: str = ""
    """The table or view, `schema.table` outside of the default schema; for a lake the pattern of its files."""
    query: str = ""
    """One SELECT in place of a relation; the tenant's predicate is put around it."""
    tenant_column: str = ""
    """The column that tells whose row it is."""
    tenant_through: tuple[Step, ...] = ()
    """The joins that lead to the tenant from a table that does not hold it, in order."""
    key: Annotated[tuple[str, ...], BeforeValidator(lambda v: [v] if isinstance(v, str) else v), Field(min_length=1)]
    """The columns that identify a row within a tenant."""
    changes: Changes
    """How changed rows are found."""
    deleted_column: str = ""
    """The column that holds the time a row was deleted. It counts as a change once it is past."""
    deleted_when: Condition | None = None
    """What tells a deleted row where no column holds the time of its deletion."""
    only: tuple[TenantId, ...] = ()
    """The tenants that may receive it; empty: all."""
    optional: StrictBool = False
    """`export all` does not include it: a registration has to name it."""
    deletes: Annotated[Deletes | None, BeforeValidator(lambda v: {"mode": v} if isinstance(v, str) else v)] = None
    """How rows that vanish from the source reach the consumer: `compare` delivers their keys, `never` says that none vanish.

    `compare_rows` compares whole rows, and also delivers those that changed without a sign."""
    deletes_at: DeletesAt = ""
    """When keys or rows are compared: a local time of day, a weekday, or both. Without it, at every delivery."""
    fill: Literal["from_now", "full_load"] = "from_now"
    """What a column catalogued later holds in rows that do not change: nothing until a full load, or a full load at once."""
    source_rows: StrictBool = False
    """Whether the tenant's rows are counted at every delivery, also where counting is not cheap."""
    streams: Annotated[StrictInt, Field(ge=1, le=16)] = 1
    """Connections a full load or a backfill is read over at once. With more than one, its files are parts."""
    scopes: Mapping[ScopeLevel, str] = Field(default_factory=dict)
    """The columns that tell the project, app, study or participant of a row, for on-demand exports."""
    time_column: str = ""
    """The column that a date range of an export or a backfill is about."""
    formats: tuple[FormatName, ...] = FORMATS
    """The formats in which it may be exported on demand."""
    columns: Annotated[Mapping[str, Column], Field(min_length=1, json_schema_extra=_or_all)]
    """The columns that may leave, in the order of the file. Nothing else does.

    `all except [..]` becomes such a list at `waybill apply`."""

    @property
    def display_name(self) -> str:
        return self.name or self.id

    @property
    def compares_keys(self) -> bool:
        """Return whether deliveries compare the delivered keys with those that are there."""
        return self.deletes is not None and self.deletes.compares

    @property
    def compares_rows(self) -> bool:
        """Return whether such a comparison is one of whole rows."""
        return self.deletes is not None and self.deletes.mode == "compare_rows"

    @property
    def fills_new_columns(self) -> bool:
        """Return whether a column catalogued later means a full load. Copies that are compared whole hold it in every row."""
        return self.fill == "full_load" or self.compares_rows

    @property
    def tombstone_column(self) -> str | None:
        """Return the exported column that marks a deletion, or None."""
        return self.exported(self.deleted_column)

    def exported(self, source: str) -> str | None:
        """Return the name under which a column of the source is delivered, or None."""
        return reader(self.columns, source)

    @property
    def delivered_key(self) -> tuple[str, ...]:
        """Return the key by the names under which its columns are delivered. A column that is not exported has its own name."""
        return tuple(self.exported(name) or name for name in self.key)

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """Return every source column that an extraction reads, exported or not, each once."""
        owner = self.tenant_through[0].on if self.tenant_through else (self.tenant_column,)
        state = self.deleted_when.column if self.deleted_when else ""
        named = [*sources(self.columns), *self.key, *owner, self.changes.column, self.deleted_column, state]
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def read_from(self) -> str:
        """Return the relation, as messages name it."""
        return self.relation or "the entity's query"

    @property
    def named_by(self) -> str:
        """Return the key of the catalog that names the relation. Only what `parents` makes has neither way to a tenant."""
        return "relation" if self.tenant_column or self.tenant_through else "tenant_through"

    def parents(self) -> tuple[Entity, ...]:
        """Return the tables of `tenant_through`, in a form that a source can be asked about."""
        plain: dict[str, Any] = {"query": "", "tenant_through": ()}
        return tuple(self.model_copy(update=plain | {"relation": step.table}) for step in self.tenant_through)

    def in_source_names(self) -> Entity:
        """Return the entity with key, changes, tenant and the like by the names of the source.

        If the catalog names one of its columns that reads another one, the other one is meant.
        """
        other = {name: column.reads for name, column in self.columns.items() if column.reads}

        def at(name: str) -> str:
            return other.get(name, name)

        def moved(mode_column: Any) -> Any:
            return mode_column and mode_column.model_copy(update={"column": at(mode_column.column)})

        steps = [step.model_copy(update={"on": {at(here): there for here, there in step.on.items()}}) for step in self.tenant_through[:1]]
        plain = {name: at(getattr(self, name)) for name in ("tenant_column", "deleted_column", "time_column")}
        conditions = {name: moved(getattr(self, name)) for name in ("changes", "deleted_when")}
        lists = {"key": tuple(map(at, self.key)), "scopes": {level: at(name) for level, name in self.scopes.items()}}
        return self.model_copy(update={**plain, **conditions, **lists, "tenant_through": (*steps, *self.tenant_through[1:])})

    def is_offered(self, tenant: str) -> bool:
        """Return whether this tenant may receive it at all."""
        return not self.only or tenant in self.only


class DuckDBSource(Strict):
    """An embedded DuckDB file, opened read-only. `path` is relative to the parent of the configuration folder."""

    kind: Literal["duckdb"]
    """A DuckDB file."""
    path: LocalPath
    """The file, counted from the parent of the configuration folder."""


class LakeSource(Strict):
    """Parquet files on disk or S3. `path` is put in front of each entity's glob; `connection` (aws) is needed for s3:// only."""

    kind: Literal["lake"]
    """Parquet files in a folder or a bucket."""
    path: LocalPath = ""
    """The folder, or `s3://bucket/prefix`."""
    connection: ConnectionId | Literal[""] = ""
    """The Airflow connection of type `aws`, for a bucket."""


class PostgresSource(Strict):
    """A PostgreSQL database behind an Airflow connection."""

    kind: Literal["postgres"]
    """A PostgreSQL database."""
    connection: ConnectionId
    """The Airflow connection of type `postgres`."""
    statement_timeout: Duration = timedelta(hours=1)
    """After how long one query is given up."""


class DbApiSource(Strict):
    """Any Airflow database connection."""

    kind: Literal["dbapi"]
    """Any database that an Airflow provider connects to."""
    connection: ConnectionId
    """The Airflow connection."""


SourceSpec = Annotated[DuckDBSource | LakeSource | PostgresSource | DbApiSource, Field(discriminator="kind")]


class Catalog(Strict):
    """All sources and entities. Raises nothing itself: see `problems`."""

    sources: Mapping[str, SourceSpec] = Field(default_factory=dict)
    """Where rows are read from, by name."""
    entities: Mapping[str, Entity] = Field(default_factory=dict)
    """What can be exported, by id. The id becomes a folder and a file name."""

    def entity(self, entity_id: str) -> Entity | None:
        return self.entities.get(entity_id)

    def offered_to(self, tenant: str) -> Catalog:
        """Return the catalog as this tenant may know it, without what is offered to others only."""
        if not any(entity.only for entity in self.entities.values()):
            return self
        return Catalog(sources=self.sources, entities={name: entity for name, entity in self.entities.items() if entity.is_offered(tenant)})

    def ids_by_name(self) -> dict[str, str]:
        """Map every accepted spelling of an entity (ids and display names, casefolded) to its id."""
        names = {entity.display_name.casefold(): entity.id for entity in self.entities.values()}
        return names | {entity_id.casefold(): entity_id for entity_id in self.entities}


def closest(word: str, options: Iterable[str]) -> str:
    """Return the option most like `word`, or an empty string. A word longer than any name gets an empty string, too."""
    if len(word) > LONGEST_WORD:
        return ""
    by_fold = {option.casefold(): option for option in options}
    found = get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else ""


def suggester(options: Iterable[str]) -> Callable[[str], str]:
    """Return `closest` for the first few words, and then an empty string: a list of thousands must cost next to nothing."""
    known, left = list(options), iter(range(SUGGESTED))
    return lambda word: closest(word, known) if next(left, None) is not None else ""


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
    """Return what is wrong between the parts of a structurally valid catalog."""
    found = [
        Finding(file, f"sources.{name}.path", "is empty", "the path of a DuckDB file", code="required")
        for name, source in catalog.sources.items()
        if source.kind == "duckdb" and not source.path.strip()
    ]
    found += [problem for entity in catalog.entities.values() for problem in _entity_problems(entity, catalog, file)]
    return found + _unpackable_names(catalog, file) + _ambiguous_names(catalog, file)


RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(10))})
"""Names that Windows keeps for devices, whatever follows the dot. Nobody could unpack such a file there."""


def _unpackable_names(catalog: Catalog, file: str) -> list[Finding]:
    what = "is a name that Windows keeps for a device, so its files could not be unpacked there"
    return [
        Finding(file, f"entities.{name}", what, f"another id, such as {name}_", code="reserved_name")
        for name in catalog.entities
        if name in RESERVED
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
    if len({*entity.key}) < len(entity.key):
        yield Finding(file, f"{at}.key", "names a column twice", "each column once")
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
    if source is not None and entity.streams > 1 and source.kind not in ("postgres", "lake"):
        what = f"only postgres and lake sources are read over several connections, {entity.source} is {source.kind}"
        yield Finding(file, f"{at}.streams", what, "1")
    yield from _reading_problems(entity, source, file)
    yield from _deletes_problems(entity, file)
    if any(separator in entity.display_name for separator in ",\n"):
        yield Finding(file, f"{at}.name", "a display name must not hold a comma or a line break, since entityList may be comma-separated")
    yield from _credentials(entity, file)


def _reading_problems(entity: Entity, source: SourceSpec | None, file: str) -> Iterator[Finding]:
    """Return what is wrong with where an entity's rows and their tenant are found."""
    at = f"entities.{entity.id}"
    if bool(entity.relation) == bool(entity.query):
        what = "relation and query exclude each other" if entity.query else "is required"
        yield Finding(file, f"{at}.relation", what, "a table, view or Parquet pattern, or a query in its place", code="required")
    if entity.query and (wrong := query_problem(entity.query)):
        yield Finding(file, f"{at}.query", *wrong)
    if entity.query and source is not None and source.kind == "lake":
        yield Finding(file, f"{at}.query", "a lake has files, not tables", "relation: a pattern of Parquet files")
    if bool(entity.tenant_column) == bool(entity.tenant_through):
        what = "tenant_column and tenant_through exclude each other" if entity.tenant_column else "is required"
        yield Finding(file, f"{at}.tenant_column", what, "the column that tells the tenant, or tenant_through", code="required")
    for number, step in enumerate(entity.tenant_through):
        last = number == len(entity.tenant_through) - 1
        if last != bool(step.column):
            what = "the last step names the column that tells the tenant" if last else "only the last step names a column"
            yield Finding(file, f"{at}.tenant_through.{number}.column", what, "a column of its table" if last else "leave it out")
    if entity.deleted_when and entity.deleted_column:
        yield Finding(file, f"{at}.deleted_when", "deleted_column and deleted_when exclude each other", "one of them")
    if entity.deleted_when:
        column = entity.columns.get(entity.exported(entity.deleted_when.column) or "")
        if wrong := entity.deleted_when.problem(column.type if column else None):
            yield Finding(file, f"{at}.deleted_when.value", *wrong)


def _deletes_problems(entity: Entity, file: str) -> Iterator[Finding]:
    """Return where the comparison of keys could not be carried out, or not be delivered."""
    at = f"entities.{entity.id}"
    if entity.deletes_at and not entity.compares_keys:
        yield Finding(file, f"{at}.deletes_at", "says when keys are compared, and nothing compares them", "deletes: compare beside it")
    if entity.deletes_at and entity.deletes is not None and "every" in entity.deletes.model_fields_set:
        yield Finding(file, f"{at}.deletes_at", "contradicts deletes.every", "one of the two")
    if not entity.compares_keys:
        return
    if entity.compares_rows and entity.changes.mode is Mode.FULL:
        what = "compare_rows finds rows that changed without a sign, and mode full delivers every row anyway"
        yield Finding(file, f"{at}.deletes", what, "compare, or another mode")
    if missing := [name for name in entity.key if entity.exported(name) is None]:
        what = f"compare delivers the keys that are gone, and {', '.join(missing)} is not exported"
        yield Finding(file, f"{at}.deletes", what, "add the key columns to columns (export: anonymize is enough)")
    if NOTICED in entity.delivered_key:
        yield Finding(file, f"{at}.key", f"{NOTICED} is the name of the time in deletes files", "another key column")


def _credentials(entity: Entity, file: str) -> Iterator[Finding]:
    """Return columns whose name looks like a credential and that have no written reason, and credentials in the catalog itself."""
    for name, column in entity.columns.items():
        at = f"entities.{entity.id}.columns.{name}"
        if any(is_credential(spelling, column) for spelling in (name, column.source(name))) and not column.reason.strip():
            allowed = "leave it out, or say in `reason` why it is none"
            yield Finding(file, at, "looks like a credential, and credentials never leave", allowed, code="credential")
        for field in ("description", "reason"):
            if secret_value(getattr(column, field)):
                yield Finding(file, f"{at}.{field}", "holds what looks like a credential; revoke it", "plain words", code="credential")


def is_credential(name: str, column: Column) -> bool:
    """Return whether a column's name looks like a credential, and its type could hold one."""
    return looks_secret(name) and _can_hold_a_secret(name, column)


def _can_hold_a_secret(name: str, column: Column) -> bool:
    if column.type in (ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.FLOAT):
        return words(name)[-1] != "tokens"  # how many were used
    return column.type not in (ColumnType.BOOLEAN, ColumnType.DATE, ColumnType.TIMESTAMP)
