"""House rules: one value per knob, each with a default, read from `config/policy.yaml`. Presets are named sets of knobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, StrictBool, StrictInt

from waybill.configuration.catalog import FORMATS, Catalog, ConnectionId, FormatName, TenantId, closest
from waybill.configuration.channels import Channel, Channels, Event, MailChannel
from waybill.configuration.registration import DestinationSpec, Landing, SftpDestination
from waybill.configuration.rules.tenant_connections import ConnectionRule, fits
from waybill.configuration.values.durations import LONGEST_DAYS, Clock, Duration, parse_duration
from waybill.configuration.values.strict import Strict
from waybill.errors import Finding
from waybill.language import misworded, tell

ALIASES = {
    "data.exports.create": "exports.create",
    "data.registrations.manage": "registrations.manage",
    "pf.export_registrations.manage": "registrations.manage",
    "pf.export_requests.create": "exports.create",
    "pf.export_requests.view": "exports.view",
}
"""Names of permissions as the product documents spell them."""

EVERYONE = "everyone"
"""The role that every person of a tenant has, asked for or not."""

ADMIN = "admin"
"""The tenant's administrator, where the role table does not say otherwise."""

Level = Literal["tenant", "organization", "project", "app", "study", "participant"]
LEVELS: tuple[Level, ...] = ("tenant", "organization", "project", "app", "study", "participant")
RangePreset = Literal["last_7_days", "last_30_days", "last_90_days", "last_year", "all_time"]


PageColumn = Literal[
    "scope", "type", "entities", "created", "requested", "range", "status", "rows", "size", "format", "expires", "download", "actions"
]


def _permission(name: Any) -> Any:
    return ALIASES.get(name, name) if isinstance(name, str) else name


def _unless_none(value: Any) -> Any:
    return None if value == "none" else value


def _link_life(value: Any) -> Any:
    return value if value == "archive" else parse_duration(value)


def _worded(words: Mapping[str, str]) -> Mapping[str, str]:
    if wrong := misworded(words):
        raise ValueError(wrong)
    return words


OrNone = BeforeValidator(_unless_none)
RolePermission = Annotated[
    Literal["exports.view", "exports.create", "exports.download", "exports.admin", "registrations.manage"], BeforeValidator(_permission)
]


class Notify(Strict):
    """Who is told about scheduled deliveries: the `channels`, and the addresses `to`, by mail, of lateness and, with `failed`, of failures.

    A tenant is late `late_after` its run was due, or by its `deliverBy`, about which people are warned `warn_before`.
    About on-demand exports, mail to the person who asked: those named in `requests`.
    """

    failed: StrictBool = False
    """Mail when a scheduled delivery fails."""
    late_after: Duration | None = None
    """Mail when a day is not complete so long after its run was due. Left out, nobody is told, and pages and metrics count three hours."""
    warn_before: Duration = timedelta(hours=1)
    """How long before a promised time (`deliverBy`) an unfinished delivery counts as at risk."""
    to: tuple[str, ...] = ()
    """Who gets mail about scheduled deliveries."""
    channels: Channels = ()
    """Who is told of scheduled deliveries, and how: by mail, Slack or webhook."""
    requests: tuple[Literal["ready", "failed"], ...] = ()
    """When the person who asked for an export gets mail."""

    @property
    def every_channel(self) -> tuple[Channel, ...]:
        """Return the channels, including the one that `to` and `failed` are short for."""
        late = (Event.LATE_WARNING, Event.BREACH, Event.RECOVERED)
        events = (Event.FAILED, *late) if self.failed else late
        return (MailChannel(kind="mail", to=self.to, events=events), *self.channels) if self.to else self.channels


