"""Makes the deletes file of a delivery visible: after the data, and before the manifest that lists both."""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

from waybill import layout
from waybill.deliveries.publishing import renaming
from waybill.deliveries.publishing.renaming import require_published
from waybill.destinations import Profile, Session
from waybill.errors import ConflictError, TransientError
from waybill.layout import Target
from waybill.ledger import Ledger, deliveries
from waybill.ledger.delivered import keys
from waybill.ledger.deliveries import Attempt, Delivery


def publish(ledger: Ledger, session: Session, delivery: Delivery, adopted: Attempt, target: Target, token: str) -> None:
    """Publish the adopted attempt's deletes file from the recorded bytes, so that every worker publishes the same file.

    Raises ConflictError for a foreign file under its name, and TransientError if another worker publishes under it, too.
    """
    file = adopted.deletes
    if file is None:
        return
    final = target.deletes
    if session.profile is Profile.DROPBOX:
        session.upload(final, _recorded(ledger, adopted))
        return
    hidden, sha256, size = layout.hidden(final, token), file["sha256"], file["bytes"]

    def check_renamed() -> bool:
        require_published(session, {hidden: final}, {final: size})
        return True

    seen = session.sha256(final)
    if seen == sha256:
        return
    if seen is not None:
        _remove_given_up(ledger, session, delivery, adopted, final, seen)
    session.upload(hidden, _recorded(ledger, adopted))
    if not renaming.publish(session, hidden, final, check_renamed=check_renamed, find_ours=lambda: session.sha256(final) == sha256 or None):
        raise _overtaken(final)


def _remove_given_up(ledger: Ledger, session: Session, delivery: Delivery, adopted: Attempt, final: str, seen: str) -> None:
    """Remove the deletes file of an attempt that was given up, because its data was collected before its manifest came.

    Raises ConflictError for a file that no attempt of the delivery recorded, and TransientError if this worker's own attempt was given up.
    """
    with ledger.read() as connection:
        current = deliveries.get(connection, delivery.id)
        ours = [
            attempt for attempt in deliveries.attempts(connection, delivery.id) if attempt.deletes and attempt.deletes["sha256"] == seen
        ]
    if not ours:
        raise ConflictError(
            f"{final} exists and is not a file of this delivery (its SHA-256 begins {seen[:12]})",
            where=session.label,
            next_step="Nothing was touched. Move the foreign file away and run again",
            code="foreign_file",
        )
    if current is None or current.adopted != adopted.id:
        raise _overtaken(final)
    session.remove(final)


def _overtaken(final: str) -> TransientError:
    return TransientError("another worker is at the same delivery", where=final, next_step="Run again", code="overtaken")


def _recorded(ledger: Ledger, adopted: Attempt) -> Iterator[bytes]:
    with ledger.read() as connection:
        change = keys.of_attempt(connection, adopted.id)
    if change is None:
        raise TransientError("another worker has committed the delivery meanwhile", next_step="Run again", code="overtaken")
    yield from map(zstandard.decompress, keys.blobs(ledger, change, "file"))
