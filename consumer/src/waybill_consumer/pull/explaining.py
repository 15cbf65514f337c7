"""Says what a pull found and could not fetch, and why. Nothing here fetches, keeps or removes anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waybill_consumer import chain
from waybill_consumer.errors import Damaged, Refused
from waybill_consumer.folder import missing
from waybill_consumer.folder.position import Kept, Position
from waybill_consumer.manifest import Manifest, parse
from waybill_consumer.places import Place, taken
from waybill_consumer.pull.arrivals import Arrival
from waybill_consumer.pull.finding import Finder
from waybill_consumer.pull.histories import OTHER_HISTORY_STEP, nothing_left, went_back
from waybill_consumer.signatures import Wrong

Waiting = tuple[Arrival, Manifest]
Stream = tuple[str, str]
"""A tenant and an entity."""


@dataclass
class Pulled:
    """What a run did. If there are `problems`, something is missing, and a person should look."""

    fetched: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0
    problems: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_problem(self, entity: str, error: Refused) -> None:
        self.problems.append(error.as_problem(entity))

    def as_json(self) -> dict[str, Any]:
        done = {"done": not self.problems, "deliveries": len(self.fetched), "bytes": self.bytes}
        return {**done, "fetched": self.fetched, "problems": self.problems, "notes": self.notes}


@dataclass
class Unfetched:
    """What was found and is not held here."""

    waiting: dict[Stream, list[Waiting]] = field(default_factory=lambda: defaultdict(list))
    """By stream, what follows something that is missing, and what failed."""
    failed: dict[str, Refused] = field(default_factory=dict)
    """By the path of its manifest, why a delivery was not fetched although it was next."""
    unreadable: list[tuple[Arrival, Refused]] = field(default_factory=list)
    """Manifests that are damaged, or that no known key signed."""
    unheld: set[str] = field(default_factory=set)
    """The paths of all manifests of this run that are not held. The list of their date waits for them."""
    gone: dict[Stream, tuple[int, int, str]] = field(default_factory=dict)
    """The generation, sequence and manifest of the newest delivery that a date's list names and that is no longer there."""
    others: list[tuple[str, Kept]] = field(default_factory=list)
    """By the path of its manifest, what is here and is another delivery at the place now."""


def in_chain_order(waiting: Waiting) -> tuple[int, int, bool, str]:
    manifest = waiting[1]
    return manifest.generation, manifest.sequence, manifest.redelivers is not None, waiting[0].path


def is_made_up_for(position: Position, arrival: Arrival, error: Refused) -> bool:
    """Return whether the rows of a manifest that cannot be read came otherwise."""
    if isinstance(error, Wrong):
        return _is_held_otherwise(position, arrival)
    return position.is_made_up_for(arrival.folder) or position.is_repeated(arrival.folder, arrival.name)


def _is_held_otherwise(position: Position, arrival: Arrival) -> bool:
    """Return whether the rows of a manifest whose signature does not count came under another one, or a newer history did."""
    try:
        kept = Kept.of(parse(taken(arrival.data) or b""))
    except Refused:
        return False
    return position.repeats(arrival.path, kept) or position.is_superseded(kept)


def explain(report: Pulled, found: Unfetched, finder: Finder, position: Position, place: Place, root: Path, only: Sequence[str]) -> None:
    """Add to the report what could not be fetched, and why."""
    report.notes += finder.notes
    unlisted = finder.listings.problems()
    for error in unlisted:
        report.add_problem("", error)
    is_empty = not finder.has_dates and not unlisted
    if is_empty and position.kept:
        report.add_problem("", nothing_left(place, position))
    elif is_empty:
        report.notes.append(f"{place.label} holds no deliveries yet")
    _manifests(report, found, position)
    for stream, waiting in sorted(found.waiting.items()):
        for error in _of_stream(stream, sorted(waiting, key=in_chain_order), found, position, place.label) if waiting else ():
            report.add_problem("/".join(stream), error)
    for path, kept in [other for other in found.others if not position.is_superseded(other[1])][:1]:
        report.add_problem(kept.stream, went_back(place.label, path, kept))
    known = {problem["entity"] for problem in report.problems}
    for entity, error in (*_taken_away(found, position, place.label), *finder.taken_away()):
        if entity not in known:
            report.add_problem(entity, error)
            known.add(entity)
    for path, kept in missing.still_lost(root, position):
        if kept.stream not in known and not (only and kept.entity not in only):
            report.add_problem(kept.stream, _lost_for_good(path, kept, place.label))
    if finder.entities and not unlisted:
        _name_unknown(report, finder.entities, position, place, only)


def _manifests(report: Pulled, found: Unfetched, position: Position) -> None:
    for arrival, error in found.unreadable:
        if is_made_up_for(position, arrival, error):
            what = "newer full delivery" if position.is_made_up_for(arrival.folder) else "delivery that is held"
            report.notes.append(f"{error.where} {error.what}; a {what} made up for it")
        else:
            step = "Ask the sender: nothing of its entity comes after it, until a full load"
            report.add_problem("", Refused(error.what, where=error.where, next_step=step))


def _name_unknown(report: Pulled, entities: set[str], position: Position, place: Place, only: Sequence[str]) -> None:
    """Say which of the entities that were asked for are not there."""
    held = {stream.partition("/")[2] for stream in position.streams}
    for entity in only:
        if entity not in entities | held:
            there = f"There are: {', '.join(sorted(entities))}"
            report.add_problem("", Refused(f"there is no entity {entity} at {place.label}", next_step=there))


def _taken_away(found: Unfetched, position: Position, label: str) -> Iterator[tuple[str, Refused]]:
    for stream, (generation, sequence, path) in sorted(found.gone.items()):
        if (generation, sequence) > (position.last(*stream) or (0, 0)):
            what = f"is no longer there, and the list of its date names it: sequence {sequence} of {'/'.join(stream)}"
            step = "Ask the sender to redeliver it, or for a full load, which starts a new generation"
            yield "/".join(stream), Refused(f"{what} generation {generation}", where=f"{label}{path}", next_step=step)


def _of_stream(stream: Stream, waiting: list[Waiting], found: Unfetched, position: Position, label: str) -> Iterator[Refused]:
    last = position.last(*stream)
    for arrival, published in waiting:
        if error := found.failed.get(arrival.path):
            rest = "" if published.kind == "backfill" else f"; {'/'.join(stream)} stays as it was before sequence {published.sequence}"
            step = f"Pull again; if it is still so, ask the sender to run `waybill redeliver {published.delivery_id}`"
            if not isinstance(error, Damaged):
                step = OTHER_HISTORY_STEP
            yield Refused(f"{error.what}{rest}", where=error.where, next_step=step)
    whole = [manifest for arrival, manifest in waiting if arrival.path not in found.failed]
    first = next((manifest for manifest in whole if manifest.kind != "backfill"), None)
    stuck = any(manifest.kind != "backfill" and chain.step(last, manifest) == "next" for _, manifest in waiting)
    if first is not None and not stuck:
        what = f"{chain.gap(last, first)} at {label}, so sequence {first.sequence} and what follows was not fetched"
        step = (
            "It may still come. If it was taken away before you pulled it, as old files are in time, or stays away, "
            "ask the sender to redeliver it, or for a full load, which starts a new generation"
        )
        yield Refused(what, next_step=step)


def _lost_for_good(path: str, kept: Kept, label: str) -> Refused:
    again = "ask the sender to redeliver it, or for a full load, which starts a new generation"
    what = f"{kept.named} was fetched, is no longer here, and is no longer at {label}"
    return Refused(what, next_step=f"Put {path.lstrip('/')} and its files back, or {again}")
