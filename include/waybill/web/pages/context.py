"""Which organization and tenant a page is about: the two selectors at its top, and where choosing leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from waybill.access import Caller, Permission
from waybill.installation import Installation
from waybill.ledger import registrations
from waybill.web.dependencies import InstallationDep
from waybill.web.pages.render import below, page
from waybill.web.pages.session import PageCaller

router = APIRouter()

NOBODY = "–"
"""The organization of those that belong to none."""

MOST = 200
"""So many tenants a selector lists; of more, the overview's search finds the others."""

Tab = Literal["overview", "tenant", "requests", "catalogue"]
PLACES: Mapping[str, str] = {"overview": "", "tenant": "", "requests": "/requests", "catalogue": "/catalogue"}


Name = Annotated[str, Query(max_length=200)]


def _wish(new: bool = False, study: Name = "", participant: Name = "") -> dict[str, str]:
    return {name: value for name, value in (("new", "1" if new else ""), ("study", study), ("participant", participant)) if value}


Wish = Annotated[dict[str, str], Depends(_wish)]
"""What an address asks of the form of an export: to be open, with a study and a participant fixed. Empty where it asks for nothing."""


@dataclass(frozen=True)
class Context:
    """What can be chosen and what is. An organization that is the only one counts as chosen. The wish outlives the choice."""

    members: Mapping[str, list[str]]
    organization: str
    tenant: str
    wish: Mapping[str, str] = field(default_factory=dict)

    @property
    def offered(self) -> list[str]:
        """The tenants of the chosen organization; the chosen one is always among them."""
        found = self.members.get(self.organization, [])[:MOST]
        return found if not self.tenant or self.tenant in found else [self.tenant, *found]

    @property
    def only(self) -> str:
        """The tenant, where there is but one to be chosen."""
        every = [one for names in self.members.values() for one in names]
        return every[0] if len(every) == 1 else ""

    @property
    def more(self) -> int:
        return max(0, len(self.members.get(self.organization, ())) - MOST)


def context(
    installation: Installation, caller: Caller, tab: str, organization: str = "", tenant: str = "", wish: Mapping[str, str] | None = None
) -> Context:
    """The tenants for which the caller may see pages of this kind, by organization, and the choice out of them."""
    wanted = Permission.EXPORTS_VIEW if tab == "requests" else Permission.REGISTRATIONS_VIEW
    policy = installation.configuration.policy
    with installation.ledger.read() as connection:
        known = {*registrations.ids(connection), *policy.named_tenants, *installation.configuration.tenants}
    owners = {one: name for name, members in reversed(list(policy.organizations.items())) for one in members}
    found: dict[str, list[str]] = {}
    for one in caller.rights.among(wanted, sorted(known)):
        found.setdefault(owners.get(one, NOBODY), []).append(one)
    if tenant:
        organization = owners.get(tenant, NOBODY)
        found.setdefault(organization, [])
    elif len(found) == 1:
        organization = next(iter(found))
    return Context(found, organization if organization in found else "", tenant, wish or {})


def frame(
    installation: Installation, caller: Caller, tab: Tab, tenant: str = "", organization: str = "", wish: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What every page shows around its content."""
    return {"tab": tab, "tenant": tenant or None, "context": context(installation, caller, tab, organization, tenant, wish)}


def asking(values: Mapping[str, str]) -> str:
    """The query of an address, with its question mark; empty for nothing."""
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
    """The selectors after another organization was chosen, put in place of the old ones."""
    return page(request, "context.html", caller, tab=tab, context=context(installation, caller, tab, organization, wish=wish))


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
    """The page of what was chosen, of the kind one came from."""
    found = context(installation, caller, tab, organization)
    if tenant in found.members.get(organization, ()):
        return RedirectResponse(f"{below(request)}tenants/{tenant}{PLACES[tab]}{asking(wish)}", 303)
    rest = asking(({"organization": organization} if organization else {}) | wish)
    return RedirectResponse(f"{below(request)}{'' if tab in ('overview', 'tenant') else tab}{rest}", 303)
