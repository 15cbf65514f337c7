"""Signs manifests with the Ed25519 keys of an Airflow connection. `waybill_consumer.signatures` says what a signature looks like.

`deliveries.publishing.signing` puts one beside each document, `ledger.signatures` remembers it, and `Installation.signer` opens the keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waybill.connection import Connection
from waybill.errors import PermanentError
from waybill_consumer import signatures
from waybill_consumer.signatures import Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class Signer:
    """Signs with the first of its keys. It signed with the others before, or will sign with them."""

    connection: str
    keys: tuple[Ed25519PrivateKey, ...] = field(repr=False)

    def sign(self, document: bytes) -> bytes:
        return signatures.sign(document, self.keys[0])

    @property
    def public(self) -> tuple[Key, ...]:
        """Return what a consumer needs to know: every key whose signatures it may meet."""
        return tuple(signatures.public(key) for key in self.keys)


def open_signer(connection: Connection) -> Signer:
    """Raises PermanentError for a connection without a key, or with one that is not Ed25519. No connection is made."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from waybill.destinations.sftp.ssh_keys import private_keys

    label = f"signing connection {connection.id}"
    step = "Make one with `ssh-keygen -t ed25519`, and put it into the extra of the connection as private_keys"
    found = private_keys(label, connection)
    keys = [key.pyca_key for key in found]
    if not keys:
        raise PermanentError("the connection holds no private key to sign with", where=label, next_step=step, code="signing_key")
    for known, key in zip(found, keys, strict=True):
        if not isinstance(key, Ed25519PrivateKey):
            what = f"the key {known.get_fingerprint()} is of kind {known.get_algorithm()}, and manifests are signed with Ed25519 keys only"
            raise PermanentError(what, where=label, next_step=step, code="signing_key")
    return Signer(connection.id, tuple(key for key in keys if isinstance(key, Ed25519PrivateKey)))
