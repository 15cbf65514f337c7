"""Routes beside the registration: what a tenant may receive, and what it received."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response
from pydantic.alias_generators import to_camel

from waybill.configuration.catalog import Entity, closest
from waybill.deliveries.repairs import queue_redelivery
from waybill.deliveries.reports import describing
from waybill.deliveries.reports.describing import described_outside
from waybill.errors import Finding, InvalidInput
from waybill.kits import Dialect, kit_of, zipped
from waybill.language import tell
from waybill.registrations import replacing
from waybill.web.api import models
from waybill.web.api.openapi import problems
from waybill.web.dependencies import RUN_STARTED, InstallationDep, Operator, SchedulerDep, TenantPath, Viewer
from waybill.web.headers import zip_answer

router = APIRouter(prefix="/tenants/{tenant}", tags=["deliveries"])


def camel(value: Any) -> Any:
    """Plain data with its keys in camelCase."""
    if isinstance(value, dict):
        return {to_camel(key): camel(member) for key, member in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


@router.get(
    "/entities", response_model=models.Entities, responses=problems("denied", "not_found"), tags=["catalog"], summary="The catalogue"
)
def list_entities(tenant: TenantPath, caller: Viewer, installation: InstallationDep) -> JSONResponse:
    """Everything the tenant may register, with its columns; also before anything is registered."""
    found = replacing.find(installation, tenant)
    active = replacing.standing(installation, tenant).active if found else ()
    items = [_entity(entity, entity.id in active) for entity in installation.catalog.offered_to(tenant).entities.values()]
    return JSONResponse(models.Entities(items=items).as_json())


def _entity(entity: Entity, active: bool) -> models.CatalogEntity:
    columns = [
        models.CatalogColumn(name=name, type=column.type, description=column.description, anonymized=column.export == "anonymize")
        for name, column in entity.columns.items()
    ]
    return models.CatalogEntity(
        id=entity.id,
        name=entity.display_name,
        description=entity.description,
        active=active,
        key=list(entity.delivered_key),
        columns=columns,
        formats=list(entity.formats),
        scopes=list(entity.scopes),
        tombstone_column=entity.tombstone_column,
        ranged=bool(entity.time_column),
    )


@router.get("/deliveries", response_model=models.Deliveries, responses=problems("denied", "not_found"), summary="What was delivered")
def list_deliveries(
    tenant: TenantPath,
    caller: Viewer,
    installation: InstallationDep,
    entity: Annotated[str, Query(max_length=200, description="Only this entity (id or display name).")] = "",
    status: Annotated[Literal["", "open", "committed", "abandoned"], Query(description="Only deliveries in this state.")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="`nextCursor` of the page before.")] = "",
) -> JSONResponse:
    """Deliveries with their windows, counts and hashes, newest first."""
    replacing.require(installation, tenant)
    names = installation.catalog.ids_by_name()
    entity_id = names.get(entity.strip().casefold(), entity.strip())
    if (
        entity_id
        and entity_id not in installation.catalog.entities
        and not describing.listed(installation, tenant, entity=entity_id, limit=1)
    ):
        what = tell("finding.unknown_entity", name=repr(entity.strip()))
        raise InvalidInput(
            [Finding("", "entity", what, ", ".join(installation.catalog.entities), closest(entity, names), "unknown_entity")]
        )
    found = describing.listed(installation, tenant, entity=entity_id, status=status, limit=limit + 1, before=cursor)
    page = found[:limit] if caller.is_insider else [described_outside(delivery) for delivery in found[:limit]]
    return JSONResponse({"items": camel(page), "nextCursor": page[-1]["delivery_id"] if len(found) > limit else None})


@router.get(
    "/kit",
    response_class=Response,
    responses={
        200: {"description": "The kit.", "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
        **problems("denied", "not_found", "nothing_active", "no_kit"),
    },
    summary="Statements and descriptions to load the files with",
)
def kit(
    tenant: TenantPath,
    caller: Viewer,
    installation: InstallationDep,
    dialect: Annotated[Dialect, Query(description="The database the files are loaded into.")] = "postgres",
) -> Response:
    """Tables, load and merge statements, a data dictionary, metadata and sample files, as one ZIP. It holds no row of the tenant."""
    return zip_answer(zipped(kit_of(installation, tenant, dialect)), f"waybill-kit-{tenant}-{dialect}.zip")


@router.post(
    "/deliveries/{delivery}/redeliver",
    status_code=202,
    response_model=models.Redelivery,
    responses=problems("denied", "not_found", "not_committed"),
    summary="Send the same bytes again",
)
def redeliver(
    tenant: TenantPath,
    delivery: Annotated[str, InPath(pattern="^[0-9a-f]{32}$", description="`deliveryId` of a committed delivery.")],
    caller: Operator,
    installation: InstallationDep,
    scheduler: SchedulerDep,
) -> JSONResponse:
    """Deliver a committed delivery's bytes once more, under a name of their own, with a manifest that says so.

    Repeating the call while a redelivery is unfinished starts no second one.
    """
    planned = queue_redelivery(installation, tenant, delivery, actor=caller.actor)
    started = scheduler.run_now(tenant, caller)
    when = "now" if started else "next"
    [described] = describing.describe(installation, [planned])
    return JSONResponse({"delivery": camel(described), "when": when, "detail": RUN_STARTED[started]}, 202)
