"""Tries the key that a registration encrypts to before the registration is in force, so that no delivery finds out first."""

from __future__ import annotations

from waybill import pgp
from waybill.configuration.registration import Registration
from waybill.errors import Finding, WaybillError
from waybill.language import tell
from waybill.ledger.registrations import Registered
from waybill.pgp import UnusableKey


def unusable(wanted: Registration, before: Registered | None, file: str = "") -> list[Finding]:
    """Return what is wrong with a new key.

    A key that is in force is not tried again. Raises an error if gpg is absent or does not answer.
    """
    encryption = wanted.encryption
    if encryption is None or (before is not None and before.body.get("encryption") == encryption.model_dump(mode="json")):
        return []
    try:
        pgp.rehearse(encryption.public_key)
    except UnusableKey as error:
        return [Finding(file, "encryption.public_key", error.what, tell("pgp.allowed"), code=error.code)]
    return []


def findings(wanted: Registration, before: Registered | None, file: str) -> list[Finding]:
    """Return what is wrong with the key in a tenant's file.

    If gpg is absent or does not answer, that is a finding, too: it only holds up the tenants who need it.
    """
    try:
        return unusable(wanted, before, file)
    except WaybillError as error:
        return [Finding(file, "encryption", str(error), code=error.code)]
