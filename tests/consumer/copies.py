"""The command as a consumer runs it, and what its databases hold afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.installations import opened
from waybill_consumer.cli import main

PROGRAM = [sys.executable, "-m", "waybill_consumer"]
SOURCE = Path(__file__).resolve().parents[2] / "consumer" / "src"


@dataclass(frozen=True)
class Said:
    """How a run ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def consumer(*arguments: object) -> Said:
    """Run the command in this process: the same, without the seconds a process takes to start."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    return Said(int(str(code)), out.getvalue(), err.getvalue())


def process(*arguments: object, env: Mapping[str, str] | None = None) -> Said:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), **(env or {})}
    argv = [*PROGRAM, *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, env=environment, stdin=subprocess.DEVNULL)
    return Said(done.returncode, done.stdout, done.stderr)


def well(*arguments: object) -> dict[str, Any]:
    """Run with --json; fails unless all went well."""
    said = consumer(*arguments, "--json")
    assert said.code == 0, said.out + said.err
    return said.json


def rows(url: str, table: str, columns: str = "*", schema: str = "") -> list[tuple[Any, ...]]:
    """A table's rows, in order."""
    where = f'"{schema}"."{table}"' if schema else f'"{table}"'
    query = f"select {columns} from {where}"
    return sorted(run(url, query), key=repr)


def run(url: str, query: str) -> list[tuple[Any, ...]]:
    kind, _, path = url.partition(":")
    if kind == "sqlite":
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(query).fetchall()
    if kind == "duckdb":
        with opened(Path(path)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.execute(query).fetchall()
    with psycopg.connect(url) as connection:
        connection.execute("set TimeZone = 'UTC'")
        return connection.execute(query).fetchall()
