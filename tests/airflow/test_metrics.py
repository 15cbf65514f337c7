"""Metrics go through Airflow's own stack to a real StatsD listener and a real OpenTelemetry collector, and the dashboard asks for them."""

from __future__ import annotations

import atexit
import gzip
import io
import json
import logging
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from airflow.sdk._shared.logging.structlog import configure_logging
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk._shared.observability.metrics.stats import _get_backend as backend_of_stats
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils

from tests.installations import DAY, NOON, Place, make_place
from tests.servers.http import HttpServer
from tests.servers.statsd import Metric, StatsdListener, serve_statsd
from waybill.airflow import metrics, tasks
from waybill.registrations.applying import apply

MIDNIGHT = NOON.replace(hour=0)
PROMISED = {"deliverAt": "02:00", "deliverBy": "06:00"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.tenant(**PROMISED)
        place.user(1, "Ada", MIDNIGHT - DAY)
        yield place


@pytest.fixture
def airflow_metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Airflow's metrics with these settings of the section [metrics], as its task runner starts them."""

    def start(**settings: object) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__{name.upper()}", str(value))
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)

    yield start
    if client := getattr(backend_of_stats(), "statsd", None):
        client.close()
    stats.initialize(factory=NoStatsLogger, export_legacy_names=True)


@pytest.fixture
def statsd() -> Iterator[StatsdListener]:
    with serve_statsd() as listener:
        yield listener


def emit_everything(place: Place) -> None:
    """A day in which one entity is delivered and one fails, looked at when it is late."""
    place.clock = MIDNIGHT - timedelta(hours=1)
    apply(place.installation(), actor="test")
    place.clock = MIDNIGHT + timedelta(hours=7)
    place.sql('alter table "theme" rename column name to nome')
    results = place.run(place.clock)
    spool = place.installation().settings.spool_dir
    spool.mkdir(parents=True, exist_ok=True)
    (spool / "waiting").write_bytes(b"x" * 1000)
    tasks.log_results(place.installation(), results)
    metrics.standing(place.installation())


def test_deliveries_failures_and_lateness_arrive_at_statsd_with_their_tags(place, statsd, airflow_metrics):
    airflow_metrics(statsd_on=True, statsd_host="127.0.0.1", statsd_port=statsd.port, statsd_influxdb_enabled=True)
    emit_everything(place)
    found = {item.name: item for item in statsd.wait("airflow.waybill.windows.oldest")}
    acme = {"tenant": "acme", "entity": "user", "kind": "full"}
    host = {"host": socket.gethostname()}
    (size,) = (delivery["bytes"] for _, delivery in place.manifests() if delivery["entity"] == "user")
    assert found["airflow.waybill.deliveries"] == Metric("airflow.waybill.deliveries", 1, "c", {**acme, "status": "committed"})
    assert found["airflow.waybill.rows"] == Metric("airflow.waybill.rows", 1, "c", acme)
    assert found["airflow.waybill.bytes"] == Metric("airflow.waybill.bytes", size, "c", acme)
    assert found["airflow.waybill.delivery.duration"].kind == "ms"
    assert 0 < found["airflow.waybill.delivery.duration"].value < 600_000
    failed = {"tenant": "acme", "entity": "theme", "code": "schema_drift"}
    assert found["airflow.waybill.failures"] == Metric("airflow.waybill.failures", 1, "c", failed)
    assert found["airflow.waybill.failures.schema_drift"].value == 1
    assert found["airflow.waybill.spool.bytes"] == Metric("airflow.waybill.spool.bytes", 1000, "g", host)
    assert found["airflow.waybill.lateness"] == Metric("airflow.waybill.lateness", 3600, "g", {"tenant": "acme"})
    numbers = ("lateness.longest", "tenants.late", "tenants.at_risk", "windows.open", "windows.oldest")
    assert [found[f"airflow.waybill.{name}"].value for name in numbers] == [3600, 1, 0, 1, 0]


def test_what_is_well_again_is_told_as_nought(place, statsd, airflow_metrics):
    airflow_metrics(statsd_on=True, statsd_host="127.0.0.1", statsd_port=statsd.port, statsd_influxdb_enabled=True)
    place.run(MIDNIGHT)
    place.clock = MIDNIGHT + timedelta(hours=7)
    metrics.standing(place.installation())
    found = {item.name: item.value for item in statsd.wait("airflow.waybill.spool.bytes")}
    assert set(found.values()) == {0.0}
    assert "airflow.waybill.lateness" in found


