"""The API's answers. Field names are camelCase on the wire; what a body may hold stands in `waybill.configuration.registration`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from waybill.configuration.registration import EntityList
from waybill.configuration.values.answer import Answer, Instant
from waybill.configuration.values.strict import Strict


class ManagedBy(Answer):
    """Who may change the registration: the API, or the file named."""

    kind: Literal["api", "file"]
    file: str | None = None


class Inactive(Answer):
    """An entity that was delivered once and is switched off."""

    entity: str
    name: str
    generation: int
    activated_at: Instant
    deactivated_at: Instant | None
    delivered_until: Instant | None = Field(description="End of the last committed window.")


class Standing(Answer):
    """The registration in force. All of it may be sent back; the fields from `tenant` on are then ignored."""

    model_config = ConfigDict(extra="allow")

    export_option: str
    entity_list: list[str]
    frequency: str
    timezone: str
    tenant: str
    version: int
    entities: list[str] = Field(description="Ids of the active entities.")
    managed_by: ManagedBy
    updated_at: Instant
    updated_by: str
    inactive: list[Inactive] | None = Field(None, description="With `includeInactive=true` only.")


READ_ONLY = frozenset({"tenant", "version", "entities", "managedBy", "updatedAt", "updatedBy", "inactive"})
"""Fields of `Standing` that a body may carry and that mean nothing there."""


class Changes(Answer):
    """What a replace does to entities, by id."""

    activated: list[str] = Field(description="Switched on; each starts with a full load.")
    deactivated: list[str] = Field(description="Switched off: they were active and are not in the body.")
    kept: list[str] = Field(description="Keep their sequence and watermark.")


class Replaced(Standing, Changes):
    """The registration now in force, and what the call changed."""

    changed: bool = Field(description="False when everything was so already.")


class EntityEstimate(Answer):
    """The full load of one newly activated entity; null where the source could not be asked."""

    entity: str
    rows: int | None
    bytes: int | None
    note: str | None


class Rehearsal(Changes):
    """What the same call without `dryRun` would do. Nothing was changed."""

    dry_run: Literal[True]
    changed: bool
    fields: dict[str, dict[str, Any]] = Field(description="Fields whose value would change: `{from, to}`.")
    estimated_rows: int | None = Field(description="Rows of all first full loads together; null when one is unknown.")
    estimated_bytes: int | None
    estimates: list[EntityEstimate]


class Recorded(Changes):
    """What a version changed."""

    fields: dict[str, dict[str, Any]] = Field(description="Fields whose value changed: `{from, to}`.")
    restored_from: int | None = Field(description="The earlier version whose words these are again, or null.")


class Version(Answer):
    """One recorded registration."""

    version: int
    created_at: Instant
    actor: str
    origin: str = Field(examples=["api", "file:config/tenants/acme.yaml"])
    changes: Recorded
    registration: dict[str, Any]


class Versions(Answer):
    """Every version, newest first."""

    items: list[Version]


class FullLoad(Strict):
    """The body of a full-load call. Without `entities`, all active ones."""

    entities: Annotated[EntityList | None, Field(min_length=1)] = None
    when: Literal["now", "next"] = "next"


class FullLoadQueued(Answer):
    """What was queued. `when` is what will happen, which is `next` where this server starts no runs."""

    tenant: str
    entities: list[str]
    when: Literal["now", "next"]
    detail: str


class CatalogColumn(Answer):
    name: str
    type: str
    description: str
    anonymized: bool


class CatalogEntity(Answer):
    """One entity a tenant may register."""

    id: str
    name: str = Field(description="What entityList usually holds.")
    description: str
    active: bool = Field(description="Whether the tenant receives it now.")
    key: list[str]
    columns: list[CatalogColumn]
    formats: list[str] = Field(description="Formats of on-demand exports. The registration names that of the scheduled ones.")
    scopes: list[str]
    tombstone_column: str | None
    ranged: bool = Field(description="Whether an on-demand export can be narrowed to a date range.")


class Entities(Answer):
    items: list[CatalogEntity]


class File(Answer):
    path: str
    rows: int
    bytes: int
    sha256: str


class Span(Answer):
    """Half-open; no `from` is the beginning of history."""

    from_: Instant | None = Field(alias="from")
    to: Instant


class Delivery(Answer):
    """One stream and one window. Counts are null until it is committed; paths are below the destination's root."""

    delivery_id: str
    tenant: str
    entity: str
    generation: int
    sequence: int
    purpose: str
    kind: str
    status: str
    window: Span
    export_date: str
    path: str
    manifest: str
    rows: int | None
    bytes: int | None
    sha256: str | None
    files: list[File]
    possible_duplicate: bool | None
    note: str
    error: str | None
    error_code: str | None
    failures: int
    created_at: Instant
    committed_at: Instant | None


class Deliveries(Answer):
    """One page, newest first."""

    items: list[Delivery]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


class Redelivery(Answer):
    """A planned redelivery. `when` is what will happen, which is `next` where this server starts no runs."""

    delivery: Delivery
    when: Literal["now", "next"]
    detail: str
