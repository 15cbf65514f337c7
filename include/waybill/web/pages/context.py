"""The organization and the tenant that a page is about: the two selectors at its top, and where choosing leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from waybill.access import TENANT_ID, Caller, Permission
from waybill.errors import ConfigError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations
from waybill.web.dependencies import InstallationDep
from waybill.web.pages.render import below, page
from waybill.web.pages.signing_in.session import PageCaller

router = APIRouter()

NOBODY = "–"
"""The organization of tenants that belong to none."""

MOST = 200
"""The number of tenants that a selector lists. The overview's search finds the others."""

Tab = Literal["overview", "tenant", "requests", "catalogue"]
PLACES: Mapping[str, str] = {"overview": "", "tenant": "", "requests": "/requests", "catalogue": "/catalogue"}


Name = Annotated[str, Query(max_length=200)]


def _wish(new: bool = False, study: Name = "", participant: Name = "") -> dict[str, str]:
    return {name: value for name, value in (("new", "1" if new else ""), ("study", study), ("participant", participant)) if value}


Wish = Annotated[dict[str, str], Depends(_wish)]
"""What an address asks of the form of an export: to be open, with a study and a participant fixed. It is empty if it asks for nothing."""


@dataclass(frozen=True)
class Context:
    """What can be chosen and what is. The only organization counts as chosen. The wish outlives the choice."""

    members: Mapping[str, list[str]]
    organization: str
    tenant: str
    wish: Mapping[str, str] = field(default_factory=dict)

    @property
    def offered(self) -> list[str]:
        """The tenants of the chosen organization. The chosen one is always among them."""
        found = self.members.get(self.organization, [])[:MOST]
        return found if not self.tenant or self.tenant in found else [self.tenant, *found]

    @property
    def only(self) -> str:
        """The tenant, if there is only one to choose."""
        every = [name for names in self.members.values() for name in names]
        return every[0] if len(every) == 1 else ""

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose. Whoever sees one tenant, or none, needs no selectors."""
        return sum(map(len, self.members.values())) > 1

    @property
    def more(self) -> int:
        return max(0, len(self.members.get(self.organization, ())) - MOST)


@dataclass(frozen=True)
class KnownTenants:
    """Every tenant, and those that are registered for scheduled delivery."""

    known: list[str]
    registered: frozenset[str]


def known_tenants(installation: Installation) -> KnownTenants:
    with installation.ledger.read() as connection:
        met = registrations.known(connection)
    configuration = installation.configuration
    filed = {file_name for file_name in configuration.file_names if TENANT_ID.match(file_name)}
    registered = frozenset(name for name, is_registered in met.items() if is_registered)
    return KnownTenants(sorted({*met, *configuration.policy.named_tenants, *filed}), registered)


def context(installation: Installation, caller: Caller, tab: str, organization: str = "", wish: Mapping[str, str] | None = None) -> Context:
    """Return the tenants whose pages of this kind the caller may see, by organization, and the choice among them."""
    return _context(installation, caller, known_tenants(installation), tab, organization, "", wish or {})


def _context(
    installation: Installation, caller: Caller, every: KnownTenants, tab: str, organization: str, tenant: str, wish: Mapping[str, str]
) -> Context:
    wanted = Permission.EXPORTS_VIEW if tab == "requests" else Permission.REGISTRATIONS_VIEW
    policy = installation.configuration.policy
    owners = {member: name for name, members in reversed(list(policy.organizations.items())) for member in members}
    found: dict[str, list[str]] = {}
    for tenant_id in caller.rights.among(wanted, every.known):
        found.setdefault(owners.get(tenant_id, NOBODY), []).append(tenant_id)
    if tenant:
        organization = owners.get(tenant, NOBODY)
        found.setdefault(organization, [])
    elif len(found) == 1:
        organization = next(iter(found))
    return Context(found, organization if organization in found else "", tenant, wish)


def frame(
    installation: Installation, caller: Caller, tab: Tab, tenant: str = "", organization: str = "", wish: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What every page shows around its content."""
    every = known_tenants(installation)
    chosen = _context(installation, caller, every, tab, organization, tenant, wish or {})
    return {"tab": tab, "tenant": tenant or None, "context": chosen, "tabs": _tabs(installation, caller, every, tenant, chosen)}


def is_customer(caller: Caller, every: KnownTenants) -> bool:
    """Whether somebody comes for their own data alone: their rights end at one tenant, or at tenants without scheduled deliveries."""
    if caller.is_insider:
        return False
    seen = caller.rights.among(Permission.REGISTRATIONS_VIEW, every.known)
    return len(seen) < 2 or every.registered.isdisjoint(seen)


def _tabs(installation: Installation, caller: Caller, every: KnownTenants, tenant: str, chosen: Context) -> list[Link]:
    """Return the navigation. Operators begin at all tenants, customers at their exports. A tab that would be refused is not there."""
    exports = exports_title(installation, tenant or chosen.only)
    if not is_customer(caller, every):
        below_tenant = f"tenants/{tenant}/" if tenant else ""
        own = [Link("tenant", tenant, f"tenants/{tenant}")] if tenant else []
        rest = [Link("requests", exports, f"{below_tenant}requests"), Link("catalogue", tell("nav.catalogue"), f"{below_tenant}catalogue")]
        return [Link("overview", tell("nav.overview"), ""), *own, *rest]
    sole = caller.rights.among(Permission.REGISTRATIONS_VIEW, every.known)
    scheduled = [Link("tenant", tell("nav.deliveries"), f"tenants/{tenant_id}") for tenant_id in sole[:1] if tenant_id in every.registered]
    asks = caller.rights.among(Permission.EXPORTS_VIEW, every.known)
    own = [Link("requests", exports, f"tenants/{tenant}/requests" if tenant else "requests")] if asks else []
    return [*own, *scheduled, Link("catalogue", tell("nav.catalogue"), "catalogue")]


def exports_title(installation: Installation, tenant: str) -> str:
    """Return what the product calls its page of exports."""
    try:
        return installation.configuration.export_policy(tenant).page.title or tell("nav.exports")
    except ConfigError:
        return tell("nav.exports")  # the page itself says what is wrong


@dataclass(frozen=True)
class Link:
    """A tab of the navigation: the kind of page, its title, and its address from where the pages begin."""

    tab: str
    title: str
    address: str


def asking(values: Mapping[str, str]) -> str:
    """Return the query of an address, with its question mark. It is empty for nothing."""
    return "?" + urlencode(values) if values else ""


@router.get("/context")
def show_context(
    request: Request,
    caller: PageCaller,
    installation: InstallationDep,
    wish: Wish,
    organization: Name = "",
    tab: Tab = "overview",
) -> Response:
    """Show the selectors after another organization was chosen, in the place of the old ones."""
    return page(request, "frame/context.html", caller, tab=tab, context=context(installation, caller, tab, organization, wish=wish))


@router.get("/choose")
def choose(
    request: Request,
    caller: PageCaller,
    installation: InstallationDep,
    wish: Wish,
    organization: Name = "",
    tenant: Annotated[str, Query(max_length=63)] = "",
    tab: Tab = "overview",
) -> Response:
    """Lead to the page of what was chosen, of the same kind as before."""
    found = context(installation, caller, tab, organization)
    if tenant in found.members.get(organization, ()):
        return RedirectResponse(f"{below(request)}tenants/{tenant}{PLACES[tab]}{asking(wish)}", 303)
    rest = asking(({"organization": organization} if organization else {}) | wish)
    return RedirectResponse(f"{below(request)}{'' if tab in ('overview', 'tenant') else tab}{rest}", 303)
