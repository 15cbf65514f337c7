"""The demo's folder: swept at each start, held by one demo at a time, with nothing of the machine's own settings."""

import socket

import pytest

from tests.airflows import environment as in_environment
from waybill.errors import PermanentError
from waybill_demo.stage import environment, free_port, stage


def test_each_demo_begins_with_a_clean_folder_and_a_copy_of_the_configuration(tmp_path):
    for _ in range(2):
        with stage(tmp_path) as place:
            assert sorted(path.name for path in tmp_path.iterdir()) == ["config", "lock"]
            assert sorted(place.configuration().tenants) == ["acme", "globex", "initech"]
            (tmp_path / "airflow").mkdir()
            (tmp_path / "airflow.log").write_text("old")


def test_a_second_demo_in_the_same_folder_is_refused_and_harms_nothing(tmp_path):
    with stage(tmp_path):
        (tmp_path / "mine").write_text("x")
        with pytest.raises(PermanentError, match="another demo is running"), stage(tmp_path):
            pass
        assert (tmp_path / "mine").exists()


def test_airflow_is_started_with_the_demos_settings_only(tmp_path):
    with stage(tmp_path) as place, in_environment(AIRFLOW__CORE__EXECUTOR="Celery", WAYBILL_LEDGER_URL="postgresql://elsewhere/db"):
        found = environment(place, {"acme_sftp": "{}"}, 1234, "not-a-secret")
    assert found["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert "WAYBILL_LEDGER_URL" not in found
    assert found["AIRFLOW_CONN_ACME_SFTP"] == "{}"
    assert (tmp_path / "airflow" / "passwords.json").stat().st_mode & 0o077 == 0


def test_an_occupied_port_is_stepped_around():
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = occupied.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port
