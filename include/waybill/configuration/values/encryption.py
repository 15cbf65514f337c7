"""How delivered files are encrypted, as a registration says it. Whether a key can be used is checked when it is registered."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from waybill.configuration.values.strict import Strict

_BEGIN, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
_ALLOWED = f"one armored public key, from {_BEGIN} to {_END}"


def key_hash(public_key: str) -> str:
    """Tells one key from another in a line of text. Only gpg knows its fingerprint."""
    return hashlib.sha256(public_key.encode()).hexdigest()[:12]


def _armored(value: str) -> str:
    text = value.strip()
    if "PRIVATE KEY" in text:
        raise ValueError(f"a private key, which must stay with the consumer and counts as known to others now; allowed: {_ALLOWED}")
    if not (text.startswith(_BEGIN) and text.endswith(_END)) or text.count(_BEGIN) != 1:
        raise ValueError(f"not an OpenPGP public key; allowed: {_ALLOWED}")
    return text + "\n"


class Encryption(Strict):
    """Every delivered file is encrypted to one OpenPGP key, and its name ends in `.pgp`. Manifests stay readable."""

    kind: Literal["pgp"]
    """OpenPGP."""
    public_key: Annotated[str, StringConstraints(max_length=65536), AfterValidator(_armored)]
    """The consumer's public key, as `gpg --armor --export` prints it."""
