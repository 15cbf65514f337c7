"""What a tenant receives and how often: one model for the YAML file, the API body and the ledger, and the rules around it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import time
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    WithJsonSchema,
)

from waybill.configuration.catalog import Catalog, ConnectionId, Entity, TenantId, closest, suggester
from waybill.configuration.channels import Channels
from waybill.configuration.promise import Terms
from waybill.configuration.rules import entity_choices
from waybill.configuration.rules.entity_choices import DeliveredName
from waybill.configuration.selection import FileStyle
from waybill.configuration.values.columns import Column
from waybill.configuration.values.conditions import Condition
from waybill.configuration.values.durations import Clock
from waybill.configuration.values.encryption import Encryption
from waybill.configuration.values.paths import Bucket, LocalRoot, Root, ServerRoot
from waybill.configuration.values.strict import CAMEL_CASE, Strict
from waybill.errors import Finding, PermanentError
from waybill.language import tell, unfit
from waybill.window import Frequency, cron

DELIMITERS = {",": ",", ";": ";", "|": "|", "\t": "\t", "tab": "\t", "^": "^", "~": "~"}
LINE_ENDS = {"lf": "lf", "crlf": "crlf", "\n": "lf", "\r\n": "crlf"}


class ExportOption(StrEnum):
    ALL = "export all"
    SELECTED = "export selected"
    DISABLE = "disable export"


@cache
def zones() -> frozenset[str]:
    """Return the IANA names that a registration may use. Reading them walks the whole database: too slow for each of a thousand tenants."""
    return frozenset(available_timezones() - {"localtime", "Factory"})  # these two mean whatever a machine says


def _zone(name: str) -> str:
    if name not in zones():
        near = closest(name, sorted(zones())) or next((zone for zone in sorted(zones()) if zone.endswith(f"/{name.title()}")), "")
        refused = unfit("time_zone", name=repr(name))
        raise ValueError(f"{refused}; did you mean {near}?") if near else refused
    return name


def _words(table: Mapping[str, str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(table)})


def _one_of(table: Mapping[str, str], what: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in table:
            raise unfit(what, options=", ".join(repr(option) for option in table))
        return table[value]

    return BeforeValidator(check)


class CsvOptions(Strict):
    """The dialect a tenant wants; every key is optional."""

    delimiter: Annotated[str, _one_of(DELIMITERS, "delimiter"), _words(DELIMITERS)] = ","
    """What separates fields."""
    line_ending: Annotated[str, _one_of(LINE_ENDS, "line_ending"), _words(LINE_ENDS)] = "lf"
    """How lines end."""
    bom: StrictBool = False
    """Begin files with a byte order mark."""
    compression: Literal["none", "gzip", "zstd"] = "none"
    """How files are compressed."""
    max_rows_per_file: Annotated[StrictInt, Field(ge=1)] | None = None
    """Begin another part after so many rows."""

    @property
    def file_style(self) -> FileStyle:
        return FileStyle(self.delimiter, "\r\n" if self.line_ending == "crlf" else "\n", self.bom, self.compression, self.max_rows_per_file)


class FilesOptions(Strict):
    """The shape of scheduled deliveries."""

    format: Literal["csv", "parquet", "ndjson"] = "csv"
    """What the data files are. Deletes files are CSV always."""


class SftpDestination(Strict):
    """An SFTP server behind an Airflow connection; `root` is the folder on the server that `/exports` stands in."""

    kind: Literal["sftp"]
    """An SFTP server."""
    connection: ConnectionId
    """The Airflow connection of type `sftp`."""
    root: ServerRoot = "/"
    """The folder on the server in which `exports` stands."""


class FolderDestination(Strict):
    """A local folder; needs no connection."""

    kind: Literal["folder"]
    """A folder on this machine."""
    root: LocalRoot
    """The folder, counted from the parent of the configuration folder."""


class S3Destination(Strict):
    """A bucket behind an Airflow aws connection; `root` is the key prefix `/exports` stands in."""

    kind: Literal["s3"]
    """A bucket."""
    bucket: Bucket
    """The bucket's name."""
    connection: ConnectionId
    """The Airflow connection of type `aws`."""
    root: Root = "/"
    """The key prefix below which `exports` stands."""


