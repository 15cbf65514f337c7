"""Do the carriers hold exactly what the data set says? `python examples/flights/compare.py --until 2013-02-01`

Reads the delivered CSV with DuckDB, puts each carrier's full load and deltas together (of planes, the last file) and compares with the
package row by row, NULLs included. Exits with 1 when a row is missing, doubled or different.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

import duckdb
from load import package_tables

DELIVERED = Path(__file__).parent / ".waybill" / "delivered" / "exports"

FLOWN = "SELECT lower(carrier) AS tenant, * FROM package_flights WHERE CAST(time_hour AS DATE) < $until"
EXPECTED = {
    "flights": FLOWN,
    "weather": """SELECT lower(carrier) AS tenant, package_weather.* FROM package_weather CROSS JOIN package_airlines
        WHERE CAST(time_hour AS DATE) < $until""",
    "planes": f"""SELECT DISTINCT flown.tenant, package_planes.* FROM package_planes JOIN ({FLOWN}) AS flown USING (tailnum)""",
}


def files(delivered: Path, tenant: str, entity: str) -> list[Path]:
    """<tenant>/<yyyy>/<mm>/<dd>/<entity>/<entity>.csv, by date; of planes, which come whole every time, the last."""
    found = sorted((delivered / tenant).glob(f"*/*/*/{entity}/{entity}*.csv"))
    return found[-1:] if entity == "planes" else found


def read(connection: duckdb.DuckDBPyConnection, delivered: Path, tenant: str, entity: str) -> None:
    """Append what a carrier holds to the table `held_<entity>`. An unquoted empty field is NULL, `""` is the empty text."""
    paths = [str(path) for path in files(delivered, tenant, entity)]
    if not paths:
        return
    described = connection.execute(f"DESCRIBE package_{entity}").fetchall()
    types = ", ".join(f"'{name}': '{kind}'" for name, kind, *_ in described)
    dialect = """auto_detect = false, header = true, delim = ',', quote = '"', escape = '"', nullstr = '', allow_quoted_nulls = false"""
    parsed = f"read_csv($paths, columns = {{{types}}}, {dialect})"
    connection.execute(f"INSERT INTO held_{entity} SELECT $tenant, * FROM {parsed}", {"tenant": tenant, "paths": paths})


def compare(delivered: Path, until: date) -> dict[str, tuple[int, int]]:
    """By entity: the rows the carriers hold together, and how many rows stand on one side only, doubles counted."""
    result = {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        for name, table in package_tables().items():
            connection.register(f"package_{name}", table)
        for entity, expected in EXPECTED.items():
            connection.execute(f"CREATE TABLE expected AS {expected}", {"until": until})
            connection.execute(f"CREATE TABLE held_{entity} AS FROM expected LIMIT 0")
            for tenant in sorted(path.name for path in delivered.iterdir()):
                read(connection, delivered, tenant, entity)
            missing = f"FROM expected EXCEPT ALL FROM held_{entity}"
            surplus = f"FROM held_{entity} EXCEPT ALL FROM expected"
            query = f"SELECT (SELECT count(*) FROM held_{entity}), (SELECT count(*) FROM ({missing})) + (SELECT count(*) FROM ({surplus}))"
            result[entity] = connection.execute(query).fetchall()[0]
            connection.execute("DROP TABLE expected")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--until", type=date.fromisoformat, required=True, help="the day the last run went up to")
    parser.add_argument("--delivered", type=Path, default=DELIVERED, help="the exports folder (default: %(default)s)")
    arguments = parser.parse_args()
    result = compare(arguments.delivered, arguments.until)
    for entity, (rows, differences) in result.items():
        print(f"{entity}: {rows} rows held, {differences} differences")
    sys.exit(1 if any(differences for _, differences in result.values()) else 0)


if __name__ == "__main__":
    main()
