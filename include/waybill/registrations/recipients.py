"""The key that a registration encrypts to is tried before the registration is in force, so that no delivery finds out first."""

from __future__ import annotations

from waybill import pgp
from waybill.configuration.registration import Registration
from waybill.errors import Finding, PermanentError, TransientError
from waybill.ledger.registrations import Registered

_ALLOWED = "one current OpenPGP public key that has a part to encrypt to"


def findings(wanted: Registration, before: Registered | None, file: str) -> list[Finding]:
    """What is wrong with a new key; one that is in force is not tried again."""
    encryption = wanted.encryption
    if encryption is None or (before is not None and before.body.get("encryption") == encryption.model_dump(mode="json")):
        return []
    try:
        pgp.rehearse(encryption.public_key)
    except (PermanentError, TransientError) as error:
        return [Finding(file, "encryption.public_key", error.what, _ALLOWED, code=error.code)]
    return []
