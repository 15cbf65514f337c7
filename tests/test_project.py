"""The files around the code agree with each other: locks, container setup, ignore lists, build scripts."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)
SERVICES = [
    "airflow-db",
    "api-server",
    "archive",
    "dag-processor",
    "init",
    "ledger-db",
    "redis",
    "scheduler",
    "serve",
    "sftp",
    "triggerer",
    "worker",
]


@pytest.fixture
def compose(repository: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((repository / "docker-compose.yaml").read_text())
    return loaded


def pins(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(path.read_text()):
        found.setdefault(name, set()).add(version)
    return found


def test_every_direct_requirement_is_locked_within_its_range(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    lock = pins(repository / "requirements.txt")
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(item for name, extra in extras.items() if name not in ("all", "bench") for item in extra)]:
        requirement = Requirement(text)
        for version in lock[re.sub(r"[._-]+", "-", requirement.name.lower())]:
            assert requirement.specifier.contains(version), text


def test_what_is_installed_beside_others_is_asked_for_in_ranges(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(item for name, extra in extras.items() if name not in ("dev", "bench") for item in extra)]
    assert [text for text in texts if "==" in text] == []
    assert set(re.findall(r"\w+", extras["all"][0].partition("[")[2])) == extras.keys() - {"all", "dev", "bench"}


def test_the_tools_bring_nothing_that_doubles_the_time_of_importing_airflow(repository: Path) -> None:
    """jsonschema imports it wherever it is installed, and Airflow jsonschema. `override-dependencies` in pyproject.toml keeps it out."""
    assert "rfc3987-syntax" not in pins(repository / "requirements.txt")


@pytest.mark.parametrize("other", ["requirements-runtime.txt", "bench/requirements.txt"])
def test_every_lock_pins_shared_packages_alike(repository: Path, other: str) -> None:
    lock = pins(repository / "requirements.txt")
    assert {name: versions for name, versions in pins(repository / other).items() if name in lock and lock[name] != versions} == {}


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-runtime.txt", "bench/requirements.txt"])
def test_locks_carry_a_hash_for_every_pin_and_name_no_host(repository: Path, lock: str) -> None:
    text = (repository / lock).read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    assert [block.split()[0] for block in blocks if "==" in block and "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert not re.search(r"^\s*--?(index|extra|find|trusted)", text, flags=re.MULTILINE)


def test_the_runtime_lock_leaves_test_tools_out(repository: Path) -> None:
    assert not {"pytest", "moto", "playwright", "mypy", "ruff"} & pins(repository / "requirements-runtime.txt").keys()


@pytest.mark.parametrize(
    ("package", "floor"),
    [("paramiko", (5,)), ("apache-airflow-providers-sftp", (7,)), ("apache-airflow-providers-ssh", (7,)), ("apache-airflow", (3, 3, 2))],
)
def test_no_pin_falls_below_a_version_known_to_be_unsafe(repository: Path, package: str, floor: tuple[int, ...]) -> None:
    for version in pins(repository / "requirements-runtime.txt")[package]:
        assert tuple(int(part) for part in version.split(".")) >= floor


def test_compose_has_each_airflow_service_apart_and_two_databases(compose: dict[str, Any]) -> None:
    assert sorted(compose["services"]) == SERVICES


def test_compose_gives_every_airflow_service_the_same_environment(compose: dict[str, Any]) -> None:
    environments = [compose["services"][name]["environment"] for name in ("api-server", "scheduler", "dag-processor", "triggerer")]
    assert all(environment == environments[0] for environment in environments)
    assert environments[0].keys() >= {
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "AIRFLOW__CORE__FERNET_KEY",
        "WAYBILL_LEDGER_URL",
    }


def test_compose_sets_only_what_airflow_knows(compose: dict[str, Any]) -> None:
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()
    named = {name for service in compose["services"].values() for name in service.get("environment", {}) if name.startswith("AIRFLOW__")}
    described = conf.configuration_description.items()
    known = {f"AIRFLOW__{section}__{option}".upper() for section, details in described for option in details["options"]}
    assert named
    assert named - known == set()


def test_compose_starts_commands_that_exist(compose: dict[str, Any]) -> None:
    from airflow.cli.cli_parser import get_parser

    parser = get_parser()
    for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
        assert callable(parser.parse_args(compose["services"][name]["command"].split()).func)
    assert "waybill serve --host 0.0.0.0 --port 8081" in compose["services"]["serve"]["command"][0]


def test_compose_hands_every_line_of_env_to_what_is_ours_and_asks_every_service_whether_it_is_well(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert all(service["env_file"] == [".env"] for service in services.values() if "build" in service)
    lasting = {name for name, service in services.items() if name != "init" and "try" not in service.get("profiles", [])}
    assert all(services[name]["healthcheck"]["test"] and services[name]["logging"] == {"driver": "local"} for name in lasting)


def test_the_image_makes_the_dag_files_that_the_setting_asks_for(compose: dict[str, Any], repository: Path, tmp_path: Path) -> None:
    assert compose["services"]["dag-processor"]["build"]["args"] == {"WAYBILL_DAG_FILES": "${WAYBILL_DAG_FILES:-1}"}
    (copies,) = re.findall(r"^RUN (for number .*)$", (repository / "Dockerfile").read_text(), flags=re.MULTILINE)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/tenant_exports.py").touch()
    subprocess.run(["/bin/sh", "-euc", copies], check=True, cwd=tmp_path, env={"WAYBILL_DAG_FILES": "3", "PATH": os.environ["PATH"]})
    assert {path.name for path in (tmp_path / "dags").iterdir()} == {f"tenant_exports{number}.py" for number in ("", "_2", "_3")}


def test_compose_gives_each_worker_a_disk_of_its_own_and_keeps_what_all_share_in_the_archive(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    assert "/opt/airflow/waybill" in worker["volumes"]
    assert worker["environment"]["WAYBILL_ARCHIVE_URL"].startswith("s3://")
    assert worker["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"


def test_compose_mounts_only_volumes_it_declares(compose: dict[str, Any]) -> None:
    mounted = {str(volume).partition(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])}
    assert {name for name in mounted if not name.startswith((".", "/"))} == compose["volumes"].keys()


def test_compose_keeps_the_ledger_out_of_airflows_database(compose: dict[str, Any]) -> None:
    environment = compose["services"]["scheduler"]["environment"]
    assert "@ledger-db/" in environment["WAYBILL_LEDGER_URL"]
    assert "@airflow-db/" in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]


def test_compose_holds_no_secret_and_the_example_names_every_variable(repository: Path) -> None:
    text = (repository / "docker-compose.yaml").read_text()
    secret_lines = [line for line in text.splitlines() if re.search(r"(PASSWORD|SECRET|FERNET\w*|SECRET_KEY): ", line)]
    assert secret_lines
    assert [line for line in secret_lines if not re.search(r"\$\{[A-Z_]+:\?see \.env\.example\}", line)] == []
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", (repository / ".env.example").read_text(), flags=re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    assert used <= example.keys()
    read = {name for path in (repository / "include/waybill").rglob("*.py") for name in re.findall(r"WAYBILL_[A-Z_]+", path.read_text())}
    assert {name for name in example.keys() - used if not name.startswith("AIRFLOW_CONN_")} <= read, "handed to every service as it stands"
    defaults = {"AIRFLOW_ADMIN_USER", "AIRFLOW_PARALLELISM", "AIRFLOW_WORKER_CONCURRENCY", "WAYBILL_DAG_FILES"}
    assert {name for name, value in example.items() if value} == defaults


def test_compose_itself_takes_the_file_once_env_is_filled_in_and_names_what_is_missing_before(repository: Path, tmp_path: Path) -> None:
    """With docker-compose, which needs no Docker for this: its schema, its reading of `.env`, and an order of starts without a circle."""
    shutil.copy(repository / "docker-compose.yaml", tmp_path)
    example = (repository / ".env.example").read_text()
    argv = ["docker-compose", "--profile", "try", "--profile", "serve", "config"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "WAYBILL", "COMPOSE"))}

    def config(env: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / ".env").write_text(env)
        return subprocess.run(argv, cwd=tmp_path, env=kept, capture_output=True, text=True, check=False)

    refused = config(example)
    assert (refused.returncode, "see .env.example" in refused.stderr) == (1, True)
    shop = json.dumps({"conn_type": "postgres", "host": "db.example", "password": "a b#c", "extra": {"sslmode": "require"}})
    filled = (
        re.sub(r"^([A-Z_]+)=$", r"\1=x", example, flags=re.MULTILINE) + f"AIRFLOW_CONN_SHOP='{shop}'\nWAYBILL_MAIL_FROM=ops@example.com\n"
    )
    taken = config(filled)
    assert (taken.returncode, taken.stderr) == (0, "")
    services = yaml.safe_load(taken.stdout)["services"]
    assert sorted(services) == SERVICES
    for name in ("worker", "api-server", "serve", "init"):
        environment = services[name]["environment"]
        assert (environment["AIRFLOW_CONN_SHOP"], environment["WAYBILL_MAIL_FROM"]) == (shop, "ops@example.com")
        assert environment["WAYBILL_LEDGER_URL"] == "postgresql+psycopg://waybill:x@ledger-db/waybill"


def test_the_image_is_built_on_the_pinned_airflow(repository: Path) -> None:
    (airflow,) = pins(repository / "requirements-runtime.txt")["apache-airflow"]
    assert f"FROM apache/airflow:{airflow}-python3.12" in (repository / "Dockerfile").read_text()


@pytest.mark.parametrize("script", [".ci/python", ".ci/run", ".ci/system-packages", ".ci/venv"])
def test_build_scripts_parse_and_stop_at_the_first_error(repository: Path, script: str) -> None:
    path = repository / script
    subprocess.run([shutil.which("bash") or "bash", "-n", str(path)], check=True)
    assert path.read_text().startswith("#!/usr/bin/env bash")
    assert "\nset -euo pipefail\n" in path.read_text()
    assert path.stat().st_mode & 0o111


def test_the_hook_for_configuration_repositories_runs_waybill_check(repository: Path) -> None:
    (hook,) = yaml.safe_load((repository / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["entry"], hook["pass_filenames"]) == ("waybill-check", "waybill check", False)


def test_an_installed_package_holds_every_file_of_the_source(repository: Path, tmp_path: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(repository / "include", tmp_path / "include", ignore=skip)
    shutil.copytree(repository / "consumer", tmp_path / "consumer", ignore=skip)
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(repository / name, tmp_path)
    (tmp_path / "README.md").write_text("# Waybill\n")
    argv = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(tmp_path),
    ]
    subprocess.run(argv, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {"waybill_consumer/verification/verifying.py", "waybill_consumer/py.typed"} <= held
    packed = {name for name in held if name.startswith("waybill/")}
    source = {str(path.relative_to(tmp_path / "include")) for path in (tmp_path / "include/waybill").rglob("*") if path.is_file()}
    assert source - packed == set()
