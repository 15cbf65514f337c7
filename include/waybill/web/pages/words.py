"""The words of the pages' forms: their labels, a registration's values as the form names them, and refusals in those words.

Rooms below decide what is refused, in the words of the API and the command line. This module only says it again for people at a form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, reduce
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from waybill.configuration.catalog import Catalog
from waybill.configuration.registration import ExportOption
from waybill.configuration.values.encryption import key_hash
from waybill.deliveries.repairs import FIRST_YEAR, BadRange
from waybill.errors import Finding, InvalidInput, WaybillError
from waybill.installation import Installation
from waybill.language import table, tell
from waybill.registrations.estimating import Estimate
from waybill.web.pages.sentences import say
from waybill.web.problems import message

LABELS = table("registration_fields")
"""What the form of a registration calls its fields, by the name of the input."""

FILE_FORMATS = table("file_formats")

DIALOG = table("dialog_fields")
"""The same for the dialogs that ask for a full load or a backfill."""

EXPORT = table("export_fields")
"""The same for the form of an export, if the policy does not call them otherwise: see `export_labels`."""

_IN_POLICY = {"type": "exportType", "scope": "level", "format": "formats", "range": "preset"}
"""Fields that the policy names differently from their inputs."""

_FORMS = {
    "registration-form": LABELS,
    "replace-form": LABELS,
    "restore-form": LABELS,
    "full-load-form": DIALOG,
    "backfill-form": DIALOG,
    "export-form": EXPORT,
}
_INPUTS = {"destination": "kind", "scope": "level", "range": "from", "frequency": "repeat"}
"""What a whole part of a body is called."""

KINDS = table("destination_kinds")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "tab", "pipe": "|", "caret": "^", "tilde": "~"}
LINE_ENDS = table("line_ends")
_UNSET = table("unset")
"""What counts if a body leaves a field out."""

_WITH_OWN_SENTENCE = ("etag_mismatch",)
_FINDINGS = {("entityList", "no_entities"): "refusal.at_least_one_or", ("destination", "not_allowed"): "refusal.set_by_operator"}

_CODES = dict.fromkeys(("no_entities", "format_required"), "refusal.at_least_one")


def export_labels(called: Mapping[str, str]) -> Mapping[str, str]:
    """Return the labels of an export's form by the name of the input, if the policy has words for its fields."""
    return EXPORT | {_IN_POLICY.get(name, name): word for name, word in called.items()}


@dataclass(frozen=True)
class Message:
    """A refusal as the page tells it: a sentence, and `(field, label, message)` of each finding. The field is the name of an input."""

    sentence: str
    findings: list[tuple[str, str, str]]


def refusal(error: WaybillError, form: str, called: Mapping[str, str]) -> Message | None:
    """Return what the page says of an error to whoever sent this form (its id), or None if it says what everybody hears.

    `called` are the policy's words for the fields of an export's form.
    """
    labels: Mapping[str, str] | None = _FORMS.get("restore-form" if form.startswith("restore-") else form)
    if labels is None:
        return None
    if labels is EXPORT:
        labels = {name: word.removesuffix(" (optional)") for name, word in export_labels(called).items()}
    if error.code in _WITH_OWN_SENTENCE:
        return Message(tell(f"refusal.{error.code}"), [])
    if not isinstance(error, InvalidInput):
        return None
    findings = [_finding(finding, labels) for finding in error.findings]
    return Message(tell("refusal.fields", count=len(findings)), findings)


def _finding(finding: Finding, labels: Mapping[str, str]) -> tuple[str, str, str]:
    if finding.path.partition(".")[0] in PER_ENTITY:
        return "perEntity", labels.get("perEntity", ""), f"{finding.path}: {message(finding)}"
    field = finding.path.rpartition(".")[2]
    field = field if field in labels else _INPUTS.get(finding.path, field)
    label = labels.get(field, "")
    key = _FINDINGS.get((finding.path, finding.code)) or _CODES.get(finding.code)
    known = tell(key, option=ExportOption.ALL.value) if key else ""
    sentence = known or message(finding)
    return (
        field,
        label,
        f"{label} {sentence}" if sentence.startswith(("is ", "must ", "has ")) else sentence[:1].upper() + sentence[1:],
    )


def days_refused(error: BadRange, *, empty: bool, zone: ZoneInfo) -> InvalidInput:
    """Return the refusal of a range of days that cannot be delivered again, in the fields it was chosen in."""
    if empty:
        return InvalidInput([Finding("", "to", tell("refusal.before_first"))])
    if error.too_early:
        return InvalidInput([Finding("", "from", tell("refusal.too_early", year=FIRST_YEAR))])
    if error.delivered_until is None:
        return InvalidInput([Finding("", "entity", tell("refusal.nothing_delivered"))])
    last = error.delivered_until.astimezone(zone).date() - timedelta(days=1)
    return InvalidInput([Finding("", "to", tell("refusal.too_late", day=last))])


