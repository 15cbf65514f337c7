"""Checks what a person sends to ask for an export, against policy and catalog: all problems at once, or a checked request."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from waybill.configuration.catalog import Catalog, Entity, closest, suggester
from waybill.configuration.policy import ExportPolicy, ExportType, Level, RangePreset
from waybill.configuration.registration import entity_words
from waybill.configuration.values.strict import CAMEL_CASE, Strict
from waybill.errors import Finding, InvalidInput
from waybill.language import tell
from waybill.ledger.on_demand.request_records import ExportRequest, RangeAsked
from waybill.requests.ranges import Span, frozen, resolve, span_problems

TENANT_WIDE = "tenant"
"""The slot of a request that is about no single project."""
Name = Annotated[str, Field(min_length=1, max_length=200)]


_UNSEEN = frozenset({"Cc", "Zl", "Zp"})
"""Unicode's control characters and line separators. No name or id holds one, and some ledgers and files cannot store them."""

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What turns the direction of the text behind it, so that a page or a log shows another name than the one that is stored."""


class RequestBody(Strict):
    """Base of the bodies about export requests: none of their texts holds a NUL, a line break, a tab or another control character.

    A field that is null is a field left out.
    """

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:
        return {name: field for name, field in value.items() if field is not None} if isinstance(value, Mapping) else value

    @field_validator("*", mode="before")
    @classmethod
    def _visible(cls, value: Any) -> Any:
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and any(unicodedata.category(letter) in _UNSEEN or letter in _TURNING for letter in text):
                raise ValueError(tell("submission.control_character"))
        return value


class Scope(RequestBody):
    """Whose rows. `app` needs a project and one or more apps, `participant` a study; a study may name the project it belongs to."""

    model_config = CAMEL_CASE

    level: Level = "tenant"
    organization: Name | None = None
    project: Name | None = None
    apps: Annotated[tuple[Name, ...], BeforeValidator(entity_words)] = ()
    study: Name | None = None
    participant: Name | None = None

    def filters(self) -> dict[str, tuple[str, ...]]:
        """Return the scope as conditions on an entity's scope columns."""
        named = {"project": self.project, "study": self.study, "participant": self.participant}
        return {level: (value,) for level, value in named.items() if value} | ({"app": self.apps} if self.apps else {})

    def body(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"level": self.level}


class DateRange(RequestBody):
    """Inclusive dates (`2026-01-31`, in the tenant's zone) or RFC 3339 times (`to` exclusive), or a named preset."""

    model_config = ConfigDict(populate_by_name=True)

    start: Annotated[str | None, Field(alias="from")] = None
    end: Annotated[str | None, Field(alias="to")] = None
    preset: RangePreset | None = None

    def asked(self) -> RangeAsked:
        return {"from": self.start, "to": self.end}


