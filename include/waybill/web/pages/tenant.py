"""The page of one tenant: what it receives and where, what was delivered, and what can be done about it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from fastapi.responses import RedirectResponse, Response

from waybill.access import Permission
from waybill.airflow.names import dag_id
from waybill.configuration.registration import ExportOption, Registration, zones
from waybill.deliveries import full_load_requests
from waybill.deliveries.publishing import rehearsing
from waybill.deliveries.repairs import BadRange, queue_backfill, queue_redelivery
from waybill.deliveries.reports import describing, overview
from waybill.deliveries.reports.describing import Described, described_outside
from waybill.errors import ConflictError, Finding, InvalidInput, PermanentError, TransientError
from waybill.installation import Installation
from waybill.kits import DIALECTS, Dialect, kit_of, zipped
from waybill.language import table, tell
from waybill.ledger import destinations, streams
from waybill.ledger.registrations import Registered
from waybill.ledger.reports import usage
from waybill.registrations import replacing
from waybill.registrations.applying import file_of
from waybill.web.dependencies import RUN_STARTED, InstallationDep, SchedulerDep, TenantPath
from waybill.web.headers import zip_answer
from waybill.web.pages import redaction
from waybill.web.pages.context import frame as around
from waybill.web.pages.registration import form_values
from waybill.web.pages.render import HEADERS, below, moved, page
from waybill.web.pages.signing_in.session import Form, Operator, SentForm, Viewer, takes_tokens
from waybill.web.pages.words import LABELS, days_refused, place, words
from waybill.window import is_at_an_end, start_of_day

router = APIRouter(prefix="/tenants/{tenant}")

DeliveryId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]
SHOWN = 25
FLASH, QUEUED = table("flash"), table("queued")


def _flash(name: str) -> str:
    """What the page says after an action, by the name in its address."""
    action, _, how = name.rpartition("_")
    return FLASH.get(name) or (f"{QUEUED[action]} {RUN_STARTED[how]}".strip() if action in QUEUED and how in RUN_STARTED else "")


LOOKS = 120
"""How often a page looks for what becomes of a run: for ten minutes."""
BEGINNING = 12
"""How many of these looks wait for the first run of a new tenant: a minute."""


@dataclass(frozen=True)
class FollowedRun:
    """What a page that follows a run sends along: what it said first, how often it looked, and what it shows already."""

    said: Annotated[str, Query(max_length=40)] = ""
    look: Annotated[int, Query(ge=0, le=LOOKS)] = 0
    seen: Annotated[str, Query(max_length=64)] = ""


@dataclass(frozen=True)
class OfferedActions:
    """The actions that the page offers."""

    edit: bool
    run: bool


@router.get("")
def show_tenant(
    request: Request,
    tenant: TenantPath,
    caller: Viewer,
    installation: InstallationDep,
    scheduler: SchedulerDep,
    followed: Annotated[FollowedRun, Depends()],
    before: Annotated[str, Query(pattern="^([0-9a-f]{32})?$")] = "",
) -> Response:
    """Show everything about a tenant. Before it is registered, show the form that registers it."""
    may = OfferedActions(caller.allows(Permission.REGISTRATIONS_MANAGE, tenant), caller.allows(Permission.DELIVERIES_RUN, tenant))
    registered = replacing.find(installation, tenant)
    registration = registered.registration if registered else None  # one that cannot be read says so, and not its form
    file = replacing.managing_file(installation, tenant, registered)
    body = registered.body if registered else {"exportOption": ExportOption.SELECTED.value, "frequency": "daily"}
    frame: dict[str, Any] = {
        **around(installation, caller, "tenant", tenant),
        "may": OfferedActions(may.edit and file is None, may.run),
        "file": file,
        "notice": _flash(followed.said),
        "form": form_values(installation, body),
        "version": registered.version if registered else 0,
        "entities": list(installation.catalog.offered_to(tenant).entities.values()),
        "zones": sorted(zones()),
        "labels": LABELS,
        "words": words(installation),
        "now": installation.now(),
    }
    if registration is None:
        return page(request, "tenant/new.html", caller, **frame, stands=file_of(installation, tenant, None))
    standing = _standing(request, installation, tenant, registration, before, scheduler.scheduler_state(tenant))
    if not caller.is_insider:
        standing |= {
            "row": redaction.row(standing["row"]),
            "deliveries": [described_outside(delivery) for delivery in standing["deliveries"]],
            "probe": redaction.rehearsed(standing["probe"]),
        }
    name = "tenant/standing.html" if request.headers.get("hx-target") == "standing" else "tenant/page.html"
    return page(request, name, caller, **frame, **standing, **_follow(followed, standing))


def _follow(asked: FollowedRun, standing: dict[str, Any]) -> dict[str, Any]:
    """Return whether the page goes on looking at a run that is under way or about to start. It does not go on for ever.

    Of everything that a run changes, only what differs from the page is sent.
    """
    row: overview.Row = standing["row"]
    scheduler_state, look = row.scheduler_state or overview.SchedulerState(), asked.look
    under_way = not row.dag_paused and (bool(scheduler_state.run) or (row.behind and not scheduler_state.known))
    beginning = (
        asked.said == "created" and row.scheduler_state is not None and scheduler_state.scheduled and row.behind and look < BEGINNING
    )
    watching = (under_way or beginning) and look < LOOKS
    facts = repr((row.state, row.coming(may_run=True), row.troubles, standing["deliveries"], standing["streams"]))
    seen = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return {
        "after": asked.said,
        "look": look,
        "watching": watching,
        "over": look > 0 and not (watching or scheduler_state.run) and not (asked.said == "created" and row.behind),
        "changed": look > 0 and seen != asked.seen,
        "seen": seen,
    }


def _standing(
    request: Request,
    installation: Installation,
    tenant: str,
    registration: Registration,
    before: str,
    scheduler_states: overview.SchedulerStates | None,
) -> dict[str, Any]:
    listed = describing.listed(installation, tenant, limit=SHOWN + 1, before=before)
    with installation.ledger.read() as connection:
        every = streams.every(connection, tenant)
        months = usage.last_months(connection, tenant, installation.now())
    standing = replacing.standing(installation, tenant)
    return {
        "registered": standing.registered,
        "registration": registration,
        "zone": registration.zone,
        "stands": file_of(installation, tenant, standing.registered, standing.active),
        "row": overview.tenant_row(installation, tenant, scheduler_states),
        "active": standing.active,
        "months": months,
        "streams": [stream for stream in every if stream.active],
        "ended": [stream for stream in every if not stream.active],
        "deliveries": [_shown(delivery) for delivery in listed[:SHOWN]],
        "older": listed[SHOWN - 1]["delivery_id"] if len(listed) > SHOWN else "",
        "before": before,
        "versions": replacing.history(installation, tenant),
        **_rehearsed(installation, standing.registered),
        "dialects": DIALECTS,
        "own_destination": standing.registered.registration.destination is not None,
        "airflow": None if takes_tokens(request) else f"dags/{dag_id(tenant)}",
    }


def _rehearsed(installation: Installation, registered: Registered) -> dict[str, Any]:
    """Return what is kept of the rehearsals, and the current destination to compare it with."""
    with installation.ledger.read() as connection:
        kept = destinations.last_probe(connection, registered.tenant)
    return {"probe": kept, "spec": installation.destination_spec(registered).model_dump(mode="json"), "place": place}


def _shown(delivery: Described) -> dict[str, Any]:
    """A delivery, and how long it took from plan to commit."""
    took: timedelta | None = None
    if delivery["committed_at"]:
        took = datetime.fromisoformat(delivery["committed_at"]) - datetime.fromisoformat(delivery["created_at"])
    return {**delivery, "took": took, "attempts": delivery["failures"] + (1 if delivery["committed_at"] else 0)}


@router.get("/deliveries/{delivery}/log")
def log_of(request: Request, tenant: TenantPath, delivery: DeliveryId, caller: Viewer, scheduler: SchedulerDep) -> Response:
    """Lead to the log of a delivery's latest try in Airflow, or to the task's page if no run delivered it or that run is forgotten."""
    place = scheduler.log_of(tenant, delivery) or f"dags/{dag_id(tenant)}/tasks/deliver"
    return RedirectResponse(f"{below(request)}../../{place}", 303, HEADERS)


@router.get("/kit")
def kit(tenant: TenantPath, caller: Viewer, installation: InstallationDep, dialect: Dialect) -> Response:
    """Send what the consumer needs to load the files into their own database."""
    return zip_answer(zipped(kit_of(installation, tenant, dialect)), f"waybill-kit-{tenant}-{dialect}.zip")


@router.post("/full-load")
def full_load(
    request: Request, tenant: TenantPath, caller: Operator, installation: InstallationDep, scheduler: SchedulerDep, form: SentForm
) -> Response:
    """Send the full history again, with the next run or now."""
    when, chosen = "now" if form.one("when") == "now" else "next", form.every("entities")
    if not (chosen or form.one("all")):
        raise InvalidInput([Finding("", "entities", tell("refusal.all_or_one"))])
    full_load_requests.queue_full_load(installation, tenant, [] if form.one("all") else chosen, actor=caller.actor, when=when)
    started = scheduler.run_now(tenant, caller) if when == "now" else "next"
    return moved(request, f"tenants/{tenant}?said=full_load_{started}")


@router.post("/run")
def run(request: Request, tenant: TenantPath, caller: Operator, installation: InstallationDep, scheduler: SchedulerDep) -> Response:
    """Start a run of what is due."""
    replacing.require(installation, tenant)
    return moved(request, f"tenants/{tenant}?said=run_{scheduler.run_now(tenant, caller)}")


@router.post("/redeliver")
def redeliver(
    request: Request, tenant: TenantPath, caller: Operator, installation: InstallationDep, scheduler: SchedulerDep, form: SentForm
) -> Response:
    """Send the same bytes again."""
    queue_redelivery(installation, tenant, form.one("delivery"), actor=caller.actor)
    return moved(request, f"tenants/{tenant}?said=redeliver_{scheduler.run_now(tenant, caller)}")


@router.post("/backfill")
def backfill(
    request: Request, tenant: TenantPath, caller: Operator, installation: InstallationDep, scheduler: SchedulerDep, form: SentForm
) -> Response:
    """Deliver a past range again, in days of the tenant's zone, including both."""
    zone = replacing.require(installation, tenant).registration.zone
    first, last = (_day(form, name) for name in ("from", "to"))
    start, end = start_of_day(first, zone), start_of_day(last + timedelta(days=1), zone)
    try:
        queue_backfill(installation, tenant, form.one("entity"), start, end, actor=caller.actor)
    except BadRange as error:
        raise days_refused(error, empty=last < first, zone=zone) from error
    return moved(request, f"tenants/{tenant}?said=backfill_{scheduler.run_now(tenant, caller)}")


def _day(form: Form, name: str) -> date:
    try:
        day = datetime.strptime(form.one(name), "%Y-%m-%d").date()  # noqa: DTZ007 (a date has no zone)
    except ValueError:
        day = date.min
    if is_at_an_end(day):
        raise InvalidInput([Finding("", name, tell("refusal.no_date"), tell("refusal.no_date_allowed"))])
    return day


@router.post("/probe")
def probe(request: Request, tenant: TenantPath, caller: Operator, installation: InstallationDep) -> Response:
    """Rehearse the destination and show what was found, or what it failed on. Both are kept, so both are read back."""
    registered = replacing.require(installation, tenant)
    with suppress(PermanentError, TransientError, ConflictError):
        rehearsing.probe(installation, tenant)
    shown = _rehearsed(installation, registered)
    if not caller.is_insider:
        shown["probe"] = redaction.rehearsed(shown["probe"])
    return page(request, "tenant/probe.html", caller, **shown, zone=registered.registration.zone, now=installation.now())
