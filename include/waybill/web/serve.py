"""The application that `waybill serve` runs: tenants with OAuth2 tokens, and no scheduler beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from waybill.access import Caller


class NoScheduler:
    """`waybill serve` runs no deliveries: it faces tenants and holds no key to any warehouse.

    What is asked for stands in the ledger, where the next run finds it: that of Airflow on the same ledger, or of `waybill run`.
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
    """The application as tenants reach it. Raises PermanentError when the environment does not say whose tokens count."""
    # Airflow's connections bring it along later: half imported by one thread, it breaks every other thread's SQL.
    import sqlalchemy.orm  # noqa: F401

    from waybill.airflow import open_installation
    from waybill.web.app import create_app
    from waybill.web.oauth import Issuer, TokenAccess

    issuer = Issuer.from_environment()
    installation = open_installation()
    return create_app(lambda: installation, TokenAccess(issuer), NoScheduler())
