"""The names of what the commands keep in a folder of deliveries, all hidden."""

from __future__ import annotations

POSITION, LOCK, LOADS = ".waybill-consumer.json", ".waybill-consumer.lock", ".waybill-consumer-loads.json"
OURS = {POSITION, LOCK, LOADS, *(f"{name}.part" for name in (POSITION, LOADS))}
