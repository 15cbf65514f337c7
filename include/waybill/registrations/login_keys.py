"""The public keys that a tenant's consumer needs: those that log in at its server, and those that verify its manifests."""

from __future__ import annotations

from typing import Any

from waybill.configuration.registration import SftpDestination
from waybill.errors import PermanentError
from waybill.installation import Installation
from waybill.language import tell
from waybill.ledger import destinations


def login_keys(installation: Installation, tenant: str) -> list[dict[str, Any]]:
    """Return the public keys of the tenant's SFTP connection, in the order they are tried, and which one the last rehearsal used.

    If the tenant's manifests are signed, the keys that verify them follow.

    This also works for a tenant whose file is not applied yet, because its consumer needs the key first. Raises PermanentError if there is
    no key to hand over: the manifests are not signed, and the destination is no SFTP server or its connection holds no key.
    """
    from waybill.destinations.sftp.ssh_keys import public_keys

    file = installation.configuration.file_of(tenant)
    registration = file.registration if file else installation.registered(tenant).registration
    spec = registration.destination or installation.configuration.policy.destination
    signing = _signing_keys(installation, tenant)
    if not isinstance(spec, SftpDestination):
        if signing:
            return signing
        raise PermanentError(tell("call.no_login_key", tenant=tenant, kind=spec.kind), code="no_key")
    with installation.ledger.read() as connection:
        kept = destinations.last_probe(connection, tenant)
    used = (kept.found or {}).get("login_key", "") if kept else ""
    try:
        keys = public_keys(installation.connections(spec.connection))
    except PermanentError as error:
        if not signing or error.code != "no_key":
            raise
        keys = []
    login = [{**key, "connection": spec.connection, "use": "login", "in_use": key["fingerprint"] in used.split()} for key in keys]
    return login + signing


def _signing_keys(installation: Installation, tenant: str) -> list[dict[str, Any]]:
    """Return the public keys of whoever signs the tenant's manifests, the one in use first."""
    signer = installation.signer(tenant)
    if signer is None:
        return []
    return [
        {
            "public_key": key.line,
            "fingerprint": key.fingerprint,
            "connection": signer.connection,
            "use": "signing",
            "in_use": number == 0,
            "allowed_signers": key.allowed_signers,
        }
        for number, key in enumerate(signer.public)
    ]