def test_a_plain_statsd_that_knows_no_tags_still_counts_failures_by_code(place, statsd, airflow_metrics):
    airflow_metrics(statsd_on=True, statsd_host="127.0.0.1", statsd_port=statsd.port)
    emit_everything(place)
    found = {item.name: item for item in statsd.wait("airflow.waybill.windows.oldest")}
    assert found["airflow.waybill.failures.schema_drift"] == Metric("airflow.waybill.failures.schema_drift", 1, "c", {})


def test_the_same_metrics_arrive_at_an_opentelemetry_collector(place, http: HttpServer, airflow_metrics, monkeypatch):
    from airflow.sdk._shared.observability.metrics.otel_logger import flush_otel_metrics
    from opentelemetry import metrics as otel
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{http.url}/v1/metrics")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")
    http.answers += [200] * 100
    airflow_metrics(otel_on=True, otel_host="127.0.0.1", otel_port=http.port)
    emit_everything(place)
    provider: Any = otel.get_meter_provider()
    provider.force_flush()
    provider.shutdown()
    atexit.unregister(flush_otel_metrics)  # Airflow's own last flush would find the collector gone
    found: dict[str, set[str]] = {}
    for call in http.received:
        body = gzip.decompress(call.body) if call.headers.get("content-encoding") == "gzip" else call.body
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for item in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                kind = item.WhichOneof("data")
                points = getattr(item, kind).data_points
                found.setdefault(item.name, set()).update(attribute.key for point in points for attribute in point.attributes)
    assert {name: labels for name, labels in found.items() if name.startswith("airflow.waybill.")} == {
        f"airflow.{name}": labels for name, labels in EMITTED.items()
    }


EMITTED = {
    "waybill.deliveries": {"tenant", "entity", "kind", "status"},
    "waybill.rows": {"tenant", "entity", "kind"},
    "waybill.bytes": {"tenant", "entity", "kind"},
    "waybill.delivery.duration": {"tenant", "entity", "kind"},
    "waybill.failures": {"tenant", "entity", "code"},
    "waybill.failures.schema_drift": {"tenant", "entity"},
    "waybill.lateness": {"tenant"},
    "waybill.lateness.longest": set(),
    "waybill.tenants.late": set(),
    "waybill.tenants.at_risk": set(),
    "waybill.windows.open": set(),
    "waybill.windows.oldest": set(),
    "waybill.spool.bytes": {"host"},
}
"""Every metric with its tags; the test above holds this table to what Airflow sends."""


def in_prometheus(name: str) -> set[str]:
    """What a metric may be called there: counters get `_total` and histograms a unit on the way through an OpenTelemetry collector."""
    flat = f"airflow_{name.replace('.', '_')}"
    unit = {f"{flat}{unit}_{what}" for unit in ("", "_milliseconds") for what in ("sum", "count")} if name.endswith("duration") else set()
    return {flat, f"{flat}_total", *unit}


def queries(repository: Path) -> list[str]:
    board = json.loads((repository / "deploy/grafana/waybill.json").read_text())
    variables = [column["query"]["query"] for column in board["templating"]["list"] if column["type"] == "query"]
    return [*variables, *(target["expr"] for panel in board["panels"] for target in panel["targets"])]


def test_every_query_of_the_dashboard_finds_a_metric_and_every_metric_is_drawn(repository: Path):
    known = {item: tags for name, tags in EMITTED.items() for item in in_prometheus(name)}
    drawn: set[str] = set()
    for query in queries(repository):
        patterns = re.findall(r'__name__=~"([^"]+)"', query)
        plain = re.findall(r"\b(airflow_waybill_\w+)\b(?!\()", re.sub(r'"[^"]*"', '""', query))
        hits = {name for name in known if name in plain or any(re.fullmatch(pattern, name) for pattern in patterns)}
        assert set(plain) <= known.keys(), query
        assert all(any(re.fullmatch(pattern, name) for name in known) for pattern in patterns), query
        assert hits, query
        asked = {label for by in re.findall(r"\bby \(([^)]*)\)", query) for label in by.replace(" ", "").split(",")}
        asked |= set(re.findall(r'[{,](\w+)=~?"', query)) - {"__name__"}
        tags = set().union(*(known[name] for name in hits), {"__name__"})
        assert asked <= tags, query
        drawn |= hits
    assert [name for name in EMITTED if not in_prometheus(name) & drawn] == []


def _series(item: Metric, *, through_otel: bool) -> dict[str, dict[str, str]]:
    """What a minute's repetition of a StatsD line becomes in Prometheus: as statsd_exporter names it, or an OpenTelemetry collector."""
    name = item.name.replace(".", "_")
    labels = ",".join(f'{label}="{value}"' for label, value in item.tags.items())
    if item.kind == "g":
        return {f"{name}{{{labels}}}": f"{item.value}+0x20"}
    if item.kind == "c":
        return {f"{name}{'_total' if through_otel else ''}{{{labels}}}": f"0+{item.value}x20"}
    unit, size = ("_milliseconds", item.value) if through_otel else ("", item.value / 1000)
    return {f"{name}{unit}_sum{{{labels}}}": f"0+{size}x20", f"{name}{unit}_count{{{labels}}}": "0+1x20"}


