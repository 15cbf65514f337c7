"""Creates a request for an export: every check, then one insert that either takes a free place or finds it taken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from waybill.access import Caller, Permission
from waybill.configuration.findings import parsed
from waybill.configuration.policy import ExportPolicy
from waybill.errors import Finding, InvalidInput
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations
from waybill.ledger.database.engine import new_id
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ACTIVE, ExportRequest, RangeAsked, Status
from waybill.requests.lifecycle import Refused
from waybill.requests.ranges import PREVIOUS_PERIOD
from waybill.requests.rights import has_plan, organization_members, require, require_project, roles_of
from waybill.requests.scopes import refuse_unknown
from waybill.requests.submission import TENANT_WIDE, Checked, Scope, Submission, check
from waybill.requests.upkeep import fail_stalled

TRIES = 20
_DAY = timedelta(days=1)
_TRY_AGAIN = timedelta(seconds=10)


@dataclass(frozen=True)
class Requester:
    """The person who asks, as the ledger keeps them. `roles` is None if policy's role table does not decide."""

    actor: str
    name: str
    email: str
    roles: list[str] | None

    @classmethod
    def of(cls, caller: Caller) -> Requester:
        return cls(caller.actor, (caller.name or caller.subject)[:255], caller.email[:320], roles_of(caller))


@dataclass(frozen=True)
class Origin:
    """The origin of a request besides a person's body: an idempotency key, an older request, a recurring template and its period."""

    key: str | None = None
    resubmitted_from: str | None = None
    template: str | None = None
    period: RangeAsked | None = None


def create(installation: Installation, caller: Caller, tenant: str, submission: Submission, origin: Origin = Origin()) -> ExportRequest:
    """Return a new pending request, or the one that this person made before with the same idempotency key and body.

    Raises Refused (not_found, create_denied, plan_required, export_in_progress, duplicate_request, idempotency_key_reused, rate_limited)
    and InvalidInput with every problem of the body.
    """
    require(installation, caller, tenant, Permission.EXPORTS_CREATE)
    require_project(caller, submission.scope.project)
    tenants = covered(installation, caller, tenant, submission.scope)
    return enter(installation, Requester.of(caller), tenant, tenants, submission, origin)


def covered(installation: Installation, caller: Caller, tenant: str, scope: Scope) -> list[str]:
    """Return the tenants that an export covers: for an organization those the requester may create exports of, else the one tenant."""
    if scope.level != "organization":
        return [tenant]
    return caller.rights.among(Permission.EXPORTS_CREATE, members(installation, tenant, scope))


def members(installation: Installation, tenant: str, scope: Scope) -> tuple[str, ...]:
    """Return the tenants of the organization that a scope is about. Raises InvalidInput if the tenant does not belong to it (any more)."""
    found = organization_members(installation, tenant, scope.organization)
    if not found:
        reason = tell("submission.no_organization")
        raise InvalidInput([Finding("", "scope.organization", reason, code="unknown_organization")])
    return found


def enter(
    installation: Installation, person: Requester, tenant: str, tenants: list[str], submission: Submission, origin: Origin
) -> ExportRequest:
    """Create a request for a person whose right to ask has been checked."""
    now, export_policy = installation.now(), installation.configuration.export_policy(tenant)
    if origin.key and (before := _made_before(installation, person.actor, tenant, submission.digest(), origin.key)):
        return before
    require_plan(installation, export_policy, tenant)
    zone = zone_of(installation, tenant)
    checked = check(submission, installation.catalog.offered_to(tenant), export_policy, zone, now, period=origin.period)
    refuse_unknown(installation, tenants, checked.scope)
    request = _pending(person, submission, checked, origin, tenants, now)
    fingerprint = checked.fingerprint(person.actor, _again(origin)) if export_policy.refuse_duplicates else None
    placed = replace(request, tenant=tenant, due_at=due_at(export_policy, zone, now), fingerprint=fingerprint)
    return _insert(installation, export_policy, placed, checked)


def _again(origin: Origin) -> str:
    """Return what tells the request of a template from its last one, if both ask for the same range: each boundary gives one request."""
    return origin.key or "" if origin.template and not origin.period else ""


def require_plan(installation: Installation, export_policy: ExportPolicy, tenant: str) -> None:
    """Raise plan_required unless the tenant's plan includes exports."""
    if not has_plan(installation, tenant):
        raise Refused("plan_required", export_policy.without_plan)


def zone_of(installation: Installation, tenant: str) -> ZoneInfo:
    """Return the zone of the tenant's registration, UTC if it has none."""
    with installation.ledger.read() as connection:
        registered = registrations.current(connection, tenant)
    return registered.registration.zone if registered else ZoneInfo("UTC")


def _made_before(installation: Installation, actor: str, tenant: str, digest: str, key: str) -> ExportRequest | None:
    """Return the request that this person made under this key. Raises idempotency_key_reused if its body was another."""
    with installation.ledger.read() as connection:
        before = requests.by_key(connection, tenant, actor, key)
    if before is not None and before.body_hash != digest:
        raise Refused("idempotency_key_reused")
    return before


