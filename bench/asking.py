"""On-demand exports: from asking through the API inside a real Airflow to `done`, and the memory that fulfilling needs.

`python -m bench asking [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met. The first legs stand beside
their time budget; every request is of two formats, CSV and NDJSON, and goes into one archive.
"""

from __future__ import annotations

import pickle
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.leg import Leg, Line
from bench.processes import measured
from tests.exports import MEASUREMENT, Office
from tests.installations import Place, catalog
from tests.servers.process import free_port
from waybill_demo.stage import Stage, environment
from waybill_demo.standalone import Airflow, standalone

BUDGETS = {10_000: 60.0, 100_000: 300.0, 1_000_000: 900.0}
"""Seconds by rows."""

FORMATS = ["csv", "ndjson"]
FLAT = 1.2


def legs(quick: bool) -> Iterator[Line]:
    rounds = {10_000: 3, 100_000: 2, 1_000_000: 1}
    sizes = [rows for rows in BUDGETS if rows < 1_000_000 or not quick]
    with tempfile.TemporaryDirectory() as scratch, closing(_place(Path(scratch), sizes)) as place:
        port, password = free_port(), secrets.token_urlsafe(12)
        settings = environment(Stage(Path(__file__).parents[1], place.root), {}, port, password)
        settings["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] = "True"
        with standalone(settings, f"http://127.0.0.1:{port}", place.root / "airflow.log") as airflow:
            airflow.wait_until_healthy()
            airflow.log_in("admin", password)
            airflow.wait_for_dag("export_requests")
            for rows in sizes:
                taken = statistics.median(_ask(airflow, rows) for _ in range(rounds[rows]))
                yield Leg(f"export of {rows:,} rows on demand, from asking in Airflow to done | time budget", taken, BUDGETS[rows], 1.0)
    few, many = (100_000, 1_000_000) if quick else (1_000_000, 10_000_000)
    with tempfile.TemporaryDirectory() as scratch, closing(_place(Path(scratch), [few, many])) as place:
        peaks = [_fulfil(place, rows) for rows in (many, few)]
        yield Leg(f"export of {many:,} rows on demand, peak memory | {few:,} rows", *peaks, FLAT, "MB")


def _place(root: Path, sizes: list[int]) -> Place:
    """An installation with one entity for each size."""
    from waybill.registrations import applying

    place = Place(root)
    entities = {_entity(rows): {**MEASUREMENT, "name": _entity(rows), "relation": _entity(rows)} for rows in sizes}
    place.write("catalog.yaml", catalog(**entities))
    place.write("policy.yaml", {"max_active_per_project": "none"})
    place.tenant(entityList=list(entities))
    for rows in sizes:
        place.sql(
            f"create table {_entity(rows)} as select 'acme' as tenant_id, i as id, 'p1' as project_id, 'a1' as app_id, 's1' as study_id, "
            "'person' || i % 1000 as participant_id, (i * 37 % 100000)::decimal(18, 4) as value, 'reading number ' || i as note, "
            "now() - to_days(2) + to_seconds(i / 1000.0) as taken_at, now() - to_days(1) as updated_at, null::timestamptz as deleted_at "
            f"from range({rows}) t(i)"
        )
    applying.apply(place.installation(), actor="bench")
    return place


def _entity(rows: int) -> str:
    return f"readings_{rows}"


def _ask(airflow: Airflow, rows: int) -> float:
    """Seconds from the POST to `done`."""
    path, began = "/waybill/api/v1/tenants/acme/exports", time.monotonic()
    made = airflow.client.post(path, json={"entities": [_entity(rows)], "formats": FORMATS})
    if made.status_code != 202:
        raise RuntimeError(f"asking was answered with {made.status_code}: {made.text}")
    while (export := airflow.client.get(f"{path}/{made.json()['id']}").json())["status"] in ("pending", "running"):
        airflow.alive()
        if time.monotonic() - began > 2 * BUDGETS[rows]:
            raise RuntimeError(f"not done after twice its budget: {export}")
        time.sleep(0.2)
    if (export["status"], export["rows"]) != ("done", rows):
        raise RuntimeError(f"ended as {export}")
    return time.monotonic() - began


def _fulfil(place: Place, rows: int) -> float:
    """Megabytes at the peak of a process that fulfils a request of that many rows."""
    request = Office(place).ask(entities=[_entity(rows)], formats=FORMATS)
    place.close()
    place.ledgers.clear()
    (place.root / "place").write_bytes(pickle.dumps(place))
    argv = [sys.executable, "-m", "bench.asking", str(place.root), request.id]
    return measured(argv, place.root).megabytes


def _work(root: Path, request: str) -> None:
    from waybill.requests.fulfilment import running

    place: Any = pickle.loads((root / "place").read_bytes())  # noqa: S301 (our own)
    done = running.fulfil(place.installation(), request, worker="bench")
    if done is None or done.status != "done":
        raise RuntimeError(f"ended as {done}")


if __name__ == "__main__":
    _work(Path(sys.argv[1]), sys.argv[2])