class Submission(RequestBody):
    """The body of `POST /tenants/{tenant}/exports`."""

    model_config = CAMEL_CASE

    export_type: str | None = None
    scope: Scope = Scope()
    entities: Annotated[tuple[str, ...] | None, BeforeValidator(lambda value: None if value is None else entity_words(value))] = None
    range: DateRange = DateRange()
    formats: Annotated[tuple[str, ...], BeforeValidator(entity_words)] = ()

    @field_validator("range", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"preset": value} if isinstance(value, str) else value

    def body(self) -> dict[str, Any]:
        """Return the submission as JSON. Submitting it again asks for the same."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def digest(self) -> str:
        """Return a hash that tells two bodies under one idempotency key apart."""
        return _sha256(self.body())


@dataclass(frozen=True)
class Checked:
    """A submission that may be carried out: entity ids in catalog order, formats without repetition."""

    export_type: str | None
    scope: Scope
    entities: tuple[str, ...]
    span: Span
    formats: tuple[str, ...]

    def fingerprint(self, person: str, again: str = "") -> str:
        """Return a text that is equal for two requests of one person that ask for the same. `again` tells two of them apart."""
        asked = [self.export_type, self.scope.body(), list(self.entities), str(self.span.start), str(self.span.end), sorted(self.formats)]
        return _sha256([person, *asked, *([again] if again else [])])

    @property
    def slot(self) -> str:
        """Return the slot, which holds one active request: the scope's project, or else the tenant as a whole, which counts against every
        project.
        """
        return f"project:{self.scope.project}" if self.scope.project else TENANT_WIDE


def check(
    submission: Submission,
    catalog: Catalog,
    export_policy: ExportPolicy,
    zone: ZoneInfo,
    now: datetime,
    *,
    period: RangeAsked | None = None,
) -> Checked:
    """Check a submission and return it. Raises InvalidInput with every problem. `period` stands in for the range of a recurring request."""
    found: list[Finding] = []
    entities, formats = _chosen(submission, catalog, export_policy, found)
    span = _span(submission.range, period, export_policy, zone, now, found)
    if found:
        raise InvalidInput(found)
    return Checked(submission.export_type, submission.scope, tuple(entity.id for entity in entities), span, formats)


def no_longer_offered(request: ExportRequest, catalog: Catalog, export_policy: ExportPolicy) -> list[Finding]:
    """Return what of a request that was once accepted would be refused now, but for its range."""
    asked = {"exportType": request.export_type, "scope": request.scope, "entities": request.entities, "formats": request.formats}
    found: list[Finding] = []
    _chosen(Submission.model_validate(asked), catalog, export_policy, found)
    return found


def _chosen(
    submission: Submission, catalog: Catalog, export_policy: ExportPolicy, found: list[Finding]
) -> tuple[list[Entity], tuple[str, ...]]:
    kind = _export_type(submission, export_policy, found)
    found += _scope_problems(submission.scope, export_policy)
    entities = _entities(submission, kind, catalog, export_policy, found)
    return entities, _formats(submission, kind, entities, export_policy, found)


def _export_type(submission: Submission, export_policy: ExportPolicy, found: list[Finding]) -> ExportType | None:
    name, known = submission.export_type, list(export_policy.export_types)
    if name is None:
        if known:
            found.append(Finding("", "exportType", tell("submission.choose_type"), ", ".join(known), code="export_type_required"))
        return None
    kind = export_policy.export_types.get(name)
    if kind is None:
        allowed = ", ".join(known) or tell("submission.no_types")
        reason = tell("submission.unknown_type", name=repr(name))
        found.append(Finding("", "exportType", reason, allowed, closest(name, known), "unknown_export_type"))
    return kind


def _scope_problems(scope: Scope, export_policy: ExportPolicy) -> Iterator[Finding]:
    if scope.level not in export_policy.scopes:
        reason = tell("submission.level_not_offered", level=scope.level)
        yield Finding("", "scope.level", reason, ", ".join(export_policy.scopes), code="scope_not_supported")
        return
    takes = {
        "project": ("project",),
        "app": ("project", "apps"),
        "study": ("project", "study"),
        "participant": ("project", "study", "participant"),
    }
    needs = {"project": ("project",), "app": ("project", "apps"), "study": ("study",), "participant": ("study", "participant")}
    for field in ("project", "apps", "study", "participant"):
        given = bool(getattr(scope, field))
        if given and field not in takes.get(scope.level, ()):
            yield Finding("", f"scope.{field}", tell("submission.not_in_scope", level=scope.level), code="scope_not_supported")
        if not given and field in needs.get(scope.level, ()):
            yield Finding("", f"scope.{field}", tell(f"choose.{field}"), code="scope_incomplete")
    if scope.organization and scope.level != "organization":
        yield Finding("", "scope.organization", tell("submission.not_in_scope", level=scope.level), code="scope_not_supported")


def _entities(
    submission: Submission, kind: ExportType | None, catalog: Catalog, export_policy: ExportPolicy, found: list[Finding]
) -> list[Entity]:
    names, offered = catalog.ids_by_name(), entities_of(kind, catalog)
    levels = submission.scope.filters()
    if submission.entities is None and export_policy.all_entities_by_default:
        return [entity for entity in offered if levels.keys() <= entity.scopes.keys()]
    if not submission.entities:
        found.append(Finding("", "entities", tell("submission.no_entities"), code="no_entities"))
        return []
    shown = [entity.display_name for entity in offered]
    by_id = {entity.id: entity for entity in offered}
    allowed, meant = ", ".join(shown), suggester([*shown, *by_id])
    chosen = {}
    for word in submission.entities:
        entity = by_id.get(names.get(word.casefold(), ""))
        if entity is None:
            reason = tell("submission.unknown_entity", name=repr(word))
            found.append(Finding("", "entities", reason, allowed, meant(word), "unknown_entity"))
        else:
            chosen[entity.id] = entity
    for entity in chosen.values():
        for level in levels.keys() - entity.scopes.keys():
            reason = tell("submission.entity_without_level", entity=entity.display_name, level=level)
            found.append(Finding("", "entities", reason, code="scope_not_supported"))
    return [entity for entity in offered if entity.id in chosen]


def entities_of(kind: ExportType | None, catalog: Catalog) -> list[Entity]:
    """Return the entities of an export type, in the order of the catalog. Without a type these are all."""
    if kind is None or kind.entities == "all":
        return list(catalog.entities.values())
    names = catalog.ids_by_name()
    listed = {names.get(word.casefold()) for word in kind.entities}
    return [entity for entity in catalog.entities.values() if entity.id in listed]


def _formats(
    submission: Submission, kind: ExportType | None, entities: list[Entity], export_policy: ExportPolicy, found: list[Finding]
) -> tuple[str, ...]:
    offered = kind.formats if kind else export_policy.formats
    wanted = tuple(dict.fromkeys(word.lower() for word in submission.formats))
    if not wanted:
        found.append(Finding("", "formats", tell("submission.no_format"), ", ".join(offered), code="format_required"))
    allowed, meant = ", ".join(offered), suggester(offered)
    for word in wanted:
        if word not in offered:
            reason = tell("submission.format_not_offered", name=repr(word))
            found.append(Finding("", "formats", reason, allowed, meant(word), "format_not_supported"))
            continue
        for entity in entities:
            if word not in entity.formats:
                reason = tell("submission.entity_without_format", entity=entity.display_name, format=word)
                found.append(Finding("", "formats", reason, ", ".join(entity.formats), code="format_not_supported"))
    return wanted


def _span(
    given: DateRange, period: RangeAsked | None, export_policy: ExportPolicy, zone: ZoneInfo, now: datetime, found: list[Finding]
) -> Span:
    asked = period or given.asked()
    if not period and given.preset:
        if given.start or given.end:
            found.append(Finding("", "range", tell("submission.preset_or_dates"), code="range_ambiguous"))
        elif given.preset not in export_policy.range.presets:
            allowed = ", ".join(export_policy.range.presets) or tell("submission.dates_alone")
            reason = tell("submission.preset_not_offered", preset=given.preset)
            found.append(Finding("", "range.preset", reason, allowed, code="range_not_offered"))
        asked = frozen(given.preset, now.astimezone(zone).date())
    try:
        span = resolve(asked, zone)
    except ValueError as error:
        found.append(Finding("", str(error), tell("submission.no_date"), tell("submission.date_forms"), code="not_a_date"))
        return Span()
    found.extend(span_problems(span, export_policy.range, zone, now))
    return span


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
