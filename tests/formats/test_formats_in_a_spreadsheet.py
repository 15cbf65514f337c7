"""What people download, opened by a spreadsheet program: LibreOffice, headless."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.format_rows import COLUMNS, OPTIONS, batch, written
from tests.issuer import serve_issuer
from tests.presets import Shop, opened
from tests.servers.process import program

OFFICE, TABLE, TEXT = (f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in ("office", "table", "text"))
HOSTILE = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1+1",
    '=HYPERLINK("http://127.0.0.1/")',
    "http://127.0.0.1/",
    "'=1+1",
    "1e5",
    "007",
    "2026-06-01",
]
BOOLEANS = {"of:=TRUE()", "of:=FALSE()"}
"""How LibreOffice keeps a boolean of any workbook."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with serve_issuer() as issuer, opened("types", tmp_path_factory.mktemp("types"), issuer) as shop:
        with shop.warehouse() as connection:
            for number, text in enumerate(HOSTILE):
                connection.execute("update appointments set notes = ? where id = ?", [text, 100_000 + number])
        yield shop


def shown_in_office(folder: Path, *names: str, options: str = "") -> None:
    """Have LibreOffice open files of the folder and keep what it sees below `shown`, as its own XML."""
    profile = f"-env:UserInstallation=file://{folder}/profile"
    convert = ["--headless", "--norestore", profile, *([f"--infilter={options}"] if options else []), "--convert-to", "fods"]
    command = [program("soffice"), *convert, "--outdir", str(folder / "shown"), *(str(folder / name) for name in names)]
    subprocess.run(command, check=True, capture_output=True, timeout=180)


def cells(path: Path) -> tuple[list[list[str]], str]:
    """What LibreOffice shows, cell by cell, and the document's XML as it keeps it."""
    xml = path.read_text()
    rows = []
    for row in ET.fromstring(xml).iter(f"{{{TABLE}}}table-row"):
        shown: list[str] = []
        for cell in row:
            times = int(cell.get(f"{{{TABLE}}}number-columns-repeated", "1"))
            value = "\n".join("".join(_spelt(part)) for part in cell.iter(f"{{{TEXT}}}p"))
            shown += [value] * min(times, 50)
        rows += [shown] * (1 if any(shown) else 0)
    return rows, xml


def _spelt(part: ET.Element) -> Iterator[str]:
    yield part.text or ""
    for inner in part:
        yield (
            "\t"
            if inner.tag.endswith("}tab")
            else " " * int(inner.get(f"{{{TEXT}}}c", "1"))
            if inner.tag.endswith("}s")
            else inner.text or ""
        )
        yield inner.tail or ""


def test_a_spreadsheet_program_opens_what_people_download(shop: Shop, tmp_path: Path) -> None:
    export = shop.done(exportType="records", entities=["Employees", "Appointments"], formats=["xlsx", "csv"])
    shop.archive(export).extractall(tmp_path)
    (tmp_path / "appointments.csv").rename(tmp_path / "guarded.csv")
    shown_in_office(tmp_path, "appointments.xlsx", "employees.xlsx", "guarded.csv")
    for name, entity in (("appointments", "appointments"), ("employees", "employees"), ("guarded", "appointments")):
        rows, xml = cells(tmp_path / "shown" / f"{name}.fods")
        assert len(rows) == shop.count("tenant_id = 'acme'", entity) + 1
        assert set(re.findall('table:formula="([^"]*)"', xml)) <= BOOLEANS
        assert "xlink:href" not in xml.partition("<office:body>")[2]
    rows, _ = cells(tmp_path / "shown" / "appointments.fods")
    notes = {row[0]: row[rows[0].index("notes")] for row in rows[1:]}
    assert [notes[str(100_000 + number)] for number in range(len(HOSTILE))] == HOSTILE


ROWS = [
    {"decimal": Decimal("12.500000000"), "date": dt.date(2026, 2, 28), "timestamp": dt.datetime(2026, 6, 1, 18, 0, 0, 0, dt.UTC)},
    {"decimal": Decimal("-0.250000000"), "date": dt.date(2024, 12, 31), "timestamp": dt.datetime(2026, 6, 2, 6, 0, 0, 500_000, dt.UTC)},
]
FORMULAS = {
    "SUM(A2:A3)": "12.25",
    "YEAR(B2)": "2026",
    "B2-B3": "424",
    "HOUR(C3)": "6",
    "ROUND((C3-C2)*86400000,0)": "43200500",
    "ISTEXT(A2)": "FALSE",
    "DAY(C2)": "1",
}


def test_a_spreadsheet_program_calculates_with_numbers_dates_and_times(tmp_path: Path) -> None:
    names = ["decimal", "date", "timestamp"]
    path, _ = written(tmp_path, "xlsx", [batch(ROWS, names)], {name: COLUMNS[name] for name in names})
    asked = "".join(f'<row r="{number}"><c r="E{number}"><f>{text}</f></c></row>' for number, text in enumerate(FORMULAS, 10))
    with zipfile.ZipFile(path) as package, zipfile.ZipFile(tmp_path / "asked.xlsx", "w") as changed:
        for name in package.namelist():
            changed.writestr(name, package.read(name).replace(b"</sheetData>", f"{asked}</sheetData>".encode()))
    shown_in_office(tmp_path, "asked.xlsx")
    rows, _ = cells(tmp_path / "shown" / "asked.fods")
    assert rows[1][:3] == ["12.500000000", "2026-02-28", "2026-06-01 18:00:00.000Z"]
    assert [row[4] for row in rows if len(row) > 4 and row[4]] == list(FORMULAS.values())


@pytest.mark.parametrize("name", ["semicolon", "tab", "pipe"])
def test_no_text_becomes_a_formula_where_another_sign_separates_fields_too(tmp_path: Path, name: str) -> None:
    mark, code = {"semicolon": (";", 59), "tab": ("\t", 9), "pipe": ("|", 124)}[name]
    texts = [f"abc{mark}=1+1", f"{mark}=1+1", f"a{mark}b{mark}=2+2", "plain"]
    path, _ = written(tmp_path, "csv", [batch([{"string": text} for text in texts], ["string"])], {"string": COLUMNS["string"]})
    shown_in_office(tmp_path, path.name, options=f"CSV:44/{code},34,76,1")
    rows, xml = cells(tmp_path / "shown" / f"{path.stem}.fods")
    assert "table:formula" not in xml
    assert len(rows) == len(texts) + 1
    assert path.read_text().splitlines()[1] == f'"{texts[0]}"'


def test_csv_begins_with_a_byte_order_mark_where_policy_wants_one(tmp_path: Path) -> None:
    columns = {"string": COLUMNS["string"]}
    given = [batch([{"string": "Köln"}], ["string"])]
    path, told = written(tmp_path, "csv", given, columns, replace(OPTIONS, csv_bom=True))
    assert path.read_bytes() == b"\xef\xbb\xbfstring\nK\xc3\xb6ln\n"
    assert told.bytes == path.stat().st_size
    assert written(tmp_path, "csv", given, columns)[0].read_bytes() == b"string\nK\xc3\xb6ln\n"
