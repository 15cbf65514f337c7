"""What can be asked for at a tenant, for people and programs that fill in a form."""

from __future__ import annotations

from typing import Any

from waybill.access import Caller, Permission
from waybill.request.model import Status, name_of
from waybill.service.estate import Estate
from waybill.service.permitting import has_plan, require


def options(estate: Estate, caller: Caller, tenant: str) -> dict[str, Any]:
    """Everything a form needs, as JSON. Raises not_found, view_denied."""
    knobs = require(estate, caller, tenant, Permission.EXPORTS_VIEW)
    policy = estate.configuration.policy
    planned = has_plan(estate, tenant)
    return {
        "canCreate": planned and caller.allows(Permission.EXPORTS_CREATE, tenant),
        "formats": list(knobs.formats),
        "jsonLayout": knobs.json_layout,
        "scopes": list(knobs.scopes),
        "exportTypes": {name: kind.model_dump(mode="json") for name, kind in knobs.export_types.items()},
        "entities": [
            {
                "id": one.id,
                "name": one.display_name,
                "description": one.description,
                "formats": list(one.formats),
                "scopes": list(one.scopes),
                "ranged": bool(one.time_column),
                "columns": [
                    {"name": name, "type": column.type.value, "description": column.description} for name, column in one.columns.items()
                ],
            }
            for one in estate.catalog.entities.values()
        ],
        "range": {
            "required": knobs.range.required,
            "maxDays": knobs.range.max_days,
            "notInFuture": knobs.range.not_in_future,
            "presets": list(knobs.range.presets),
        },
        "labels": {status.value: name_of(knobs, status) for status in Status},
        "page": knobs.page.model_dump(mode="json"),
        "fulfilment": knobs.fulfilment,
        "maxActivePerProject": knobs.max_active_per_project,
        "planRequired": None if planned else knobs.plan_required,
        "organization": policy.organization_of(tenant),
    }
