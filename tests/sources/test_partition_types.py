"""Partition columns of a lake as every catalogued type: what a folder says is delivered exactly, or refused by the name of its column."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill.sources.duckdb.lake import Lake

pytestmark = pytest.mark.fast

NULL = "__HIVE_DEFAULT_PARTITION__"
ID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
FITTING = {
    "string": {"a": "a", "a b": "a b", "%C3%A9": "é", "x%2Fy": "x/y", "%25": "%", "007": "007", "a%3Db": "a=b", NULL: ""},
    "integer": {"1": "1", "-7": "-7", "9223372036854775807": "9223372036854775807", NULL: ""},
    "decimal": {"1.50": "1.50", "2": "2.00", NULL: ""},
    "float": {"1.5": "1.5", "NaN": "NaN", "1e300": "1e+300", "-inf": "-Infinity", NULL: ""},
    "boolean": {"true": "true", "false": "false", NULL: ""},
    "date": {"2026-02-01": "2026-02-01", NULL: ""},
    "timestamp": {
        "2026-02-01 01%3A02%3A03.5": "2026-02-01T01:02:03.500000Z",
        "2026-02-01T01:02:03Z": "2026-02-01T01:02:03.000000Z",
        "2026-02-01T01:02:03.123456000Z": "2026-02-01T01:02:03.123456Z",
        "2026-02-01T03%3A02%3A03+02%3A00": "2026-02-01T01:02:03.000000Z",
        NULL: "",
    },
    "uuid": {ID: ID, ID.upper(): ID, ID.replace("-", ""): ID, NULL: ""},
    "json": {"[1]": "[1]", NULL: ""},
}
MISFITS = [("integer", "1.5"), ("integer", "abc"), ("date", "2026-02-01 01%3A02%3A03"), ("date", "abc"), ("uuid", "abc"), ("json", "abc")]
MISFITS += [("timestamp", "2026-02-01 01%3A02%3A03.1234567"), ("timestamp", "2026-02-01T01:02:03.123456789Z"), ("timestamp", "abc")]
MISFITS += [("float", "1e400"), ("float", "1_000"), ("float", "abc")]


def delivered(root: Path, kind: str, values: list[str]) -> list[str]:
    for number, value in enumerate(values):
        folder = root / "sample" / f"part={value}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": [number], "tenant": ["acme"]}), folder / "0.parquet")
    plain = {"source": "any", "tenant_column": "tenant", "key": ["id"], "changes": {"mode": "full"}}
    columns = {"id": {"type": "integer"}, "part": {"type": kind}}
    entity = Entity.model_validate({"id": "sample", "relation": "sample/*/*.parquet", "columns": columns, **plain})
    selection = Selection(entity, "acme", entity.columns)
    with Lake(LakeSource(kind="lake"), root, no_connection).snapshot() as snapshot:
        snapshot.check(selection)
        text = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode()
    return [line.partition(",")[2] for line in text.splitlines()]


def no_connection(name: str) -> Connection:
    raise AssertionError(name)


@pytest.mark.parametrize("kind", FITTING)
def test_a_partition_value_is_delivered_as_its_catalogued_type(tmp_path: Path, kind: str) -> None:
    assert delivered(tmp_path, kind, list(FITTING[kind])) == list(FITTING[kind].values())


@pytest.mark.parametrize(("kind", "value"), MISFITS)
def test_a_partition_value_of_another_type_is_refused_by_its_column(tmp_path: Path, kind: str, value: str) -> None:
    with pytest.raises(PermanentError, match="column part"):
        delivered(tmp_path, kind, [value])


OF_TENANTS = {
    "integer": ("7", ["7", "07", "8", "70"]),
    "decimal": ("7", ["7", "7.00", "8", "70"]),
    "uuid": (ID, [ID, ID.upper(), ID[:-1] + "2", NULL]),
    "uuid in capitals": (ID.upper(), [ID, ID.replace("-", ""), ID[:-1] + "2", NULL]),
}


@pytest.mark.parametrize(("kind", "tenant", "folders"), [(kind.split()[0], *case) for kind, case in OF_TENANTS.items()], ids=OF_TENANTS)
def test_a_tenant_has_the_folders_of_its_number_or_uuid_however_they_are_spelt(
    tmp_path: Path, kind: str, tenant: str, folders: list[str]
) -> None:
    for number, folder in enumerate(folders):
        for half in ("a", "b"):
            place = tmp_path / "sample" / f"tenant={folder}" / f"{half}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"id": [f"{number}{half}"]}), place)
    plain = {"source": "any", "tenant_column": "tenant", "key": ["id"], "changes": {"mode": "full"}}
    columns = {"id": {"type": "string"}, "tenant": {"type": kind}}
    entity = Entity.model_validate({"id": "sample", "relation": "sample/*/*.parquet", "columns": columns, **plain})
    selection = Selection(entity, tenant, {"id": entity.columns["id"]})
    with Lake(LakeSource(kind="lake"), tmp_path, no_connection).snapshot() as snapshot:
        snapshot.check(selection)
        lines = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle())).decode().split()
    assert lines == ["0a", "0b", "1a", "1b"]
