"""Recurring requests. A stored template makes a request at the beginning of each week or month, and has its own history."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from waybill.access import Caller, Permission
from waybill.canonical import optional_timestamp_text
from waybill.configuration.findings import parsed
from waybill.configuration.values.strict import CAMEL_CASE
from waybill.errors import ConfigError, TransientError, WaybillError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations
from waybill.ledger.database.engine import new_id
from waybill.ledger.on_demand import recurring, requests
from waybill.ledger.on_demand.recurring import Stored, Template
from waybill.ledger.on_demand.request_records import ExportRequest, RangeAsked
from waybill.requests.answers import Person, RecurringExport
from waybill.requests.creating import Origin, Requester, covered, enter, members, require_plan, zone_of
from waybill.requests.lifecycle import Refused
from waybill.requests.ranges import previous_period
from waybill.requests.rights import holds, may_see, require, require_project, sees_only_own, still_holds
from waybill.requests.scopes import refuse_unknown
from waybill.requests.submission import RequestBody, Submission, check
from waybill.window import Frequency

_BUSY = ("export_in_progress", "rate_limited")
"""Refusals that pass by themselves. The request is made a little later."""
_ZONES_APART = timedelta(hours=26)
"""The most by which midnight in one time zone differs from midnight in another."""


class TemplateBody(RequestBody):
    """The body of `POST /tenants/{tenant}/export-templates`.

    `covers` is what a request without a range of its own is about: the week or month that just ended, or everything.
    """

    model_config = CAMEL_CASE

    name: str = Field(min_length=1, max_length=200)
    frequency: Literal["weekly", "monthly"]
    covers: Literal["period", "everything"] = "period"
    request: Submission

    def stored(self, tenants: list[str]) -> Stored:
        return {"covers": self.covers, "request": self.request.body(), "tenants": tenants}


def create_template(installation: Installation, caller: Caller, tenant: str, body: TemplateBody) -> Template:
    """Store a template. Its first request is made at the next boundary. Raises what `create` raises for a request made now."""
    export_policy = require(installation, caller, tenant, Permission.EXPORTS_CREATE)
    require_project(caller, body.request.scope.project)
    require_plan(installation, export_policy, tenant)
    stored = body.stored(covered(installation, caller, tenant, body.request.scope))
    zone, now, person = zone_of(installation, tenant), installation.now(), Requester.of(caller)
    period = _period(stored, body.frequency, Frequency(body.frequency).floor(now, zone), zone)
    check(body.request, installation.catalog.offered_to(tenant), export_policy, zone, now, period=period)
    refuse_unknown(installation, stored["tenants"], body.request.scope)
    template = Template(
        new_id(), tenant, body.name, body.frequency, stored, person.actor, person.name, person.email, person.roles,
        False, now, next_boundary(body.frequency, now, zone), "",
    )  # fmt: skip
    with installation.ledger.begin() as connection:
        recurring.create(connection, template)
        registrations.note(connection, tenant, caller.actor, "create_template", {"template": template.id, "name": template.name}, now)
    return template


def next_boundary(frequency: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Return the first beginning of a week or month after `now`, in the zone."""
    return Frequency(frequency).following(now, zone)


def _period(stored: Stored, frequency: str, boundary: datetime, zone: ZoneInfo) -> RangeAsked | None:
    return previous_period(frequency, boundary, zone) if _covers_period(stored) else None


def _covers_period(stored: Stored) -> bool:
    """Return whether each request of a template is about another period: the week or month that ended."""
    return stored["covers"] == "period" and not stored["request"].get("range")


def list_templates(installation: Installation, caller: Caller, tenant: str) -> list[Template]:
    """Return the templates that the caller may see: all of the tenant's, or their own if policy says so."""
    export_policy = require(installation, caller, tenant, Permission.EXPORTS_VIEW)
    with installation.ledger.read() as connection:
        found = recurring.listed(connection, tenant)
    own = sees_only_own(caller, tenant, export_policy)
    return [
        template for template in found if caller.belongs_to(_project_of(template)) and (template.requested_by == caller.actor or not own)
    ]


def _project_of(template: Template) -> str | None:
    """Return the project that a template is about, also if its request can no longer be made."""
    return (template.submission["request"].get("scope") or {}).get("project")


def get_template(installation: Installation, caller: Caller, tenant: str, template_id: str) -> Template:
    """Return a template. Raises not_found if the caller may not see it."""
    found = next((template for template in list_templates(installation, caller, tenant) if template.id == template_id), None)
    if found is None:
        raise Refused("not_found", tell("missing.template"))
    return found


