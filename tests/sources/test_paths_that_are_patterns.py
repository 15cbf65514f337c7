"""Folders and files of a lake with names that a pattern could mean: exactly these are read, on disk and on S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.servers.s3 import S3Server
from tests.sources.test_source_files import NOW, entity, read, s3_lake
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import Selection
from waybill.configuration.values.conditions import Condition
from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill.sources.duckdb.lake import Lake

TEMPTING = {
    "a[1]": "a1",
    "b*": "bb",
    "c?": "cc",
    "[!x]": "y",
    "d]e[": "de",
    "[[]": "[",
    "{f,g}": "f",
    "h%2A": "h*",
    "**": "j",
}
"""A name, and another one that it matches as a pattern."""


def _no_connection(name: str) -> Connection:
    raise AssertionError(name)


def _write(path: Path, note: str, tenant: str = "'acme' AS tenant_id") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.sql(f"SELECT 1 AS id, {tenant}, TIMESTAMP '2026-01-01' AS updated_at, '{note}' AS note").write_parquet("now.parquet")
    Path("now.parquet").rename(path)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def local(base: Path, path: str = "") -> Lake:
    return Lake(LakeSource(kind="lake", path=path), base, _no_connection)


@pytest.mark.parametrize("name", TEMPTING)
@pytest.mark.parametrize("place", ["base", "source", "folder", "file"])
def test_only_the_named_path_is_read(tmp_path: Path, name: str, place: str) -> None:
    for each, note in ((name, "ours"), (TEMPTING[name], "not ours")):
        parts = {"base": "", "source": "lake", "folder": "events", "file": "0"} | {place: each}
        _write(tmp_path / parts["base"] / parts["source"] / parts["folder"] / f"{parts['file']}.parquet", note)
    base, source = tmp_path / (name if place == "base" else ""), name if place == "source" else "lake"
    relations = {"folder": [f"{name}/0.parquet"], "file": [f"events/{name}.parquet"]}.get(place, ["events/0.parquet", "events/*.parquet"])
    for relation in relations:
        assert read(local(base, source), entity(relation=relation)) == "1,ours\n"


@pytest.mark.parametrize("name", TEMPTING)
def test_a_pattern_reads_files_that_look_like_patterns_once(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "events" / f"{name}.parquet", "ours")
    assert read(local(tmp_path), entity(relation="events/*.parquet")) == "1,ours\n"


@pytest.mark.parametrize("name", TEMPTING)
@pytest.mark.parametrize("spelling", ["as it is", "percent-encoded"])
def test_a_tenant_named_like_a_pattern_reads_its_own_partition_only(tmp_path: Path, name: str, spelling: str) -> None:
    for tenant in (name, TEMPTING[name]):
        shown = tenant.replace("%", "%25")
        if spelling == "percent-encoded":
            shown = "".join(c if c.isalnum() else f"%{ord(c):02X}" for c in tenant)
        _write(tmp_path / "events" / f"tenant_id={shown.replace('?', '%3F')}" / "0.parquet", tenant, "1 AS one")
    shape = entity(relation="events/*/*.parquet")
    for tenant in (name, TEMPTING[name]):
        assert read(local(tmp_path), shape, tenant).partition(",")[2].strip().strip('"') == tenant


@pytest.mark.parametrize("relation", ["events", "events/", "events/*", "events/**"])
def test_a_folder_on_s3_stands_for_the_finished_files_below_it(tmp_path: Path, s3: S3Server, relation: str) -> None:
    client = s3.client()
    bucket = f"folders-{abs(hash(relation))}"
    client.create_bucket(Bucket=bucket)
    _write(tmp_path / "0.parquet", "ours")
    client.upload_file(str(tmp_path / "0.parquet"), bucket, "events/part.parquet/0.parquet")
    for key in ("events/", "events/empty/", "events/_temporary/1.parquet", "events/.2.parquet"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert read(s3_lake(s3.endpoint, f"s3://{bucket}"), entity(relation=relation)) == "1,ours\n"


@pytest.mark.parametrize("name", ["a[1]", "b*", "c?", "[!x]"])
def test_keys_on_s3_are_read_as_they_are_spelt(tmp_path: Path, s3: S3Server, name: str) -> None:
    client = s3.client()
    bucket = f"patterns-{abs(hash(name))}"
    client.create_bucket(Bucket=bucket)
    for each, note in ((name, "ours"), (TEMPTING[name], "not ours")):
        _write(tmp_path / "0.parquet", note)
        _write(tmp_path / "part.parquet", note, "1 AS one")
        for key in (f"{each}/events/0.parquet", f"files/{each}.parquet"):
            client.upload_file(str(tmp_path / "0.parquet"), bucket, key)
        client.upload_file(str(tmp_path / "part.parquet"), bucket, f"parts/tenant_id={each.replace('?', '%3F')}/0.parquet")
    assert read(s3_lake(s3.endpoint, f"s3://{bucket}/{name}"), entity(relation="events/*.parquet")) == "1,ours\n"
    assert read(s3_lake(s3.endpoint, f"s3://{bucket}"), entity(relation=f"files/{name}.parquet")) == "1,ours\n"
    assert read(s3_lake(s3.endpoint, f"s3://{bucket}"), entity(relation="parts/*/*.parquet"), name) == "1,ours\n"


PARTITIONS: dict[str, tuple[list[str], list[str]]] = {
    "string": (["a", "01", "a%2Cb"], ["a", "01", '"a,b"']),
    "integer": (["1", "-20", "007"], ["1", "-20", "7"]),
    "decimal": (["1.5", "-20", "0.125"], ["1.500", "-20.000", "0.125"]),
    "float": (["1.5", "1e15", "0.1"], ["1.5", "1e+15", "0.1"]),
    "boolean": (["true", "false", "True"], ["true", "false", "true"]),
    "date": (["2026-01-31", "1999-12-31"], ["2026-01-31", "1999-12-31"]),
    "timestamp": (["2026-01-31 12%3A00%3A00", "2026-01-31 12%3A00%3A00.5"], ["2026-01-31T12:00:00.000000Z", "2026-01-31T12:00:00.500000Z"]),
    "uuid": (["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"], ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "json": (["%7B%22a%22%3A 1%7D"], ['"{""a"":1}"']),
}


def _partitioned(kind: str) -> Entity:
    more: dict[str, Any] = {"columns": {"id": {"type": "integer"}, "part": {"type": kind}}}
    return entity("full", relation="events/*/*.parquet", **more)


@pytest.mark.parametrize("kind", PARTITIONS)
def test_a_partition_column_of_every_catalogued_type_has_its_canonical_text(tmp_path: Path, kind: str) -> None:
    spelt, expected = PARTITIONS[kind]
    for number, value in enumerate(spelt):
        path = tmp_path / f"events/part={value}/0.parquet"
        path.parent.mkdir(parents=True)
        duckdb.sql(f"SELECT {number} AS id, 'acme' AS tenant_id, TIMESTAMP '2026-01-01' AS updated_at").write_parquet("now.parquet")
        Path("now.parquet").rename(path)
    shape = _partitioned(kind)
    assert read(local(tmp_path), shape).splitlines() == [f"{number},{text}" for number, text in enumerate(expected)]
    with local(tmp_path).snapshot() as snapshot:
        selection = Selection(shape, "acme", shape.columns)
        assert sum(batch.num_rows for batch in snapshot.batches(selection)) == len(expected)
        assert snapshot.extent(shape, "acme", None, NOW).changed.start is None


def test_a_binary_partition_column_is_refused_by_name(tmp_path: Path) -> None:
    _write(tmp_path / "events/part=AAEC/0.parquet", "ours")
    with pytest.raises(PermanentError, match=r"column part .* cannot hold the catalogued type binary"):
        read(local(tmp_path), _partitioned("binary"))


@pytest.mark.parametrize("name", ["tenant_id=c?/0.parquet", "tenant_id=c/\\[1].parquet"], ids=["question mark", "backslash"])
def test_a_name_that_the_engine_reads_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "events" / name, "ours")
    with pytest.raises(PermanentError, match=r"question mark|backslash"):
        read(local(tmp_path), entity(relation="events/*/*.parquet"), "c?")


def _row(columns: str) -> str:
    return f"SELECT TIMESTAMP '2026-01-01' AS updated_at, {columns}"


CONTRADICTIONS = {
    "two tenants in one path": ("tenant_id=acme/tenant_id=other", "1 AS id, 'x' AS note"),
    "two values of a column in one path": ("note=a/note=b", "1 AS id, 'acme' AS tenant_id"),
    "two spellings in one path": ("Note=a/note=a", "1 AS id, 'acme' AS tenant_id"),
    "another tenant in the file": ("tenant_id=acme", "1 AS id, 'x' AS note, 'other' AS tenant_id"),
    "another tenant in one row": ("tenant_id=acme", "unnest([1, 2]) AS id, 'x' AS note, unnest(['acme', 'other']) AS tenant_id"),
    "no tenant in the file": ("tenant_id=acme", "1 AS id, 'x' AS note, NULL::VARCHAR AS tenant_id"),
    "another tenant under a spelling of its own": ("Tenant_Id=acme", "1 AS id, 'x' AS note, 'other' AS tenant_id"),
    "another note": ("note=folder", "1 AS id, 'acme' AS tenant_id, 'file' AS note"),
    "another key": ("id=7", "8 AS id, 'acme' AS tenant_id, 'x' AS note"),
    "no number in the folder": ("note=seven", "1 AS id, 'acme' AS tenant_id, 7 AS note"),
    "a folder without a value": ("note=__HIVE_DEFAULT_PARTITION__", "1 AS id, 'acme' AS tenant_id, 'x' AS note"),
}


@pytest.mark.parametrize("folders", CONTRADICTIONS)
def test_a_folder_and_its_file_that_contradict_each_other_are_refused(tmp_path: Path, folders: str) -> None:
    where, columns = CONTRADICTIONS[folders]
    path = tmp_path / "events" / where / "[0].parquet"
    path.parent.mkdir(parents=True)
    duckdb.sql(_row(columns)).write_parquet("now.parquet")
    Path("now.parquet").rename(path)
    for tenant in ("acme", "other"):
        with pytest.raises(PermanentError, match=r"two folders|its folder's name") as told:
            read(local(tmp_path), entity(relation="events/**/*.parquet"), tenant)
        assert told.value.code == "schema_drift"


@pytest.mark.parametrize("asked", ["where", "scopes", "time_column"])
def test_a_column_that_only_chooses_rows_may_not_contradict_its_folder_either(tmp_path: Path, asked: str) -> None:
    path = tmp_path / "events/day=2026-01-01/0.parquet"
    path.parent.mkdir(parents=True)
    duckdb.sql(_row("1 AS id, 'acme' AS tenant_id, 'x' AS note, DATE '2026-01-02' AS day")).write_parquet("now.parquet")
    Path("now.parquet").rename(path)
    more: dict[str, Any] = {"scopes": {"scopes": {"study": "day"}}, "time_column": {"time_column": "day"}}.get(asked, {})
    shape = entity(relation="events/*/*.parquet", **more)
    where = (Condition(column="day", op="=", value="2026-01-01"),) if asked == "where" else ()
    with local(tmp_path).snapshot() as snapshot, pytest.raises(PermanentError, match="another value in its column day"):
        snapshot.check(Selection(shape, "acme", shape.columns, where=where))


AGREEMENTS = {
    "tenant_id=acme": "1 AS id, 'x' AS note, 'acme' AS tenant_id",
    "id=01": "1 AS id, 'acme' AS tenant_id, 'x' AS note",
    "note=1.5": "1 AS id, 'acme' AS tenant_id, 1.500::DECIMAL(9, 3) AS note",
    "other=1": "1 AS id, 'acme' AS tenant_id, 'x' AS note, 2 AS other",
    "note=x/note=x": "1 AS id, 'acme' AS tenant_id",
    "id=1": "1 AS id, 'acme' AS tenant_id, 'x' AS note, 'y' AS waybill",
}


@pytest.mark.parametrize("folders", AGREEMENTS)
def test_a_file_may_repeat_what_its_folder_says(tmp_path: Path, s3: S3Server, folders: str) -> None:
    duckdb.sql(_row(AGREEMENTS[folders])).write_parquet("0.parquet")
    client, bucket = s3.client(), f"agreements-{abs(hash(folders))}"
    client.create_bucket(Bucket=bucket)
    client.upload_file("0.parquet", bucket, f"events/{folders}/0.parquet")
    path = tmp_path / "events" / folders / "0.parquet"
    path.parent.mkdir(parents=True)
    Path("0.parquet").rename(path)
    shape = entity(relation="events/**/*.parquet")
    expected = f"1,{'1.5' if '1.5' in folders else 'x'}\n"
    assert read(local(tmp_path), shape) == read(s3_lake(s3.endpoint, f"s3://{bucket}"), shape) == expected
