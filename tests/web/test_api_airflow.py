"""The same API inside Airflow's API server: Airflow's users, DAG rights as permissions, DAGs and runs that follow."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.airflows import AirflowApi
from tests.schemathesis_sweep import sweep
from waybill.airflow.scheduler import AirflowScheduler
from waybill.deliveries.reports.overview import SchedulerState
from waybill.registrations.applying import Failed

USER = {"entityList": ["user"], "destination": {"kind": "folder", "root": "out"}}
ROUTES = {
    ("GET", "/export"): "view",
    ("PUT", "/export?dryRun=true"): "edit",
    ("POST", "/export?dryRun=true"): "edit",
    ("POST", "/export/full-load"): "run",
    ("GET", "/export/versions"): "view",
    ("POST", "/export/versions/1/restore?dryRun=true"): "edit",
    ("GET", "/entities"): "view",
    ("GET", "/deliveries"): "view",
}


@pytest.fixture
def airflow(airflow_api: AirflowApi) -> AirflowApi:
    return airflow_api


@pytest.fixture
def acme(airflow: AirflowApi) -> AirflowApi:
    assert airflow("ada", "PUT", "/acme/export", USER).status_code in (200, 201)
    return airflow


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_every_route_asks_for_a_user_and_their_right_on_the_dag(acme: AirflowApi, method: str, path: str) -> None:
    anonymous = acme(None, method, f"/acme{path}", USER)
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "unauthenticated")
    for user in ("ada", "otto", "uma"):
        assert acme(user, method, f"/acme{path}", USER).status_code in (200, 202, 422), (user, method, path)
    viewer = acme("vic", method, f"/acme{path}", USER)
    assert viewer.status_code == (200 if ROUTES[method, path] == "view" else 403), (method, path, viewer.text)
    if viewer.status_code == 403:
        assert viewer.json()["code"] == "denied"
        right = "create runs of" if path.endswith(("full-load", "redeliver")) else "edit"
        assert f"It needs the right to {right} the DAG export__acme," in viewer.json()["detail"]


def test_a_token_that_is_none_is_401(airflow: AirflowApi) -> None:
    reply = airflow(None, "GET", "/acme/export", Authorization="Bearer abc")
    assert (reply.status_code, reply.headers["content-type"]) == (401, "application/problem+json")
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_the_session_cookie_of_airflows_pages_is_enough_to_look(acme: AirflowApi) -> None:
    acme.client.cookies.set("_token", acme.token("vic"))
    try:
        assert acme(None, "GET", "/acme/export").status_code == 200
    finally:
        acme.client.cookies.clear()


def test_an_unknown_tenant_is_404_and_a_change_says_who_made_it(acme: AirflowApi) -> None:
    assert acme("vic", "GET", "/nobody/export").json()["code"] == "not_found"
    assert acme("vic", "GET", "/acme/export").json()["updatedBy"] == "airflow:ada"


def parse_requests() -> list[tuple[str, str]]:
    from airflow.models.dagbag import DagPriorityParsingRequest
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    with create_session() as session:
        found = [(value.bundle_name, value.relative_fileloc) for value in session.scalars(select(DagPriorityParsingRequest))]
        session.execute(delete(DagPriorityParsingRequest))
    return found


def test_a_changed_registration_has_the_dag_file_parsed_at_once_and_a_repeat_does_not(airflow: AirflowApi) -> None:
    airflow("ada", "PUT", "/globex/export", USER)
    parse_requests()
    airflow("ada", "PUT", "/globex/export", USER)
    assert parse_requests() == []
    airflow("ada", "PUT", "/globex/export", {**USER, "frequency": "weekly"})
    assert [file for _, file in parse_requests()] == ["tenant_exports.py"]


def test_a_full_load_asked_for_before_the_dag_exists_is_left_to_its_first_run(acme: AirflowApi) -> None:
    forget_dag("export__acme")
    parse_requests()
    reply = acme("uma", "POST", "/acme/export/full-load", {"when": "now"})
    assert (reply.status_code, reply.json()["when"]) == (202, "next")
    assert [file for _, file in parse_requests()] == ["tenant_exports.py"]


def runs_of(dag: str) -> list[tuple[str, str]]:
    """Who started its runs, and their states; they are forgotten then."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    with create_session() as session:
        found = [(run.triggering_user_name, str(run.state)) for run in session.scalars(select(DagRun).where(DagRun.dag_id == dag))]
        session.execute(delete(DagRun).where(DagRun.dag_id == dag))
    return found


