"""Every native type as every catalogued type in every format of an on-demand export: exactly the canonical text of scheduled files where
the format holds text, exactly the value where it has types of its own, and a refusal that names the column otherwise.
"""

from __future__ import annotations

import csv
import io
import json
import operator
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from tests.format_rows import OPTIONS, unguard
from tests.native_types.installed import KINDS, installed
from tests.native_types.values import Installation
from waybill.canonical import ColumnType, text
from waybill.configuration.selection import FileStyle, Selection
from waybill.errors import PermanentError
from waybill.files import manifest
from waybill.files.records import texts_of
from waybill.formats import SUFFIXES, flatten, open_writer
from waybill.formats.base import WriterOptions

TEXTS = ["csv", "ndjson", "json objects", "json arrays"]
TYPED = ["xlsx", "parquet"]


@pytest.fixture(scope="module", params=[*KINDS, "postgres through a driver"])
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(request.param, request, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def exported(installation: Installation, numbers: list[int], kind: ColumnType, formats: list[str], folder: Path) -> dict[str, Path]:
    """The files of an export."""
    selection = Selection((entity := installation.entity(numbers, kind)), "acme", entity.columns)
    options = dict.fromkeys(formats, OPTIONS) | {"json arrays": WriterOptions(OPTIONS.exported_at, json_layout="arrays")}
    paths = {name: folder / f"{name.replace(' ', '-')}{SUFFIXES[name.partition(' ')[0]]}" for name in formats}
    writers = {name: open_writer(name.partition(" ")[0], path, "sample", entity.columns, options[name]) for name, path in paths.items()}
    try:
        with installation.source.snapshot() as snapshot:
            snapshot.check(selection)
            for batch in snapshot.batches(selection, typed=formats is TYPED):
                for writer in writers.values():
                    writer.write(batch)
        for writer in writers.values():
            writer.close()
    finally:
        for writer in writers.values():
            writer.discard()
    return paths


def of_csv(path: Path, kind: ColumnType) -> list[dict[str, str]]:
    header, *rows = csv.reader(io.StringIO(path.read_text(), newline=""))
    free = kind in (ColumnType.STRING, ColumnType.JSON, ColumnType.BINARY)
    return [{name: unguard(cell) if free else cell for name, cell in zip(header, row, strict=True)} for row in rows]


def members(line: str) -> Iterator[str]:
    """The values of a JSON object or array, as they are spelt."""
    decode, at = json.JSONDecoder().raw_decode, 1
    while at < len(line) - 1:
        if line[0] == "{":
            at = decode(line, at)[1] + 1
        end = decode(line, at)[1]
        yield line[at:end]
        at = end + 1


def of_json(lines: list[str], kind: ColumnType) -> list[list[str]]:
    found = []
    for line in lines:
        raw = list(members(line))
        json.loads(line, parse_constant=pytest.fail)
        found.append([text if kind is ColumnType.JSON or text[0] != '"' else json.loads(text) for text in raw])
    return [["" if item == "null" else item for item in row] for row in found]


def of_xlsx(path: Path) -> list[list[Any]]:
    [sheet] = openpyxl.load_workbook(path).worksheets
    _, *rows = sheet.iter_rows(values_only=True)
    return [list(row) for row in rows]


def cell_says(cell: Any, wanted: str, kind: ColumnType) -> bool:
    match cell:
        case str():
            return re.sub("_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), cell) == wanted
        case bool():
            return kind is ColumnType.BOOLEAN and wanted == str(cell).lower()
        case int() | float():
            return Decimal(repr(cell)) == Decimal(wanted)
        case datetime():
            return text(cell.replace(tzinfo=UTC), kind) == wanted
    return False


def of_parquet(path: Path, kind: ColumnType, count: int) -> list[list[str]]:
    said = manifest.csv_of(manifest.dialect_of(FileStyle(format="parquet")))
    return list(texts_of([path.read_bytes()], said, "parquet", [("id", "integer"), *[("", kind.value)] * count]))


class Comparison:
    """What is not as the table says, in words."""

    def __init__(self, installation: Installation, numbers: list[int], kind: ColumnType) -> None:
        self.kind, self.numbers = kind, numbers
        self.cases = [installation.cases[number] for number in numbers]
        self.wanted = [case.texts[kind] for case in self.cases]
        self.wrong: list[str] = []

    def row(self, format: str, row: list[Any], empty: list[Any], says: Callable[[Any, str], bool] = operator.eq) -> None:
        for case, wanted, cell in zip(self.cases, self.wanted, row[1:], strict=True):
            if not says(cell, wanted):
                self.wrong.append(f"{format}: {case.native} {case.value}: {cell!r}, not {wanted!r}")
        assert not any(empty[1:])

    def flattened(self, row: dict[str, str], empty: dict[str, str]) -> None:
        """Nested values have become columns of their own: what a cell says stands below its column."""
        for number, case, wanted in zip(self.numbers, self.cases, self.wanted, strict=True):
            leaves = flatten.leaves(wanted) if self.kind is ColumnType.JSON else [("", wanted)]
            shown = {name: cell for name, cell in row.items() if name == f"v{number}" or name.startswith(f"v{number}.")}
            if shown != {f"v{number}{path}": leaf or "" for path, leaf in leaves}:
                self.wrong.append(f"csv: {case.native} {case.value}: {shown!r}, not {wanted!r}")
        assert not any(cell for name, cell in empty.items() if name != "id")


def fitting(installation: Installation, kind: ColumnType, *, typed: bool = False) -> list[int]:
    return [n for n, case in enumerate(installation.cases) if kind in case.texts and not (typed and case.is_too_large(kind))]


@pytest.mark.parametrize("kind", list(ColumnType))
def test_an_export_as_text_holds_the_canonical_text(installation: Installation, kind: ColumnType, tmp_path: Path) -> None:
    if not (numbers := fitting(installation, kind)):
        return
    paths = exported(installation, numbers, kind, TEXTS, tmp_path)
    found = Comparison(installation, numbers, kind)
    found.flattened(*of_csv(paths["csv"], kind))
    lines = {name: paths[name].read_text().splitlines() for name in TEXTS[1:]}
    found.row("ndjson", *of_json(lines["ndjson"], kind))
    found.row("json objects", *of_json([line.rstrip(",") for line in lines["json objects"][1:-1]], kind))
    found.row("json arrays", *of_json([line.rstrip(",") for line in lines["json arrays"][2:-1]], kind))
    assert not found.wrong, "\n".join(found.wrong)


@pytest.mark.parametrize("kind", list(ColumnType))
def test_an_export_with_types_holds_the_exact_value(installation: Installation, kind: ColumnType, tmp_path: Path) -> None:
    if not (numbers := fitting(installation, kind, typed=True)):
        return
    paths = exported(installation, numbers, kind, TYPED, tmp_path)
    found = Comparison(installation, numbers, kind)
    found.row("xlsx", *of_xlsx(paths["xlsx"]), says=lambda cell, wanted: cell_says(cell, wanted, kind))
    found.row("parquet", *of_parquet(paths["parquet"], kind, len(numbers)))
    assert not found.wrong, "\n".join(found.wrong)


@pytest.mark.parametrize("kind", list(ColumnType))
def test_a_number_that_no_type_of_a_format_holds_is_refused_by_its_column(
    installation: Installation, kind: ColumnType, tmp_path: Path
) -> None:
    for number in set(fitting(installation, kind)) - set(fitting(installation, kind, typed=True)):
        with pytest.raises(PermanentError, match=f"Parquet and XLSX have for its column: column v{number} is ") as caught:
            exported(installation, [number], kind, TYPED, tmp_path)
        assert caught.value.code == "row_limit_format"
