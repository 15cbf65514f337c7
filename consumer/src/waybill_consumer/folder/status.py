"""What a folder holds, how fresh it is, what is missing, and what databases lack of it.

From its manifests, what the last pull said, and what the last loads did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from waybill_consumer import chain
from waybill_consumer.chain import Link
from waybill_consumer.errors import Refused, Unreachable
from waybill_consumer.folder import missing
from waybill_consumer.folder.holdings import Held, Holdings, holdings
from waybill_consumer.folder.last_loads import Loads, database_named, reached
from waybill_consumer.folder.lock import is_at_work, is_pulled, stamped
from waybill_consumer.folder.position import SETTLE_SECONDS, Kept, Position, forget
from waybill_consumer.manifest import Manifest, instant, instant_text
from waybill_consumer.targets import Target, open_target
from waybill_consumer.verification import Report

CLOCKS_APART = 2 * 86400
"""How many seconds the sender's clock may be ahead of this machine's before it is a problem."""


@dataclass
class Status:
    """`entities` in order of name; `missing`, `unloaded`, `stale` and `outage` make it exit with 1.

    `next_due` and `outage` come from the sender's feed, where there is one: when more comes, and why nothing comes.
    """

    source: str
    pulled_at: str
    entities: list[dict[str, Any]] = field(default_factory=list)
    databases: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unloaded: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    outage: list[str] = field(default_factory=list)
    next_due: str | None = None

    @property
    def _wrong(self) -> dict[str, list[str]]:
        return {"missing": self.missing, "unloaded": self.unloaded, "stale": self.stale, "outage": self.outage}

    @property
    def is_well(self) -> bool:
        return not any(self._wrong.values())

    def as_json(self) -> dict[str, Any]:
        places = {"source": self.source or None, "pulled_at": self.pulled_at or None}
        held = {"entities": self.entities, "databases": self.databases}
        return {"well": self.is_well, **places, **held, **self._wrong, "next_due": self.next_due}

    def lines(self) -> list[str]:
        head = f"from {self.source}, last pulled {self.pulled_at or 'never'}" if self.source else "no pull into this folder yet"
        width = max((len(entity["entity"]) for entity in self.entities), default=0)
        rows = [
            f"{entity['entity']:{width}}  generation {entity['generation']} sequence {entity['sequence']}"
            f"  holds all before {entity['window_to']}  ({_since(entity)})"
            for entity in self.entities
        ]
        loaded = [f"loaded into {database['database']}, {_loaded(database)}" for database in self.databases]
        due = [f"the next delivery is due at {self.next_due}"] if self.next_due else []
        return [head, *rows, *loaded, *due, *(f"{name}: {problem}" for name, found in self._wrong.items() for problem in found)]


def _loaded(database: dict[str, Any]) -> str:
    ends = {place["window_to"] for place in database["entities"].values()}
    until = f"all before {min(ends)}" if ends else "nothing"
    return f"{until}, last tried {database['tried_at']}" if database["tried_at"] else until


def status(root: Path, max_age: float | None, *, to: str = "", schema: str = "") -> Status:
    """With `to` that database is asked; else what the last load into each said counts. Raises Refused when there is no such folder."""
    position = Position(root)
    found = holdings(root)
    report = Status(position.source, position.pulled_at)
    now = datetime.now(timezone.utc)
    _missing(report, root, found, position)
    for tenant, entity in sorted({*found.entities, *(_pair(stream) for stream in position.streams)}):
        report.entities.append(_entity(tenant, entity, found.entities.get((tenant, entity), []), position, now))
        age, is_ended = report.entities[-1]["age_seconds"], report.entities[-1]["ended"]
        if report.entities[-1]["ahead_seconds"] > CLOCKS_APART:
            sentence = f"{tenant}/{entity} was {_since(report.entities[-1])}"
            report.stale.append(f"{sentence}, and no age can be relied on. Set this machine's clock, or ask the sender")
        if max_age is not None and age > max_age and not is_ended:
            step = f"Look at what pull says; if your supplier delivers it no more, run `status {root} --forget {tenant}/{entity}` once"
            report.stale.append(f"{tenant}/{entity} is {_age(age)} old, allowed are {_age(max_age)}. {step}")
    if to:
        _ask(report, found, position, to, schema)
    else:
        for name, facts in sorted(Loads(root).databases.items()):
            report.databases.append({"database": name, "tried_at": facts["tried_at"], "entities": facts["entities"]})
            report.unloaded += [f"{name}: the load at {facts['tried_at']}: {_sentence(problem)}" for problem in facts["problems"]]
    for database in report.databases if max_age is not None else ():
        report.stale += _behind(report.entities, database, max_age or 0, now)
    for feed in position.feeds.values():
        _sender(report, feed, now)
    for path, since in position.lost_feeds.items():
        step = "Ask the sender; if it writes no feed any more, run `pull --rescan` once"
        what = f"the feed {path.lstrip('/')}{'/' if path else ''}feed.json is missing or cannot be read since {since}"
        report.outage.append(f"{what}, so nobody here learns of an outage. {step}")
    if max_age is not None and not report.entities:
        report.stale.append("nothing is held at all")
    return report


def _missing(report: Status, root: Path, found: Holdings, position: Position) -> None:
    """What should be here, and have the next pull fetch what it fetched before."""
    try:
        position.require()
    except Refused as error:
        report.missing.append(f"{error}")
    if not is_pulled(root) and not found.entities:
        report.missing.append("nothing was pulled into this folder yet")
    began = position.began_at or _began_unseen(root, position)
    if began and not any(not problem["entity"] for problem in position.problems) and not is_at_work(root):
        report.missing.append(f"the pull that began at {began} did not finish. Pull once more, and read what it says")
    elif position.kept and not position.pulled_at and not is_at_work(root):
        report.missing.append("no pull into this folder has finished. Pull once more, and read what it says")
    loads = Loads(root)
    report.missing += [_sentence(problem) for problem in position.problems]
    needed = [kept for held in found.entities.values() for kept in held if not position.is_superseded(Kept.of(kept.manifest))]
    links = [Link(kept.path, kept.manifest) for kept in needed]
    moved = {
        (kept.tenant, kept.entity, kept.generation, kept.sequence) for kept in position.kept.values() if position.once or loads.has(kept)
    }
    report.missing += [f"{root}{remark}" for remark in chain.check(links, moved) if remark.is_problem]
    report.missing += [f"{error}" for error in found.unreadable.values()]
    broken = {kept.path: missing.incomplete(kept.folder, kept.manifest) for kept in needed}
    report.missing += [f"{root}{path}: {what}. {_again(root)}" for path, wrong in sorted(broken.items()) for what in wrong]
    gone = [path for path in missing.find(root, position) if not (root / path.lstrip("/")).exists()]
    for path, kept in {**{path: position.kept[path] for path in gone}, **dict(missing.still_lost(root, position))}.items():
        if not (root / path.lstrip("/")).exists():
            report.missing.append(f"{root}{path}: {kept.named} was fetched and is no longer here. {_again(root)}")
    forget(root, [*found.unreadable, *(path for path, wrong in broken.items() if wrong), *gone])


def _began_unseen(root: Path, position: Position) -> str:
    """Return when a pull began that could not write down even that, as on a full disk, or nothing."""
    began = stamped(root)
    is_newer = began is not None and "" < position.pulled_at < instant_text(began - timedelta(seconds=SETTLE_SECONDS))
    return instant_text(began) if began is not None and is_newer else ""


def _again(root: Path) -> str:
    return "Pull once more, which fetches it again" if is_pulled(root) else "Fetch it again"


def _pair(stream: str) -> tuple[str, str]:
    tenant, _, entity = stream.partition("/")
    return tenant, entity


def _sentence(problem: dict[str, str]) -> str:
    return f"{problem['what']}. {problem['next_step']}" if problem["next_step"] else problem["what"]


def _ask(report: Status, found: Holdings, position: Position, to: str, schema: str) -> None:
    """Compare what is here, or was, with what a database remembers."""
    name = database_named(to, schema)
    try:
        with open_target(to, schema) as target:
            applied = [step for tenant in target.tenants() for step in target.applied(tenant)]
            for entity in sorted({step.entity for step in applied}):
                _look(report, name, target, entity)
    except Refused as error:
        report.unloaded.append(f"{name}: {error}")
        return
    facts = reached(applied)
    report.databases.append({"database": name, "tried_at": None, "entities": facts["entities"]})
    contents = {step.content for step in applied}
    wanted = {**{held.path: Kept.of(held.manifest) for entity in found.entities.values() for held in entity}, **position.kept}
    lacking: dict[str, list[Kept]] = {}
    for kept in wanted.values():
        place = facts["entities"].get(kept.stream)
        if kept.content not in contents and (place is None or kept.generation >= place["generation"]):
            lacking.setdefault(kept.stream, []).append(kept)
    for several in lacking.values():
        first = min(several, key=lambda kept: kept.order)
        which = f"{first.named} and {len(several) - 1} more are" if len(several) > 1 else f"{first.named} is"
        report.unloaded.append(f"{name}: {which} not loaded. Run load, and read what it says")


def _look(report: Status, name: str, target: Target, entity: str) -> None:
    try:
        target.check(entity)
    except Unreachable:
        raise
    except Refused as error:
        report.unloaded.append(f"{name}: {error}")


def _behind(entities: Sequence[dict[str, Any]], database: dict[str, Any], max_age: float, now: datetime) -> list[str]:
    """What a database holds less of than is here, and too old."""
    sentences = []
    for entity in entities:
        stream = f"{entity['tenant']}/{entity['entity']}"
        place = database["entities"].get(stream)
        if place is None:
            if database["tried_at"]:  # who was asked just now has said it
                sentences.append(f"{stream} is not in {database['database']}")
        elif (place["generation"], place["sequence"]) < (entity["generation"], entity["sequence"]):
            age = (now - instant(place["window_to"])).total_seconds()
            if age > max_age:
                sentences.append(f"{stream} in {database['database']} is {_age(age)} old, allowed are {_age(max_age)}")
    return sentences


def _sender(report: Status, feed: dict[str, Any], now: datetime) -> None:
    """Return what the last pull read of the sender's state, and what follows from the time since."""
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
    found = [_place(kept.manifest) for kept in held]
    # Deliveries may have been moved away after they were loaded. The position remembers them.
    if known := position.streams.get(f"{tenant}/{entity}"):
        found.append({name: known.get(name) for name in ("generation", "sequence", "delivery_id", "window_to", "snapshot_time")})
    facts = max(found, key=lambda place: (place["generation"], place["sequence"], place["window_to"] or ""))
    age, since_read = (round((now - instant(at)).total_seconds()) if at else 0 for at in (facts["window_to"], facts["snapshot_time"]))
    since_read = min(age, since_read)
    counts = {"deliveries": len(held), "bytes": sum(file.bytes for kept in held for file in kept.manifest.all_files)}
    ages = {"age_seconds": age, "ahead_seconds": max(0, -since_read), "ended": position.is_ended(tenant, entity)}
    return {"tenant": tenant, "entity": entity, **facts, **counts, **ages}


def _place(manifest: Manifest) -> dict[str, Any]:
    times = {"window_to": instant_text(manifest.end), "snapshot_time": instant_text(manifest.snapshot_time)}
    place = {"generation": manifest.generation, "sequence": manifest.sequence, "delivery_id": manifest.delivery_id}
    return {**place, **times}


def _since(entity: dict[str, Any]) -> str:
    """How old a copy is, and that the clocks differ where the sender read its rows later than now."""
    if entity["ahead_seconds"]:
        return f"read {_age(entity['ahead_seconds'])} ahead of this machine's clock: one of the clocks is wrong"
    return f"{_age(entity['age_seconds'])} ago{', delivered no more' if entity['ended'] else ''}"


def _age(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} second{'' if round(seconds) == 1 else 's'}"