@pytest.mark.parametrize("way", ["statsd", "statsd without tags", "otel"])
def test_prometheus_answers_every_query_of_the_dashboard_with_what_was_emitted(
    place, statsd, airflow_metrics, repository: Path, tmp_path: Path, way: str
):
    """With Prometheus's own engine (`promtool test rules`): twenty minutes of what a day emits, asked for over five of them."""
    has_tags = way != "statsd without tags"
    airflow_metrics(statsd_on=True, statsd_host="127.0.0.1", statsd_port=statsd.port, statsd_influxdb_enabled=has_tags)
    emit_everything(place)
    emitted = [item for item in statsd.wait("airflow.waybill.windows.oldest") if ".waybill." in item.name]
    other = Metric("airflow.waybill.failures.refused", 2, "c", {"tenant": "acme", "entity": "user"} if has_tags else {})
    size, took = (next(item.value for item in emitted if item.name.endswith(name)) for name in (".bytes", ".duration"))
    spool = next(item.value for item in emitted if item.name.endswith("spool.bytes"))
    wanted = {
        "Late tenants": {"": 1},
        "At risk": {"": 0},
        "Open windows": {"": 1},
        "Oldest open window": {"": 0},
        "Lateness by tenant": {'tenant="acme"': 3600, "": 3600},
        "Failures by code": {'code="schema_drift"': 5} | ({} if has_tags else {'code="refused"': 10}),
        "Deliveries by status": {'status="committed"': 5},
        "Rows": {'kind="full"': 5},
        "Bytes": {'kind="full"': 5 * size},
        "Seconds a delivery": {'entity="user"': took / 1000},
        "Spool": {f'host="{socket.gethostname()}"': spool},
        "Rows by tenant, in the range shown": {'tenant="acme"': 5},
    }
    if not has_tags:
        wanted = {title: {label if "code" in label else "": value for label, value in rows.items()} for title, rows in wanted.items()}
    series = {text: values for item in (*emitted, other) for text, values in _series(item, through_otel=way == "otel").items()}
    board = json.loads((repository / "deploy/grafana/waybill.json").read_text())
    assert {panel["title"] for panel in board["panels"]} == wanted.keys()
    for panel in board["panels"]:
        whole = " or ".join(f"({target['expr']})" for target in panel["targets"])
        for variable, value in {"$__rate_interval": "5m", "$__range": "5m", "$tenant": ".*"}.items():
            whole = whole.replace(variable, value)
        answers = [{"labels": f"{{{label}}}", "value": value} for label, value in wanted[panel["title"]].items()]
        test = {
            "interval": "1m",
            "input_series": [{"series": text, "values": values} for text, values in series.items()],
            "promql_expr_test": [{"expr": f"round({whole}, 0.000001)", "eval_time": "15m", "exp_samples": _rounded(answers)}],
        }
        (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
        done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "test.yaml")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{panel['title']}: {done.stdout}{done.stderr}"


def _rounded(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**answer, "value": round(answer["value"], 6)} for answer in answers]


def test_the_dashboard_is_one_that_grafana_takes(repository: Path):
    board = json.loads((repository / "deploy/grafana/waybill.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in board["panels"])


def test_the_page_of_metrics_names_each(repository: Path):
    text = (repository / "docs/how-to/metrics.md").read_text()
    assert [name for name in EMITTED if f"`{name.replace('schema_drift', '<code>')}`" not in text] == []


def test_every_line_of_a_delivery_carries_tenant_entity_and_delivery(place):
    """Lines of the task and of the threads it delivers in, as Airflow's structured logs write them."""
    kept, root, before = io.BytesIO(), logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    configure_logging(json_output=True, output=kept, log_level="INFO")
    try:
        place.sql('alter table "theme" rename column name to nome')
        results = place.run(MIDNIGHT)
        tasks.log_results(place.installation(), results)
        logging.getLogger("waybill.elsewhere").warning("of nobody")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)
    lines = [json.loads(line) for line in kept.getvalue().splitlines()]
    ids = {result.delivery.entity: result.delivery.id for result in results}
    told = [item for item in lines if item.get("logger") == "waybill.airflow.tasks"]
    assert {delivery["entity"]: (delivery["tenant"], delivery["delivery"]) for delivery in told} == {
        name: ("acme", ids[name]) for name in ("user", "theme")
    }
    assert [item for item in lines if item["event"] == "of nobody" and "tenant" in item] == []
