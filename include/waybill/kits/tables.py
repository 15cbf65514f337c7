"""The tenant's entities as tables for a kit, with what the manifests of its deliveries say of their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Catalog, Entity
from waybill.configuration.registration import Registration, resolve_entities
from waybill.configuration.selection import FileStyle
from waybill.configuration.values.columns import Column
from waybill.deliveries.extraction.columns import arranged
from waybill.errors import PermanentError
from waybill.files.manifest import columns_of
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import deliveries, registrations, streams
from waybill.ledger.facts import ColumnFacts
from waybill.ledger.streams import Stream
from waybill.registrations import replacing
from waybill.registrations.filling import source_of
from waybill_consumer.manifest import NOTICED

MOST_INTEGER_DIGITS = 18
"""The number of digits that a 64 bit integer always holds."""
_WIDE = ("hugeint", "uhugeint", "ubigint", "numeric", "decimal", "number", "bigint unsigned", "uint64")


@dataclass(frozen=True)
class Field:
    """One column of a table. `precision`, `scale` and `length` are None if the source does not tell them."""

    name: str
    type: ColumnType
    description: str
    is_key: bool
    nullable: bool | None = None
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    native_type: str = ""

    @property
    def is_long(self) -> bool:
        """Return whether an integer may need more than 64 bits."""
        if self.precision is not None:
            return self.precision > MOST_INTEGER_DIGITS
        return self.native_type.lower().startswith(_WIDE)


@dataclass(frozen=True)
class Table:
    """One entity as the tenant receives it. `deletes` says whether deliveries bring the keys that are gone."""

    id: str
    name: str
    description: str
    fields: tuple[Field, ...]
    schema_version: int
    frequency: str
    tombstone: str | None
    deletes: bool

    @property
    def key(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.is_key)

    @property
    def gone(self) -> tuple[Field, ...]:
        """Return the columns of a deletes file."""
        return (*self.key, Field(NOTICED, ColumnType.TIMESTAMP, "When the row was found missing.", is_key=False))


@dataclass(frozen=True)
class Subject:
    """A tenant with its tables, and how its files are written."""

    tenant: str
    frequency: str
    timezone: str
    style: FileStyle
    tables: tuple[Table, ...]


def subject_of(installation: Installation, tenant: str) -> Subject:
    """Return the registration in force, or that of the tenant's file if it was never applied.

    Raises PermanentError for an unknown tenant and for one that receives nothing.
    """
    catalog = installation.catalog.offered_to(tenant)
    with installation.ledger.read() as connection:
        known = registrations.current(connection, tenant)
        active = {stream.entity: stream for stream in streams.active(connection, tenant)}
        delivered = deliveries.last_columns(connection, [stream.id for stream in active.values()])
    registration = known.registration if known else _of_file(installation, tenant)
    if registration.encryption is not None:
        raise PermanentError(
            tell("call.kit_encrypted", tenant=tenant),
            next_step=tell("call.kit_encrypted_step"),
            code="no_kit",
        )
    entities = _entities(catalog, registration, active if known else None)
    if not entities:
        raise PermanentError(tell("call.nothing_active", tenant=tenant), next_step=tell("call.nothing_active_step"), code="nothing_active")
    tables = tuple(
        _table(registration.sees(entity), registration.frequency_of(entity.id, catalog).value, active.get(entity.id), delivered)
        for entity in entities
    )
    return Subject(tenant, registration.frequency.value, registration.timezone, registration.file_style, tables)


def _of_file(installation: Installation, tenant: str) -> Registration:
    file = installation.configuration.file_of(tenant)
    return file.registration if file else replacing.require(installation, tenant).registration


def _entities(catalog: Catalog, registration: Registration, active: Mapping[str, Stream] | None) -> list[Entity]:
    names = resolve_entities(registration, catalog, "")[0] if active is None else [name for name in catalog.entities if name in active]
    return [catalog.entities[name] for name in names]


def _table(entity: Entity, frequency: str, stream: Stream | None, delivered: Mapping[int, Sequence[ColumnFacts]]) -> Table:
    before, version = (stream.columns, stream.schema_version) if stream else (None, 1)
    columns, version = arranged(before, version, entity.columns)
    natives = {source_of(native): native for native in (delivered.get(stream.id, ()) if stream else ())}
    # A key that is not exported tells no consumer one row from another.
    key = set(entity.delivered_key) if set(entity.delivered_key) <= set(columns) else set()
    fields = tuple(
        _field(told_column, columns[told_column["name"]], told_column["name"] in key, natives.get(source_of(told_column), {}))
        for told_column in columns_of(columns)
    )
    return Table(
        id=entity.id,
        name=entity.display_name,
        description=entity.description,
        fields=fields,
        schema_version=version,
        frequency=frequency,
        tombstone=entity.tombstone_column,
        deletes=entity.compares_keys and bool(key),
    )


def _field(fact: Mapping[str, Any], column: Column, is_key: bool, native: Mapping[str, Any]) -> Field:
    facts = {name: native.get(name) for name in ("nullable", "precision", "scale", "length")} if native.get("type") == fact["type"] else {}
    return Field(
        name=fact["name"],
        type=column.leaves_as,
        description=column.description,
        is_key=is_key,
        native_type=str(native.get("native_type") or "") if facts else "",
        **facts,
    )
