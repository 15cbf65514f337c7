"""Estimates the size of a delivery from the last one of its stream. Small deliveries share a task; a large one gets its own."""

from __future__ import annotations

from collections.abc import Sequence

from waybill.installation import Installation
from waybill.ledger import deliveries
from waybill.ledger.deliveries import Delivery, LastDelivery

SMALL = 64 << 20
"""A delivery up to this many bytes is small: it takes seconds, and a task of its own would not make it shorter."""
TOGETHER = 256 << 20
"""The most bytes of small deliveries that share one task."""


def small(installation: Installation, due: Sequence[Delivery]) -> list[Delivery]:
    """Return the due deliveries that can share one task, smallest first: at most TOGETHER bytes in all, none above SMALL.

    A delivery that failed before is not among them, nor is a full load of unknown size.
    """
    sound = [delivery for delivery in due if not delivery.failures]
    with installation.ledger.read() as connection:
        last = deliveries.last_of(connection, [delivery.stream for delivery in sound])
    sizes = {delivery.id: expected_bytes(delivery, last.get(delivery.stream)) for delivery in sound}
    chosen, total = [], 0
    for delivery in sorted(sound, key=lambda candidate: (sizes[candidate.id] is None, sizes[candidate.id] or 0)):
        size = sizes[delivery.id]
        if size is None or size > SMALL or total + size > TOGETHER:
            break
        chosen.append(delivery)
        total += size
    return chosen


def expected_bytes(due: Delivery, last: LastDelivery | None) -> int | None:
    """Return the size of the last delivery, scaled by the length of the window. None if the stream has delivered nothing yet.

    After a full load, the size of the full load is the upper bound.
    """
    if last is None or due.window_from is None:
        return None
    if last.window_from is None or last.window_to is None or last.window_to <= last.window_from:
        return last.bytes
    longer = (due.planned_to - due.window_from) / (last.window_to - last.window_from)
    return int(last.bytes * max(1.0, longer))
