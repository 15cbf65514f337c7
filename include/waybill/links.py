"""Signed links: a token names a request, the attempt whose archive it opens, the person it was made for, and its end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from itsdangerous import BadData, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from waybill.errors import PermanentError

_PURPOSE = b"waybill.download"
_SHORTEST = 32


@dataclass(frozen=True)
class Ticket:
    """What a token says. `roles` is None where policy's role table does not decide. `expires` is in whole seconds."""

    request: str
    attempt: int
    person: str
    roles: tuple[str, ...] | None
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
    roles = None if ticket.roles is None else list(ticket.roles)
    payload = [ticket.request, ticket.attempt, ticket.person, roles, int(ticket.expires.timestamp())]
    return _serializer(keys).dumps(payload)


def read(keys: Sequence[bytes], token: str) -> Ticket | None:
    """What a token says if any of the keys signed it, else None. Whether its time is over is the caller's question."""
    if not _is_spelt_out(token):
        return None
    try:
        request, attempt, person, roles, expires = _serializer(keys).loads(token)
        held = None if roles is None else tuple(str(role) for role in roles)
        return Ticket(str(request), int(attempt), str(person), held, datetime.fromtimestamp(int(expires), UTC))
    except (BadData, ValueError, TypeError, OverflowError, OSError):
        return None


def _is_spelt_out(token: str) -> bool:
    """False where the signature's last character hides bits that decoding drops: only one spelling of a token is good."""
    signature = token.rpartition(".")[2]
    try:
        return base64_encode(base64_decode(signature)).decode() == signature
    except BadData:
        return False


def _serializer(keys: Sequence[bytes]) -> URLSafeSerializer:
    # itsdangerous signs with the last key of its list and accepts all.
    return URLSafeSerializer(list(reversed(keys)), salt=_PURPOSE, signer_kwargs={"digest_method": hashlib.sha256})
