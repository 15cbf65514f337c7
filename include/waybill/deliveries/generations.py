"""When a stream begins a new generation, and why. A generation begins with a full load; its deliveries are numbered from 1.

`ledger.registrations.begin_generation` begins it and notes why; these are all the places that ask for it:

- An entity is registered, for the first time or again (`ledger.registrations`), or joins the catalog of a tenant with `export all`
  (`planning`).
- A registration asks for other rows than before (`registrations.applying`).
- Somebody asks for the full history (`full_load_requests`), or the last delivery was made by a clock that was ahead; `planning` begins the
  generation once the open delivery is committed.
- The destination shows deliveries that the ledger does not know, and consumers collected their manifests (`recovery/`).
- A delivery that the ledger holds as open was visible, and all of it is gone (`protocol`).
- An extraction raises `NewGenerationNeeded`, because the next delta would leave consumers with other rows than the source: the source no
  longer knows what changed (`Extent.lost`) or keeps rows in another place (`passed_over`) or gives ids out again (`extraction.landmarks`),
  the catalog finds changes in another way, the catalog or the source gives unchanged rows other values (`registrations.redefining`,
  `sources.definitions`), a new column wants every row (`registrations.filling`), or a comparison of keys does not know what was delivered,
  or finds that too many rows came back for a delta (`key_changes.changes`).
"""

from __future__ import annotations

from datetime import datetime

from waybill.errors import TransientError
from waybill.installation import Installation
from waybill.ledger import deliveries, registrations, streams
from waybill.ledger.deliveries import Delivery
from waybill.states import DeliveryStatus, GenerationReason


class NewGenerationNeeded(TransientError):
    """The delivery cannot be a delta any more, and its message says why. A new generation delivers every row."""

    code = "position_lost"

    @property
    def reason(self) -> str:
        """Return what the ledger keeps as the reason of the generation."""
        return self.what


class CollectedUncommitted(NewGenerationNeeded):
    """An open delivery was visible, and its data and manifest are gone. A consumer may have loaded it, and skips its id from now on."""

    reason = GenerationReason.COLLECTED_UNCOMMITTED


_UNSEEN = frozenset({GenerationReason.MANIFESTS_COLLECTED, GenerationReason.COLLECTED_UNCOMMITTED})
"""Consumers may know of later generations than a ledger that was restored."""


def unseen_number(now: datetime) -> int:
    """Return the number of a generation that no consumer has seen, whatever a lost ledger delivered: the minutes since 1970."""
    return int(now.timestamp() // 60)


def begin_instead_of(installation: Installation, delivery: Delivery, reason: str) -> Delivery | None:
    """Begin the stream's next generation in place of a delivery that can no longer be made as planned.

    If another worker has committed the delivery meanwhile, nothing begins and the delivery is returned: this worker had read an older
    ledger.
    """
    now = installation.now()
    least = unseen_number(now) if reason in _UNSEEN else 1
    with installation.ledger.begin() as connection:
        current = deliveries.get(connection, delivery.id)
        if current is not None and current.status == DeliveryStatus.COMMITTED:
            return current
        if streams.get(connection, delivery.stream).active:
            registrations.begin_generation(connection, delivery.tenant, delivery.entity, reason, now, least=least)
    return None
