"""The demo warehouse is the same for the same arguments, moves on a day at a time, and holds what breaks careless exporters."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from waybill_demo.warehouse import build
from waybill_demo.warehouse.text import HOSTILE

pytestmark = pytest.mark.fast

TENANTS = ("acme", "globex")
UNTIL = date(2026, 5, 20)
DAYS = 25
SCALE = 0.3

Contents = dict[str, list[tuple[Any, ...]]]


def contents(path: Path) -> Contents:
    """Every row of every table as text, in key order; NULL stays None."""
    with duckdb.connect(str(path), read_only=True) as connection:
        found = {}
        for table in build.TABLES:
            columns = ", ".join(f'CAST("{name}" AS VARCHAR)' for name in table.types)
            found[table.name] = connection.execute(f'SELECT {columns} FROM "{table.name}" ORDER BY tenant_id, id').fetchall()
    return found


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "warehouse.duckdb"
    build.build(path, TENANTS, UNTIL, DAYS, SCALE)
    return path


@pytest.fixture(scope="module")
def advanced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("advanced") / "warehouse.duckdb"
    build.build(path, TENANTS, UNTIL, DAYS, SCALE)
    build.advance(path)
    return path


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The story the demo shows, advanced by its day, but of one tenant."""
    path = tmp_path_factory.mktemp("history") / "warehouse.duckdb"
    build.build(path, ["acme"])
    build.advance(path)
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


def one(connection: duckdb.DuckDBPyConnection, query: str, *parameters: Any) -> Any:
    return connection.execute(query, list(parameters)).fetchall()[0][0]


