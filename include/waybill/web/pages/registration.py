"""The registration of a tenant on its page: the form, a preview of what it would change, putting it into force, and going back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import Response

from waybill.configuration.registration import DELIMITERS, ExportOption
from waybill.configuration.yaml_files import read_mapping
from waybill.errors import Finding, InvalidInput
from waybill.installation import Installation
from waybill.language import tell
from waybill.registrations import replacing
from waybill.web.dependencies import InstallationDep, SchedulerDep, TenantPath, follow
from waybill.web.pages.render import moved, page
from waybill.web.pages.signing_in.session import Editor, Form, SentForm
from waybill.web.pages.words import DELIMITERS as NAMED
from waybill.web.pages.words import FILE_FORMATS, KINDS, LINE_ENDS, PER_ENTITY, words
from waybill.window import Frequency

router = APIRouter(prefix="/tenants/{tenant}")


_UNSEEN = ("sourceTenant", "copyOf", "notify")
"""The fields that the form does not show and so does not change."""

_EXAMPLE = "columns: {orders: [id, state, total]}\nrename: {orders: {state: status}}"


def form_values(installation: Installation, body: dict[str, Any]) -> dict[str, Any]:
    """Return a registration's body as the fields of the form. Names in its list become ids if the catalog knows them."""
    names = installation.catalog.ids_by_name()
    chosen = {names.get(word.casefold(), word) for word in body.get("entityList", ())}
    place, csv = body.get("destination") or {}, body.get("csv") or {}
    return {
        "option": body["exportOption"],
        "chosen": chosen,
        "frequency": body["frequency"],
        "frequencies": [(frequency.value, frequency.value) for frequency in Frequency],
        "options": list(ExportOption),
        "perEntity": _as_yaml({name: body[name] for name in PER_ENTITY if body.get(name)}),
        "perEntityKeys": list(PER_ENTITY),
        "example": _EXAMPLE,
        "timezone": body.get("timezone", "UTC"),
        "deliverAt": body.get("deliverAt") or "",
        "deliverBy": body.get("deliverBy") or "",
        "kind": place.get("kind", ""),
        "connection": place.get("connection", ""),
        "bucket": place.get("bucket", ""),
        "root": place.get("root", ""),
        "kinds": KINDS,
        "fileFormats": FILE_FORMATS,
        "fileFormat": (body.get("files") or {}).get("format", "csv"),
        "delimiters": [(sign, name) for name, sign in NAMED.items()],
        "compressions": [(compression, compression) for compression in ("none", "gzip", "zstd")],
        "lineEnds": LINE_ENDS,
        "delimiter": {"\t": "tab"}.get(csv.get("delimiter", ","), csv.get("delimiter", ",")),
        "lineEnding": csv.get("lineEnding", csv.get("line_ending", "lf")),
        "bom": csv.get("bom", False),
        "compression": csv.get("compression", "none"),
        "publicKey": (body.get("encryption") or {}).get("public_key", ""),
        "status": (body.get("landing") or {}).get("status", False),
        "maxRows": csv.get("maxRowsPerFile", csv.get("max_rows_per_file")) or "",
    }


def registration_body(form: Form) -> dict[str, Any]:
    """Return the form as the API's body. Defaults are left out, as in a file."""
    body: dict[str, Any] = {"exportOption": form.one("exportOption"), "frequency": form.one("frequency")}
    if body["exportOption"] == ExportOption.SELECTED.value:
        body["entityList"] = form.every("entityList")
    for name, default in (("timezone", "UTC"), ("deliverAt", ""), ("deliverBy", "")):
        if (value := form.one(name)) not in ("", default):
            body[name] = value
    if kind := form.one("kind"):
        wanted = {"sftp": ("connection", "root"), "folder": ("root",), "s3": ("bucket", "connection", "root")}.get(kind, ())
        body["destination"] = {"kind": kind, **{name: form.one(name) for name in wanted if form.one(name)}}
    if (format := form.one("format")) not in ("", "csv"):
        body["files"] = {"format": format}
    if csv := _csv(form):
        body["csv"] = csv
    if key := form.one("public_key").strip():
        body["encryption"] = {"kind": "pgp", "public_key": key.replace("\r\n", "\n")}
    if form.one("status"):
        body["landing"] = {"status": True}
    return body | _per_entity(form.one("perEntity"))


