"""Reads connections as people write them into AIRFLOW_CONN_<ID>. Common variants are understood; anything else is refused with the line to
write.

No message repeats the value, because any part of it may be the password.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from waybill.connection import Connection
from waybill.errors import PermanentError

_SPELLINGS = {"postgresql": "postgres", "pgsql": "postgres", "psql": "postgres", "mariadb": "mysql"}
"""Names that other tools use for a connection type, with Airflow's name for it."""

_MEANT = {
    "type": "conn_type", "conn_id": "conn_type", "user": "login", "username": "login", "pass": "password", "pwd": "password",
    "database": "schema", "dbname": "schema", "db": "schema", "hostname": "host", "server": "host", "path": "host",
}  # fmt: skip
"""Keys of other tools' JSON, with Airflow's name for each."""

_KEYS = ("conn_type", "host", "login", "password", "schema", "port", "extra", "description", "team_name")
_PREFIX = "AIRFLOW_CONN_"


def connection_type(written: str) -> str:
    """Return Airflow's name for a type. SQLAlchemy's spelling is understood, too: `postgresql+psycopg` is `postgres`."""
    plain = written.casefold().partition("+")[0]
    return _SPELLINGS.get(plain, plain)


def parsed(connection_id: str, given: str) -> Any:
    """Return the Airflow connection that an environment variable holds. Raises PermanentError with the line to write."""
    from airflow.sdk import Connection as AirflowConnection
    from airflow.sdk.exceptions import AirflowException

    text = _understood(connection_id, given)
    try:
        read = AirflowConnection.from_json if text.startswith("{") else AirflowConnection.from_uri
        return read(text, conn_id=connection_id)
    except (AirflowException, ValueError, TypeError):
        # The cause is not chained, because it may quote the connection's value.
        raise _unusable(connection_id, "is not a connection") from None


def read_alone(connection_id: str, given: str) -> Connection | None:
    """Return what an environment variable holds, read as Airflow reads it, or None if it takes Airflow to tell.

    Commands save the seconds that an import of Airflow takes. Raises PermanentError with the line to write.
    """
    text = _understood(connection_id, given)
    with suppress(ValueError, TypeError):
        return _from_json(connection_id, text) if text.startswith("{") else _from_uri(connection_id, text)
    return None


def _from_json(connection_id: str, text: str) -> Connection | None:
    facts = json.loads(text)
    texts = {name: facts.get(name) or "" for name in ("host", "login", "schema", "password")}
    extra = facts.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    if "team_name" in facts or not isinstance(extra, dict) or not all(isinstance(value, str) for value in texts.values()):
        return None
    port = int(facts["port"]) if facts.get("port") else None
    return Connection(connection_id, _without_hyphens(facts["conn_type"]), port=port, extra=extra, **texts)


def _from_uri(connection_id: str, text: str) -> Connection | None:
    scheme, rest = text.split("://", 1)
    parts = urlsplit(f"//{rest}")
    host = unquote(parts.hostname or "")
    if urlsplit(text).scheme != scheme or "://" in rest or "/" in host:
        return None
    extra = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = json.loads(extra["__extra__"]) if "__extra__" in extra else extra
    if not isinstance(extra, dict):
        return None
    login, password = unquote(parts.username or ""), unquote(parts.password or "")
    schema = unquote(parts.path[1:])
    return Connection(connection_id, _without_hyphens(scheme), host, parts.port, login, schema, password, extra)


def _without_hyphens(kind: str) -> str:
    return connection_type(kind.replace("-", "_"))


def _understood(connection_id: str, given: str) -> str:
    """Return a value as Airflow would have it written. Raises PermanentError for one that Airflow would read otherwise than it is meant."""
    text = given.strip()
    _require_plain(connection_id, text)
    if text.startswith("{"):
        return _known_keys(connection_id, text)
    scheme, rest = text.split("://", 1)
    try:
        _require_escaped(connection_id, scheme, text)
    except ValueError:
        raise _unusable(connection_id, "is not a connection") from None
    return f"{connection_type(scheme)}://{rest}"


