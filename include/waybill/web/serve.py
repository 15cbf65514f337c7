"""The application that `waybill serve` runs, for tenants with OAuth2 tokens. No scheduler is beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from waybill.access import Caller


class BelowPublicPath:
    """Serves below the path of the public address, whether or not the proxy in front removes that path.

    Cookies, redirects and links are then made for the address that people see.
    """

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        self._app, self._prefix = app, urlsplit(public_url).path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._prefix and scope["type"] == "http":
            path = scope["path"]
            inside = path == self._prefix or path.startswith(f"{self._prefix}/")
            scope = {**scope, "root_path": self._prefix, "path": path if inside else self._prefix + path}
        await self._app(scope, receive, send)


class NoScheduler:
    """`waybill serve` runs no deliveries: it faces tenants and holds no key to any warehouse.

    The ledger keeps what is asked for, and the next run finds it there: a run of Airflow on the same ledger, or of `waybill run`.
    """

    def changed(self, tenant: str) -> None:
        return None

    def run_now(self, tenant: str, caller: Caller) -> str:
        return ""

    def scheduler_state(self, tenant: str | None = None) -> None:
        return None

    def applying_failed(self) -> None:
        return None

    def log_of(self, tenant: str, delivery: str) -> str | None:
        return None


def tenant_app() -> FastAPI:
    """Return the application as tenants reach it. Raises PermanentError if the environment does not say whose tokens count."""
    # Airflow's connections import it later. If one thread has imported half of it, it breaks every other thread's SQL.
    import sqlalchemy.orm  # noqa: F401

    from waybill.airflow import open_installation
    from waybill.requests.links import public_url
    from waybill.web.app import create_app
    from waybill.web.oauth import Issuer, TokenAccess

    issuer = Issuer.from_environment()
    installation = open_installation()
    app = create_app(lambda: installation, TokenAccess(issuer), NoScheduler())
    app.add_middleware(BelowPublicPath, public_url=public_url(installation))
    return app
