"""The pages inside Airflow: its session, its users' rights, its navigation."""

from __future__ import annotations

from tests.airflows import AirflowApi, environment
from waybill.airflow.users import still_may

HTMX = {"HX-Request": "true", "Sec-Fetch-Site": "same-origin"}


def look(airflow_api: AirflowApi, user: str | None, path: str) -> tuple[int, str]:
    """A page as a browser with Airflow's session cookie gets it."""
    cookies = {"_token": airflow_api.token(user)} if user else {}
    airflow_api.client.cookies.clear()
    airflow_api.client.cookies.update(cookies)
    try:
        answer = airflow_api.client.get(f"/waybill/page/{path}", follow_redirects=True)
    finally:
        airflow_api.client.cookies.clear()
    return answer.status_code, answer.text


def test_airflows_session_opens_the_pages_and_nobody_without_one_gets_in(airflow_api: AirflowApi) -> None:
    status, said = look(airflow_api, None, "")
    assert status == 401
    assert "You are not signed in" in said
    assert 'href="./../../api/v2/auth/login?next=%2Fplugin%2Fwaybill%2Fwaybill%2Fpage%2F"' in said
    status, said = look(airflow_api, "ada", "")
    assert status == 200
    assert "Sign out" not in said
    status, said = look(airflow_api, "ada", "dags/export__pagetenant")
    assert status == 200
    assert "Show what would change" in said
    status, said = look(airflow_api, "ada", "dags/apply_config")
    assert status == 200
    assert "into force every few minutes" in said
    assert "This DAG does not belong to Waybill" in look(airflow_api, "ada", "dags/example_dag")[1]


def test_a_viewer_of_airflow_sees_and_changes_nothing(airflow_api: AirflowApi) -> None:
    status, said = look(airflow_api, "vic", "tenants/pagetenant")
    assert status == 200
    assert "Show what would change" not in said
    airflow_api.client.cookies.update({"_token": airflow_api.token("vic")})
    try:
        answer = airflow_api.client.post("/waybill/page/tenants/pagetenant/registration", data={}, headers=HTMX)
    finally:
        airflow_api.client.cookies.clear()
    assert answer.status_code == 403


def test_a_download_link_of_the_nameless_administrator_works_where_everybody_is_one(airflow_api: AirflowApi) -> None:
    assert not still_may("airflow:Anonymous", "pagetenant")
    with environment(AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True"):
        assert still_may("airflow:Anonymous", "pagetenant")


def test_the_pages_stand_in_the_navigation_and_on_every_dag(airflow_api: AirflowApi) -> None:
    headers = {"Authorization": f"Bearer {airflow_api.token('ada')}"}
    plugins = airflow_api.client.get("/api/v2/plugins", headers=headers).json()["plugins"]
    views = next(plugin["external_views"] for plugin in plugins if plugin["name"] == "waybill")
    assert [(view["destination"], view["href"]) for view in views] == [
        ("nav", "waybill/page/"),
        ("dag", "waybill/page/dags/{DAG_ID}"),
    ]