def test_the_same_arguments_give_the_same_rows(built: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.duckdb"
    build.build(again, TENANTS, UNTIL, DAYS, SCALE)
    assert contents(again) == contents(built)


def test_a_tenants_rows_do_not_depend_on_the_other_tenants(built: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.duckdb"
    build.build(alone, ["globex"], UNTIL, DAYS, SCALE)
    expected = {table: [row for row in rows if row[0] == "globex"] for table, rows in contents(built).items()}
    assert contents(alone) == expected


def test_advancing_by_a_day_is_the_same_as_telling_a_day_more(advanced: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.duckdb"
    build.build(longer, TENANTS, UNTIL + timedelta(days=1), DAYS + 1, SCALE)
    assert contents(advanced) == contents(longer)


def test_advancing_by_days_at_once_is_the_same_as_one_by_one(advanced: Path, tmp_path: Path) -> None:
    leap = tmp_path / "leap.duckdb"
    build.build(leap, TENANTS, UNTIL - timedelta(days=2), DAYS - 2, SCALE)
    build.advance(leap, days=3)
    assert contents(leap) == contents(advanced)


def test_advancing_touches_only_that_day(built: Path, advanced: Path) -> None:
    before, after = contents(built), contents(advanced)
    for table in build.TABLES:
        place = list(table.types).index("updated_at")
        changed = set(after[table.name]) ^ set(before[table.name])
        written = [datetime.fromisoformat(row[place]) for row in changed & set(after[table.name])]
        assert all(midnight(UNTIL) <= at < midnight(UNTIL + timedelta(days=1)) for at in written), table.name
        replaced = {row[:2] for row in changed & set(before[table.name])}
        assert replaced <= {row[:2] for row in changed & set(after[table.name])}, "a row vanished"


def test_the_day_of_the_demo_brings_new_rows_edits_of_old_ones_and_deletions(history: duckdb.DuckDBPyConnection) -> None:
    born = edited = deleted = 0
    for table in build.TABLES:
        query = "SELECT count(*) FILTER (created_at >= $1), count(*) FILTER (created_at < $1), count(*) FILTER (deleted_at >= $1)"
        counts = history.execute(f'{query} FROM "{table.name}" WHERE updated_at >= $1', [midnight(build.HISTORY_UNTIL)]).fetchall()[0]
        born, edited, deleted = born + counts[0], edited + counts[1], deleted + counts[2]
    assert born > 20
    assert edited > 5
    assert deleted > 0


def test_rows_written_by_others_survive_an_advance(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    build.build(path, ["acme"], UNTIL, 3, 0.1)
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO user (tenant_id, id, updated_at) VALUES ('acme', 'mine', '2026-05-19 10:00:00+00')")
        connection.execute("""ALTER TABLE "comment" ADD COLUMN extra VARCHAR""")
    build.advance(path)
    with duckdb.connect(str(path), read_only=True) as connection:
        assert one(connection, "SELECT count(*) FROM user WHERE id = 'mine'") == 1


def test_the_file_knows_its_day(built: Path, advanced: Path) -> None:
    assert build.today(built) == UNTIL
    assert build.today(advanced) == UNTIL + timedelta(days=1)


def test_building_leaves_nothing_but_the_file(built: Path) -> None:
    assert [path.name for path in built.parent.iterdir()] == ["warehouse.duckdb"]


def test_building_again_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    build.build(path, ["acme"], UNTIL, 2, 0.1)
    build.build(path, ["globex"], UNTIL, 2, 0.1)
    assert {row[0] for row in contents(path)["user"]} == {"globex"}


def test_nothing_in_the_file_is_later_than_its_day(built: Path) -> None:
    with duckdb.connect(str(built), read_only=True) as connection:
        for table in build.TABLES:
            latest = f'SELECT max(greatest(created_at, updated_at, deleted_at)) < ? FROM "{table.name}"'
            assert one(connection, latest, midnight(UNTIL)), table.name


def test_every_table_has_rows_with_unique_keys_and_a_change_time_for_each_tenant(built: Path) -> None:
    with duckdb.connect(str(built), read_only=True) as connection:
        for table in build.TABLES:
            query = (
                f'SELECT tenant_id, count(*) = count(DISTINCT id), count(*) = count(updated_at) FROM "{table.name}" GROUP BY ALL ORDER BY 1'
            )
            assert connection.execute(query).fetchall() == [("acme", True, True), ("globex", True, True)], table.name


def test_tenants_share_ids_so_that_a_missing_tenant_predicate_shows(built: Path) -> None:
    with duckdb.connect(str(built), read_only=True) as connection:
        assert one(connection, "SELECT count(*) FROM site a JOIN site b USING (id) WHERE a.tenant_id < b.tenant_id") > 5


def test_a_deletion_is_also_an_update(history: duckdb.DuckDBPyConnection) -> None:
    assert one(history, "SELECT count(*) FROM comment WHERE deleted_at IS NOT NULL") > 5
    assert one(history, "SELECT count(*) FROM comment WHERE deleted_at <> updated_at") == 0


def test_rows_stand_on_the_very_edge_of_a_day_and_share_an_instant(history: duckdb.DuckDBPyConnection) -> None:
    assert one(history, "SELECT count(*) FROM user WHERE created_at = date_trunc('day', created_at)") > 5
    assert one(history, "SELECT max(n) FROM (SELECT count(*) AS n FROM survey_recipient GROUP BY created_at)") > 5


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_there_whole(history: duckdb.DuckDBPyConnection, text: str) -> None:
    assert one(history, "SELECT count(*) FROM interaction WHERE search_text = ?", text) > 0


@pytest.mark.parametrize(
    ("table", "condition"),
    [
        pytest.param("comment", "body IS NULL", id="NULL text"),
        pytest.param("comment", "body = ''", id="empty text"),
        pytest.param("comment", "body LIKE '%' || chr(13) || '%' AND body NOT LIKE '%' || chr(10) || '%'", id="lone CR"),
        pytest.param("comment", "contains(body, chr(127881))", id="emoji beyond the BMP"),
        pytest.param("comment", "contains(body, 'ש')", id="right to left"),
        pytest.param("comment", "contains(body, 'e' || chr(769))", id="combining mark"),
        pytest.param("interaction", "isnan(dwell_seconds)", id="NaN"),
        pytest.param("interaction", "dwell_seconds = 'Infinity'", id="infinity"),
        pytest.param("interaction", "dwell_seconds = '-Infinity'", id="minus infinity"),
        pytest.param("interaction", "dwell_seconds = 1e15", id="float in exponent form"),
        pytest.param("user", "weekly_hours <> round(weekly_hours, 3)", id="decimal with four places"),
        pytest.param("awareness_check_response", "seconds_taken < 0", id="negative decimal"),
        pytest.param("awareness_check_response", "is_correct IS NULL", id="NULL boolean"),
        pytest.param("content", "expires_on = DATE '9999-12-31'", id="date far away"),
        pytest.param("user", "hired_on < DATE '1970-01-01'", id="date before 1970"),
        pytest.param("file", "checksum IS NULL", id="NULL binary"),
        pytest.param("file", "octet_length(checksum) = 0", id="empty binary"),
        pytest.param("file", "octet_length(checksum) = 34", id="binary"),
        pytest.param("content", "tags IS NULL", id="NULL json"),
        pytest.param("content", "CAST(tags AS VARCHAR) = 'null'", id="json null"),
        pytest.param("content", "contains(CAST(tags AS VARCHAR), chr(10) || '  ')", id="json with white space"),
        pytest.param("content", "contains(CAST(tags AS VARCHAR), '9007199254740993')", id="json number past 2^53"),
        pytest.param("user", "updated_at >= created_at + INTERVAL 30 DAY", id="edit of an old row"),
    ],
)
def test_what_breaks_careless_exporters_is_there(history: duckdb.DuckDBPyConnection, table: str, condition: str) -> None:
    assert one(history, f"SELECT count(*) FROM {table} WHERE {condition}") > 0
