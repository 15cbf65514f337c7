"""The API in Airflow under the FAB auth manager: roles that reach single DAGs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

from tests.airflows import PASSWORD, AirflowApi, under_fab
from waybill.airflow.roles import make_roles

USER = {"entityList": ["user"], "destination": {"kind": "folder", "root": "out"}}
ELSEWHERE = {**USER, "destination": {"kind": "folder", "root": "elsewhere"}}
"""A tenant may keep a destination that is in force, but not name this one."""
ROLES = {
    "reader": {"export__acme": {"can_read"}},
    "editor": {"export__acme": {"can_read", "can_edit"}},
    "stranger": {"export__globex": {"can_read", "can_edit"}},
    "nobody": {},
}


@pytest.fixture(scope="module")
def fab(airflow_api: AirflowApi) -> Iterator[AirflowApi]:
    airflow_api("ada", "PUT", "/acme/export", USER)
    with under_fab(airflow_api, ROLES) as api:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Airflow's own
            assert make_roles(["acme", "globex"]) == ["acme", "globex"]
            assert make_roles(["acme", "globex"]) == []
            with get_application_builder() as builder:
                security = builder.sm
                security.add_user("gina", "Gina", "Test", "gina@example.com", security.find_role("globex"), PASSWORD)
        yield replace(api, passwords={**api.passwords, "gina": PASSWORD})


@pytest.mark.parametrize(
    ("user", "method", "path", "status"),
    [
        ("reader", "GET", "/acme/export", 200),
        ("reader", "GET", "/acme/deliveries", 200),
        ("reader", "PUT", "/acme/export?dryRun=true", 403),
        ("reader", "POST", "/acme/export/full-load", 403),
        ("editor", "PUT", "/acme/export?dryRun=true", 200),
        ("editor", "POST", "/acme/export/full-load", 202),
        ("stranger", "GET", "/acme/export", 404),
        ("stranger", "PUT", "/acme/export?dryRun=true", 404),
        ("stranger", "GET", "/globex/entities", 200),
        ("gina", "GET", "/acme/export", 404),
        ("gina", "PUT", "/acme/export?dryRun=true", 404),
        ("gina", "PUT", "/globex/export?dryRun=true", 422),  # may, but not name that destination
        ("gina", "GET", "/globex/entities", 200),
        ("nobody", "GET", "/acme/export", 404),
        (None, "GET", "/acme/export", 401),
    ],
)
def test_a_role_reaches_the_tenants_whose_dags_it_names(fab: AirflowApi, user: str | None, method: str, path: str, status: int) -> None:
    body = ELSEWHERE if status == 422 else USER if "dryRun" in path else None
    reply = fab(user, method, path, body)
    assert reply.status_code == status, reply.text
    if status >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
