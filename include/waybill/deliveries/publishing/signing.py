"""The signature beside a document. It is made once, recorded in the ledger, and visible before the document itself.

So whoever sees a manifest also sees its signature, and a second try publishes the same bytes, even if the key has changed since.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from waybill import layout
from waybill.deliveries.publishing.renaming import publish_document
from waybill.destinations import Session
from waybill.errors import ConflictError
from waybill.files.signing import Signer
from waybill.ledger import Ledger, signatures


def signature_of(ledger: Ledger, signer: Signer, tenant: str, document: bytes, now: datetime) -> bytes:
    """Return the signature of a document: the recorded one if there is one."""
    digest = hashlib.sha256(document).hexdigest()
    with ledger.read() as connection:
        found = signatures.of(connection, [digest]).get(digest)
    if found is not None:
        return found
    text = signer.sign(document)
    with ledger.begin() as connection:
        return signatures.record(connection, digest, text, tenant, now)


def publish_signature(ledger: Ledger, session: Session, tenant: str, document: str, text: bytes, token: str, beside: str = "") -> None:
    """Publish a document's signature. Raises ConflictError if the name holds a file that Waybill did not write.

    If it holds another signature of Waybill's own, that belongs to an earlier attempt, whose files were collected before its manifest came.
    """
    final = layout.signature(document)
    try:
        publish_document(session, final, text, token, beside)
    except ConflictError:
        standing = session.read(final)
        with ledger.read() as connection:
            is_ours = standing is not None and signatures.is_own(connection, tenant, standing)
        if not is_ours:
            raise
        session.remove(final)
        publish_document(session, final, text, token, beside)
