"""`waybill init`: a folder that runs, never at the cost of what is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import yaml

from tests.discovery import estates
from waybill.airflow import lookup
from waybill.configuration.catalog import DuckDBSource
from waybill.discovery.projects import reasons
from waybill.discovery.proposing import Proposed, Skipped
from waybill.discovery.writing import catalog_text, merged

Waybill = Callable[..., str]


@pytest.fixture
def waybill(run_waybill: Waybill, tmp_path: Path) -> Waybill:
    def run(*words: str, status: int = 0, config: Path | None = None) -> str:
        return run_waybill(*words, status=status, WAYBILL_CONFIG_DIR=str(config or tmp_path / "elsewhere"))

    return run


def test_a_project_made_from_a_source_delivers_a_tenant(waybill: Waybill, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "northwind.duckdb")) as connection:
        connection.execute(estates.NORTHWIND)
    project = tmp_path / "project"
    printed = waybill("init", str(project), "--source", str(tmp_path / "northwind.duckdb"), "--tenant-column", "customer_id")
    assert "3 entities in config/catalog.yaml, 2 tables left out with the reason" in printed
    config = project / "config"
    text = (config / "tenants/tenant.yaml.example").read_text()
    (config / "tenants/alfki.yaml").write_text(f"{text}sourceTenant: ALFKI\n")
    waybill("check", config=config)
    waybill("run", "alfki", config=config)
    assert "all as delivered" in waybill("verify", str(project / "delivered"), config=config)


def test_the_files_an_airflow_and_a_workflow_need_are_there(waybill: Waybill, tmp_path: Path) -> None:
    waybill("init", str(tmp_path / "project"))
    files = {str(path.relative_to(tmp_path / "project")) for path in (tmp_path / "project").rglob("*") if path.is_file()}
    assert files >= {
        "config/catalog.yaml", "config/policy.yaml", ".env.example", ".gitignore", "README.md", "plugins/waybill_plugin.py",
        "dags/tenant_exports.py", "dags/apply_config.py", ".github/workflows/waybill.yml", "schemas/catalog.schema.json",
    }  # fmt: skip
    workflow = yaml.safe_load((tmp_path / "project/.github/workflows/waybill.yml").read_text())
    assert {"run": "waybill check"} in workflow["jobs"]["check"]["steps"]
    for kind in ("catalog", "policy"):
        assert f"$schema=../schemas/{kind}.schema.json" in (tmp_path / f"project/config/{kind}.yaml").read_text()
        assert json.loads((tmp_path / f"project/schemas/{kind}.schema.json").read_text())["type"] == "object"


def test_the_settings_it_suggests_are_read_by_a_shell(waybill: Waybill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waybill("init", str(tmp_path / "exports"))
    lines = (tmp_path / "exports/.env.example").read_text().splitlines()
    settings = [line.removeprefix("# ") for line in lines if re.match(r"(# )?[A-Z_]+=", line)]
    (tmp_path / "env").write_text("\n".join(settings).replace("...", "secret"))
    printed = subprocess.run(["bash", "-euc", "set -a; . ./env; env -0"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    read = dict(part.split("=", 1) for part in printed.split("\0") if "=" in part)
    for name in ("shop", "acme_sftp"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", read[f"AIRFLOW_CONN_{name.upper()}"])
        assert lookup(name).password == "secret"


def test_the_example_of_flights_runs_in_its_own_folder(waybill: Waybill, tmp_path: Path) -> None:
    project = tmp_path / "project"
    waybill("init", str(project), "--example", "flights")
    subprocess.run([sys.executable, "load.py", "--until", "2013-01-02"], cwd=project, check=True, capture_output=True, timeout=300)
    waybill("check", config=project / "config")
    waybill("run", "ha", "--until", "2013-01-02T00:00:00-05:00", config=project / "config")
    assert "all as delivered" in waybill("verify", str(project / ".waybill/delivered"), config=project / "config")


def test_nothing_is_overwritten_and_nothing_half_written(waybill: Waybill, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/policy.yaml").write_text("{}\n")
    printed = waybill("init", str(tmp_path), status=1)
    assert f"{tmp_path} has config/policy.yaml already" in printed
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["policy.yaml"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--source", "nowhere"], 1, "there is no Airflow connection 'nowhere'"),
        (["--example", "trains"], 1, "there is no example 'trains' (allowed: flights)"),
        (["--source", "x", "--example", "flights"], 2, "give either --source or --example"),
    ],
)
def test_what_cannot_be_made_leaves_no_folder(waybill: Waybill, tmp_path: Path, words: list[str], status: int, said: str) -> None:
    assert said in waybill("init", str(tmp_path / "project"), *words, status=status)
    assert not (tmp_path / "project").exists()


def test_a_source_without_anything_to_export_leaves_no_folder(waybill: Waybill, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
    assert "a: no tenant column" in waybill("init", str(tmp_path / "project"), "--source", str(tmp_path / "a.duckdb"), status=1)
    assert not (tmp_path / "project").exists()


def test_a_file_in_the_way_is_told(waybill: Waybill, tmp_path: Path) -> None:
    (tmp_path / "project").write_text("")
    assert "is a file" in waybill("init", str(tmp_path / "project"), status=1)


def test_what_was_made_is_told_to_programs_too(waybill: Waybill, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE orders (tenant_id VARCHAR, id INTEGER PRIMARY KEY); CREATE TABLE words (word VARCHAR)")
    made = json.loads(waybill("init", str(tmp_path / "made"), "--source", str(tmp_path / "shop.duckdb"), "--json"))
    assert made["folder"] == str(tmp_path / "made")
    assert str(tmp_path / "made/config/catalog.yaml") in made["files"]
    assert all(Path(name).is_file() for name in made["files"])
    assert [entity["id"] for entity in made["discovered"]["entities"]] == ["orders"]
    assert [table["relation"] for table in made["discovered"]["skipped"]] == ["words"]
    assert json.loads(waybill("init", str(tmp_path / "empty"), "--json"))["discovered"] is None


def test_a_folder_that_cannot_be_written_is_left_as_it_was(waybill: Waybill, tmp_path: Path) -> None:
    (tmp_path / "made/plugins").mkdir(parents=True)
    (tmp_path / "made/dags").symlink_to("/proc/1/task")
    said = waybill("init", str(tmp_path / "made"), status=1)
    assert "cannot be written: " in said
    assert "Nothing was left behind" in said
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["dags", "plugins"]
    assert "/proc/x cannot be written: " in waybill("init", "/proc/x/deep", status=1)


def test_a_folder_without_a_name_is_refused(waybill: Waybill) -> None:
    assert "name a folder" in waybill("init", "", status=2)


def test_each_reason_is_told_once_and_nothing_is_cut_off_in_silence() -> None:
    same = [Skipped(f"t{number}", "no tenant column") for number in range(21)]
    assert reasons(same) == "t0, t1, t2, t3, t4 and 16 more: no tenant column"
    assert reasons([Skipped(f"t{number}", f"reason {number}") for number in range(12)]).endswith("; and 2 more tables for other reasons")


def test_the_list_of_what_is_not_exported_is_replaced_when_a_catalog_is_written_again() -> None:
    spec = DuckDBSource(kind="duckdb", path="w.duckdb")
    first = catalog_text("w", spec, Proposed((), (Skipped("a", "no key"), Skipped("b", "no key")), ()))
    again = merged(first, "w", spec, Proposed((), (Skipped("b", "no key"), Skipped("c", "no key")), ()))
    assert [line for line in again.splitlines() if line.startswith("#") and "schema" not in line] == [
        '# Not exported of "w":', '#   "b": no key', '#   "c": no key',
    ]  # fmt: skip
    other = merged(again, "v", spec, Proposed((), (Skipped("d", "no key"),), ()))
    assert set(again.splitlines()) < set(other.splitlines())
    earlier = again.replace(' of "w":', ":")
    assert merged(earlier, "w", spec, Proposed((), (Skipped("c", "no key"),), ())).count("# Not exported") == 1