class RangeRule(Strict):
    """Which date ranges an export may ask for. `max_days` counts inclusive days; 366 is one year."""

    required: StrictBool = False
    """Whether a date range must be given."""
    max_days: Annotated[Annotated[StrictInt, Field(ge=1)] | None, OrNone] = None
    """The longest range, in inclusive days."""
    not_in_future: StrictBool = False
    """Whether a range must end by today."""
    presets: tuple[RangePreset, ...] = ()
    """The ranges that are offered by name."""


class Labels(Strict):
    """What people read for each state, in page, mail and API alike. `{progress}` stands for the whole per cent."""

    pending: str = "Pending"
    """A request that is pending."""
    running: str = "Running ({progress} %)"
    """A request that is running."""
    done: str = "Done"
    """A request that is done."""
    failed: str = "Failed"
    """A request that is failed."""
    cancelled: str = "Cancelled"
    """A request that is cancelled."""
    expired: str = "Expired"
    """A request that is expired."""


class Page(Strict):
    """How the page of requests looks. Empty words mean the page's own."""

    auto_poll: StrictBool = True
    """Look for news by itself while a request is active."""
    refresh: Literal["always", "active", "never"] = "always"
    """When the Refresh button is there: always, while requests are active, or never."""
    form: Literal["dialog", "left"] = "dialog"
    """Whether the form opens as a dialog or stands at the left."""
    path: str = ""
    """A further address of the page."""
    title: str = ""
    """The heading."""
    new: str = ""
    """The button that opens the form."""
    dialog_title: str = ""
    """The form's heading."""
    dialog_description: str = ""
    """The sentence below the form's heading."""
    submit: str = ""
    """The button that sends the form."""
    columns: tuple[PageColumn, ...] = ()
    """The columns of the table, in order; all where empty."""
    entities_ticked: StrictBool = False
    """Whether all entities are ticked at first."""
    fields: Mapping[str, str] = Field(default_factory=dict)
    """Words for the form's fields."""
    scope_labels: Mapping[str, str] = Field(default_factory=dict)
    """Words for the levels of a scope."""
    formats: Mapping[str, str] = Field(default_factory=dict)
    """Words for the formats."""
    range_labels: Mapping[str, str] = Field(default_factory=dict)
    """Words for the date ranges."""
    cancel: StrictBool = True
    """Whether the page offers to cancel an active export beside deleting it. The API always does."""


class ExportType(Strict):
    """A named choice of entities and formats."""

    entities: Annotated[Literal["all"] | tuple[str, ...], Field(min_length=1)] = "all"
    """The entities it holds, or `all`."""
    formats: Annotated[tuple[FormatName, ...], Field(min_length=1)] = FORMATS
    """The formats it is offered in."""
    description: str = ""
    """What people read under its name."""


class RateLimit(Strict):
    """At most `requests` new requests a tenant in any span of length `per`."""

    requests: Annotated[StrictInt, Field(ge=1)]
    """How many requests a tenant may make."""
    per: Duration = timedelta(hours=1)
    """In which time."""