class Landing(Strict):
    """What else stands beside a tenant's files at the destination. What a registration leaves out is as policy says, and there off."""

    status: StrictBool | None = None
    """A `feed.json` at the tenant's root: every delivery by number, when the next is due, and what is wrong now."""
    sha256sums: StrictBool | None = None
    """A `SHA256SUMS` beside every day manifest."""


DestinationSpec = Annotated[SftpDestination | FolderDestination | S3Destination, Field(discriminator="kind")]


def entity_words(value: Any) -> Any:
    """Return the entries of an entityList, which is a list or a comma-separated string. Blanks are dropped, the order is kept, and each
    comes once.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise unfit("entity_list")
    return tuple(dict.fromkeys(word.strip() for word in value if word.strip()))


def _entity_list(value: Any, info: ValidationInfo) -> Any:
    """Do as `entity_words`. If the option ignores the list, anything that is no list is an empty one."""
    if info.data.get("export_option") in (ExportOption.ALL, ExportOption.DISABLE) and not isinstance(value, str | list | tuple):
        return ()
    return entity_words(value)


EntityList = Annotated[
    tuple[str, ...],
    BeforeValidator(_entity_list),
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}, {"type": "null"}],
            "description": "Entity names, as a list or comma-separated. Required with `export selected`, ignored otherwise.",
        }
    ),
]


def _source_tenant(value: Any) -> Any:
    """An integer is kept as its text, because its type depends on what it is compared with."""
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip() or len(str(value)) > 255:
        raise unfit("source_tenant")
    return str(value)


SourceTenant = Annotated[
    str, BeforeValidator(_source_tenant), WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}]})
]


class Registration(Strict):
    """The body of `PUT /tenants/{tenant}/export` and of `config/tenants/<tenant>.yaml`."""

    model_config = CAMEL_CASE

    export_option: ExportOption = Field(
        ExportOption.SELECTED,
        description="`export all`: every entity, also later ones; `export selected`: those of entityList; `disable export`: none.",
    )
    entity_list: EntityList = ()
    frequency: Frequency = Field(
        Frequency.DAILY, description="How often: every day, every Monday, or on the 1st of each month, at midnight of the time zone."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="An IANA name such as `Europe/Berlin`.")
    deliver_at: Clock | None = Field(None, description="Local time of day at which runs start; by default soon after 01:00.")
    deliver_by: Clock | None = Field(
        None, description="Local time of day until which data is promised: the first such time after its run starts. By default none is."
    )
    destination: DestinationSpec | None = Field(
        None, description="Where files go, through an Airflow connection; by default where policy says. A change moves no delivered file."
    )
    csv: CsvOptions = Field(default_factory=CsvOptions, description="How CSV is written; compression and parts count for NDJSON, too.")
    files: FilesOptions = Field(default_factory=FilesOptions, description="The shape of scheduled deliveries: CSV, Parquet or NDJSON.")
    encryption: Encryption | None = Field(None, description="To whom files are encrypted; by default they are not.")
    landing: Landing = Field(
        default_factory=Landing,
        description="What stands beside the files: `status`, a feed.json of all deliveries; `sha256sums`. By default as policy says.",
    )
    notify: Channels = Field((), description="Who else is told of deliveries, failures and broken promises: mail, Slack or webhook.")
    source_tenant: SourceTenant | None = Field(
        None, description="The tenant's id in the data, as text, integer or UUID; by default the tenant id. Operators set it in the file."
    )
    copy_of: TenantId | None = Field(
        None, description="The tenant whose rows this one receives too, at a second place, in a chain of its own. Operators set it."
    )
    where: Mapping[str, tuple[Condition, ...]] = Field(
        default_factory=dict, description="By entity: conditions a row must meet to be delivered, each `{column, op, value}`."
    )

    columns: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="By entity: which of its columns the tenant receives, in this order; by default all."
    )

    rename: Mapping[str, Annotated[Mapping[str, DeliveredName], Field(min_length=1)]] = Field(
        default_factory=dict, description="By entity: columns that the tenant receives under another name, each `column: delivered name`."
    )

    frequencies: Mapping[str, Frequency] = Field(
        default_factory=dict, description="By entity: how often it comes where that is not `frequency`, such as an archive each month."
    )

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def file_style(self) -> FileStyle:
        """Return how the tenant's files are written."""
        return replace(self.csv.file_style, format=self.files.format, encrypted=self.encryption is not None)

    def frequency_of(self, entity: str, catalog: Catalog) -> Frequency:
        """Return how often an entity comes, given by id."""
        known = catalog.entity(entity)
        return next(_under(self.frequencies, entity, known.display_name if known else entity), self.frequency)

    @property
    def rhythm(self) -> tuple[Frequency, ...]:
        """Return every frequency that something may come by, the shortest first."""
        asked = {self.frequency, *self.frequencies.values()}
        return tuple(rhythm for rhythm in Frequency if rhythm in asked)

    def chosen(self, entity: Entity) -> Mapping[str, Column]:
        """Return the columns of the catalogued entity that this tenant receives, in their order."""
        names = next(_under(self.columns, entity.id, entity.display_name), ())
        return {name: entity.columns[name] for name in names if name in entity.columns} or entity.columns

    def sees(self, entity: Entity) -> Entity:
        """Return the catalogued entity as this tenant receives it: with its chosen columns, in their order and under its names.

        Raises PermanentError if the catalog now has a column with a name that another column was given.
        """
        names, columns = next(_under(self.rename, entity.id, entity.display_name), {}), self.chosen(entity)
        if columns is entity.columns and not names:
            return entity
        renamed = {names.get(name, name): column.renamed(name, names.get(name, name)) for name, column in columns.items()}
        if len({name.casefold() for name in renamed}) < len(columns):
            raise PermanentError(
                tell("call.name_taken", entity=entity.id),
                next_step=tell("call.name_taken_step", entity=entity.id),
                code="column_name_taken",
            )
        return entity.model_copy(update={"columns": renamed})

    def reads(self, tenant: str, entity: Entity) -> tuple[str, tuple[Condition, ...]]:
        """Return the tenant's id in the data, and the conditions on a row of the catalogued entity, by the source's names."""
        asked = (condition for given in _under(self.where, entity.id, entity.display_name) for condition in given)
        known = {name: column.source(name) for name, column in entity.columns.items()}
        return self.id_in_data(tenant), tuple(
            condition.model_copy(update={"column": known.get(condition.column, condition.column)}) for condition in asked
        )

    def id_in_data(self, tenant: str) -> str:
        """Return what the data calls the tenant."""
        return self.source_tenant or self.copy_of or tenant

    def lands(self, house: Landing) -> Landing:
        """Return the extra files: as the registration says, or else as the house says."""
        return house.model_copy(update=self.landing.model_dump(exclude_none=True))

    @property
    def is_disabled(self) -> bool:
        return self.export_option is ExportOption.DISABLE

    def body(self) -> dict[str, Any]:
        """Return the registration as JSON. Sending it back changes nothing. Defaults that were not given are left out, except the three
        fields of reference/004.
        """
        given = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"exportOption": self.export_option.value, "entityList": list(self.entity_list), "frequency": self.frequency.value, **given}

    def cron(self, tenant: str) -> str:
        """Return when runs start, in the tenant's zone: `deliverAt`, or 01:00 plus a minute spread by tenant id."""
        at = self.starts(tenant)
        return cron(self.rhythm, at.minute, at.hour)

    def starts(self, tenant: str) -> time:
        """Return the local time of day at which runs start."""
        return starts_at(tenant, self.deliver_at)

    def terms(self, tenant: str) -> Terms | None:
        """Return the times by which the tenant is promised its data, or None if nothing is promised."""
        by = self.deliver_by
        return Terms(self.zone, self.frequency, self.starts(tenant), time.fromisoformat(by)) if by and not self.is_disabled else None


