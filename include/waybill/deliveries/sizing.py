"""How much a delivery will probably be, from what its stream delivered last: what is small shares a task, what is large gets its own."""

from __future__ import annotations

from collections.abc import Sequence

from waybill.installation import Installation
from waybill.ledger import deliveries
from waybill.ledger.deliveries import Delivery, Last

SMALL = 64 << 20
"""Bytes up to which a delivery is small: seconds of work, which a task of its own would not shorten."""
TOGETHER = 256 << 20
"""Bytes that one task delivers at most of what is small."""


def small(installation: Installation, due: Sequence[Delivery]) -> list[Delivery]:
    """Those of the due deliveries that can share one task, smallest first: together at most TOGETHER, none above SMALL.

    What failed before is not among them, nor a full load of unknown size.
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


def expected_bytes(due: Delivery, last: Last | None) -> int | None:
    """What was delivered last, times as many as the window is longer than the last one; None where nothing was delivered yet.

    After a full load its size is the upper bound.
    """
    if last is None or due.window_from is None:
        return None
    if last.window_from is None or last.window_to is None or last.window_to <= last.window_from:
        return last.bytes
    longer = (due.planned_to - due.window_from) / (last.window_to - last.window_from)
    return int(last.bytes * max(1.0, longer))