class ExportPolicy(Strict):
    """Everything that differs between products about on-demand exports (docs/requests.md explains each)."""

    max_active_per_project: Annotated[Annotated[StrictInt, Field(ge=1)] | None, OrNone] = 1
    """How many exports of one project may be active at once."""
    refuse_duplicates: StrictBool = False
    """Refuse a request that asks for the same as an active one."""
    range: RangeRule = RangeRule()
    """Which date ranges may be asked for."""
    fulfilment: Literal["immediate", "daily"] = "immediate"
    """Whether exports are made at once, or daily."""
    fulfil_at: Clock = "01:00"
    """For daily fulfilment: the time of day in the tenant's zone."""
    archive_life: Duration = timedelta(days=7)
    """How long an archive can be downloaded."""
    link_life: Annotated[timedelta | Literal["archive"], BeforeValidator(_link_life)] = timedelta(hours=1)
    """How long a download link works: a duration, or as long as the archive."""
    history_ttl: Annotated[Duration | None, OrNone] = None
    """After how long finished requests are forgotten."""
    visibility: Literal["scope", "tenant", "own", "project", "organization"] = "scope"
    """Whose requests a person sees."""
    view_without_create: StrictBool = True
    """Whether people who may not create exports see them."""
    scopes: Annotated[tuple[Level, ...], Field(min_length=1)] = LEVELS
    """The levels an export can be asked for."""
    all_entities_by_default: StrictBool = False
    """Whether a request without entities means all of them."""
    formats: Annotated[tuple[FormatName, ...], Field(min_length=1)] = FORMATS
    """The formats that are offered."""
    json_layout: Literal["objects", "arrays"] = "objects"
    """`objects`, or `arrays`: a header row, then rows."""
    spreadsheet_guard: StrictBool = True
    """Keep text that a spreadsheet would run as a formula from being one."""
    notify: Annotated[Notify, BeforeValidator(lambda value: {"requests": value} if isinstance(value, list) else value)] = Notify()
    """Mail about deliveries and requests."""
    cancel_by: tuple[Literal["creator", "admin"], ...] = ("creator", "admin")
    """Who may cancel a request."""
    plan_required: Annotated[str | None, OrNone] = None
    """The plan a tenant needs before anybody may create exports."""
    plan_sentence: str = ""
    """What a tenant without that plan reads."""
    csv_bom: StrictBool = False
    """Begin CSV with a byte order mark, for Excel."""
    roles: Mapping[str, tuple[RolePermission, ...]] = Field(default_factory=dict)
    """What each role of a token may do."""
    export_types: Mapping[str, ExportType] = Field(default_factory=dict)
    """Named choices of entities and formats."""
    rate_limit: Annotated[RateLimit | None, OrNone] = None
    """How many requests a tenant may make."""
    heartbeat: Duration = timedelta(seconds=15)
    """How often a running export says that it is alive."""
    stall_after: Duration = timedelta(minutes=2)
    """After how long without a sign of life an export counts as failed."""
    support_after: Annotated[Duration | None, OrNone] = None
    """After how long a pending export names the support."""
    support_contact: str = ""
    """Where people turn to."""
    labels: Labels = Labels()
    """What people read for each state."""
    page: Page = Page()
    """How the page of requests looks."""
    words: Annotated[Mapping[str, str], AfterValidator(_worded)] = Field(default_factory=dict)
    """Sentences of pages, API, mails and archives in the product's own words, by their keys in `language/en.yaml`, as `exports.empty`."""
    landing: Landing = Landing()
    """What else stands beside a tenant's files."""
    signing: Annotated[ConnectionId | None, OrNone] = None
    """The Airflow connection that holds the Ed25519 key to sign manifests with; without it they are not signed."""

    @property
    def without_plan(self) -> str:
        """Return what a tenant reads whose plan does not include exports, and what to do."""
        if self.plan_sentence:
            return self.plan_sentence
        plan = str(self.plan_required).capitalize()
        if self.support_contact:
            return tell("submission.without_plan_contact", plan=plan, contact=self.support_contact)
        return tell("submission.without_plan", plan=plan)

    def permissions_of(self, roles: Iterable[str] | None) -> frozenset[str]:
        """Return what these roles may do. None stands for a token that names no roles. What lets people in limits it.

        Without a role table, everybody may do everything with requests except administer them. Registrations are managed by those to whom
        the table gives the right, by administrators of requests, and by `admin` if the table has no such role. In a house that uses no
        roles at all, a token that names none may manage them, too: its scope is then all that the issuer says.
        """
        held = {EVERYONE, *(roles or ())}
        if self.roles:
            found = {name for role in held for name in self.roles.get(role, ())}
        else:
            found = {"exports.view", "exports.create", "exports.download"}
        is_admin = "exports.admin" in found or (ADMIN in held and ADMIN not in self.roles)
        if is_admin or (roles is None and not self.roles):
            found.add("registrations.manage")
        return frozenset(found)


class Preset(ExportPolicy):
    """One file of `config/presets`."""

    description: str = ""
    """What the preset is for."""


