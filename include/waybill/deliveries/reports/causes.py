"""What is wrong with a tenant's deliveries and what to do about it: failures that say the same are one cause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from waybill.ledger.reports.overviews import Trouble

NEXT_STEPS = {
    "login": "Correct the user, key or password in the Airflow connection, then rehearse the destination.",
    "host_key": "Compare the server's host key with its owner; change the connection only if they confirm it.",
    "missing_connection": "Create the Airflow connection the registration names, then rehearse the destination.",
    "connection": "Correct the Airflow connection, then rehearse the destination.",
    "unreachable": "Check that the server is up and reachable, then rehearse the destination.",
    "lost": "Nothing, if it was once. If it stays, ask the server's owner.",
    "destination_paused": "Check the server, then rehearse the destination: that says what is wrong, and ends the pause once it answers.",
    "disk_full": "Ask the server's owner for space.",
    "refused": "Ask the server's owner for the right to write below the tenant's folder, then rehearse the destination.",
    "root_missing": "Make the root at the destination, or correct it in the registration, then rehearse the destination.",
    "foreign_file": "Somebody else's file stands where this delivery belongs. Have it moved away.",
    "schema_drift": "The source changed its columns. Bring config/catalog.yaml in line with it.",
    "registration_unreadable": "Register the tenant again, by its file or the API, or go back to an earlier version.",
    "source_unreachable": "Check the source database.",
    "source_missing": "Check the source's path or name in config/catalog.yaml.",
    "relation_missing": "Check the entity's relation in config/catalog.yaml.",
}
"""What to do about an error, by its code, where the error itself leaves that open."""

OUTSIDE = {
    "login": "The server did not accept the login.",
    "host_key": "The server showed another host key than the one agreed on.",
    "unreachable": "The server did not answer.",
    "lost": "The connection to the server was lost.",
    "busy": "The server had no room for another connection.",
    "disk_full": "The server has no space left.",
    "refused": "The server did not allow it.",
    "root_missing": "The folder for the files is missing on the server.",
    "private_address": "The server is not at a public address.",
    "foreign_file": "Somebody else's file stands where this one belongs.",
    "changed_file": "A delivered file was changed afterwards.",
    "destination_paused": "The server was not tried again yet, since it did not answer several times in a row.",
    "verify": "The file arrived damaged.",
}
"""What people with a tenant's token read of an error, by its code: no host, login, connection or path of the house."""


def said_outside(code: str) -> str:
    """An error in words for people outside the house."""
    return OUTSIDE.get(code, "The delivery did not succeed. The operator's log holds the cause.")


def described_outside(described: dict[str, Any]) -> dict[str, Any]:
    """A delivery as `describing.describe` tells it, with its error in words for people outside the house."""
    return {**described, "error": said_outside(described["error_code"] or "")} if described["error"] else described


def discreet(troubles: Iterable[Trouble]) -> tuple[Trouble, ...]:
    """The same failures in words for people outside the house."""
    return tuple(replace(trouble, error=said_outside(trouble.code)) for trouble in troubles)


_DERIVED = "destination_paused"
"""The code of a failure that only follows from others: the destination was spared after it had not answered."""

_SILENT = ("unreachable", "lost")
_OTHERWISE = "Read the task log of the delivery."


@dataclass(frozen=True)
class Cause:
    """What is wrong, and all whom it hits, newest first. `first` is told in full."""

    troubles: tuple[Trouble, ...]

    @property
    def first(self) -> Trouble:
        return self.troubles[0]

    @property
    def entities(self) -> list[str]:
        return list(dict.fromkeys(trouble.entity for trouble in self.troubles))

    @property
    def next_step(self) -> str:
        return NEXT_STEPS.get(self.first.code, _OTHERWISE)


def causes(troubles: Sequence[Trouble]) -> list[Cause]:
    """Failures that say the same but for their own names are one cause. What only follows from a silent destination counts to that."""
    groups: dict[tuple[str, str], list[Trouble]] = {}
    for trouble in sorted(troubles, key=lambda candidate: candidate.code == _DERIVED):
        silent = next((key for key in groups if key[0] in _SILENT), None) if trouble.code == _DERIVED else None
        own = rf"\b(?:{re.escape(trouble.entity)}|{trouble.delivery})\b"
        key = silent or (trouble.code, "" if trouble.code == _DERIVED else re.sub(own, "", trouble.error))
        groups.setdefault(key, []).append(trouble)
    return [Cause(tuple(found)) for found in groups.values()]
