"""What is answered about export requests: to programs as JSON, to the pages and the command line as values.

The API's document describes these. What the ledger holds goes through unchanged, and so does the word of a state or of a scope that a newer
version of Waybill wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from waybill.configuration.policy import ExportType, Page
from waybill.configuration.values.answer import Answer, Instant
from waybill.ledger.on_demand.request_records import Status

StatusWord = Annotated[str, Field(json_schema_extra={"enum": [status.value for status in Status]})]


class Failed(Answer):
    """Why a request failed, and what to do."""

    code: str
    message: str | None
    advice: str | None


class Person(Answer):
    id: str
    name: str


class Actions(Answer):
    """What the caller may do with the request now."""

    download: bool
    cancel: bool
    resubmit: bool
    delete: bool


class ArchivedFile(Answer):
    """The rows of one entity in one format."""

    tenant: str
    entity: str
    format: str
    path: str
    rows: int
    bytes: int
    sha256: str


class Described(Answer):
    """An export request as it is for everybody."""

    id: str
    tenant: str
    tenants: list[str] = Field(description="The tenants it covers; more than one for an organization.")
    export_type: str | None
    scope: dict[str, Any]
    entities: list[str]
    entity_names: list[str]
    range: Mapping[str, Any] = Field(description="As asked; a preset is frozen to dates.")
    formats: list[str]
    format_labels: list[str]
    status: StatusWord
    status_label: str = Field(description="The state in the words of policy.")
    progress: int = Field(ge=0, le=100, description="Whole per cent; 100 with done alone.")
    rows: int | None
    bytes: int | None
    sha256: str | None
    error: Failed | None
    requested_by: Person
    created_at: Instant = Field(description="Also the time the rows are as of.")
    due_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    expires_at: Instant | None
    heartbeat_at: Instant | None
    first_downloaded_at: Instant | None
    attempt: int
    resubmitted_from: str | None
    template: str | None
    support_contact: str | None


class Export(Described):
    """An export request. `rows`, `bytes` and `sha256` are null until it is done."""

    actions: Actions
    files: list[ArchivedFile] | None = Field(
        None, description="Of one request only, once it is done.", exclude_if=lambda files: files is None
    )


class Exports(Answer):
    items: list[Export]
    next_cursor: str | None


class SignedLink(Answer):
    url: str
    expires_at: Instant


class RecurringExport(Answer):
    """A request that is made again at every week's or month's beginning, in the tenant's zone."""

    id: str
    tenant: str
    name: str
    frequency: Annotated[str, Field(json_schema_extra={"enum": ["weekly", "monthly"]})]
    covers: Annotated[str, Field(json_schema_extra={"enum": ["period", "everything"]})]
    request: dict[str, Any]
    requested_by: Person
    paused: bool
    created_at: Instant
    next_at: Instant | None
    note: str | None


class RecurringExports(Answer):
    items: list[RecurringExport]


class OfferedColumn(Answer):
    name: str
    type: str
    description: str


class OfferedEntity(Answer):
    """An entity that can be asked for."""

    id: str
    name: str
    description: str
    formats: list[str]
    scopes: list[str]
    ranged: bool = Field(description="Whether a date range narrows it.")
    columns: list[OfferedColumn]


class OfferedRange(Answer):
    """Which date ranges can be asked for."""

    required: bool
    max_days: int | None
    not_in_future: bool
    presets: list[str]


class Options(Answer):
    """What can be asked for here, by this caller."""

    can_create: bool
    formats: list[str]
    json_layout: str
    scopes: list[str]
    export_types: dict[str, ExportType]
    entities: list[OfferedEntity]
    range: OfferedRange
    labels: dict[str, str]
    page: Page
    fulfilment: str
    max_active_per_project: int | None
    plan_required: str | None
    organization: str | None
    zone: str
