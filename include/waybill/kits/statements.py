"""The SQL of a kit: tables, and for each entity the steps that apply one delivery.

Files are read into staging tables of text first. One transaction then notes the delivery, removes the keys that are gone, and replaces or
merges the rows. The note refuses a delivery that comes twice or out of order, in databases that enforce constraints.
"""

from __future__ import annotations

from collections.abc import Iterator

from waybill.canonical import ColumnType
from waybill.kits.dialects import Database
from waybill.kits.tables import Field, Subject, Table

STAGING, GONE, NOTES = "waybill_staging", "waybill_deletes", "_deliveries"
"""Schemas of the staging tables, and the table of notes. The entities' own tables are in the current schema."""


def statements(subject: Subject, database: Database) -> Iterator[tuple[str, str]]:
    """Yield every SQL file of the kit by its path."""
    head = _head(subject, database)
    yield "schema.sql", head + _schema(subject, database)
    for table in subject.tables:
        steps = _Steps(table, database, subject)
        yield f"{table.id}/begin.sql", f"{head}-- Step 1: empty what the delivery before left in the staging tables.\n{steps.begin()}"
        yield f"{table.id}/load.sql", f"{head}-- Step 2: read one data file. Run it for each of the manifest's `files`.\n{steps.load()}"
        if table.deletes:
            what = "-- Step 3: read the deletes file, where the manifest has `deletes`.\n"
            yield f"{table.id}/load_deletes.sql", head + what + steps.load_deletes()
        yield f"{table.id}/full.sql", f"{head}-- Last step where `kind` is full: replace what the table holds.\n{steps.full()}"
        yield f"{table.id}/delta.sql", f"{head}-- Last step where `kind` is delta or backfill.\n{steps.delta()}"


def _head(subject: Subject, database: Database) -> str:
    if database.was_run:
        return f"-- {database.title}. Kit for {subject.tenant}. Waybill's own tests run these statements on deliveries of several days.\n"
    lines = [f"-- {database.title}. Kit for {subject.tenant}."]
    lines.append("-- NOT RUN: these statements were parsed in this dialect, but never run on a database. Try them before you rely on them.")
    if not database.tells_null:
        lines.append('-- NULL and "" may come in as the same text: other types read an empty field as NULL.')
    if not database.enforces:
        lines.append("-- This database enforces no keys: apply each delivery once, and in the order of generation and sequence.")
    return "\n".join(lines) + "\n"


def _notes(database: Database) -> str:
    return f"{database.quoted(STAGING)}.{database.quoted(NOTES)}"


def _schema(subject: Subject, database: Database) -> str:
    word = {name: database.quoted(name) for name in ("delivery_id", "entity", "generation", "sequence", "follows", "applied_at")}
    text, number, instant = database.text, database.types[ColumnType.INTEGER], database.types[ColumnType.TIMESTAMP]
    columns = [
        f"{word['delivery_id']} {text} NOT NULL",
        f"{word['entity']} {text} NOT NULL",
        f"{word['generation']} {number} NOT NULL",
        f"{word['sequence']} {number}",
        f"{word['follows']} {number}",
        f"{word['applied_at']} {instant} NOT NULL",
    ]
    if database.enforces:
        place = f"{word['entity']}, {word['generation']}"
        columns += [
            f"CONSTRAINT {database.quoted('a_delivery_is_applied_once')} PRIMARY KEY ({word['delivery_id']})",
            f"CONSTRAINT {database.quoted('a_place_in_the_chain_is_taken_once')} UNIQUE ({place}, {word['sequence']})",
            f"CONSTRAINT {database.quoted('a_delivery_follows_the_one_before_it')} FOREIGN KEY ({place}, {word['follows']}) "
            f"REFERENCES {_notes(database)} ({place}, {word['sequence']})",
        ]
    parts = [f"CREATE SCHEMA IF NOT EXISTS {database.quoted(name)};" for name in (STAGING, GONE)]
    parts.append(f"CREATE TABLE IF NOT EXISTS {_notes(database)} (\n    " + ",\n    ".join(columns) + "\n);")
    parts += [_Steps(table, database, subject).tables() for table in subject.tables]
    return "\n".join(parts) + "\n"


