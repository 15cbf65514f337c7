"""The values for the official Airflow chart: names it knows, settings Airflow and Waybill have, and what the Dockerfile and secrets say.

The chart cannot be had here, so nothing is rendered: its value names and their types stand in tests/helm_value_names.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.fast

VARIANTS = ["celery", "kubernetes"]
TYPES: dict[str, tuple[type, ...]] = {
    "text": (str, type(None)),
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "list": (list,),
    "map": (dict,),
}


def merged(base: Any, over: Any) -> Any:
    """As Helm does: maps key by key, everything else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {key: merged(base[key], over[key]) if key in base and key in over else over.get(key, base.get(key)) for key in base | over}
    return over


@pytest.fixture(params=VARIANTS)
def values(request: pytest.FixtureRequest, repository: Path) -> dict[str, Any]:
    files = [yaml.safe_load((repository / f"deploy/helm/{name}.yaml").read_text()) for name in ("values", f"values-{request.param}")]
    found: dict[str, Any] = merged(*files)
    return found


def misfits(given: Any, known: Any, path: str = "") -> Iterator[str]:
    if isinstance(known, dict):
        if not isinstance(given, dict):
            yield f"{path}: {given!r} is no map"
            return
        for key, value in given.items():
            if key in known:
                yield from misfits(value, known[key], f"{path}.{key}".lstrip("."))
            else:
                yield f"{path}.{key}: the chart has no such value".lstrip(".")
    elif not isinstance(given, TYPES[known]):
        yield f"{path}: {given!r} is no {known}"


def test_every_value_is_one_of_the_chart_and_of_its_type(values, repository):
    known = yaml.safe_load((repository / "tests/helm_value_names.yaml").read_text())
    assert list(misfits(values, known)) == []


def test_every_setting_is_one_of_airflow(values):
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()
    described = conf.configuration_description
    known = {section: set(found["options"]) for section, found in described.items()}
    known["celery_broker_transport_options"] |= {"visibility_timeout"}  # Celery's own, for its transport
    kubernetes = {"delete_worker_pods", "worker_pods_creation_batch_size"}  # of a provider that Airflow's image has and the tests have not
    known.setdefault("kubernetes_executor", kubernetes)
    given = {(section, option) for section, options in values["config"].items() for option in options}
    assert {item for item in given if item[1] not in known.get(item[0], set())} == set()
    assert all(isinstance(value, str) for options in values["config"].values() for value in options.values())


def test_waybill_s_settings_are_complete_and_the_spool_is_a_limited_folder_of_the_pod_s_own(values, repository):
    settings = {item["name"]: item["value"] for item in values["env"]} | {setting["envName"]: "" for setting in values["secret"]}
    named = set(re.findall(r"WAYBILL_(?:CONFIG_DIR|LEDGER_URL|SPOOL_DIR|ARCHIVE_URL)", (repository / "docs/operating.md").read_text()))
    assert named <= settings.keys()
    assert {setting for setting in settings if setting.startswith("WAYBILL_")} == named | {"WAYBILL_DAG_FILES"}
    dockerfile = (repository / "Dockerfile").read_text()
    assert f"WAYBILL_CONFIG_DIR={settings['WAYBILL_CONFIG_DIR']}" in dockerfile
    assert f"FROM apache/airflow:{values['airflowVersion']}-" in dockerfile
    (mount,) = (volumemount for volumemount in values["volumeMounts"] if volumemount["mountPath"] == settings["WAYBILL_SPOOL_DIR"])
    (volume,) = (item for item in values["volumes"] if item["name"] == mount["name"])
    limit = re.fullmatch(r"(\d+)Gi", volume["emptyDir"]["sizeLimit"])
    assert limit
    wanted = next(iter(worker for worker in values["workers"].values()))["resources"]["requests"]["ephemeral-storage"]
    assert wanted == limit[0], "a node without that much room is no place for the pod"
    assert settings["WAYBILL_ARCHIVE_URL"].startswith("s3://")


def test_dags_come_from_git_through_a_connection_among_the_secrets(values, repository):
    (bundle,) = values["dagProcessor"]["dagBundleConfigList"]
    assert bundle["classpath"] == "airflow.providers.git.bundles.git.GitDagBundle"
    assert f"AIRFLOW_CONN_{bundle['kwargs']['git_conn_id'].upper()}" in {setting["envName"] for setting in values["secret"]}
    assert (repository / bundle["kwargs"]["subdir"] / "tenant_exports.py").is_file()
    assert not values["dags"]["gitSync"]["enabled"]


def test_what_the_values_name_in_the_product_is_there(values):
    if options := values["config"].get("celery", {}).get("celery_config_options"):
        module, name = options.rsplit(".", 1)
        assert hasattr(import_module(module), name)
    assert values["migrateDatabaseJob"]["args"][-1].endswith("waybill ledger upgrade")


def test_the_page_names_every_secret_with_its_keys(values, repository):
    page = (repository / "docs/how-to/kubernetes.md").read_text()
    named = {(item["secretName"], item["secretKey"]) for item in values["secret"]}
    named |= {("waybill-keys", key) for key in ("fernet-key", "api-secret-key", "jwt-secret")} | {("waybill-metadata", "connection")}
    if broker := values["data"].get("brokerUrlSecretName"):
        named.add((broker, "connection"))
    assert {item for item in named if f"`{item[0]}`" not in page or f"`{item[1]}`" not in page} == set()


def test_no_secret_stands_in_the_values(repository):
    text = "".join(path.read_text() for path in (repository / "deploy/helm").iterdir())
    assert not re.search(r"(?i)(password|token|pass|fernetKey|jwtSecret|brokerUrl|apiSecretKey)\s*:", text)
