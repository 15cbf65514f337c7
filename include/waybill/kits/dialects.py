"""What differs between databases: names, types, how text becomes a value, transactions, and how one file is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from waybill.canonical import ColumnType
from waybill.configuration.selection import FileStyle
from waybill.kits.tables import Field

Dialect = Literal["postgres", "duckdb", "snowflake", "bigquery", "redshift", "databricks"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

FILE = "WAYBILL_FILE"
"""Stands for the name of the file in the statements of warehouses."""
MOST_DIGITS = 38
"""What a decimal holds in most databases."""

Reader = Callable[["Database", str, tuple[Field, ...], FileStyle], str]
Cast = Callable[[str, str], str]
"""Maps the text of a value and the column's type to the value."""


def _cast(text: str, kind: str) -> str:
    return f"CAST({text} AS {kind})"


def _same(text: str, kind: str) -> str:
    return text


def _call(form: str) -> Cast:
    return lambda text, kind: form.format(text)


@dataclass(frozen=True)
class Database:
    """One dialect.

    `types` are the names of the types that need no digits, and `wide` holds integers past 64 bits. `decimal` gives a decimal its digits, or
    None if it cannot hold them. `casts` are the types that need more than CAST. `parameter` names a fact of the delivery in a statement.
    `escapes_texts` and `escapes_names` say where a backslash escapes a quote; elsewhere the quote is doubled. `merges_queries` is off if
    MERGE reads tables only, `adds_columns` if an existing column cannot be skipped, and `tells_null` if NULL and "" come in as the same.
    """

    name: str
    title: str
    quote: str
    schema: str
    text: str
    types: Mapping[ColumnType, str]
    wide: str
    decimal: Callable[[int | None, int | None], str | None]
    casts: Mapping[ColumnType, Cast]
    parameter: str
    begin: str
    commit: str
    reading: Mapping[str, Reader]
    """By the format of the files, the statement that reads one into a staging table of text. A format without one has no kit."""
    lines: str = ""
    """The type of a line, if JSON lines are staged as they are. The staging table of text is then a view of the lines."""
    was_run: bool = False
    has_constraints: bool = False
    merges_queries: bool = True
    adds_columns: bool = True
    tells_null: bool = True
    enforces: bool = False
    all_rows: str = ""
    escapes_names: bool = False
    escapes_texts: bool = True

    def quoted(self, name: str) -> str:
        escaped = "\\" + self.quote if self.escapes_names else self.quote * 2
        return self.quote + name.replace(self.quote, escaped) + self.quote

    def literal(self, text: str) -> str:
        if self.escapes_texts:
            return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return "'" + text.replace("'", "''") + "'"

    def names(self, fields: tuple[Field, ...]) -> str:
        return ", ".join(self.quoted(field.name) for field in fields)

    def type_of(self, field: Field) -> str:
        """Return the type of the table's column. A key is compared. JSON cannot be compared everywhere, and is text there."""
        if field.type is ColumnType.INTEGER and field.is_long:
            return self.wide
        if field.type is ColumnType.DECIMAL:
            return self.decimal(field.precision, field.scale) or self.text
        if field.type is ColumnType.JSON and field.is_key:
            return self.text
        return self.types.get(field.type, self.text)

    def value(self, field: Field, text: str) -> str:
        """Return the column's value from the text in the file."""
        kind = self.type_of(field)
        if kind == self.text:
            return text
        if not self.tells_null:
            text = f"NULLIF({text}, '')"
        return self.casts.get(field.type, _cast)(text, kind)

    def lines_of(self, staged: str) -> str:
        """Return the table of lines behind a staging view."""
        schema, _, name = staged.partition(".")
        return f"{schema}.{self.quoted('lines of ' + name.strip(self.quote))}"

    def text_of(self, field: Field) -> str:
        """Return a field's text out of a line of JSON in a column `line`."""
        name = self.literal(field.name)
        return f"NULLIF(CAST(line -> {name} AS {self.text}), 'null')" if field.type is ColumnType.JSON else f"line ->> {name}"

    def fact(self, name: str, kind: str = "") -> str:
        """Return a fact of the delivery: delivery_id, generation, sequence."""
        shown = self.parameter.format(name)
        return f"CAST({shown} AS {kind})" if kind else shown


