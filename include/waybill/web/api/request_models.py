"""Answers and bodies of the routes about export requests."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from waybill.configuration.registration import entity_words
from waybill.requests.submission import Asked
from waybill.web.api.models import Answer


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


class Export(Answer):
    """An export request. `rows`, `bytes` and `sha256` are null until it is done."""

    id: str
    tenant: str
    tenants: list[str] = Field(description="The tenants it covers; more than one for an organization.")
    export_type: str | None
    scope: dict[str, Any]
    entities: list[str]
    entity_names: list[str]
    range: dict[str, Any] = Field(description="As asked; a preset is frozen to dates.")
    formats: list[str]
    format_labels: list[str]
    status: Literal["pending", "running", "done", "failed", "cancelled", "expired"]
    status_label: str = Field(description="The state in the words of policy.")
    progress: int = Field(ge=0, le=100, description="Whole per cent; 100 with done alone.")
    rows: int | None
    bytes: int | None
    sha256: str | None
    error: Failed | None
    requested_by: Person
    created_at: datetime = Field(description="Also the time the rows are as of.")
    due_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    heartbeat_at: datetime | None
    first_downloaded_at: datetime | None
    attempt: int
    resubmitted_from: str | None
    template: str | None
    support_contact: str | None
    actions: Actions
    files: list[ArchivedFile] | None = Field(None, description="Of one request only, once it is done.")


class Exports(Answer):
    items: list[Export]
    next_cursor: str | None


class SignedLink(Answer):
    url: str
    expires_at: datetime


class BulkDelete(Asked):
    """All of them, or none."""

    ids: Annotated[tuple[str, ...], BeforeValidator(entity_words), Field(min_length=1, max_length=200)]


class Options(Answer):
    """What can be asked for here, by this caller."""

    can_create: bool
    formats: list[str]
    json_layout: str
    scopes: list[str]
    export_types: dict[str, Any]
    entities: list[dict[str, Any]]
    range: dict[str, Any]
    labels: dict[str, str]
    page: dict[str, Any]
    fulfilment: str
    max_active_per_project: int | None
    plan_required: str | None
    organization: str | None
    zone: str
