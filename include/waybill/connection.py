"""A connection as Airflow stores it, in a plain value that cannot print its secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Connection:
    """Where to connect, and with what. `extra` holds the provider's own settings (host_key, private_key, region_name ...).

    `address` is set if the host was looked up and checked already. It is then the address to connect to.
    """

    id: str
    type: str = ""
    host: str = ""
    port: int | None = None
    login: str = ""
    schema: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    address: str = ""


POOL_OF_STATEMENTS = "statement pooling mode"
"""What PgBouncer says of a transaction where every statement may go to another server connection."""

Connections = Callable[[str], Connection]
"""Looks a connection up by id. Raises PermanentError if there is none, and names the id and how to add it."""
