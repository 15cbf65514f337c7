"""What people download, opened by a spreadsheet program: LibreOffice, headless."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    one = shop.done(exportType="records", entities=["Employees", "Appointments"], formats=["xlsx", "csv"])
    shop.archive(one).extractall(tmp_path)
    (tmp_path / "appointments.csv").rename(tmp_path / "guarded.csv")
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    files = [str(tmp_path / name) for name in ("appointments.xlsx", "employees.xlsx", "guarded.csv")]
    convert = ["--headless", "--norestore", profile, "--convert-to", "fods", "--outdir", str(tmp_path / "shown")]
    subprocess.run([program("soffice"), *convert, *files], check=True, capture_output=True, timeout=180)
    for name, entity in (("appointments", "appointments"), ("employees", "employees"), ("guarded", "appointments")):
        rows, xml = cells(tmp_path / "shown" / f"{name}.fods")
        assert len(rows) == shop.count("tenant_id = 'acme'", entity) + 1
        assert set(re.findall('table:formula="([^"]*)"', xml)) <= BOOLEANS
        assert "xlink:href" not in xml.partition("<office:body>")[2]
    rows, _ = cells(tmp_path / "shown" / "appointments.fods")
    notes = {row[0]: row[rows[0].index("notes")] for row in rows[1:]}
    assert [notes[str(100_000 + number)] for number in range(len(HOSTILE))] == HOSTILE
