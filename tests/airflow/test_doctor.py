"""What `waybill doctor` finds in an Airflow that is set up: files that cannot be parsed, and a database that is not there yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DAGS = Path(__file__).resolve().parents[2] / "dags"
CHECKS = "import json; from waybill.airflow.doctor import airflow_checks; print(json.dumps([vars(one) for one in airflow_checks()]))"


@pytest.mark.slow
def test_the_doctor_parses_the_dag_files_and_looks_at_the_pools(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/housekeeping.py").write_bytes((DAGS / "housekeeping.py").read_bytes())
    (tmp_path / "dags/export_requests.py").write_text("import waybill.airflow\nraise ValueError('oops')\n")
    slow = "import time, waybill.airflow\nend = time.process_time() + 3.2\nwhile time.process_time() < end: pass\n"
    (tmp_path / "dags/tenant_exports.py").write_text(slow)
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags")}
    environment |= {"AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "30", "WAYBILL_CONFIG_DIR": str(tmp_path / "config")}
    environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{tmp_path}/airflow.db"  # another test may have filled the shared one
    done = subprocess.run([sys.executable, "-c", CHECKS], env=environment, capture_output=True, text=True, timeout=600, check=True)
    found = {load["name"]: load for load in json.loads(done.stdout.splitlines()[-1])}
    assert found["export_requests.py"]["status"] == "failed"
    assert "ValueError: oops" in found["export_requests.py"]["found"]
    assert found["tenant_exports.py"]["status"] == "warning"
    assert "30 s end it on a busy machine" in found["tenant_exports.py"]["found"]
    assert "WAYBILL_DAG_FILES" in found["tenant_exports.py"]["next_step"]
    assert "the slowest takes 3." in found["time-outs"]["found"]
    assert "housekeeping.py" not in found
    assert (found["pools"]["status"], "not looked at" in found["pools"]["found"]) == ("ok", True)