def missing(connection_id: str) -> PermanentError:
    """Return the error for a connection that does not exist. It says where to add one, and what was written instead."""
    name = variable(connection_id)
    similar = next((variable for variable in os.environ if variable != name and variable.upper() == name), "")
    meant = _closest(connection_id, (variable.removeprefix(_PREFIX).casefold() for variable in os.environ if variable.startswith(_PREFIX)))
    if similar:
        hint = f"{similar} is set, but Airflow reads {name}: write it in capitals"
    elif not re.fullmatch(r"\w+", name, re.ASCII):
        hint = (
            f"Add it in Airflow (Admin > Connections) or in the secrets backend. No shell can set {name}:"
            " for the command line choose an id of letters, digits and _"
        )
    else:
        hint = f"Add it in Airflow (Admin > Connections), in the secrets backend, or as {name}"
        hint += f". Did you mean {meant}?" if meant else ""
    return PermanentError(f"there is no Airflow connection {connection_id!r}", next_step=hint, code="missing_connection")


def _closest(word: str, options: Iterable[str]) -> str:
    return next(iter(get_close_matches(word.casefold(), [option for option in options if option != word], n=1, cutoff=0.6)), "")


def _require_plain(connection_id: str, text: str) -> None:
    """Refuse a value that is neither a URI nor JSON, and say what it looks like."""
    if not text:
        raise _unusable(connection_id, "is empty")
    if text[0] in "'\"" and text[-1] == text[0]:
        raise _unusable(connection_id, "holds its quotes, as files given to docker --env-file do", "the same without quotes")
    if text.casefold().startswith("jdbc:"):
        raise _unusable(connection_id, "is a JDBC address")
    if text.startswith("{"):
        return
    if re.match(r"\w+\s*=", text) and "://" not in text:
        raise _unusable(connection_id, "is a list of settings, as libpq has them")
    if "://" not in text:
        raise _unusable(connection_id, "is neither a URI nor JSON")


def _known_keys(connection_id: str, text: str) -> str:
    """Return the JSON as Airflow reads it. The type must be known, and so must every key."""
    try:
        facts = json.loads(text)
    except ValueError:
        raise _unusable(connection_id, "begins as JSON and is none", _json_line(connection_id)) from None
    unknown = sorted(set(facts) - set(_KEYS))
    if unknown:
        meant = {key: _MEANT.get(key.casefold()) or _closest(key, _KEYS) for key in unknown}
        named = ", ".join(f"{key!r} (did you mean {meant[key]}?)" if meant[key] else f"{key!r} (put it into extra)" for key in unknown)
        raise _unusable(connection_id, f"has keys that no connection has: {named}", _json_line(connection_id))
    if not isinstance(facts.get("conn_type"), str) or not facts["conn_type"]:
        raise _unusable(connection_id, "does not say its conn_type", _json_line(connection_id))
    return json.dumps(facts | {"conn_type": connection_type(facts["conn_type"])})


def _require_escaped(connection_id: str, scheme: str, text: str) -> None:
    """Refuse a URI whose password contains characters that end it, and a path in the place of a host."""
    parts = urlsplit(text)
    if parts.netloc and any("@" in part for part in (parts.path, parts.fragment, parts.query.partition("=")[0])):
        raise _unusable(connection_id, "has a login or a password with characters that end it in a URI")
    if connection_type(scheme) == "sqlite" and not parts.netloc and parts.path.strip("/"):
        facts = {"conn_type": "sqlite", "host": "/" + unquote(parts.path).lstrip("/")}
        raise _unusable(connection_id, "names a SQLite file as SQLAlchemy does", f"{variable(connection_id)}='{json.dumps(facts)}'")


def variable(connection_id: str) -> str:
    """Return the name of the environment variable that holds a connection."""
    return f"{_PREFIX}{connection_id.upper()}"


def _json_line(connection_id: str) -> str:
    facts = '"conn_type": "postgres", "host": "HOST", "port": 5432, "login": "USER", "password": "PASSWORD", "schema": "DATABASE"'
    return f"{variable(connection_id)}='{{{facts}}}'"


def _unusable(connection_id: str, what: str, line: str = "") -> PermanentError:
    plain = f"{variable(connection_id)}='postgres://USER:PASSWORD@HOST:5432/DATABASE', with @ : / ? # % in it as %40 %3A %2F %3F %23 %25"
    return PermanentError(
        f"{variable(connection_id)} {what}",
        allowed="a URI or Airflow's JSON form",
        next_step=f"Write {line or plain}",
        code="connection",
    )
