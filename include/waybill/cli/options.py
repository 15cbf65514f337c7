"""What the commands share: arguments and options, how an installation is opened, and how a command prints."""

from __future__ import annotations

import getpass
import json
import re
import sys
from datetime import datetime
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Tenant = Annotated[str, typer.Argument(help="Tenant id.")]


def instant(text: str) -> datetime:
    """An RFC 3339 time with an offset. Raises a usage error for anything else."""
    from waybill.canonical import parse_timestamp

    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an RFC 3339 time with an offset, as in 2026-06-01T00:00:00Z") from error


def actor() -> str:
    """Who runs the command, as the audit trail names them."""
    return f"cli:{getpass.getuser()}"


def write(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def dump(facts: Any) -> None:
    """Facts as indented JSON on standard output."""
    write(json.dumps(facts, indent=2, ensure_ascii=False))


def counted(number: int, what: str) -> str:
    """`1 file`, `2 files`, `2 entities`, `2 deliveries`."""
    many = what if number == 1 else f"{what[:-1]}ies" if re.search(r"[^aeiou]y$", what) else f"{what}s"
    return f"{number:,} {many}"
