"""What a folder holds, how fresh it is, and what is missing: from its manifests and what the last pull said."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from waybill_consumer import chain
from waybill_consumer.chain import Link
from waybill_consumer.held import Held, holdings
from waybill_consumer.manifest import instant, instant_text
from waybill_consumer.position import Position, forget, is_pulled
from waybill_consumer.verification import Report


@dataclass
class Status:
    """`entities` in order of name; `missing`, `stale` and `outage` make it exit with 1.

    `next_due` and `outage` come from the sender's feed, where there is one: when more comes, and why nothing comes.
    """

    source: str
    pulled_at: str
    entities: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    outage: list[str] = field(default_factory=list)
    next_due: str | None = None

    @property
    def is_well(self) -> bool:
        return not self.missing and not self.stale and not self.outage

    def as_json(self) -> dict[str, Any]:
        places = {"source": self.source or None, "pulled_at": self.pulled_at or None}
        told = {"outage": self.outage, "next_due": self.next_due}
        return {"well": self.is_well, **places, "entities": self.entities, "missing": self.missing, "stale": self.stale, **told}

    def lines(self) -> list[str]:
        head = f"from {self.source}, last pulled {self.pulled_at or 'never'}" if self.source else "no pull into this folder yet"
        width = max((len(entity["entity"]) for entity in self.entities), default=0)
        rows = [
            f"{entity['entity']:{width}}  generation {entity['generation']} sequence {entity['sequence']}"
            f"  holds all before {entity['window_to']}  ({_since(entity['age_seconds'])})"
            for entity in self.entities
        ]
        due = [f"the next delivery is due at {self.next_due}"] if self.next_due else []
        wrong = {"missing": self.missing, "stale": self.stale, "outage": self.outage}
        return [head, *rows, *due, *(f"{name}: {problem}" for name, found in wrong.items() for problem in found)]


def status(root: Path, max_age: float | None) -> Status:
    """Raises Refused when there is no such folder."""
    found = holdings(root)
    position = Position(root)
    report = Status(position.source, position.pulled_at)
    now = datetime.now(timezone.utc)
    links = [Link(kept.path, kept.manifest) for held in found.entities.values() for kept in held]
    report.missing = [f"{problem['what']}" for problem in position.problems]
    report.missing += [f"{remark}" for remark in chain.check(links) if remark.is_problem]
    report.missing += [f"{error}" for error in found.unreadable.values()]
    for (tenant, entity), held in sorted(found.entities.items()):
        report.entities.append(_entity(tenant, entity, held, position, now))
        report.missing += [
            f"{kept.path}: its file {file.path} is missing"
            for kept in held
            for file in kept.manifest.all_files
            if not (kept.folder / file.path).exists()
        ]
        age = report.entities[-1]["age_seconds"]
        if max_age is not None and age > max_age:
            report.stale.append(f"{tenant}/{entity} is {_age(age)} old, allowed are {_age(max_age)}")
    for feed in position.feeds.values():
        _sender(report, feed, now)
    if max_age is not None and not report.entities:
        report.stale.append("nothing is held at all")
    return report


def _sender(report: Status, feed: dict[str, Any], now: datetime) -> None:
    """What the last pull read of how the sender stands, and what follows from the time since."""
    state, tenant = feed["state"], feed["tenant"]
    due, late = state.get("next_due"), state.get("late_after")
    if due:
        report.next_due = min(report.next_due or due, due)
    if state.get("problem"):
        report.outage.append(f"{tenant}: the sender said at {state['written_at']}: {state['problem']}")
    if late and instant(late) < now:
        unseen = not report.pulled_at or report.pulled_at < late
        why = "no pull has looked since" if unseen else "nothing was written since: the sender, or the way to it, is down"
        report.outage.append(f"{tenant}: a delivery was due at {due}, and {why}")


def remember_damage(root: Path, report: Report) -> None:
    """Have the next pull fetch once more what a check found damaged."""
    damaged = {remark.path for remark in report.problems}
    if not damaged or not is_pulled(root):
        return
    found = holdings(root)
    held = [(path, path.rpartition("/")[0], manifest) for deliveries in found.entities.values() for path, _, manifest in deliveries]
    wrong = [path for path, folder, manifest in held if damaged & {f"{folder}/{file.path}" for file in manifest.all_files}]
    forget(root, [*wrong, *found.unreadable])


def _entity(tenant: str, entity: str, held: list[Held], position: Position, now: datetime) -> dict[str, Any]:
    newest = max((kept.manifest for kept in held), key=lambda manifest: (manifest.generation, manifest.sequence))
    facts = {
        "generation": newest.generation,
        "sequence": newest.sequence,
        "delivery_id": newest.delivery_id,
        "window_to": instant_text(newest.end),
        "snapshot_time": instant_text(newest.snapshot_time),
    }
    # Deliveries may have been moved away after they were loaded: the position remembers them.
    if (known := position.streams.get(f"{tenant}/{entity}")) and (known["generation"], known["sequence"]) > (
        newest.generation,
        newest.sequence,
    ):
        facts = {name: known[name] for name in facts}
    age = (now - instant(str(facts["snapshot_time"]))).total_seconds()
    counts = {"deliveries": len(held), "bytes": sum(file.bytes for kept in held for file in kept.manifest.all_files)}
    return {"tenant": tenant, "entity": entity, **facts, **counts, "age_seconds": round(age)}


def _since(seconds: float) -> str:
    """When something was, and that the clocks differ where it was later than now."""
    return f"{_age(seconds)} ago" if seconds >= 0 else f"{_age(-seconds)} ahead of this machine's clock: one of the clocks is wrong"


def _age(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
