"""What is wrong with a tenant's deliveries and what to do about it: failures that say the same are one cause."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from waybill.ledger.overviews import Trouble

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
    "source_unreachable": "Check the source database.",
    "source_missing": "Check the source's path or name in config/catalog.yaml.",
    "relation_missing": "Check the entity's relation in config/catalog.yaml.",
}
"""What to do about an error, by its code, where the error itself leaves that open."""

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
        return list(dict.fromkeys(one.entity for one in self.troubles))

    @property
    def next_step(self) -> str:
        return NEXT_STEPS.get(self.first.code, _OTHERWISE)


def causes(troubles: Sequence[Trouble]) -> list[Cause]:
    """Failures that say the same but for their own names are one cause. What only follows from a silent destination counts to that."""
    groups: dict[tuple[str, str], list[Trouble]] = {}
    for one in sorted(troubles, key=lambda one: one.code == _DERIVED):
        silent = next((key for key in groups if key[0] in _SILENT), None) if one.code == _DERIVED else None
        own = rf"\b(?:{re.escape(one.entity)}|{one.delivery})\b"
        key = silent or (one.code, "" if one.code == _DERIVED else re.sub(own, "", one.error))
        groups.setdefault(key, []).append(one)
    return [Cause(tuple(found)) for found in groups.values()]