class TenantPolicy(ExportPolicy):
    """Knobs of one tenant. Its `preset` takes the place of the policy's."""

    preset: str | None = None
    """The tenant's preset, in place of the house's."""


class Mail(Strict):
    """An Airflow SMTP connection. Without `sender`, its extra's `from_email` or its login signs."""

    connection: ConnectionId = "smtp_default"
    """The Airflow connection of type `smtp`."""
    sender: str = ""
    """The sender's address."""


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


Slots = Annotated[StrictInt, Field(ge=1, le=1000)]


def _rules(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Policy(ExportPolicy):
    """`destination` serves tenants that name none. Delivered bytes are archived for `archive_days` so that they can be sent again.

    Files at the destination are kept for ever unless `destination_days` is set. `connections` tenants deliver to one destination at once,
    unless `connections_of` names another number for its connection; half as many large deliveries run beside them. An organization is a
    named list of tenants; `plans` names the plan a tenant has.

    Which destination a call of the API may name says `api_destinations`: with `allowed` only connections of `tenant_connections`, and never
    a folder, unless the caller may change every tenant's registration; with `policy` none; with `any` every one. `tenant_connections` names
    them by tenant, or by rules for all tenants such as `{tenant}.*`. A destination that a tenant's token named must be at a public address
    or in `private_networks`, unless its connection is named in full.
    """

    destination: DestinationSpec = SftpDestination(kind="sftp", connection="waybill_sftp")
    """Where the files of tenants go that name no destination."""
    archive_days: Annotated[StrictInt, Field(ge=0, le=LONGEST_DAYS)] = 7
    """For how many days delivered bytes are kept, so that they can be sent again."""
    destination_days: Annotated[StrictInt, Field(ge=1, le=LONGEST_DAYS)] | None = None
    """After how many days delivered files are removed from the destination; never without it, and never where a server lists nothing."""
    api_destinations: Literal["allowed", "policy", "any"] = "allowed"
    """Which destinations a call of the API may name."""
    tenant_connections: Annotated[Mapping[TenantId, tuple[ConnectionRule, ...]] | tuple[ConnectionRule, ...], BeforeValidator(_rules)] = ()
    """The connections a tenant may name, by tenant or by rule."""
    private_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks in which the destination of a tenant may be, besides public addresses."""
    # The slots of a new pool of Airflow, by `slots_of` in `airflow/listener`: so many tasks connect at once. How many channels one SFTP
    # connection has is another number: `MOST_CHANNELS` in `destinations/sftp/channels`.
    connections: Slots = 4
    """How many tenants deliver to one destination at once."""
    connections_of: Mapping[ConnectionId, Slots] = Field(default_factory=dict)
    """The same for single connections."""
    preset: str | None = None
    """The file of `config/presets` that sets what is not set here."""
    tenants: Mapping[TenantId, TenantPolicy] = Field(default_factory=dict)
    """What holds for single tenants."""
    organizations: Mapping[str, Annotated[tuple[TenantId, ...], AfterValidator(_each_once)]] = Field(default_factory=dict)
    """Named lists of tenants, for exports of a whole organization."""
    plans: Mapping[TenantId, str] = Field(default_factory=dict)
    """The plan each tenant has."""
    mail: Mail = Mail()
    """How mail is sent."""

    def organization_of(self, tenant: str) -> str | None:
        """Return the first organization that a tenant belongs to."""
        return next((name for name, members in self.organizations.items() if tenant in members), None)

    def rules_for(self, tenant: str) -> tuple[str, ...]:
        """Return the rules for one tenant: full names of connections, or names with `*` and `{tenant}` in them."""
        return self.tenant_connections.get(tenant, ()) if isinstance(self.tenant_connections, Mapping) else self.tenant_connections

    def may_name(self, tenant: str, connection: str, every: Iterable[str]) -> bool:
        """Return whether the tenant may name the connection. If it fits several tenants by `every`, it belongs to the one with the longest
        id.

        Otherwise `{tenant}_*` would give acme the connection acme_corp_sftp of acme_corp. Some stores of connections read acme_CORP_sftp as
        the same name, and a name with `..` as a path.
        """
        if {".", ".."} & set(connection.split("/")):
            return False
        return any(
            fits(rule, tenant, connection)
            and not any(
                "{tenant}" in rule and len(other) > len(tenant) and fits(rule.lower(), other, connection.lower()) for other in every
            )
            for rule in self.rules_for(tenant)
        )

    @property
    def named_tenants(self) -> frozenset[str]:
        """Return every tenant that the policy names."""
        return frozenset([*self.tenants, *self.plans, *(member for members in self.organizations.values() for member in members)])


def knobs_of(policy: Policy, presets: Mapping[str, Preset], tenant: str) -> ExportPolicy:
    """Return a tenant's knobs. The tenant's explicit ones override the policy's explicit ones, those override the preset's, and those the
    defaults.

    Fixed groups (`range`, `labels`, `page`, `notify`) and `words` are merged key by key. Tables (`roles`, `export_types`) are replaced
    whole.
    """
    own = policy.tenants.get(tenant, TenantPolicy())
    preset = presets.get(own.preset or policy.preset or "", Preset())
    merged: dict[str, Any] = {}
    for layer in (preset, policy, own):
        for name in layer.model_fields_set & ExportPolicy.model_fields.keys():
            value, before = getattr(layer, name), merged.get(name)
            if isinstance(value, Strict) and isinstance(before, type(value)):
                value = before.model_copy(update={key: getattr(value, key) for key in value.model_fields_set})
            if name == "words":
                value = {**(before or {}), **value}
            merged[name] = value
    return ExportPolicy(**merged)


def problems(policy: Policy, presets: Mapping[str, Preset], catalog: Catalog, file: str) -> list[Finding]:
    """Return what only shows when policy, presets and catalog are seen together."""
    found = []
    named = [("preset", policy.preset), *((f"tenants.{tenant}.preset", own.preset) for tenant, own in policy.tenants.items())]
    for path, name in named:
        if name is not None and name not in presets:
            allowed = ", ".join(presets) or "files of config/presets, of which there are none"
            found.append(Finding(file, path, f"unknown preset {name!r}", allowed, closest(name, presets)))
    for path, layer in [("", policy), *((f"tenants.{tenant}.", own) for tenant, own in policy.tenants.items())]:
        found += _export_type_problems(layer, catalog, file, path)
        found += _duration_problems(layer, file, path)
    return found


def _export_type_problems(layer: ExportPolicy, catalog: Catalog, file: str, path: str) -> list[Finding]:
    names = catalog.ids_by_name()
    known = [entity.display_name for entity in catalog.entities.values()]
    return [
        Finding(
            file,
            f"{path}export_types.{name}.entities",
            f"unknown entity {word!r}",
            ", ".join(known),
            closest(word, [*known, *names]),
            "unknown_entity",
        )
        for name, kind in layer.export_types.items()
        if kind.entities != "all"
        for word in kind.entities
        if word.casefold() not in names
    ]


def _duration_problems(layer: ExportPolicy, file: str, path: str) -> list[Finding]:
    """A heartbeat that is not well below the stall time would fail requests that are alive. What lives for no time is never downloaded."""
    lives = [name for name in ("archive_life", "link_life") if getattr(layer, name) == timedelta(0)]
    found = [Finding(file, f"{path}{name}", "must be longer than 0, or nothing could be downloaded", "such as 1h or 7d") for name in lives]
    if layer.heartbeat * 2 > layer.stall_after or layer.heartbeat <= timedelta(0):
        found.append(Finding(file, f"{path}stall_after", "must be at least twice the heartbeat", "such as heartbeat: 15s, stall_after: 2m"))
    return found