def _pending(
    person: Requester, submission: Submission, checked: Checked, origin: Origin, tenants: list[str], now: datetime
) -> ExportRequest:
    return ExportRequest(
        id=new_id(),
        tenant=tenants[0],
        tenants=tenants,
        export_type=checked.export_type,
        scope=checked.scope.body(),
        project=checked.scope.project,
        entities=list(checked.entities),
        range_from=checked.span.start,
        range_to=checked.span.end,
        range_asked=checked.span.asked or {},
        formats=list(checked.formats),
        submission=submission.body(),
        status=Status.PENDING.value,
        progress=0,
        requested_by=person.actor,
        requester_name=person.name,
        email=person.email,
        roles=person.roles,
        created_at=now,
        due_at=now,
        attempt=0,
        worker="",
        resubmitted_from=origin.resubmitted_from,
        template=origin.template,
        idempotency_key=origin.key,
        body_hash=submission.digest(),
        mail_tries=0,
    )


def due_at(export_policy: ExportPolicy, zone: ZoneInfo, now: datetime) -> datetime:
    """Return when a request made now may start: at once, or at the next `fulfil_at` of the tenant's day.

    Never more than 24 hours away: on a day of 25 hours, a request that just missed `fulfil_at` starts an hour before the next one.
    """
    if export_policy.fulfilment == "immediate":
        return now
    at = time.fromisoformat(export_policy.fulfil_at)
    today: date = now.astimezone(zone).date()
    candidates = (datetime.combine(today + days * _DAY, at, zone) for days in (0, 1))
    return min(now + _DAY, next((start for candidate in candidates if (start := candidate.astimezone(now.tzinfo)) > now), now + _DAY))


def _insert(installation: Installation, export_policy: ExportPolicy, request: ExportRequest, checked: Checked) -> ExportRequest:
    """Enter the request, or raise the reason that prevents it. The indexes decide; the look before the insert only finds the words."""
    for _ in range(TRIES):
        with installation.ledger.begin() as connection:
            requests.expire(connection, request.created_at, request.tenant)
            fail_stalled(connection, installation, request.tenant)
        refusal = None
        try:
            if entered := _entered(installation, export_policy, request, checked):
                return entered
        except Refused as error:
            refusal = error
        # Looked up after the insert: the request in the way may be this one, entered under the same key a moment before.
        if request.idempotency_key and (
            before := _made_before(installation, request.requested_by, request.tenant, request.body_hash, request.idempotency_key)
        ):
            return before
        if refusal is not None:
            raise refusal
    raise Refused("export_in_progress", retry_after=_TRY_AGAIN)


def _entered(installation: Installation, export_policy: ExportPolicy, request: ExportRequest, checked: Checked) -> ExportRequest | None:
    """Return the request as it was entered. None if another one took its place meanwhile. Raises Refused if something prevents it."""
    with installation.ledger.begin() as connection:
        _within_rate(connection, export_policy, request)
        if request.fingerprint and requests.standing(connection, request.tenant, request.fingerprint):
            raise Refused("duplicate_request")
        placed = _placed(connection, export_policy, request, checked)
        if not requests.create(connection, placed):
            return None
        detail = {"request": request.id, "entities": request.entities, "formats": request.formats, "scope": request.scope}
        registrations.note(connection, request.tenant, request.requested_by, requests.CREATED, detail, request.created_at)
        return placed


def _placed(connection: Connection, export_policy: ExportPolicy, request: ExportRequest, checked: Checked) -> ExportRequest:
    """Return the request with a slot that looks free. It needs none if policy sets no limit. Raises export_in_progress.

    An export of the whole tenant reads every project, so it counts against each. It may begin only while no project is at its limit.
    """
    most = export_policy.max_active_per_project
    if most is None:
        return request
    requests.one_at_a_time(connection, request.tenant)
    taken = requests.taken_slots(connection, request.tenant)
    active = Counter(slot.rpartition("#")[0] for slot in taken)
    wide = active.pop(TENANT_WIDE, 0)
    narrow = max(active.values(), default=0) if checked.slot == TENANT_WIDE else active[checked.slot]
    if wide + narrow >= most:
        raise Refused("export_in_progress", retry_after=_TRY_AGAIN)
    slots = (f"{checked.slot}#{number}" for number in range(1, most + 1))
    return replace(request, slot=next(slot for slot in slots if slot not in taken))


def _within_rate(connection: Connection, export_policy: ExportPolicy, request: ExportRequest) -> None:
    limit = export_policy.rate_limit
    if limit is None:
        return
    made = requests.created_since(connection, request.tenant, request.created_at - limit.per)
    if len(made) >= limit.requests:
        raise Refused("rate_limited", retry_after=made[-limit.requests] + limit.per - request.created_at)


def resubmit(installation: Installation, caller: Caller, request: ExportRequest, key: str | None = None) -> ExportRequest:
    """Repeat a request that ended without a usable archive. Raises not_resubmittable for any other, and what `create` raises.

    The request of a template keeps its dates: its body alone may name no range, which would mean everything.
    """
    if request.shown(installation.now()) in (*ACTIVE, Status.DONE):
        raise Refused("not_resubmittable")
    submission = parsed(Submission, request.submission)
    recurring = request.template is not None or request.range_asked.get("preset") == PREVIOUS_PERIOD
    period = request.range_asked if recurring else None
    return create(installation, caller, request.tenant, submission, Origin(key=key, resubmitted_from=request.id, period=period))
