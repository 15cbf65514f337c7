"""A lake whose files are written again while they are read, or that a log stands over: no row is lost, none comes back unsaid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.sources.test_source_postgres import entity
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import FileStyle, Selection
from waybill.connection import Connection
from waybill.errors import PermanentError, TransientError
from waybill.sources.duckdb import table_formats
from waybill.sources.duckdb.lake import Lake

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


def read_while(root: Path, between: Callable[[], object], wanted: Entity) -> bytes:
    """What is read in two statements; something happens between them."""
    selection = Selection(wanted, "acme", wanted.columns)
    with Lake(LAKE, root, nobody).snapshot([wanted]) as snapshot:
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
    with pytest.raises(TransientError, match=r"a\.parquet was written again or removed") as busy:
        read_while(tmp_path, lambda: change(path), orders(relation))
    assert busy.value.code == "source_busy"


def test_a_file_that_joins_while_others_are_read_comes_with_the_next_delivery(tmp_path):
    write(tmp_path / "lake/orders/a.parquet", 1)
    other = tmp_path / "lake/orders/b.parquet"
    assert read_while(tmp_path, lambda: write(other, 2), orders()).count(b"\n") == 5


@pytest.mark.parametrize("mark", ["_delta_log/00000000000000000000.json", ".hoodie/hoodie.properties", "metadata/version-hint.text"])
@pytest.mark.parametrize("folder", ["orders", "orders/day=1"])
def test_a_folder_whose_files_a_log_decides_about_is_refused(tmp_path, mark, folder):
    write(tmp_path / "lake" / folder / "a.parquet", 1)
    (tmp_path / "lake/orders" / mark).parent.mkdir(parents=True)
    (tmp_path / "lake/orders" / mark).write_text("{}")
    with pytest.raises(PermanentError, match="rows that were deleted or replaced") as refused:
        read_while(tmp_path, lambda: None, orders("orders/**/*.parquet" if "=" in folder else "orders/*.parquet"))
    assert refused.value.code == "table_format"


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
    files, depth = Counting(skip_instance_cache=True), str(tmp_path / "lake/x").count("/")
    entity = orders("*/*.parquet")
    plain = table_formats.refuse(files, entity, paths, depth, frozenset())
    assert files.asked == len(plain) == 50
    assert table_formats.refuse(files, entity, paths, depth, plain) == plain
    assert files.asked == 50
    many = [f"{tmp_path}/lake/0/{number}.parquet" for number in range(1000)]
    table_formats.refuse(files, entity, many, depth, frozenset())
    assert files.asked == 50 + 4, "more files than a store tells in one answer are asked by name"
