"""Describes a kit's tables: the data dictionary for people; `datapackage.json` (Frictionless), `csv-metadata.json` (CSVW) and dbt's
`sources.yml` for programs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from waybill.canonical import ColumnType
from waybill.kits.dialects import FILE, Database
from waybill.kits.statements import NOTES, STAGING
from waybill.kits.tables import Field, Subject, Table

_T = ColumnType
_PATHS = {"dictionary.md": "dictionary.md.j2", "dictionary.html": "dictionary.html", "README.md": "README.md.j2"}
_FRICTIONLESS: dict[ColumnType, dict[str, Any]] = {
    _T.INTEGER: {"type": "integer"},
    _T.DECIMAL: {"type": "number"},
    _T.FLOAT: {"type": "number"},
    _T.BOOLEAN: {"type": "boolean", "trueValues": ["true"], "falseValues": ["false"]},
    _T.DATE: {"type": "date"},
    _T.TIMESTAMP: {"type": "datetime", "format": "%Y-%m-%dT%H:%M:%S.%fZ"},
    _T.UUID: {"type": "string", "format": "uuid"},
    _T.JSON: {"type": "any"},
    _T.BINARY: {"type": "string", "format": "binary"},
}
_CSVW: dict[ColumnType, Any] = {
    _T.INTEGER: "integer",
    _T.DECIMAL: "decimal",
    _T.FLOAT: "double",
    _T.BOOLEAN: {"base": "boolean", "format": "true|false"},
    _T.DATE: "date",
    _T.TIMESTAMP: "dateTimeStamp",
    _T.JSON: "json",
    _T.BINARY: "base64Binary",
}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
"""Names that CSVW accepts as they are. Other columns are found by their title."""
_LATE = {"daily": timedelta(hours=26), "weekly": timedelta(days=8), "monthly": timedelta(days=32)}
"""How long after a delivery it is odd that none has come. Twice as long is an error."""
_UNPACK = {"none": "cat", "gzip": "gzip -dc", "zstd": "zstd -dc"}
_SUFFIX = {"none": "", "gzip": ".gz", "zstd": ".zst"}


def descriptions(subject: Subject, database: Database) -> Iterator[tuple[str, str]]:
    yield from _texts(subject, database)
    yield "datapackage.json", _json(_datapackage(subject))
    yield "csv-metadata.json", _json(_csvw(subject))
    yield "sources.yml", _dbt(subject, database)


def _texts(subject: Subject, database: Database) -> Iterator[tuple[str, str]]:
    for path, template in _PATHS.items():
        environment = Environment(
            loader=PackageLoader("waybill.kits"),
            autoescape=path.endswith(".html"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {"cell": _cell}
        unpack = f"{_UNPACK[subject.style.compression]} FILE"
        csv = unpack + (" | tail -c +4" if subject.style.bom else "")
        suffix = _SUFFIX[subject.style.compression]
        facts = {
            "subject": subject,
            "db": database,
            "first": next((table for table in subject.tables if table.deletes), subject.tables[0]),
            "unpack": csv if subject.style.format == "csv" else unpack,
            "unpack_deletes": csv,
            "suffix": suffix,
            "ending": f".{subject.style.format}" + ("" if subject.style.format == "parquet" else suffix),
            "file": FILE,
            "notes": f"{STAGING}.{NOTES}",
            "any_deletes": any(table.deletes for table in subject.tables),
        }
        yield path, environment.get_template(template).render(facts)


def _cell(text: object) -> str:
    """Return text as one cell of a Markdown table. Nothing in it is markup."""
    flat = " ".join(str(text).split())
    for mark in ("\\", "|", "`", "*", "_", "[", "]", "<", ">"):
        flat = flat.replace(mark, "\\" + mark)
    return flat


def _json(facts: Any) -> str:
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def _datapackage(subject: Subject) -> dict[str, Any]:
    dialect = {
        "delimiter": subject.style.delimiter,
        "lineTerminator": subject.style.line_end,
        "quoteChar": '"',
        "doubleQuote": True,
        "header": True,
        "csvddfVersion": 1.2,
    }
    return {
        "profile": "tabular-data-package",
        "name": f"waybill-{subject.tenant.replace('_', '-')}",
        "title": f"What {subject.tenant} receives",
        "resources": [
            {
                "profile": "tabular-data-resource",
                "name": table.id.replace("_", "-"),
                "title": table.name,
                "description": table.description,
                "path": f"samples/{table.id}.csv",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8-sig" if subject.style.bom else "utf-8",
                "dialect": dialect,
                "schema": {
                    "fields": [_frictionless(field) for field in table.fields],
                    "missingValues": [""],
                    **({"primaryKey": [field.name for field in table.key]} if table.key else {}),
                },
            }
            for table in subject.tables
        ],
    }


def _frictionless(field: Field) -> dict[str, Any]:
    constraints: dict[str, Any] = {"required": True} if field.is_key else {}
    if field.length and field.type is _T.STRING:
        constraints["maxLength"] = field.length
    kind = _FRICTIONLESS.get(field.type, {"type": "string"})
    return {
        "name": field.name,
        **kind,
        **({"description": field.description} if field.description else {}),
        **({"constraints": constraints} if constraints else {}),
    }


def _csvw(subject: Subject) -> dict[str, Any]:
    return {
        "@context": ["http://www.w3.org/ns/csvw", {"@language": "en"}],
        "dc:title": f"What {subject.tenant} receives",
        "dialect": {
            "delimiter": subject.style.delimiter,
            "quoteChar": '"',
            "doubleQuote": True,
            "header": True,
            "encoding": "utf-8",
            "lineTerminators": [subject.style.line_end],
        },
        "tables": [_csvw_table(table) for table in subject.tables],
    }


def _csvw_table(table: Table) -> dict[str, Any]:
    columns = []
    for field in table.fields:
        datatype = _CSVW.get(field.type, "string")
        if field.length and field.type is _T.STRING:
            datatype = {"base": "string", "maxLength": field.length}
        described = {"titles": field.name, "datatype": datatype, "required": field.is_key, "null": ""}
        columns.append(described | ({"dc:description": field.description} if field.description else {}))
    names = {field.name: field.name if _PLAIN.match(field.name) else f"c{number}" for number, field in enumerate(table.fields, 1)}
    for field, column in zip(table.fields, columns, strict=True):
        column["name"] = names[field.name]
    return {
        "url": f"samples/{table.id}.csv",
        "dc:title": table.name,
        **({"dc:description": table.description} if table.description else {}),
        "tableSchema": {
            "columns": columns,
            **({"primaryKey": [names[key_field.name] for key_field in table.key]} if table.key else {}),
        },
    }


def _dbt(subject: Subject, database: Database) -> str:
    notes = f"{database.quoted(STAGING)}.{database.quoted(NOTES)}"
    tables = []
    for table in subject.tables:
        asked = f"select max({database.quoted('applied_at')}) from {notes} where {database.quoted('entity')} = {database.literal(table.id)}"
        columns = [_dbt_column(field, table, database) for field in table.fields]
        late = _LATE[table.frequency]
        freshness = {"warn_after": _period(late), "error_after": _period(2 * late)}
        about = {"description": table.description or table.name, "config": {"freshness": freshness, "loaded_at_query": asked}}
        tables.append({"name": table.id, **about, "columns": columns})
    source = {
        "name": f"waybill_{subject.tenant.replace('-', '_')}",
        "schema": database.schema,
        "description": f"What {subject.tenant} receives ({subject.frequency}).",
        "quoting": {"identifier": True},
        "tables": tables,
    }
    head = "# dbt 1.10 or newer. `schema` is where you made the tables: change it if that is not the database's usual one.\n"
    body = yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, allow_unicode=True, width=140)
    return head + body


def _dbt_column(field: Field, table: Table, database: Database) -> dict[str, Any]:
    tests = ["not_null", *(["unique"] if len(table.key) == 1 else [])] if field.is_key else []
    return {
        "name": field.name,
        "quote": True,
        **({"description": field.description} if field.description else {}),
        "data_type": database.type_of(field),
        **({"data_tests": tests} if tests else {}),
    }


def _period(span: timedelta) -> dict[str, Any]:
    return {"count": span // timedelta(hours=1), "period": "hour"}
