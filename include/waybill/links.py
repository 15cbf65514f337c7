"""Signed links: a token names a request, the attempt whose archive it opens, the person it was made for, and its end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from itsdangerous import BadData, URLSafeSerializer

from waybill.errors import PermanentError

_PURPOSE = b"waybill.download"
_SHORTEST = 32


@dataclass(frozen=True)
class Ticket:
    """What a token says. `expires` is in whole seconds."""

    request: str
    attempt: int
    person: str
    roles: tuple[str, ...]
    expires: datetime


def checked_keys(keys: Sequence[str]) -> tuple[bytes, ...]:
    """Keys as given by WAYBILL_LINK_KEYS, newest first. Raises PermanentError for one that is too short to be a secret."""
    if any(len(key) < _SHORTEST for key in keys):
        raise PermanentError(
            f"WAYBILL_LINK_KEYS holds a key of fewer than {_SHORTEST} characters",
            next_step="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            code="link_keys",
        )
    return tuple(key.encode() for key in keys)


def mint(keys: Sequence[bytes], ticket: Ticket) -> str:
    """A token signed with the newest (first) key."""
    payload = [ticket.request, ticket.attempt, ticket.person, list(ticket.roles), int(ticket.expires.timestamp())]
    return _serializer(keys).dumps(payload)


def read(keys: Sequence[bytes], token: str) -> Ticket | None:
    """What a token says if any of the keys signed it, else None. Whether its time is over is the caller's question."""
    try:
        request, attempt, person, roles, expires = _serializer(keys).loads(token)
        return Ticket(str(request), int(attempt), str(person), tuple(map(str, roles)), datetime.fromtimestamp(int(expires), UTC))
    except (BadData, ValueError, TypeError, OverflowError, OSError):
        return None


def _serializer(keys: Sequence[bytes]) -> URLSafeSerializer:
    # itsdangerous signs with the last key of its list and accepts all.
    return URLSafeSerializer(list(reversed(keys)), salt=_PURPOSE, signer_kwargs={"digest_method": hashlib.sha256})