def _digits(name: str, most: int = MOST_DIGITS) -> Callable[[int | None, int | None], str | None]:
    """A decimal of known digits. Others stay text, because they would be rounded."""
    return lambda precision, scale: (
        f"{name}({precision}, {scale})" if precision and scale is not None and 0 <= scale <= precision <= most else None
    )


def _postgres_decimal(precision: int | None, scale: int | None) -> str:
    return f"NUMERIC({precision}, {scale})" if precision and scale is not None else "NUMERIC"


def _bigquery_decimal(precision: int | None, scale: int | None) -> str | None:
    if not precision or scale is None or scale < 0 or scale > MOST_DIGITS or precision - scale > MOST_DIGITS:
        return None
    return "NUMERIC" if scale <= 9 and precision - scale <= 29 else "BIGNUMERIC"


def _read_postgres(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    delimiter = "E'\\t'" if style.delimiter == "\t" else database.literal(style.delimiter)
    options = f"FORMAT csv, HEADER match, DELIMITER {delimiter}, ENCODING 'UTF8'"
    return f"COPY {table} ({database.names(fields)}) FROM STDIN WITH ({options})"


def _read_duckdb(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    columns = ", ".join(f"{database.literal(field.name)}: 'VARCHAR'" for field in fields)
    return f"""INSERT INTO {table} ({database.names(fields)})
SELECT {database.names(fields)}
FROM read_csv(getvariable('waybill_file'), auto_detect = false, header = true, delim = {database.literal(style.delimiter)}, quote = '"',
    escape = '"', nullstr = '', allow_quoted_nulls = false, strict_mode = true, max_line_size = 33554432,
    columns = {{{columns}}})"""


def _read_postgres_lines(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    # Neither character occurs in JSON as it is, so a line comes whole.
    return f"COPY {database.lines_of(table)} FROM STDIN WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02', ENCODING 'UTF8')"


def _read_duckdb_lines(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    columns = ", ".join(f"{database.literal(field.name)}: 'JSON'" for field in fields)
    values = ", ".join(
        f"NULLIF(CAST({name} AS VARCHAR), 'null')" if field.type is ColumnType.JSON else f"{name} ->> '$'"
        for field in fields
        for name in (database.quoted(field.name),)
    )
    return f"""INSERT INTO {table} ({database.names(fields)})
SELECT {values}
FROM read_json(getvariable('waybill_file'), format = 'newline_delimited', maximum_object_size = 33554432, columns = {{{columns}}})"""


def _read_duckdb_parquet(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    values = ", ".join(
        f"to_base64({name})" if field.type is ColumnType.BINARY else f"CAST({name} AS VARCHAR)"
        for field in fields
        for name in (database.quoted(field.name),)
    )
    return f"""INSERT INTO {table} ({database.names(fields)})
SELECT {values}
FROM read_parquet(getvariable('waybill_file'))"""


def _read_snowflake(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    options = (
        f"TYPE = CSV, FIELD_DELIMITER = {database.literal(style.delimiter)}, SKIP_HEADER = 1, FIELD_OPTIONALLY_ENCLOSED_BY = '\"', "
        "EMPTY_FIELD_AS_NULL = TRUE, NULL_IF = (), ENCODING = 'UTF8', COMPRESSION = AUTO"
    )
    return f"""COPY INTO {table} ({database.names(fields)})
FROM '@waybill_stage/{FILE}'
FILE_FORMAT = ({options})
ON_ERROR = ABORT_STATEMENT
FORCE = TRUE"""


def _read_bigquery(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    delimiter = database.literal(style.delimiter) if style.delimiter != "\t" else "'\\t'"
    options = (
        f"format = 'CSV', uris = ['gs://{FILE}'], skip_leading_rows = 1, allow_quoted_newlines = TRUE, "
        f"field_delimiter = {delimiter}, quote = '\"', encoding = 'UTF-8'"
    )
    return f"LOAD DATA INTO {table} FROM FILES ({options})"


def _read_redshift(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    packing = {"gzip": " GZIP", "zstd": " ZSTD"}.get(style.compression, "")
    options = f"FORMAT AS CSV DELIMITER AS {database.literal(style.delimiter)} IGNOREHEADER AS 1 EMPTYASNULL ENCODING AS UTF8{packing}"
    return f"COPY {table} ({database.names(fields)}) FROM 's3://{FILE}' IAM_ROLE DEFAULT {options}"


def _read_databricks(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
    options = f"'header' = 'true', 'multiLine' = 'true', 'sep' = {database.literal(style.delimiter)}, 'quote' = '\"', 'escape' = '\"'"
    return f"""COPY INTO {table}
FROM '{FILE}'
FILEFORMAT = CSV
FORMAT_OPTIONS ({options})
COPY_OPTIONS ('force' = 'true')"""


def _snowflake_objects(kind: str) -> Reader:
    def read(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
        values = ", ".join(
            f"TO_JSON(NULLIF({value}, PARSE_JSON('null')))" if field.type is ColumnType.JSON and kind == "JSON" else f"{value}::VARCHAR"
            for field in fields
            for value in (f"$1:{database.quoted(field.name)}",)
        )
        return f"""COPY INTO {table} ({database.names(fields)})
FROM (SELECT {values} FROM '@waybill_stage/{FILE}')
FILE_FORMAT = (TYPE = {kind})
ON_ERROR = ABORT_STATEMENT
FORCE = TRUE"""

    return read


def _databricks_objects(kind: str) -> Reader:
    def read(database: Database, table: str, fields: tuple[Field, ...], style: FileStyle) -> str:
        values = ", ".join(
            f"BASE64({name}) AS {name}" if field.type is ColumnType.BINARY and kind == "PARQUET" else f"CAST({name} AS STRING) AS {name}"
            for field in fields
            for name in (database.quoted(field.name),)
        )
        options = "\nFORMAT_OPTIONS ('primitivesAsString' = 'true')" if kind == "JSON" else ""
        return f"""COPY INTO {table}
FROM (SELECT {values} FROM '{FILE}')
FILEFORMAT = {kind}{options}
COPY_OPTIONS ('force' = 'true')"""

    return read


_T = ColumnType
_DATABASES = (
    Database(
        name="postgres",
        title="PostgreSQL 15 or newer",
        quote='"',
        schema="public",
        text="TEXT",
        types={
            _T.INTEGER: "BIGINT", _T.FLOAT: "DOUBLE PRECISION", _T.BOOLEAN: "BOOLEAN", _T.DATE: "DATE", _T.TIMESTAMP: "TIMESTAMPTZ",
            _T.UUID: "UUID", _T.JSON: "JSON", _T.BINARY: "BYTEA",
        },
        wide="NUMERIC",
        decimal=_postgres_decimal,
        casts={_T.BINARY: _call("decode({}, 'base64')")},
        parameter="current_setting('waybill.{}')",
        begin="BEGIN",
        commit="COMMIT",
        reading={"csv": _read_postgres, "ndjson": _read_postgres_lines},
        lines="JSON",
        was_run=True,
        escapes_texts=False,
        has_constraints=True,
        enforces=True,
    ),
    Database(
        name="duckdb",
        title="DuckDB 1.4 or newer",
        quote='"',
        schema="main",
        text="VARCHAR",
        types={
            _T.INTEGER: "BIGINT", _T.FLOAT: "DOUBLE", _T.BOOLEAN: "BOOLEAN", _T.DATE: "DATE", _T.TIMESTAMP: "TIMESTAMPTZ", _T.UUID: "UUID",
            _T.JSON: "JSON", _T.BINARY: "BLOB",
        },
        wide="HUGEINT",
        decimal=_digits("DECIMAL"),
        casts={
            _T.BINARY: _call("from_base64({})"),
            _T.DATE: _call("CAST(REPLACE({}, ' BC', ' (BC)') AS DATE)"),
            _T.TIMESTAMP: _call("CAST(regexp_replace({}, '^([^T]*)T(.*)Z BC$', '\\1 (BC) \\2+00') AS TIMESTAMPTZ)"),
        },
        parameter="getvariable('{}')",
        begin="BEGIN",
        commit="COMMIT",
        reading={"csv": _read_duckdb, "ndjson": _read_duckdb_lines, "parquet": _read_duckdb_parquet},
        was_run=True,
        escapes_texts=False,
        enforces=True,
    ),
    Database(
        name="snowflake",
        title="Snowflake",
        quote='"',
        schema="PUBLIC",
        text="VARCHAR",
        types={
            _T.INTEGER: "NUMBER(38, 0)", _T.FLOAT: "FLOAT", _T.BOOLEAN: "BOOLEAN", _T.DATE: "DATE", _T.TIMESTAMP: "TIMESTAMP_TZ(6)",
            _T.JSON: "VARIANT", _T.BINARY: "BINARY",
        },
        wide="NUMBER(38, 0)",
        decimal=_digits("NUMBER"),
        casts={
            _T.FLOAT: _call("CAST(REPLACE({}, 'Infinity', 'inf') AS FLOAT)"),
            _T.JSON: _call("PARSE_JSON({})"),
            _T.BINARY: _call("TO_BINARY({}, 'BASE64')"),
        },
        parameter="${}",
        begin="BEGIN",
        commit="COMMIT",
        reading={"csv": _read_snowflake, "ndjson": _snowflake_objects("JSON"), "parquet": _snowflake_objects("PARQUET")},
    ),
    Database(
        name="bigquery",
        title="BigQuery",
        quote="`",
        schema="waybill",
        text="STRING",
        types={
            _T.INTEGER: "INT64", _T.FLOAT: "FLOAT64", _T.BOOLEAN: "BOOL", _T.DATE: "DATE", _T.TIMESTAMP: "TIMESTAMP", _T.JSON: "JSON",
            _T.BINARY: "BYTES",
        },
        wide="BIGNUMERIC",
        decimal=_bigquery_decimal,
        casts={_T.JSON: _call("PARSE_JSON({}, wide_number_mode => 'round')"), _T.BINARY: _call("FROM_BASE64({})")},
        parameter="@{}",
        begin="BEGIN TRANSACTION",
        commit="COMMIT TRANSACTION",
        reading={"csv": _read_bigquery},
        escapes_names=True,
        tells_null=False,
        all_rows=" WHERE TRUE",
    ),
    Database(
        name="redshift",
        title="Amazon Redshift",
        quote='"',
        schema="public",
        text="VARCHAR(65535)",
        types={
            _T.INTEGER: "BIGINT", _T.FLOAT: "DOUBLE PRECISION", _T.BOOLEAN: "BOOLEAN", _T.DATE: "DATE", _T.TIMESTAMP: "TIMESTAMPTZ",
            _T.JSON: "SUPER", _T.BINARY: "VARBYTE(1024000)",
        },
        wide="DECIMAL(38, 0)",
        decimal=_digits("DECIMAL"),
        casts={_T.JSON: _call("JSON_PARSE({})"), _T.BINARY: _call("TO_VARBYTE({}, 'base64')")},
        parameter="current_setting('waybill.{}')",
        begin="BEGIN",
        commit="COMMIT",
        reading={"csv": _read_redshift},
        merges_queries=False,
        adds_columns=False,
        tells_null=False,
    ),
    Database(
        name="databricks",
        title="Databricks",
        quote="`",
        schema="default",
        text="STRING",
        types={
            _T.INTEGER: "BIGINT", _T.FLOAT: "DOUBLE", _T.BOOLEAN: "BOOLEAN", _T.DATE: "DATE", _T.TIMESTAMP: "TIMESTAMP",
            _T.BINARY: "BINARY",
        },
        wide="DECIMAL(38, 0)",
        decimal=_digits("DECIMAL"),
        casts={_T.BINARY: _call("UNBASE64({})")},
        parameter=":{}",
        begin="",
        commit="",
        adds_columns=False,
        reading={"csv": _read_databricks, "ndjson": _databricks_objects("JSON"), "parquet": _databricks_objects("PARQUET")},
    ),
)  # fmt: skip


def database(name: Dialect) -> Database:
    return next(database for database in _DATABASES if database.name == name)