def history(installation: Installation, caller: Caller, tenant: str, template_id: str, limit: int = 50) -> list[ExportRequest]:
    """Return the requests of a template that the caller may see, newest first."""
    template, export_policy = get_template(installation, caller, tenant, template_id), installation.configuration.export_policy(tenant)
    with installation.ledger.read() as connection:
        made = requests.listed(connection, [tenant], installation.now(), template=template.id, limit=limit)
    return [request for request in made if may_see(caller, request, export_policy)]


def may_change(caller: Caller, template: Template) -> bool:
    """Return whether the caller made the template, or administers every tenant it covers."""
    return template.requested_by == caller.actor or holds(caller, Permission.EXPORTS_ADMIN, template.submission["tenants"])


def _owned(installation: Installation, caller: Caller, tenant: str, template_id: str) -> Template:
    template = get_template(installation, caller, tenant, template_id)
    if not may_change(caller, template):
        raise Refused("delete_denied", tell("missing.right"))
    return template


def pause_template(installation: Installation, caller: Caller, tenant: str, template_id: str, *, paused: bool) -> Template:
    """Pause a template, or resume it at the next boundary. Repeating the call changes nothing."""
    template = _owned(installation, caller, tenant, template_id)
    now = installation.now()
    next_at = next_boundary(template.frequency, now, zone_of(installation, tenant))
    with installation.ledger.begin() as connection:
        if recurring.pause(connection, template.id, paused, next_at):
            action = "pause_template" if paused else "resume_template"
            registrations.note(connection, tenant, caller.actor, action, {"template": template.id}, now)
    return get_template(installation, caller, tenant, template_id)


def delete_template(installation: Installation, caller: Caller, tenant: str, template_id: str) -> None:
    """Delete a template. Its requests stay."""
    template = _owned(installation, caller, tenant, template_id)
    with installation.ledger.begin() as connection:
        if recurring.remove(connection, template.id):
            registrations.note(connection, tenant, caller.actor, "delete_template", {"template": template.id}, installation.now())


def make_recurring(installation: Installation) -> list[ExportRequest]:
    """Make the requests that templates owe. Each boundary gives one request, however often this is called.

    A request that covers a period is made for every period, also after an outage: one at each call, oldest first. What waits for another
    export, a source or a configuration to come right waits, and no period is lost by it.
    """
    with installation.ledger.read() as connection:
        due = recurring.due(connection, installation.now())
    made = []
    for template in due:
        try:
            zone = zone_of(installation, template.tenant)
        except WaybillError:  # nobody can tell its boundary before the registration is mended
            continue
        boundary = _boundary(template, zone)
        next_at, note = boundary, template.note
        if boundary <= installation.now():
            try:
                with installation.speaking_to(template.tenant):
                    made.append(_make(installation, template, zone, boundary))
                note = ""
            except WaybillError as error:
                if error.code in _BUSY or isinstance(error, TransientError | ConfigError):
                    continue
                note = str(error)
            covered_until = boundary if _covers_period(template.submission) else installation.now()
            next_at = next_boundary(template.frequency, covered_until, zone)
        with installation.ledger.begin() as connection:
            recurring.advance(connection, template, next_at, note)
    return made


def _boundary(template: Template, zone: ZoneInfo) -> datetime:
    """Return the boundary that a template waits for, in the tenant's zone of today, which may have changed since the time was stored."""
    return Frequency(template.frequency).floor(template.next_at + _ZONES_APART, zone)


def _make(installation: Installation, template: Template, zone: ZoneInfo, boundary: datetime) -> ExportRequest:
    person = Requester(template.requested_by, template.requester_name, template.email, template.roles)
    submission = parsed(Submission, template.submission["request"])
    tenants = _tenants_of(installation, template, submission)
    if not still_holds(installation, template.roles, tenants, Permission.EXPORTS_CREATE):
        raise Refused("create_denied")
    origin = Origin(
        key=f"template:{template.id}:{optional_timestamp_text(boundary)}",
        template=template.id,
        period=_period(template.submission, template.frequency, boundary, zone),
    )
    return enter(installation, person, template.tenant, tenants, submission, origin)


def _tenants_of(installation: Installation, template: Template, submission: Submission) -> list[str]:
    """Return the tenants that the requester was allowed when the template was made and that are still in its organization."""
    tenants = template.submission["tenants"]
    if submission.scope.level != "organization":
        return tenants
    still_there = members(installation, template.tenant, submission.scope)
    return [tenant for tenant in tenants if tenant in still_there]


def describe_template(template: Template) -> RecurringExport:
    return RecurringExport(
        id=template.id,
        tenant=template.tenant,
        name=template.name,
        frequency=template.frequency,
        covers=template.submission["covers"],
        request=template.submission["request"],
        requested_by=Person(id=template.requested_by, name=template.requester_name),
        paused=template.paused,
        created_at=template.created_at,
        next_at=None if template.paused else template.next_at,
        note=template.note or None,
    )
