"""The catalogue and tenants in config/ are what the documents promise, and fit the demo warehouse they are read from."""

from pathlib import Path

import duckdb
import pytest

from waybill.canonical import ColumnType
from waybill.configuration.catalog import Catalog, Mode
from waybill.configuration.loading import Configuration, load
from waybill.configuration.policy import Policy
from waybill.window import Frequency
from waybill_demo.warehouse import build
from waybill_demo.warehouse.text import PLANTED

pytestmark = pytest.mark.fast

DOCUMENTED = (
    "user, user logins, site, site category, content, comment, feed, file, interaction, must reads, theme, section instance, newsletter, "
    "newsletter interaction, newsletter category, survey response, survey recipient, survey instance, survey instance question, "
    "survey question bank, survey question answer bank, sentiment check configuration, sentiment check response, "
    "awareness check question, awareness check option, awareness check response"
)

NATIVE = {
    "VARCHAR": ColumnType.STRING,
    "BIGINT": ColumnType.INTEGER,
    "DECIMAL(18,4)": ColumnType.DECIMAL,
    "DOUBLE": ColumnType.FLOAT,
    "BOOLEAN": ColumnType.BOOLEAN,
    "DATE": ColumnType.DATE,
    "TIMESTAMP WITH TIME ZONE": ColumnType.TIMESTAMP,
    "UUID": ColumnType.UUID,
    "JSON": ColumnType.JSON,
    "BLOB": ColumnType.BINARY,
}


@pytest.fixture(scope="module")
def configuration(repository: Path) -> Configuration:
    return load(repository / "config")


@pytest.fixture(scope="module")
def catalog(configuration: Configuration) -> Catalog:
    return configuration.catalog


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The native type of every column of a built warehouse, by table."""
    path = tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb"
    build.build(path, tenants=["acme"], days=2, scale=0.1)
    tables: dict[str, dict[str, str]] = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute("SELECT table_name, column_name, data_type FROM information_schema.columns").fetchall()
    for table, column, kind in rows:
        tables.setdefault(table, {})[column] = kind
    return tables


def test_the_catalogue_has_exactly_the_26_documented_names(catalog: Catalog) -> None:
    assert sorted(entity.display_name for entity in catalog.entities.values()) == sorted(DOCUMENTED.split(", "))


def test_ids_are_the_names_in_slug_form_but_for_the_two_documented_ones(catalog: Catalog) -> None:
    documented = {"user logins": "user_login_events", "must reads": "content_must_read_marked"}
    for entity in catalog.entities.values():
        assert entity.id == documented.get(entity.name, entity.name.replace(" ", "_"))


@pytest.mark.parametrize("folder", ["config", "examples/flights/config"])
def test_what_we_ship_has_no_findings(repository: Path, folder: str) -> None:
    assert load(repository / folder).findings == ()


def test_every_entity_and_column_is_described_and_every_entity_has_5_to_18_columns(catalog: Catalog) -> None:
    for entity in catalog.entities.values():
        assert entity.description.endswith("."), entity.id
        assert 5 <= len(entity.columns) <= 18, entity.id
        assert all(column.description.endswith(".") for column in entity.columns.values()), entity.id


def test_every_catalogued_column_is_in_the_warehouse_with_its_type(catalog: Catalog, stored: dict[str, dict[str, str]]) -> None:
    for entity in catalog.entities.values():
        native = stored[entity.relation]
        assert set(entity.needed_columns) | set(entity.scopes.values()) <= set(native), entity.id
        assert {name: column.type for name, column in entity.columns.items()} == {name: NATIVE[native[name]] for name in entity.columns}


def test_every_table_of_the_warehouse_is_an_entity(catalog: Catalog, stored: dict[str, dict[str, str]]) -> None:
    assert set(stored) - {"demo_story"} == {entity.relation for entity in catalog.entities.values()}


def test_every_column_type_is_used(catalog: Catalog) -> None:
    assert {column.type for entity in catalog.entities.values() for column in entity.columns.values()} == set(ColumnType)


def test_keys_scopes_and_times_are_exported_columns(catalog: Catalog) -> None:
    for entity in catalog.entities.values():
        named = [*entity.key, *entity.scopes.values(), entity.time_column, entity.deleted_column, entity.changes.column]
        assert {name for name in named if name} <= set(entity.columns), entity.id
        assert entity.changes.mode in (Mode.LOOKBACK, Mode.FULL), entity.id


def test_columns_that_hold_secrets_are_stored_but_not_catalogued(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    build.build(path, tenants=["acme"], days=30, scale=0.3)
    secret = set()
    with duckdb.connect(str(path), read_only=True) as connection:
        for table in build.TABLES:
            for column in table.types:
                query = f'SELECT count(*) FROM "{table.name}" WHERE contains(CAST("{column}" AS VARCHAR), ?)'
                if connection.execute(query, [PLANTED]).fetchall()[0][0]:
                    secret.add((table.name, column))
    assert {("user", "password_hash"), ("user_login_events", "session_token"), ("feed", "webhook_secret"), ("feed", "connection")} <= secret
    catalogued = {(entity.relation, column) for entity in catalog.entities.values() for column in entity.columns}
    assert not secret & catalogued


def test_the_sample_tenants_receive_daily_weekly_and_monthly(configuration: Configuration) -> None:
    frequencies = {tenant: file.registration.frequency for tenant, file in configuration.tenants.items()}
    assert frequencies == {"acme": Frequency.DAILY, "globex": Frequency.WEEKLY, "initech": Frequency.MONTHLY}
    assert set(configuration.tenants["initech"].entities) == set(configuration.catalog.entities)


def test_each_carrier_of_the_flights_is_a_tenant(repository: Path) -> None:
    flights = load(repository / "examples" / "flights" / "config")
    assert " ".join(sorted(flights.tenants)) == "9e aa as b6 dl ev f9 fl ha mq oo ua us vx wn yv"
    assert {file.entities for file in flights.tenants.values()} == {("flights", "planes", "weather")}


def test_the_sample_policy_changes_nothing(configuration: Configuration) -> None:
    assert configuration.policy == Policy()


def test_the_sample_policy_names_every_key_there_is(repository: Path) -> None:
    text = (repository / "config" / "policy.yaml").read_text(encoding="utf-8")
    assert [key for key in Policy.model_fields if f"# {key}:" not in text] == []
