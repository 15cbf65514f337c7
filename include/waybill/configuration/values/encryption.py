"""How delivered files are encrypted, as a registration says it. Whether a key can be used is checked when it is registered."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from waybill.configuration.values.strict import Strict
from waybill.language import unfit

_BEGIN, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"


def key_hash(public_key: str) -> str:
    """Tells one key from another in a line of text. Only gpg knows its fingerprint."""
    return hashlib.sha256(public_key.encode()).hexdigest()[:12]


def _armored(value: str) -> str:
    text = value.strip()
    if "PRIVATE KEY" in text:
        raise unfit("private_key", first=_BEGIN, last=_END)
    if not (text.startswith(_BEGIN) and text.endswith(_END)) or text.count(_BEGIN) != 1:
        raise unfit("public_key", first=_BEGIN, last=_END)
    return text + "\n"


class Encryption(Strict):
    """Every delivered file is encrypted to one OpenPGP key, and its name ends in `.pgp`. Manifests stay readable."""

    kind: Literal["pgp"]
    """OpenPGP."""
    public_key: Annotated[str, StringConstraints(max_length=65536), AfterValidator(_armored)]
    """The consumer's public key, as `gpg --armor --export` prints it."""
