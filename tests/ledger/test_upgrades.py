"""A ledger goes to the version before and comes back with all it holds, and deliveries go on where they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    insert,
    inspect,
    select,
    text,
    update,
)

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.files import places
from waybill.ledger import Ledger, streams
from waybill.ledger.database.engine import MIGRATIONS
from waybill.ledger.reports import usage
from waybill.ledger.tables import stream, tenant
from waybill.states import GenerationReason

RELEASED = "0004"
"""The newest migration of release 0.1.0."""
KEPT = ("tenant", "registration", "stream", "delivery", "attempt", "digest", "day", "audit")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    url = request.getfixturevalue("postgres").url if request.param == "postgres" else f"sqlite:///{tmp_path}/ledger.db"
    with closing(make_place(tmp_path / "place", ledger_url=url, clock=NOON)) as place:
        place.write("catalog.yaml", catalog(user=USER))
        place.tenant(entityList=["user"])
        for number in range(1, 4):
            place.user(number, f"name {number}", NOON - 2 * DAY)
        yield place


def move(ledger: Ledger, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with ledger.begin() as connection:
        config.attributes["connection"] = connection
        step = command.upgrade if (ledger_at(connection) or "") < revision else command.downgrade
        step(config, revision)


def ledger_at(connection: Any) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def shape(ledger: Ledger) -> dict[str, list[str]]:
    with ledger.begin() as connection:
        looked = inspect(connection)
        return {name: sorted(column["name"] for column in looked.get_columns(name)) for name in sorted(looked.get_table_names())}


def held(ledger: Ledger, released: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that the released version knows, by the columns it knows."""
    found = {}
    with ledger.begin() as connection:
        for name in KEPT:
            columns = ", ".join(f'"{item}"' for item in released[name])
            found[name] = sorted((tuple(row) for row in connection.execute(text(f'SELECT {columns} FROM "{name}"'))), key=repr)
    return found


def _value(column: Column[Any], number: int) -> Any:
    """Something of the column's type that differs from row to row."""
    match column.type:
        case Boolean():
            return number % 2 == 0
        case Integer() | BigInteger():
            return number
        case DateTime():
            return (NOON + number * DAY).replace(tzinfo=None)
        case JSON():
            return {"entityList": [f"{column.name} {number}"], "sourceTenant": f"x{number}"}
        case LargeBinary():
            return bytes([number])
    return f"{number}{column.name}"[: getattr(column.type, "length", None) or 63]


def _root(column: Column[Any]) -> Column[Any]:
    """What a column refers to in the end, so that equal rows refer to one another."""
    return next((_root(key.column) for key in column.foreign_keys), column)


def _fill(ledger: Ledger) -> MetaData:
    """Three rows in every table there is; references lead to rows that are there."""
    tables = MetaData()
    with ledger.begin() as connection:
        tables.reflect(connection)
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                rows = [{column.name: _value(_root(column), n) for column in table.columns} for n in (1, 2, 3)]
                connection.execute(insert(table), rows)
    return tables


def _rows(ledger: Ledger, tables: MetaData) -> dict[str, list[str]]:
    with ledger.begin() as connection:
        return {
            name: sorted(map(repr, connection.execute(select(table)))) for name, table in tables.tables.items() if name != "alembic_version"
        }


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.parametrize("revision", [f"{number:04d}" for number in range(1, int(Ledger.head()) + 1)])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_row_of_every_table_comes_up_from_any_version(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, revision: str
) -> None:
    with closing(Ledger(request.getfixturevalue("postgres").url if database == "postgres" else f"sqlite:///{tmp_path}/old.db")) as ledger:
        move(ledger, revision)
        tables = _fill(ledger)
        before = _rows(ledger, tables)
        assert all(len(rows) == 3 for rows in before.values())
        ledger.upgrade()
        assert ledger.revision() == Ledger.head()
        assert _rows(ledger, tables) == before


def test_a_ledger_with_data_goes_down_to_the_release_and_up_again_without_loss(place: Place, tmp_path: Path) -> None:
    fresh = Ledger(f"sqlite:///{tmp_path}/fresh.db")
    move(fresh, RELEASED)
    released = shape(fresh)
    fresh.close()
    place.run(NOON)
    ledger = place.installation().ledger
    before = held(ledger, released)
    assert all(before[name] for name in ("tenant", "registration", "stream", "delivery", "attempt", "audit"))
    move(ledger, RELEASED)
    assert shape(ledger) == released
    assert held(ledger, released) == before
    ledger.upgrade()
    assert ledger.revision() == Ledger.head()
    assert held(ledger, released) == before
    place.user(4, "later", NOON)
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    assert [(delivery["sequence"], delivery["rows"]) for _, delivery in sorted(place.manifests())] == [(1, 3), (2, 1)]
    assert places.verify(str(place.out), pytest.fail).is_whole
    with ledger.read() as connection:
        months = usage.months(connection)
        assert usage.last_months(connection, "acme", NOON + DAY) == months
    assert [(month.tenant, month.month, month.deliveries, month.rows) for month in months] == [
        ("acme", "2026-06", 1, 1),
        ("acme", "2026-05", 1, 3),
    ]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_reasons_of_generations_that_earlier_versions_spelt_as_sentences_become_words(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    sentences = [
        "registered",
        "full load asked for",
        "other rows are delivered now",
        "the destination shows deliveries that the ledger does not know, and their manifests were collected",
    ]
    of_the_source = "the materialized view public.kept is refreshed since the last delivery"
    words = ["registered", "full_load_asked", "other_rows", "manifests_collected"]
    with closing(Ledger(request.getfixturevalue("postgres").url if database == "postgres" else f"sqlite:///{tmp_path}/old.db")) as ledger:
        move(ledger, "0014")
        with ledger.begin() as connection:
            connection.execute(insert(tenant).values(id="acme", version=1, salt=b""))
            streams.activate(connection, "acme", [f"e{number}" for number in range(5)], NOON)
            for number, sentence in enumerate([*sentences, of_the_source]):
                connection.execute(update(stream).where(stream.c.entity == f"e{number}").values(reason=sentence))
        for revision, expected in (("0015", words), ("0014", sentences), ("0015", words)):
            move(ledger, revision)
            with ledger.read() as connection:
                assert [found.reason for found in streams.active(connection, "acme")] == [*expected, of_the_source]
    assert set(words) <= set(GenerationReason)