def _per_entity(text: str) -> dict[str, Any]:
    """Return what the form says of single entities, in the words of a tenant's file. Raises InvalidInput for what nobody can read."""
    findings: list[Finding] = []
    choices = read_mapping(text, "", findings) or {}
    findings += [
        Finding("", "", tell("refusal.unknown_key", key=repr(key)), ", ".join(PER_ENTITY)) for key in choices if key not in PER_ENTITY
    ]
    if findings:
        raise InvalidInput(
            [replace(finding, path="perEntity", reason=f"{finding.path}: {finding.reason}".removeprefix(": ")) for finding in findings]
        )
    return choices


def _as_yaml(choices: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(choices), sort_keys=False, allow_unicode=True, default_flow_style=None) if choices else ""


def _plain(value: Any) -> str:
    """Return a date that YAML read as its text."""
    return value.isoformat() if isinstance(value, date) else str(value)


def _csv(form: Form) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, default in (("delimiter", ","), ("line_ending", "lf"), ("compression", "none")):
        value = form.one(name) or default
        if value != default:
            given[name] = DELIMITERS.get(value, value) if name == "delimiter" else value
    if form.one("bom"):
        given["bom"] = True
    if rows := form.one("max_rows_per_file"):
        given["max_rows_per_file"] = int(rows) if rows.isascii() and rows.isdigit() else rows
    return given


@router.post("/registration/preview")
def preview(request: Request, tenant: TenantPath, caller: Editor, installation: InstallationDep, form: SentForm) -> Response:
    """Show what replacing would change, before anything is changed."""
    before = replacing.find(installation, tenant)
    unseen = {name: before.body[name] for name in _UNSEEN if name in before.body} if before else {}
    body = registration_body(form) | unseen
    landing = dict(before.body.get("landing") or {}) if before else {}
    if landing.get("status"):
        del landing["status"]  # the form has it ticked, or it is taken back
    if landing | body.get("landing", {}):
        body["landing"] = landing | body.get("landing", {})
    expected = _version(form)
    plan = replacing.rehearse(installation, tenant, body, expected=expected, operator=caller.is_operator)
    wording = words(installation)
    changes = wording.changes(plan.fields, not plan.difference.is_empty)
    shown: dict[str, Any] = {"words": wording, "changes": changes, "unusable": replacing.unusable_connection(installation, tenant, body)}
    shown["body"] = json.dumps(body, default=_plain)
    return page(request, "tenant/diff.html", caller, tenant=tenant, plan=plan, expected=expected, **shown)


@router.post("/registration")
def put_in_force(
    request: Request, tenant: TenantPath, caller: Editor, installation: InstallationDep, scheduler: SchedulerDep, form: SentForm
) -> Response:
    """Replace the registration by the one that was previewed. It is refused if somebody changed it meanwhile."""
    try:
        body = json.loads(form.one("body"))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidInput([Finding("", "body", tell("refusal.no_preview"))])
    done = replacing.replace(installation, tenant, body, actor=caller.actor, expected=_version(form), operator=caller.is_operator)
    if done.changed:
        follow(installation, scheduler, caller, tenant, created=done.created)
    return moved(request, f"tenants/{tenant}?said={'created' if done.created else 'saved' if done.changed else 'same'}")


@router.post("/restore")
def restore(
    request: Request, tenant: TenantPath, caller: Editor, installation: InstallationDep, scheduler: SchedulerDep, form: SentForm
) -> Response:
    """Undo: make an earlier version the one in force."""
    number = _whole(form, "number")
    done = replacing.restore(installation, tenant, number, actor=caller.actor, expected=_version(form), operator=caller.is_operator)
    if done.changed:
        follow(installation, scheduler, caller, tenant, created=done.created)
    return moved(request, f"tenants/{tenant}?said={'restored' if done.changed else 'same'}")


def _version(form: Form) -> int:
    return _whole(form, "expected")


def _whole(form: Form, name: str) -> int:
    value = form.one(name)
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise InvalidInput([Finding("", name, tell("refusal.no_number"))])
    return int(value)
