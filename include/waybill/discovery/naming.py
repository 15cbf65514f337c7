"""Names: which source a word on the command line means, and the id of an entity for a table."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection
from itertools import count
from pathlib import Path

from waybill.configuration.catalog import (
    CONNECTION_ID,
    RESERVED,
    Catalog,
    DbApiSource,
    DuckDBSource,
    LakeSource,
    PostgresSource,
    SourceSpec,
)
from waybill.connection import Connections
from waybill.errors import PermanentError

_POSTGRES = frozenset({"postgres", "postgresql"})
_LONGEST = 63
_LATIN = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "đ": "d",
        "ł": "l",
        "ı": "i",
        "þ": "th",
        "Æ": "AE",
        "Œ": "OE",
        "Ø": "O",
        "Đ": "D",
        "Ł": "L",
        "Þ": "TH",
    }
)


def source_of(word: str, catalog: Catalog, base: Path, connections: Connections) -> tuple[str, SourceSpec]:
    """Return the name and the description of the source that a word means: one of the catalog, a file, a folder or bucket, or an Airflow
    connection.

    Raises PermanentError if it is none of these.
    """
    if word in catalog.sources:
        return word, catalog.sources[word]
    if word.startswith("s3://"):
        raise PermanentError(
            f"{word} needs an Airflow connection",
            next_step="Add it under sources in the catalog, as {kind: lake, path: ..., connection: ...}, and discover it by its name there",
            code="unknown_source",
        )
    if "://" in word:
        raise PermanentError(
            "an address with a password does not belong on a command line",
            next_step="Set AIRFLOW_CONN_MY_DB to it and run `waybill discover my_db`",
            code="unknown_source",
        )
    path = Path(word) if Path(word).is_absolute() else base / word
    if not path.exists() and Path(word).exists():  # relative to whoever types it, not to the project
        path, word = Path(word).absolute(), str(Path(word).absolute())
    if path.is_dir():
        return slug(path.name) or "lake", LakeSource(kind="lake", path=word)
    if path.is_file():
        with path.open("rb") as file:
            is_sqlite = file.read(16).startswith(b"SQLite format 3")
        if is_sqlite:
            value = json.dumps({"conn_type": "sqlite", "host": str(path)})
            step = f"Set AIRFLOW_CONN_MY_DB='{value}' and run `waybill discover my_db`"
            raise PermanentError(f"{word} is a SQLite file, which is read through a connection", next_step=step, code="unknown_source")
        return slug(path.stem) or "warehouse", DuckDBSource(kind="duckdb", path=word)
    if not re.match(CONNECTION_ID, word) or word.endswith((".duckdb", ".parquet")):
        raise PermanentError(
            f"there is no file or folder {word}",
            allowed="a source of the catalog, a DuckDB file, a folder of Parquet files, or the id of an Airflow connection",
            code="unknown_source",
        )
    kind = connections(word).type
    name = slug(word) or "source"
    return name, PostgresSource(kind="postgres", connection=word) if kind in _POSTGRES else DbApiSource(kind="dbapi", connection=word)


def slug(name: str) -> str:
    """Return a name as an entity id. If letters of it have no Latin counterpart, an id stands for it. It is empty if nothing is left."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", snake) if not unicodedata.combining(letter)).translate(_LATIN)
    if any(letter.isalpha() and not letter.isascii() for letter in plain):
        return f"table_{_stands_for(name)}"
    found = re.sub(r"[^a-z0-9]+", "_", plain.casefold()).strip("_")
    if found and not found[0].isalpha():
        found = f"t_{found}"
    if found in RESERVED:
        found = f"{found}_"
    return found if len(found) <= _LONGEST else f"{found[: _LONGEST - 9]}_{_stands_for(name)}"


def entity_id(name: str, relation: str, source: str, taken: Collection[str]) -> str:
    """Return an id that is not taken yet: the table's name, that with its schema, or that with its source, then numbered."""
    found = slug(name) or f"table_{_stands_for(name)}"
    longer = slug(relation.replace(".", "_"))
    for candidate in (found, longer, slug(f"{source}_{name}") if longer == found else ""):
        if candidate and candidate not in taken:
            return candidate
    numbered = (f"{found[: _LONGEST - 6]}_{number}" for number in count(2))
    return next(candidate for candidate in numbered if candidate not in taken)


def _stands_for(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