@dataclass(frozen=True)
class Words:
    """A tenant's registration in words. Entities have the names that people know."""

    catalog: Catalog

    @cached_property
    def _ids(self) -> dict[str, str]:
        return self.catalog.ids_by_name()

    def entity(self, word: str) -> str:
        """Return the display name of an entity given by id or name. What the catalog no longer has stays as it is."""
        known = self.catalog.entities.get(self._ids.get(word.casefold(), word))
        return known.display_name if known else word

    def named(self, entity: str) -> Markup:
        """Return the display name with the id beside it if they differ."""
        name = self.entity(entity)
        return escape(name) if name == entity else Markup("{}<small>{}</small>").format(name, entity)

    def estimate(self, estimate: Estimate) -> Markup:
        """Return how much the first full load of an entity brings, as far as its source tells."""
        if estimate.rows is not None:
            parts = say("diff.about_rows", count=estimate.rows)
            return Markup("{} ({})").format(parts, estimate.note) if estimate.note else parts
        return say("diff.unknown_because", why=estimate.note) if estimate.note else say("diff.unknown")

    def entities(self, words: Iterable[str]) -> str:
        return ", ".join(self.entity(word) for word in words)

    def value(self, key: str, value: Any) -> str:
        """Return the value of a body's field as the form would show it."""
        match key:
            case _ if value is None:
                return _UNSET.get(key, "–")
            case "entityList":
                return self.entities(value) or "–"
            case "destination":
                return place(value)
            case "csv":
                return _dialect(value)
            case "notify":
                return "; ".join(
                    f"{channel['kind']} {channel.get('url') or channel.get('connection') or ', '.join(channel['to'])}" for channel in value
                )
            case "encryption":
                return tell("value.encrypted", digest=key_hash(value["public_key"]))
            case "landing":
                return ", ".join(f"{name} {'on' if on else 'off'}" for name, on in value.items())
            case _ if key in PER_ENTITY:
                return "; ".join(f"{self.entity(entity)}: {PER_ENTITY[key](choice)}" for entity, choice in value.items()) or "–"
            case "files":
                return FILE_FORMATS[value.get("format", "csv")]
        return str(value)

    def changes(self, fields: Mapping[str, tuple[Any, Any]], moved: bool) -> list[tuple[str, str, str]]:
        """Yield `(label, before, after)` of changed fields. With `moved`, what is switched on and off already shows the list of
        entities.
        """
        parts = [(key, self.value(key, old), self.value(key, new)) for key, (old, new) in fields.items()]
        return [(LABELS[key], old, new) for key, old, new in parts if old != new and not (moved and key == "entityList")]

    def summary(self, body: Mapping[str, Any]) -> str:
        """Return a whole registration in one line."""
        listed = f" ({self.entities(body['entityList'])})" if body["exportOption"] == ExportOption.SELECTED else ""
        fields = ("timezone", "deliverAt", "deliverBy", "destination", "files", "csv", "encryption", "landing")
        rest = [self.value(key, body[key]) for key in fields if key in body]
        rest += [
            tell("value.per_entity", field=LABELS[key].lower(), value=self.value(key, body[key])) for key in PER_ENTITY if body.get(key)
        ]
        return ", ".join([f"{body['exportOption']}{listed}", body["frequency"], *rest])


def _condition(condition: Mapping[str, Any]) -> str:
    value = condition.get("value")
    listed = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return f"{condition['column']} {condition.get('op', '=')} {listed}".strip()


PER_ENTITY: Mapping[str, Callable[[Any], str]] = {
    "where": lambda given: (
        reduce(lambda first, second: tell("value.and", first=first, second=second), map(_condition, given)) if given else "–"
    ),
    "columns": ", ".join,
    "rename": lambda given: ", ".join(tell("value.renamed", name=name, other=other) for name, other in given.items()),
    "frequencies": str,
}
"""Fields of a registration that hold something for each entity, and how to say it."""


def words(installation: Installation) -> Words:
    return Words(installation.configuration.catalog)


def place(spec: Mapping[str, Any]) -> str:
    """Return a destination in one line: `SFTP server, connection acme_sftp, root /in`."""
    named = [("bucket", "bucket"), ("connection", "connection"), ("root", "root")]
    rest = [f"{name} {spec[key]}" for key, name in named if spec.get(key) and (key, spec[key]) != ("root", "/")]
    return ", ".join([KINDS.get(spec["kind"], spec["kind"]), *rest])


def _dialect(csv: Mapping[str, Any]) -> str:
    names = {sign: name for name, sign in DELIMITERS.items()} | {"\t": "tab"}
    rows, given = csv.get("maxRowsPerFile", csv.get("max_rows_per_file")), csv.get("delimiter", ",")
    ends = csv.get("lineEnding", csv.get("line_ending", "lf"))
    parts = [
        tell("value.delimiter", sign=names.get(given, given)) if given != "," else "",
        tell("value.line_ends", sign=LINE_ENDS.get(ends, ends)) if ends != "lf" else "",
        tell("value.bom") if csv.get("bom") else "",
        csv.get("compression", "none").replace("none", ""),
        tell("value.rows", rows=f"{rows:,}") if rows else "",
    ]
    return ", ".join(part for part in parts if part) or _UNSET["csv"]
