"""What routes ask for: the caller, the installation, the shell's scheduler, and the check that a caller may do a thing to a tenant."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

from fastapi import Depends, Request
from fastapi import Path as InPath
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from waybill.access import Caller, Permission
from waybill.deliveries import planning
from waybill.deliveries.reports.overview import SchedulerStates
from waybill.installation import Installation
from waybill.language import table, tell
from waybill.registrations.applying import Failed
from waybill.requests.rights import note_denied, require
from waybill.web.problems import Refused, unauthenticated


class Access(Protocol):
    """How a shell recognises who calls."""

    async def caller(self, request: Request) -> Caller:
        """Return the caller. Raises `problems.unauthenticated`, or the shell's own HTTPException, if nobody can be recognised."""
        ...


class Scheduler(Protocol):
    """How a shell gets deliveries going."""

    def changed(self, tenant: str) -> None:
        """A registration was replaced. Schedules follow within seconds if the shell has any."""
        ...

    def run_now(self, tenant: str, caller: Caller) -> str:
        """Start a run of what is due. Returns the word of `RUN_STARTED` for what comes of it."""
        ...

    def scheduler_state(self, tenant: str | None = None) -> SchedulerStates | None:
        """Return what it does with every tenant now, or with one, or None if this shell does not know."""
        ...

    def applying_failed(self) -> Failed | None:
        """Return the rounds of applying the configuration that failed since the last good one, or None if it was good or nobody
        knows here.
        """
        ...

    def log_of(self, tenant: str, delivery: str) -> str | None:
        """Return where the log of a delivery's latest try is, relative to the shell's own root, or None if there is none."""
        ...


RUN_STARTED = table("run_started")
"""What `run_now` brought about, in words."""


def follow(installation: Installation, scheduler: Scheduler, caller: Caller, tenant: str, *, created: bool) -> None:
    """After a replace, schedules change, and a run starts if the tenant receives something it has never got.

    A tenant that was registered for the first time needs no run: its new DAG starts its first run by itself.
    """
    scheduler.changed(tenant)
    if not created and planning.undelivered(installation, tenant):
        scheduler.run_now(tenant, caller)


class Installations:
    """The installation of a long-lived process. It opens at the first request, and sees changed files within a second."""

    def __init__(self, factory: Callable[[], Installation], every: float = 1.0) -> None:
        self._factory, self._every = factory, every
        self._lock = threading.Lock()
        self._installation: Installation | None = None
        self._looked, self._seen = 0.0, ""

    @property
    def opened(self) -> Installation | None:
        """The installation as it was last read, or None before the first request."""
        return self._installation

    def current(self) -> Installation:
        with self._lock:
            if self._installation is None:
                self._installation = self._factory()
            if time.monotonic() - self._looked >= self._every:
                seen = _fingerprint(self._installation.settings.config_dir)
                same = seen == self._seen
                self._installation = self._installation.again() if same else replace(self._installation)  # configuration unread
                self._looked, self._seen = time.monotonic(), seen
            return self._installation


def _fingerprint(folder: Path) -> str:
    """Return a value that changes when a file that all tenants share is added, removed or written. A tenant's own file is checked when
    somebody asks for it.
    """
    entries: list[str] = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("presets/*")]):
        try:
            facts = path.stat()
        except OSError:
            continue
        entries.append(f"{path}:{facts.st_mtime_ns}:{facts.st_size}:{facts.st_ino}")
    return "\n".join(entries)


def current_installation(request: Request) -> Installation:
    installations: Installations = request.app.state.installations
    return installations.current()


def current_scheduler(request: Request) -> Scheduler:
    scheduler: Scheduler = request.app.state.scheduler
    return scheduler


bearer = HTTPBearer(
    auto_error=False, bearerFormat="JWT", description="Inside Airflow a token of `POST /auth/token`, else one of your OAuth2 issuer."
)


SPEAKER = "waybill.speaker"
"""Where a request keeps whose words its answer uses: see `wording`."""


def recognised(request: Request, caller: Caller) -> Caller:
    """Note who calls, so that the answer is in the words of their tenant."""
    request.scope[SPEAKER].caller = caller
    return caller


async def current_caller(request: Request, _documented: Annotated[object, Depends(bearer)]) -> Caller:
    access: Access = request.app.state.access
    try:
        return recognised(request, await access.caller(request))
    except HTTPException as error:
        # Airflow answers 403 to a token that is none. Nobody knows who calls, so it is 401 here.
        sent = "authorization" in request.headers
        airflow_says = str(error.detail)
        raise unauthenticated(airflow_says, "invalid_token" if sent else "") from error


InstallationDep = Annotated[Installation, Depends(current_installation)]
SchedulerDep = Annotated[Scheduler, Depends(current_scheduler)]
CallerDep = Annotated[Caller, Depends(current_caller)]
TenantPath = Annotated[str, InPath(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Tenant id.", examples=["acme"])]


def allowed(wanted: Permission) -> Callable[[Request, str, Caller, Installation], Caller]:
    """A dependency that yields the caller if they hold the permission for the path's tenant.

    Raises not_found if they must not know the tenant, and denied if they may see it but not do this. Both are written to the audit log.
    """

    def check(request: Request, tenant: TenantPath, caller: CallerDep, installation: InstallationDep) -> Caller:
        if not caller.allows(wanted, tenant):
            refuse(request, installation, caller, wanted, tenant)
        return caller

    return check


def refuse(request: Request, installation: Installation, caller: Caller, wanted: Permission, tenant: str) -> NoReturn:
    """Record the denied attempt and raise what the caller may see of it."""
    note_denied(installation, caller, tenant, wanted.value, method=request.method, path=request.url.path[:500])
    if caller.rights.reaches(tenant):
        raise Refused("denied", tell("call.denied", tenant=tenant, needed=caller.rights.needed(wanted, tenant)))
    raise Refused("not_found", tell("missing.tenant", tenant=tenant))


Viewer = Annotated[Caller, Depends(allowed(Permission.REGISTRATIONS_VIEW))]
Editor = Annotated[Caller, Depends(allowed(Permission.REGISTRATIONS_MANAGE))]
Operator = Annotated[Caller, Depends(allowed(Permission.DELIVERIES_RUN))]


def asking(wanted: Permission) -> Any:
    """A dependency that yields the caller if the policy lets them do this with requests. It runs before a body is read, so nobody else's
    body is.
    """

    def check(tenant: TenantPath, caller: CallerDep, installation: InstallationDep) -> Caller:
        require(installation, caller, tenant, wanted)
        return caller

    return Depends(check)


Asker = Annotated[Caller, asking(Permission.EXPORTS_CREATE)]
Onlooker = Annotated[Caller, asking(Permission.EXPORTS_VIEW)]
