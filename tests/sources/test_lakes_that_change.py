"""A lake whose files are written again while they are read, or that a log stands over: no row is lost, none comes back unsaid."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.sources.test_source_postgres import entity
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.connection import Connection
from waybill.errors import PermanentError, TransientError
from waybill.sources.duckdb import table_formats
from waybill.sources.duckdb.lake import Lake
from waybill.sources.duckdb.source import DuckDB

pytestmark = pytest.mark.fast

LAKE = LakeSource(kind="lake", path="lake")
ROWS = "select i as id, 'acme' as tenant_id, {} as version, timestamptz '2026-01-01' as updated_at from range({}) r(i)"


def nobody(name: str) -> Connection:
    raise PermanentError(name)


def write(path: Path, version: int, rows: int = 5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.execute(f"copy ({ROWS.format(version, rows)}) to '{path}' (format parquet)")


def orders(relation: str = "orders/*.parquet") -> Entity:
    return entity("lookback", relation=relation)


def read_while(root: Path, between: Callable[[], object], wanted: Entity, source: LakeSource = LAKE) -> bytes:
    """What is read in two statements; something happens between them."""
    selection = Selection(wanted, "acme", wanted.columns)
    with Lake(source, root, nobody).snapshot([wanted]) as snapshot:
        snapshot.check(selection)
        lines = b"".join(bytes(block) for block, _ in snapshot.csv(selection, FileStyle()))
        between()
        list(snapshot.digests(selection))
    return lines


def rewritten(path: Path) -> None:
    write(path, 2)


def renamed_over(path: Path) -> None:
    write(path.with_name("_new"), 2)
    path.with_name("_new").rename(path)


def removed(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("change", [rewritten, renamed_over, removed, cut])
@pytest.mark.parametrize("relation", ["orders/*.parquet", "orders/a.parquet", "*/*.parquet"])
def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path, change, relation):
    path = tmp_path / "lake/orders/a.parquet"
    write(path, 1)
    with pytest.raises(TransientError, match=r"a\.parquet was written again, removed or added") as busy:
        read_while(tmp_path, lambda: change(path), orders(relation))
    assert busy.value.code == "source_busy"


def joined(path: Path) -> None:
    write(path.with_name("b.parquet"), 2)


BEHIND = {
    "a view": "create view orders as select * from read_parquet('{}')",
    "a view that names the files alone": "create view orders as select * from '{}'",
    "a view of a view": "create view files as select * from read_parquet(['{}']); create view orders as select * from files",
    "a macro": "create macro files() as table select * from read_parquet('{}'); create view orders as select * from files()",
    "a query": "",
}


@pytest.mark.parametrize("change", [rewritten, renamed_over, removed, cut, joined])
@pytest.mark.parametrize("what", BEHIND)
def test_a_file_behind_a_view_that_changes_while_it_is_read_is_read_again(tmp_path, what, change):
    """What was read last would be remembered as delivered, and never come."""
    path, files = tmp_path / "lake/orders/a.parquet", f"{tmp_path}/lake/orders/*.parquet"
    write(path, 1)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        for statement in filter(None, BEHIND[what].split(";")):
            connection.execute(statement.format(files))
    more = {"relation": "", "query": f"select * from read_parquet('{files}') where version < 9"} if what == "a query" else {}
    wanted = entity("lookback", **{"relation": "orders", **more})
    selection = Selection(wanted, "acme", wanted.columns)
    with DuckDB(tmp_path / "shop.duckdb").snapshot([wanted]) as snapshot:
        snapshot.check(selection)
        assert sum(rows for _, rows in snapshot.csv(selection, FileStyle())) == 5
        change(path)
        with pytest.raises(TransientError, match=r"\.parquet was written again, removed or added while") as busy:
            list(snapshot.digests(selection))
    assert busy.value.code == "source_busy"


def test_a_file_that_joins_while_others_are_read_comes_with_the_next_delivery(tmp_path):
    write(tmp_path / "lake/orders/a.parquet", 1)
    other = tmp_path / "lake/orders/b.parquet"
    assert read_while(tmp_path, lambda: write(other, 2), orders()).count(b"\n") == 5


MARKS = [
    *("_delta_log/00000000000000000000.json", ".hoodie/hoodie.properties", "metadata/version-hint.text"),
    "metadata/00001-5d7a.metadata.json",  # all that Iceberg writes where a catalog service knows the newest
]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize(
    ("file", "relation", "path"),
    [
        ("a.parquet", "orders/*.parquet", "lake"),
        ("day=1/a.parquet", "orders/**/*.parquet", "lake"),
        ("day=1/a.parquet", "orders/day=1/*.parquet", "lake"),
        ("data/a.parquet", "orders/data/*.parquet", "lake"),
        ("data/a.parquet", "orders/data/a.parquet", "lake"),
        ("data/a.parquet", "*.parquet", "lake/orders/data"),
        ("a.parquet", "*.parquet", "lake/orders"),
        ("a.parquet", "orders", "lake"),
        ("a.parquet", "*", "lake"),
        ("a.parquet", "**", "lake"),
    ],
)
def test_a_folder_whose_files_a_log_decides_about_is_refused(tmp_path, mark, file, relation, path):
    write(tmp_path / "lake/orders" / file, 1)
    (tmp_path / "lake/orders" / mark).parent.mkdir(parents=True)
    (tmp_path / "lake/orders" / mark).write_text("{}")
    with pytest.raises(PermanentError, match="rows that were deleted or replaced") as refused:
        read_while(tmp_path, lambda: None, orders(relation), LakeSource(kind="lake", path=path))
    assert refused.value.code == "table_format"


def test_a_folder_called_metadata_is_no_table_of_iceberg(tmp_path):
    write(tmp_path / "lake/orders/a.parquet", 1)
    (tmp_path / "lake/orders/metadata").mkdir()
    (tmp_path / "lake/orders/metadata/about.json").write_text("{}")
    assert read_while(tmp_path, lambda: None, orders()).count(b"\n") == 5


@pytest.mark.parametrize("relation", ["orders", "orders/", "orders/*", "orders/**", "*"])
def test_a_folder_stands_for_the_finished_files_below_it(tmp_path, relation):
    write(tmp_path / "lake/orders/part.parquet/a.parquet", 1)
    for unfinished in ("part.parquet/_temporary/0/b.parquet", "part.parquet/.b.parquet", "_b.parquet"):
        write(tmp_path / "lake/orders" / unfinished, 2)
    (tmp_path / "lake/orders/part.parquet/_SUCCESS").touch()
    assert read_while(tmp_path, lambda: None, orders(relation)).count(b"\n") == 5


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "lake/orders").mkdir(parents=True)
    names = ["id", "tenant_id", "version", "version", "updated_at"]
    columns = [pa.array([1]), pa.array(["acme"]), pa.array([1]), pa.array([2]), pa.array([datetime(2026, 1, 1, tzinfo=UTC)])]
    pq.write_table(pa.table(columns, names=names), tmp_path / "lake/orders/a.parquet")
    with pytest.raises(PermanentError, match=r"a\.parquet has two columns version"):
        read_while(tmp_path, lambda: None, orders())


def test_a_file_outside_of_the_folders_of_tenants_is_refused_and_not_passed_over(tmp_path):
    write(tmp_path / "lake/orders/tenant_id=acme/a.parquet", 1)
    write(tmp_path / "lake/orders/old/b.parquet", 2)
    with pytest.raises(PermanentError, match=r"old/b\.parquet lies in no folder tenant_id=") as refused:
        read_while(tmp_path, lambda: None, orders("orders/*/*.parquet"))
    assert refused.value.code == "schema_drift"


class Counting(LocalFileSystem):
    """The disk, with a count of the questions a store would be asked."""

    asked = 0

    def ls(self, *words, **options):
        self.asked += 1
        return super().ls(*words, **options)

    def exists(self, *words, **options):
        self.asked += 1
        return super().exists(*words, **options)


def test_looking_for_table_formats_asks_once_a_folder_and_snapshot(tmp_path):
    paths = [str(tmp_path / f"lake/{number}/a.parquet") for number in range(60)]
    for path in paths:
        write(Path(path), 1)
    files, root = Counting(skip_instance_cache=True), str(tmp_path / "lake")
    entity = orders("*/*.parquet")
    plain = table_formats.refuse(files, entity, paths, root, frozenset())
    assert files.asked == len(plain) == 61
    assert table_formats.refuse(files, entity, paths, root, plain) == plain
    assert files.asked == 61
    many = [f"{tmp_path}/lake/0/{number}.parquet" for number in range(1000)]
    table_formats.refuse(files, entity, many, root, frozenset())
    assert files.asked == 61 + 4, "more files than a store tells in one answer are asked by name"


def test_a_table_format_is_found_in_the_last_of_many_folders(tmp_path):
    for number in range(100, 170):
        write(tmp_path / f"lake/{number}/a.parquet", number)
    (tmp_path / "lake/169/_delta_log").mkdir()
    with pytest.raises(PermanentError) as refused:
        read_while(tmp_path, lambda: None, orders("*/*.parquet"))
    assert refused.value.code == "table_format"
