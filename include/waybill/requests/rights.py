"""Decides who may do what with export requests. Every use case about them asks here.

Which role has which permission is a table of the policy: `ExportPolicy.roles`, read by `permissions_of` (`configuration/policy`).
"""

from __future__ import annotations

from waybill.access import Caller, Permission, TokenRights
from waybill.configuration.policy import ExportPolicy
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import registrations
from waybill.ledger.on_demand.request_records import ExportRequest
from waybill.requests.lifecycle import Refused

_DENIED = {
    Permission.EXPORTS_VIEW: "view_denied",
    Permission.EXPORTS_CREATE: "create_denied",
    Permission.EXPORTS_DOWNLOAD: "download_denied",
    Permission.EXPORTS_ADMIN: "view_denied",
}


def require(installation: Installation, caller: Caller, tenant: str, wanted: Permission) -> ExportPolicy:
    """Return the tenant's export policy if the caller holds the permission.

    Raises not_found if the tenant does not exist or the caller must not know of it, else the permission's own refusal. The audit log holds
    refusals.
    """
    known = caller.rights.reaches(tenant) and is_known(installation, tenant)
    export_policy = installation.configuration.export_policy(tenant)
    needed = {wanted} | (
        {Permission.EXPORTS_CREATE} if wanted is Permission.EXPORTS_VIEW and not export_policy.view_without_create else set()
    )
    if known and all(caller.allows(permission, tenant) for permission in needed):
        return export_policy
    code = _DENIED[wanted] if known else "not_found"
    note_denied(installation, caller, tenant, wanted.value)
    raise Refused("not_found", tell("missing.tenant", tenant=tenant)) if code == "not_found" else Refused(code)


def require_project(caller: Caller, project: str | None) -> None:
    """Raise not_found for a project of which the caller is no member, and create_denied if a bound caller asks beyond one project."""
    if not caller.belongs_to(project):
        raise Refused("not_found", tell("missing.project", project=project)) if project else Refused("create_denied")


def note_denied(installation: Installation, caller: Caller, tenant: str, wanted: str, **more: str) -> None:
    """Write a denied attempt to the audit log, unless a line of the last hour says the same."""
    now = installation.now()
    folded = installation.ledger.denials.line(caller.actor, (tenant, wanted, more.get("method", "")), now)
    if folded is not None:
        with installation.ledger.begin() as connection:
            registrations.note(connection, tenant[:63], caller.actor, "denied", {"permission": wanted, **more, **folded}, now)


def has_plan(installation: Installation, tenant: str) -> bool:
    """Return whether the tenant's plan includes exports."""
    wanted = installation.configuration.export_policy(tenant).plan_required
    return wanted is None or installation.configuration.policy.plans.get(tenant) == wanted


def is_known(installation: Installation, tenant: str) -> bool:
    """Return whether the tenant is registered, has a file, or is named by policy."""
    if installation.configuration.has_file(tenant) or tenant in installation.configuration.policy.named_tenants:
        return True
    with installation.ledger.read() as connection:
        return registrations.current(connection, tenant) is not None


def visible_tenants(installation: Installation, caller: Caller, tenant: str, export_policy: ExportPolicy) -> list[str]:
    """Return the tenants whose requests are visible at a tenant: itself, and with visibility `organization` its siblings."""
    if export_policy.visibility != "organization":
        return [tenant]
    siblings = [sibling for sibling in organization_members(installation, tenant) if sibling != tenant]
    return [tenant, *caller.rights.among(Permission.EXPORTS_VIEW, siblings)]


def organization_members(installation: Installation, tenant: str, organization: str | None = None) -> tuple[str, ...]:
    """Return the tenants of an organization, by default of the tenant's own. There are none if the tenant does not belong to it."""
    policy = installation.configuration.policy
    found = policy.organizations.get(organization or policy.organization_of(tenant) or "", ())
    return found if tenant in found else ()


def sees_only_own(caller: Caller, tenant: str, export_policy: ExportPolicy) -> bool:
    return export_policy.visibility == "own" and not caller.allows(Permission.EXPORTS_ADMIN, tenant)


def may_see(caller: Caller, request: ExportRequest, export_policy: ExportPolicy) -> bool:
    """Return whether a caller who may view the tenant sees this request.

    Only a caller who may view every tenant of a request sees it, whatever the visibility and whoever asked for it.
    """
    others = [tenant for tenant in request.tenants if tenant != request.tenant]
    if not caller.belongs_to(request.project) or not holds(caller, Permission.EXPORTS_VIEW, others):
        return False
    return request.requested_by == caller.actor or not sees_only_own(caller, request.tenant, export_policy)


def holds(caller: Caller, wanted: Permission, tenants: list[str]) -> bool:
    """Return whether the caller has the right for every one of these tenants."""
    return all(caller.allows(wanted, tenant) for tenant in tenants)


def may_cancel(caller: Caller, request: ExportRequest, export_policy: ExportPolicy) -> bool:
    by_creator = "creator" in export_policy.cancel_by and request.requested_by == caller.actor
    return by_creator or ("admin" in export_policy.cancel_by and holds(caller, Permission.EXPORTS_ADMIN, request.tenants))


def may_delete(caller: Caller, request: ExportRequest, export_policy: ExportPolicy) -> bool:
    """Return whether the caller made the request or administers all its tenants. An active one must also be theirs to cancel."""
    owner = request.requested_by == caller.actor or holds(caller, Permission.EXPORTS_ADMIN, request.tenants)
    return owner and (not request.is_active or may_cancel(caller, request, export_policy))


def may_download(caller: Caller, request: ExportRequest) -> bool:
    """Return whether the caller may download exports of every tenant in the archive."""
    return holds(caller, Permission.EXPORTS_DOWNLOAD, request.tenants)


def roles_of(caller: Caller) -> list[str] | None:
    """Return the roles to check in policy's table later. None if the shell's own authority decides."""
    return sorted(caller.rights.roles or ()) if isinstance(caller.rights, TokenRights) else None


def still_holds(installation: Installation, roles: list[str] | None, tenants: list[str], wanted: Permission) -> bool:
    """Return whether policy's role tables still grant a permission to these roles. True if another authority decides."""
    return roles is None or all(wanted in installation.configuration.export_policy(tenant).permissions_of(roles) for tenant in tenants)