def test_a_full_load_now_starts_one_run_of_the_tenants_dag_and_says_what_it_waits_for(acme: AirflowApi) -> None:
    save_dag(acme)
    runs_of("export__acme")
    replies = [acme("uma", "POST", "/acme/export/full-load", {"when": "now", "entities": ["user"]}) for _ in range(2)]
    assert [(reply.status_code, reply.json()["when"]) for reply in replies] == [(202, "now")] * 2
    assert [reply.json()["detail"][:18] for reply in replies] == ["A run was started.", "A run was asked fo"]
    assert AirflowScheduler().scheduler_state()["acme"] == SchedulerState(run="queued")
    wait_to_be_tried_again("export__acme")
    retry_at = AirflowScheduler().scheduler_state("acme")["acme"].retry_at
    assert retry_at is not None
    assert timedelta(seconds=30) <= retry_at - FAILED_AT <= timedelta(minutes=1)  # Airflow adds up to as much again
    reply = acme("uma", "POST", "/acme/export/full-load", {"when": "now"})
    assert reply.json()["detail"].startswith("What failed in the run that is under way is tried again now,")
    assert AirflowScheduler().scheduler_state("acme")["acme"].retry_at is None
    assert runs_of("export__acme") == [("uma", "queued")]
    pause("export__acme", True)
    reply = acme("uma", "POST", "/acme/export/full-load", {"when": "now"})
    pause("export__acme", False)
    assert "is paused in Airflow" in reply.json()["detail"]
    assert len(runs_of("export__acme")) == 1


FAILED_AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


def wait_to_be_tried_again(dag: str) -> None:
    """As after a first try that failed in the run that is under way."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    tries = update(TaskInstance).where(TaskInstance.dag_id == dag, TaskInstance.task_id == "plan")
    with create_session() as session:
        done = session.execute(tries.values(state="up_for_retry", end_date=FAILED_AT, try_number=1))
        assert done.rowcount == 1


def pause(dag: str, is_paused: bool) -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id == dag).values(is_paused=is_paused))


def test_a_tenant_that_is_to_receive_something_new_gets_a_run_at_once(acme: AirflowApi) -> None:
    save_dag(acme)
    runs_of("export__acme")
    acme("ada", "PUT", "/acme/export", {**USER, "exportOption": "disable export"})
    assert runs_of("export__acme") == []
    save_dag(acme)
    assert AirflowScheduler().scheduler_state("acme") == {"acme": SchedulerState(scheduled=False)}
    acme("ada", "PUT", "/acme/export", USER)
    assert runs_of("export__acme") == [("ada", "queued")]


def test_the_rounds_of_applying_that_failed_since_the_last_good_one_are_known(airflow: AirflowApi) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType
    from sqlalchemy import delete

    def ended(*states: str) -> Failed | None:
        with create_session() as session:
            session.execute(delete(DagRun).where(DagRun.dag_id == "apply_config"))
            for at, state in enumerate(states):
                run = DagRun("apply_config", run_id=f"round+{at}", run_type=DagRunType.MANUAL, run_after=FAILED_AT, state=state)
                run.end_date = FAILED_AT + timedelta(minutes=5 * at)
                session.add(run)
                session.flush()
        return AirflowScheduler().applying_failed()

    second = Failed(FAILED_AT + timedelta(minutes=5), "dags/apply_config/runs/round%2B2")
    assert ended("success", "failed", "failed") == second
    assert ended("failed", "success") is None
    first = ended("failed")
    assert first is not None
    assert first.since == FAILED_AT
    assert ended() is None


def forget_dag(dag: str) -> None:
    """As if it had never been parsed: another module of this process may have stored it."""
    from airflow.api.common.delete_dag import delete_dag
    from airflow.exceptions import DagNotFound

    with suppress(DagNotFound):
        delete_dag(dag)


def save_dag(api: AirflowApi) -> None:
    """The tenants' DAG file, parsed and stored as the DAG processor does."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    from tests.conftest import REPOSITORY

    bag: Any = DagBag(str(REPOSITORY / "dags" / "tenant_exports.py"), bundle_path=REPOSITORY / "dags", bundle_name="dags-folder")
    assert not bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)


def test_whatever_is_sent_is_answered_as_documented(acme: AirflowApi) -> None:
    operations = sweep(acme.client.app, "/waybill/openapi.json", {"Authorization": f"Bearer {acme.token('ada')}"}, "acme")
    assert len(operations) > 8
