"""Export requests inside Airflow's API server: rights are Airflow's on the tenant's DAG, also when a link is used without a login."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.airflows import ROLES, AirflowApi, environment, under_fab
from waybill.requests.fulfilment import running
from waybill.window import utc_now

USER = {"entityList": ["user"], "destination": {"kind": "folder", "root": "out"}}
BODY = {"entities": ["user"], "formats": ["csv"]}


@pytest.fixture
def api(airflow_api: AirflowApi) -> Iterator[AirflowApi]:
    airflow_api("ada", "PUT", "/acme/export", USER)
    yield airflow_api
    for export in airflow_api("ada", "GET", "/acme/exports").json()["items"]:
        airflow_api("ada", "DELETE", f"/acme/exports/{export['id']}")


def ready(api: AirflowApi, user: str) -> dict[str, Any]:
    made = api(user, "POST", "/acme/exports", BODY)
    assert made.status_code == 202, made.text
    running.fulfil_all(replace(api.place.installation(), now=utc_now))
    export: dict[str, Any] = api(user, "GET", f"/acme/exports/{made.json()['id']}").json()
    assert export["status"] == "done", export
    return export


def path_of(url: str) -> str:
    return "/waybill" + url.partition("/waybill")[2]


def test_a_viewer_sees_but_neither_creates_nor_downloads(api: AirflowApi) -> None:
    export = ready(api, "uma")
    assert api("vic", "GET", f"/acme/exports/{export['id']}").status_code == 200
    for method, path, code in [
        ("POST", "/acme/exports", "create_denied"),
        ("POST", f"/acme/exports/{export['id']}/link", "download_denied"),
        ("POST", f"/acme/exports/{export['id']}/resubmit", "not_resubmittable"),
        ("DELETE", f"/acme/exports/{export['id']}", "delete_denied"),
    ]:
        assert api("vic", method, path, BODY).json()["code"] == code
    assert api(None, "GET", "/acme/exports").status_code == 401


def test_a_link_works_without_a_login_as_long_as_its_person_may_download(api: AirflowApi) -> None:
    export = ready(api, "uma")
    url = path_of(api("uma", "POST", f"/acme/exports/{export['id']}/link").json()["url"])
    assert api.client.get(url).status_code == 200
    demoted = ",".join(f"{name}:{'viewer' if name == 'uma' else role}" for name, role in ROLES.items() if role)
    gone = ",".join(f"{name}:{role}" for name, role in ROLES.items() if role and name != "uma")
    for users in (demoted, gone):
        with environment(AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS=users):
            assert api.client.get(url).json()["code"] == "not_found"
    assert api.client.get(url).status_code == 200


def test_under_fab_a_link_dies_with_the_users_right_and_with_the_user(api: AirflowApi) -> None:
    roles = {"creator": {"export__acme": {"can_read", "can_edit"}}}
    with under_fab(api, roles) as fab, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export = ready(fab, "creator")
        url = path_of(fab("creator", "POST", f"/acme/exports/{export['id']}/link").json()["url"])
        assert fab.client.get(url).status_code == 200
        _lock("creator")
        assert fab.client.get(url).json()["code"] == "not_found"


def _lock(name: str) -> None:
    from airflow.providers.fab.auth_manager.models import User
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(User).where(User.username == name).values(active=False))