_Given = TypeVar("_Given")


def _under(by_entity: Mapping[str, _Given], *names: str) -> Iterator[_Given]:
    """Return what a registration says of an entity under any of its names, which are its id and its display name, in any letters."""
    folded = {name.casefold() for name in names}
    return (given for name, given in by_entity.items() if name.casefold() in folded)


def starts_at(tenant: str, deliver_at: str | None) -> time:
    """Return the local time of day at which a tenant's runs start: `deliverAt`, or 01:00 plus a minute spread by tenant id."""
    if deliver_at:
        return time.fromisoformat(deliver_at)
    return time(1, int(hashlib.sha256(tenant.encode()).hexdigest(), 16) % 60)


def resolve_entities(registration: Registration, catalog: Catalog, file: str) -> tuple[tuple[str, ...], list[Finding]]:
    """Return the entity ids of a registration, in catalog order, and what is wrong with its list. The catalog is as offered to the tenant.

    `export all` and `disable export` ignore entityList, even a wrong one. `export selected` needs at least one known entity.
    """
    if registration.export_option is ExportOption.ALL:
        return tuple(entity.id for entity in catalog.entities.values() if not entity.optional), []
    if registration.is_disabled:
        return (), []
    if not registration.entity_list:
        return (), [
            Finding(
                file,
                "entityList",
                tell("finding.no_entities"),
                tell("allowed.no_entities"),
                code="no_entities",
            )
        ]
    names = catalog.ids_by_name()
    unknown = [word for word in registration.entity_list if word.casefold() not in names]
    wanted = {names[word.casefold()] for word in registration.entity_list if word.casefold() in names}
    display = [entity.display_name for entity in catalog.entities.values()]
    allowed, meant = entity_choices.shortened(display), suggester([*display, *catalog.entities])
    findings = [
        Finding(file, "entityList", entity_choices.unknown_entity(word), allowed, meant(word), "unknown_entity") for word in unknown
    ]
    return tuple(entity for entity in catalog.entities if entity in wanted), findings