class _Steps:
    """The statements of one entity."""

    def __init__(self, table: Table, database: Database, subject: Subject) -> None:
        self._table, self._db, self._style = table, database, subject.style
        self._name = database.quoted(table.id)
        self._staged = f"{database.quoted(STAGING)}.{self._name}"
        self._gone = f"{database.quoted(GONE)}.{self._name}"

    def tables(self) -> str:
        q = self._db.quoted
        columns = [f"{q(field.name)} {self._db.type_of(field)}{' NOT NULL' if field.is_key else ''}" for field in self._table.fields]
        if self._db.has_constraints and self._table.key:
            columns.append(f"PRIMARY KEY ({self._db.names(self._table.key)})")
        parts = [f"CREATE TABLE IF NOT EXISTS {self._name} (\n    " + ",\n    ".join(columns) + "\n);"]
        if self._db.adds_columns:  # a table of an older kit gets what is new
            parts += [
                f"ALTER TABLE {self._name} ADD COLUMN IF NOT EXISTS {q(field.name)} {self._db.type_of(field)};"
                for field in self._table.fields
                if not field.is_key
            ]
        parts.append(
            self._of_lines() if self._style.format == "ndjson" and self._db.lines else self._of_text(self._staged, self._table.fields)
        )
        if self._table.deletes:
            parts.append(self._of_text(self._gone, self._table.gone))
        return "\n".join(parts)

    def _of_text(self, name: str, fields: tuple[Field, ...]) -> str:
        columns = ", ".join(f"{self._db.quoted(field.name)} {self._db.text}" for field in fields)
        return f"DROP TABLE IF EXISTS {name};\nCREATE TABLE {name} ({columns});"

    def _of_lines(self) -> str:
        """A table of lines, and their fields as text."""
        db, lines = self._db, self._db.lines_of(self._staged)
        values = ", ".join(f"{db.text_of(field)} AS {db.quoted(field.name)}" for field in self._table.fields)
        table = f"DROP VIEW IF EXISTS {self._staged};\nDROP TABLE IF EXISTS {lines};\nCREATE TABLE {lines} (line {db.lines});"
        return f"{table}\nCREATE VIEW {self._staged} AS SELECT {values} FROM {lines};"

    def begin(self) -> str:
        emptied = [self._staged, *([self._gone] if self._table.deletes else [])]
        return "".join(f"DELETE FROM {name}{self._db.all_rows};\n" for name in emptied)

    def load(self) -> str:
        return self._db.reading[self._style.format](self._db, self._staged, self._table.fields, self._style) + ";\n"

    def load_deletes(self) -> str:
        return self._db.reading["csv"](self._db, self._gone, self._table.gone, self._style) + ";\n"

    def full(self) -> str:
        insert = f"INSERT INTO {self._name} ({self._db.names(self._table.fields)})\n{self._typed()};"
        return self._in_one(self._note(follows="NULL"), f"DELETE FROM {self._name}{self._db.all_rows};", insert)

    def delta(self) -> str:
        sequence = self._db.fact("sequence", self._db.types[ColumnType.INTEGER])
        steps = [self._note(follows=f"CASE WHEN {sequence} > 1 THEN {sequence} - 1 END")]
        if self._table.deletes:
            same = " AND ".join(
                f"{self._db.value(field, self._of('_gone', field))} = {self._of(self._table.id, field)}" for field in self._table.key
            )
            gone = f"SELECT 1 FROM {self._gone} AS {self._db.quoted('_gone')} WHERE {same}"
            steps.append(f"DELETE FROM {self._name} WHERE EXISTS (\n    {gone}\n);")
        return self._in_one(*steps, *(self._merge() if self._table.key else self._append()))

    def _append(self) -> Iterator[str]:
        yield "-- The entity has no key among its columns: rows can only be added."
        yield f"INSERT INTO {self._name} ({self._db.names(self._table.fields)})\n{self._typed()};"

    def _merge(self) -> Iterator[str]:
        db, fields, alias = self._db, self._table.fields, self._db.quoted("_staged")
        source = f"(\n{self._typed('    ')}\n) AS {alias}"
        if not db.merges_queries:
            yield f"CREATE TEMPORARY TABLE {alias} AS\n{self._typed()};"
            source = alias
        same = " AND ".join(f"{self._of(self._table.id, field)} = {self._of('_staged', field)}" for field in self._table.key)
        changed = ", ".join(f"{db.quoted(field.name)} = {self._of('_staged', field)}" for field in fields if not field.is_key)
        update = f"WHEN MATCHED THEN UPDATE SET {changed}\n" if changed else ""
        values = ", ".join(self._of("_staged", field) for field in fields)
        insert = f"WHEN NOT MATCHED THEN INSERT ({db.names(fields)}) VALUES ({values})"
        yield f"MERGE INTO {self._name}\nUSING {source}\nON {same}\n{update}{insert};"
        if not db.merges_queries:
            yield f"DROP TABLE {alias};"

    def _typed(self, indent: str = "") -> str:
        """Return the staged rows with the types of the table."""
        values = (f"{self._db.value(field, self._db.quoted(field.name))} AS {self._db.quoted(field.name)}" for field in self._table.fields)
        return f"{indent}SELECT {', '.join(values)}\n{indent}FROM {self._staged}"

    def _note(self, follows: str) -> str:
        """A wrong delivery in the chain follows -1, a delivery that does not exist."""
        db, number = self._db, self._db.types[ColumnType.INTEGER]
        generation, sequence = db.fact("generation", number), db.fact("sequence", number)
        q = {name: db.quoted(name) for name in ("delivery_id", "entity", "generation", "sequence", "follows", "applied_at")}
        later = (
            f"SELECT 1 FROM {_notes(db)} WHERE {q['entity']} = {db.literal(self._table.id)} AND ({q['generation']} > {generation} "
            f"OR ({q['generation']} = {generation} AND {q['sequence']} >= {sequence}))"
        )
        value = f"CASE WHEN {sequence} > 0 AND EXISTS ({later}) THEN -1 ELSE {follows} END" if db.enforces else follows
        values = f"{db.fact('delivery_id')}, {db.literal(self._table.id)}, {generation}, NULLIF({sequence}, 0), {value}, CURRENT_TIMESTAMP"
        return f"INSERT INTO {_notes(db)} ({', '.join(q.values())})\nSELECT {values};"

    def _of(self, table: str, field: Field) -> str:
        return f"{self._db.quoted(table)}.{self._db.quoted(field.name)}"

    def _in_one(self, *steps: str) -> str:
        """Return all steps in one transaction. Without transactions, the note comes last, so whatever fails before it runs once more."""
        if not self._db.begin:
            return "\n".join([*steps[1:], steps[0]]) + "\n"
        return "\n".join([f"{self._db.begin};", *steps, f"{self._db.commit};"]) + "\n"
