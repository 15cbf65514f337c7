"""The wheel in environments that are not ours: alone, and in a bare Airflow, the oldest and the newest that are supported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import duckdb
import pytest

pytestmark = pytest.mark.slow

OLDEST = "3.3.0"
PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
sys.path.insert(0, sys.argv[2])
import waybill_plugin
mounted = [app["url_prefix"] for app in waybill_plugin.WaybillPlugin().fastapi_apps]
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors, "mounted": mounted}))
"""


class Elsewhere:
    """A virtual environment with the wheel, and a project folder that `waybill init` made in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv/bin/python"
        self.project = folder / "project"

    def install(self, *requirements: str) -> None:
        uv = [sys.executable, "-m", "uv", "--no-config"]
        plain = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        for words in (["venv", "--quiet", "--python", sys.executable, str(self.python.parent.parent)], ["pip", "install", "--quiet",
            "--python", str(self.python), *requirements]):  # fmt: skip
            done = subprocess.run([*uv, *words], capture_output=True, text=True, timeout=900, env=plain, check=False)
            assert done.returncode == 0, done.stderr

    def run(self, *words: str, **environment: str) -> str:
        kept = {"PATH": f"{self.python.parent}:{os.environ['PATH']}", "HOME": str(self.folder), "LANG": "C.UTF-8"}
        settings = {"WAYBILL_CONFIG_DIR": str(self.project / "config"), **environment}
        done = subprocess.run(
            [str(self.python), *words], cwd=self.folder, capture_output=True, text=True, timeout=600, env=kept | settings, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deliver(self) -> None:
        """From a database to verified files, as a newcomer does it."""
        with duckdb.connect(str(self.folder / "shop.duckdb")) as connection:
            connection.execute("CREATE TABLE orders (tenant_id VARCHAR, id INTEGER PRIMARY KEY); INSERT INTO orders VALUES ('acme', 1)")
        self.run("-m", "waybill", "init", str(self.project), "--source", "shop.duckdb")
        shutil.copy(self.project / "config/tenants/tenant.yaml.example", self.project / "config/tenants/acme.yaml")
        self.run("-m", "waybill", "check")
        self.run("-m", "waybill", "run", "acme")
        assert "all as delivered" in self.run("-m", "waybill", "verify", str(self.project / "delivered"))
        assert "ok" in self.run("-m", "waybill", "doctor")


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source") / "waybill", tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", ".waybill")
    copied = re.findall(r"^COPY --chown=airflow:root (.+) /tmp/waybill/(\S*)$", (repository / "Dockerfile").read_text(), flags=re.MULTILINE)
    for names, into in copied[1:]:  # what the image is made of; the first are the requirements
        for path in (path for name in names.split() for path in repository.glob(name)):
            if path.is_dir():
                shutil.copytree(path, source / into, ignore=skip, dirs_exist_ok=True)
            else:
                (source / into).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, source / into)
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_of_the_image_holds_the_consumer_and_the_documentation(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("waybill_consumer/manifest.py", "waybill/shipped/dags/tenant_exports.py", "waybill/shipped/site/tutorial.html"):
        assert name in names


def test_the_wheel_alone_delivers_a_duckdb_file_to_a_folder(wheel: Path, tmp_path: Path) -> None:
    elsewhere = Elsewhere(tmp_path)
    elsewhere.install(str(wheel))
    elsewhere.deliver()
    done = subprocess.run([str(elsewhere.python), "-m", "waybill", "serve"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"this needs \w+, which is not installed\. Run: pip install 'waybill\[serve\]'\n", done.stderr)


@pytest.mark.parametrize("airflow", [OLDEST, "newest"])
def test_an_airflow_of_somebody_else_runs_the_same_project(wheel: Path, tmp_path: Path, repository: Path, airflow: str) -> None:
    if airflow == "newest":
        (airflow,) = re.findall(r"^apache-airflow==(\S+)", (repository / "requirements.txt").read_text(), flags=re.MULTILINE)
    elsewhere = Elsewhere(tmp_path)
    elsewhere.install(f"waybill[airflow,sftp,postgres,serve] @ file://{wheel}", f"apache-airflow=={airflow}")
    elsewhere.deliver()
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/own.py").write_text("from airflow.sdk import DAG\ndag = DAG('housekeeping', schedule=None)\n")
    shutil.copytree(elsewhere.project / "dags", tmp_path / "dags/waybill")
    settings = {"AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "WAYBILL_DAG_PREFIX": "waybill__"}
    printed = elsewhere.run("-c", PARSE, str(tmp_path / "dags"), str(elsewhere.project / "plugins"), **settings)
    found = json.loads(printed.splitlines()[-1])
    assert found["errors"] == {}
    assert found["dags"] == [
        "housekeeping", "waybill__apply_config", "waybill__export__acme", "waybill__export_requests", "waybill__housekeeping",
    ]  # fmt: skip
    assert found["mounted"] == ["/waybill"]