def listed_entities(
    registration: Registration, raw: Mapping[str, Any], catalog: Catalog, file: str, findings: list[Finding]
) -> tuple[str, ...]:
    """Do as `resolve_entities`, for a registration that was read from `raw` with `findings`. Those of the list are added.

    If the list itself was refused, the unknown names among its texts are still reported. If the option was refused, nothing is, because the
    option decides whether the list counts.
    """
    refused = {finding.path.partition(".")[0] for finding in findings}
    if "exportOption" in refused:
        return ()
    if "entityList" in refused and isinstance(raw.get("entityList"), list):
        texts = entity_words([word for word in raw["entityList"] if isinstance(word, str)])
        registration = registration.model_copy(update={"entity_list": texts})
    entities, found = resolve_entities(registration, catalog, file)
    findings += [finding for finding in found if "entityList" not in refused or finding.code == "unknown_entity"]
    findings += entity_choices.problems(registration, catalog, file)
    return entities


@dataclass(frozen=True)
class Difference:
    """What a replace changes: entities that are switched on, off, and kept with their streams."""

    activated: tuple[str, ...]
    deactivated: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return not (self.activated or self.deactivated)


def difference(active: Iterable[str], wanted: Iterable[str]) -> Difference:
    """Return the difference between the active entities and the wanted ones. The order follows `wanted`, and deactivated ones are
    sorted.
    """
    active, wanted = set(active), tuple(dict.fromkeys(wanted))
    return Difference(
        activated=tuple(entity for entity in wanted if entity not in active),
        deactivated=tuple(sorted(active - set(wanted))),
        kept=tuple(entity for entity in wanted if entity in active),
    )
