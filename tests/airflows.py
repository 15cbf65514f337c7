"""Airflow's own API server, with this repository's plugin in it, as a test client."""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from tests.installations import NOON, Place, make_place

ROLES = {"ada": "admin", "otto": "op", "uma": "user", "vic": "viewer", "nina": ""}


@dataclass
class AirflowApi:
    """The server on a metadata database of its own. `place` is the installation of Waybill it works on."""

    client: TestClient
    place: Place
    passwords: dict[str, str]

    def token(self, user: str) -> str:
        reply = self.client.post("/auth/token", json={"username": user, "password": self.passwords[user]})
        assert reply.status_code == 201, reply.text
        return str(reply.json()["access_token"])

    def __call__(self, user: str | None, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One request; `path` is below `/waybill/api/v1/tenants`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            sent["Authorization"] = f"Bearer {self.token(user)}"
        return self.client.request(method, f"/waybill/api/v1/tenants{path}", json=body, headers=sent)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _add_bundle() -> None:
    """As the DAG processor does when it starts."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))


@contextmanager
def no_search_for_garbage() -> Iterator[None]:
    """While Airflow's API is built, which makes a million objects that stay: a third of the processor's time goes without this."""
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@contextmanager
def serve_airflow_api(root: Path) -> Iterator[AirflowApi]:
    """Under the simple auth manager, with one user of each role in `ROLES`. Takes about ten seconds to come up."""
    users = ",".join(f"{name}:{role}" for name, role in ROLES.items() if role)
    settings = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users, "WAYBILL_CONFIG_DIR": str(root / "config")}
    with environment(**settings):
        from airflow.api_fastapi.app import create_app
        from airflow.utils.db import initdb

        place = make_place(root, clock=NOON)
        (root / "config/tenants/acme.yaml").unlink()
        with no_search_for_garbage(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Airflow's own, about its own libraries
            initdb()
            app = create_app("core")
            _add_bundle()
        with TestClient(app, raise_server_exceptions=False) as client:
            generated = Path(os.environ["AIRFLOW_HOME"], "simple_auth_manager_passwords.json.generated")
            yield AirflowApi(client, place, json.loads(generated.read_text()))
        place.close()


FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
PASSWORD = "not-a-secret-at-all"


@contextmanager
def under_fab(api: AirflowApi, roles: dict[str, dict[str, set[str]]]) -> Iterator[AirflowApi]:
    """The same installation under FAB. `roles` are users, each with a role of that name: DAG id -> FAB actions on that DAG alone.

    Airflow keeps one auth manager per process: while this is open, the simple one is out of force.
    """
    from airflow.api_fastapi import app as airflow_app

    before = airflow_app._AuthManagerState.instance
    with environment(AIRFLOW__CORE__AUTH_MANAGER=FAB), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        airflow_app._AuthManagerState.instance = None
        with no_search_for_garbage():
            app = airflow_app.create_app("core")
            _add_fab_users(app.state.auth_manager, roles)
        try:
            with TestClient(app, raise_server_exceptions=False) as client:
                yield AirflowApi(client, api.place, dict.fromkeys(roles, PASSWORD))
        finally:
            airflow_app._AuthManagerState.instance = before


def _add_fab_users(manager: Any, roles: dict[str, dict[str, set[str]]]) -> None:
    from airflow.providers.fab.www.app import create_app as create_flask_app

    with create_flask_app(enable_plugins=False).app_context():
        security = manager.security_manager
        for name, dags in roles.items():
            role = security.add_role(name)
            for action, resource in [("can_create", "DAG Runs"), ("can_read", "DAG Runs")]:
                security.add_permission_to_role(role, security.create_permission(action, resource))
            for dag, actions in dags.items():
                for action in actions:
                    security.add_permission_to_role(role, security.create_permission(action, f"DAG:{dag}"))
            security.add_user(name, name.title(), "Test", f"{name}@example.com", role, PASSWORD)
