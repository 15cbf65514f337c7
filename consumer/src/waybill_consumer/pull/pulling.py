"""`pull` fetches whole deliveries in the order of their chains, from a place into a folder, and no further than the first gap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waybill_consumer import chain, signatures
from waybill_consumer.errors import Damaged, Refused, Unreachable
from waybill_consumer.folder import missing
from waybill_consumer.folder.files import write_whole
from waybill_consumer.folder.holdings import adopt
from waybill_consumer.folder.last_loads import Loads
from waybill_consumer.folder.lock import alone
from waybill_consumer.folder.position import Kept, Position, date_of, home_of
from waybill_consumer.manifest import DAY_MANIFEST, SUMS, Manifest, now_text, parse
from waybill_consumer.own_files import POSITION
from waybill_consumer.places import Place, taken
from waybill_consumer.progress import Progress
from waybill_consumer.pull.arrivals import Arrival, Date, read_signatures
from waybill_consumer.pull.fetching import discard, fetch
from waybill_consumer.pull.finding import Finder
from waybill_consumer.pull.histories import (
    OTHER_HISTORY_STEP,
    ForeignDeliveries,
    homes_of,
    nothing_left,
    other_history,
    require_fitting,
    require_same_home,
    require_same_tenant,
)
from waybill_consumer.pull.listing import Listings
from waybill_consumer.signatures import Key, Wrong
from waybill_consumer.verification import day_manifest

SMALL_BYTES, AHEAD_BYTES = 1 << 18, 1 << 24
"""The size of a small file, and how much of them is held in memory at once."""
Waiting = tuple[Arrival, Manifest]


@dataclass
class Pulled:
    """What a run did. If there are `problems`, something is missing, and a person should look."""

    fetched: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0
    problems: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        done = {"done": not self.problems, "deliveries": len(self.fetched), "bytes": self.bytes}
        return {**done, "fetched": self.fetched, "problems": self.problems, "notes": self.notes}


def pull(
    place: Place,
    source: str,
    root: Path,
    progress: Progress,
    *,
    rescan: bool = False,
    signers: Sequence[Key] = (),
    only: Sequence[str] = (),
    once: bool = False,
) -> Pulled:
    """Fetch what is new at `place` into `root`; with `signers` only what one of them signed, with `only` only these entities.

    What was fetched and is lost here is fetched once more, unless a database is known to hold it; with `once` it never is.

    Raises Unreachable when the place stops answering; what was fetched stays. Raises Refused for deliveries of another tenant or history.
    """
    root.mkdir(parents=True, exist_ok=True)
    with alone(root):
        position = Position(root)
        before = position.source
        require_fitting(place, source, position)
        position.begin(source, only, once=once)
        _learn(root, position, signers)
        homes = {} if before == source else homes_of(position)
        work = _Pull(place, root, position, progress, signers, only, homes, is_moved=before not in ("", source))
        if position.trouble:
            work.report.notes.append(f"{root}/{POSITION} {position.trouble}: everything was looked at once more")
        position.save()
        finder = Finder(place, position, rescan=rescan, signed=bool(signers), only=only, is_short=work.is_short)
        try:
            for date in work.lost_here(finder.listings):
                work.date(date)
            for date in finder.dates():
                work.date(date)
            work.conclude(finder)
            finder.settle()
            position.pulled_at, position.began_at = now_text(), ""
        except ForeignDeliveries:
            position.source = before
            raise
        finally:
            progress.end()
            position.save()
    return work.report


def _learn(root: Path, position: Position, signers: Sequence[Key]) -> None:
    """What is here, where the position is lost, damaged or of an older version of this program."""
    if not position.knows_deliveries:
        adopt(root, position, signers)
        position.reach(Loads(root).reached())


class _Pull:
    def __init__(
        self,
        place: Place,
        root: Path,
        position: Position,
        progress: Progress,
        signers: Sequence[Key],
        only: Sequence[str],
        homes: Mapping[str, str],
        *,
        is_moved: bool,
    ) -> None:
        self._place = place
        self._root = root
        self._position = position
        self._progress = progress
        self._signers = signers
        self._only = only
        self._homes = homes
        self._is_moved = is_moved
        self._loads = Loads(root)
        self._seen: set[str] = set()
        self._unreadable: list[tuple[Arrival, Refused]] = []
        self._waiting: dict[tuple[str, str], list[Waiting]] = defaultdict(list)
        self._failed: dict[str, Refused] = {}
        self._unheld: set[str] = set()
        self._ahead: dict[str, bytes] = {}
        self._lost: dict[tuple[str, str], tuple[int, int, str]] = {}
        """By stream, the newest delivery that a date's list names and that is no longer there."""
        self.report = Pulled()

    def lost_here(self, listings: Listings) -> list[Date]:
        """What was fetched before and is lost on this disk, as far as it is still at the place."""
        for path in [*missing.find(self._root, self._position)]:
            self._position.forget(path)
        wanted = [path for path, kept in self._position.lost.items() if not self._is_unwanted(kept.entity)]
        dates: dict[str, Date] = {}
        kept = read_signatures(self._place, wanted)
        for path, data in zip(wanted, self._place.reads(wanted) if wanted else (), strict=True):
            folder, _, name = path.rpartition("/")
            date = f"{home_of(folder)}/{date_of(path)}"
            if data is None and (manifest := missing.put_back(self._root, path)):
                self._position.hold(folder, name, manifest)
            elif data is not None:
                dates.setdefault(date, Date(date)).arrivals.append(Arrival(folder, name, data, kept.get(path)))
        if wanted:
            one = "a delivery that was lost here is" if len(wanted) == 1 else f"{len(wanted)} deliveries that were lost here are"
            self.report.notes.append(f"{one} fetched once more")
        for date in missing.lists_gone(self._root, self._position):
            dates.setdefault(date, Date(date))
        for date, entries in zip(dates, listings.lists([*dates]), strict=True):
            held = self._position.known(date).held
            held -= {name for name in held if not (self._root / date.lstrip("/") / name).exists()}
            dates[date].lists({entry.name for entry in entries or () if not entry.is_folder}, held)
        return [dates[date] for date in sorted(dates, key=lambda path: path[-10:])]

    def date(self, date: Date) -> None:
        """Add what a date holds, and fetch what is next now."""
        streams = set()
        for arrival in date.arrivals:
            path = arrival.path
            if path in self._seen:  # a feed named it, and a walk came by, too
                continue
            self._seen.add(path)
            self._unheld.add(path)
            try:
                published = self._read(arrival)
            except Refused as error:
                error.where = error.where or f"{self._place.label}{path}"
                self._unreadable.append((arrival, error))
                continue
            require_same_home(self._homes, arrival.folder, published, label=self._place.label)
            require_same_tenant(self._position, arrival.folder, published, where=f"{self._place.label}{path}", is_moved=self._is_moved)
            if self._is_unwanted(published.entity):
                continue
            self._waiting[published.tenant, published.entity].append((arrival, published))
            streams.add((published.tenant, published.entity))
        self._ahead = self._small_files(streams)
        self._progress.begin(date.folder[-10:], sum(manifest.bytes for _, manifest in self._all_waiting(streams)))
        for stream in sorted(streams):
            self._drain(stream)
        for arrival, wrong in self._unreadable:
            if arrival.folder.startswith(f"{date.folder}/") and self._is_made_up_for(arrival, wrong):
                self._unheld.discard(arrival.path)
                missing.remove(self._root, self._position, arrival.path)
        for name in date.day_manifests:
            self._day_manifest(date, name)

    def _read(self, arrival: Arrival) -> Manifest:
        data, signature = taken(arrival.data) or b"", taken(arrival.signature)
        if self._signers:
            signatures.require(data, signature, self._signers)
        return parse(data)

    def _small_files(self, streams: set[tuple[str, str]]) -> dict[str, bytes]:
        """Ask for all the date's small files at once. One by one, each would cost some trips to the server."""
        wanted: list[str] = []
        budget = AHEAD_BYTES
        for arrival, manifest in self._all_waiting(streams):
            for file in manifest.all_files:
                if file.bytes <= min(SMALL_BYTES, budget) and not (self._root / arrival.folder.lstrip("/") / file.path).exists():
                    wanted.append(f"{arrival.folder}/{file.path}")
                    budget -= file.bytes
        found = zip(wanted, self._place.reads(wanted), strict=True) if wanted else ()
        return {path: data for path, data in found if isinstance(data, bytes)}

    def _blocks(self, path: str, start: int) -> Iterator[bytes]:
        data = self._ahead.pop(path, None)
        return self._place.blocks(path, start) if data is None else iter([data[start:]])

    def _all_waiting(self, streams: set[tuple[str, str]]) -> list[Waiting]:
        return [pair for stream in streams for pair in self._waiting[stream]]

    def is_short(self) -> bool:
        """Return whether something that was found cannot be fetched: what belongs before it may be where nobody looked."""
        return any(self._waiting.values())

    def _drain(self, stream: tuple[str, str]) -> None:
        """Fetch what follows what is held, and let the rest wait. A full delivery that begins a generation makes up for what waits before
        it.
        """
        before: chain.Position | None = (-1, -1)
        while self._waiting[stream] and before != (last := self._position.last(*stream)):
            before = last
            self._fetch_next(stream)
        self._waiting[stream] = [pair for pair in self._waiting[stream] if not self._is_needless(*pair)]

    def _fetch_next(self, stream: tuple[str, str]) -> None:
        left = []
        for arrival, manifest in sorted(self._waiting[stream], key=_in_chain_order):
            last = self._position.last(*stream)
            where = "beside" if manifest.kind == "backfill" else chain.step(last, manifest)
            if where == "next" and (other := other_history(self._position, manifest)):
                self._failed[arrival.path] = Refused(other, where=f"{self._place.label}{arrival.path}")
            if where == "behind" and last is not None and manifest.generation < last[0]:
                # A newer full delivery replaced the rows of this history.
                self._position.known(arrival.folder).held.add(arrival.name)
                discard(arrival, manifest, self._root)
            elif where == "gap" or arrival.path in self._failed or not self._fetch(arrival, manifest):
                left.append((arrival, manifest))
                continue
            self._unheld.discard(arrival.path)
        self._waiting[stream] = left

    def _is_needless(self, arrival: Arrival, manifest: Manifest) -> bool:
        """Return whether what is held makes up for a delivery that is damaged or gone at the place. Nothing is kept of it then."""
        path, kept = arrival.path, Kept.of(manifest)
        if not isinstance(self._failed.get(path), Damaged):
            return False
        if not (self._position.repeats(path, kept) or self._position.is_superseded(kept) or self._loads.has(kept)):
            return False
        self._position.known(arrival.folder).held.add(arrival.name)
        missing.remove(self._root, self._position, path)
        discard(arrival, manifest, self._root)
        self._unheld.discard(path)
        self.report.notes.append(f"{self._failed[path].where} {self._failed[path].what}; a delivery that is held made up for it")
        return True

    def _is_made_up_for(self, arrival: Arrival, error: Refused) -> bool:
        folder, name, *_ = arrival
        if isinstance(error, Wrong):
            return self._is_held_otherwise(arrival)
        return self._position.is_made_up_for(folder) or self._position.is_repeated(folder, name)

    def _is_held_otherwise(self, arrival: Arrival) -> bool:
        """Return whether the rows of a manifest whose signature does not count came under another one, or a newer history did."""
        try:
            kept = Kept.of(parse(taken(arrival.data) or b""))
        except Refused:
            return False
        return self._position.repeats(arrival.path, kept) or self._position.is_superseded(kept)

    def _fetch(self, arrival: Arrival, manifest: Manifest) -> bool:
        try:
            travelled = fetch(self._blocks, arrival, manifest, self._root, self._progress.add)
        except Unreachable:
            raise
        except Refused as error:  # one file that nobody can read stops its own entity
            self._failed[arrival.path] = Damaged(error.what, where=f"{self._place.label}{error.where.removeprefix(self._place.label)}")
            return False
        self._position.hold(arrival.folder, arrival.name, manifest)
        facts = {
            "entity": manifest.entity,
            "generation": manifest.generation,
            "sequence": manifest.sequence,
            "kind": manifest.kind,
            "rows": manifest.rows,
            "manifest": arrival.path.lstrip("/"),
        }
        self.report.fetched.append({"delivery_id": manifest.delivery_id, "tenant": manifest.tenant, **facts})
        self.report.bytes += travelled
        return True

    def _day_manifest(self, date: Date, name: str) -> None:
        """A date's list comes when everything that it lists is here. Checksums carry no signature, because they follow from the day
        manifest.
        """
        path, folder = f"{date.folder}/{name}", self._root / date.folder.lstrip("/")
        is_signed = DAY_MANIFEST.match(name) and (self._signers or f"{name}{signatures.SUFFIX}" in date.signatures)
        found = read_signatures(self._place, [path]).get(path) if is_signed else None
        answer = self._place.reads([path])[0]
        if answer is None:
            return
        try:
            data, signature = taken(answer) or b"", taken(found)
            if self._signers and is_signed:
                signatures.require(data, signature, self._signers)
            listed = _listed(name, data)
            gone = self._gone(date, data) if DAY_MANIFEST.match(name) else []
        except Wrong as error:
            self._problem("", Wrong(error.what, where=f"{self._place.label}{path}", next_step="Ask the sender"))
            return
        except Refused as error:
            self.report.notes.append(f"{self._place.label}{path} {error.what}")
            return
        if self._only and not all(path.partition("/")[0] in self._only for path in listed):
            return  # what it lists will not all be here
        if not gone and not any(f"{date.folder}/{path}" in self._unheld for path in listed):
            folder.mkdir(parents=True, exist_ok=True)
            if signature is not None:
                write_whole(folder / f"{name}{signatures.SUFFIX}", signature)
            write_whole(folder / name, data)
            self._position.known(date.folder).held.add(name)

    def _gone(self, date: Date, data: bytes) -> list[str]:
        """Return manifests that a date's list names, that are not held and no longer there."""
        day, gone = day_manifest(data), []
        for entry in day["deliveries"]:
            path, stream = f"{date.folder}/{entry['manifest']}", (day["tenant"], str(entry["entity"]))
            folder, _, name = path.rpartition("/")
            known = self._position.folders.get(folder)
            last = self._position.last(*stream)
            is_past = last is not None and (entry["generation"], entry["sequence"]) <= last
            if is_past or path in self._unheld or (known is not None and name in known.held) or self._is_unwanted(stream[1]):
                continue
            if self._place.reads([path])[0] is None:
                self._lost[stream] = (entry["generation"], entry["sequence"], path)
            gone.append(path)
        return gone

    def _is_unwanted(self, entity: str) -> bool:
        return bool(self._only) and entity not in self._only

    def conclude(self, finder: Finder) -> None:
        """Say what could not be fetched, and why."""
        self.report.notes += finder.notes
        unlisted = finder.listings.problems()
        self.report.problems += [error.as_problem("") for error in unlisted]
        if not finder.has_dates and not unlisted:
            self._nothing_there()
        for arrival, error in self._unreadable:
            if self._is_made_up_for(arrival, error):
                what = "newer full delivery" if self._position.is_made_up_for(arrival.folder) else "delivery that is held"
                self.report.notes.append(f"{error.where} {error.what}; a {what} made up for it")
            else:
                step = "Ask the sender: nothing of its entity comes after it, until a full load"
                self._problem("", Refused(error.what, where=error.where, next_step=step))
        for stream, waiting in sorted(self._waiting.items()):
            if waiting:
                self._explain(stream, sorted(waiting, key=_in_chain_order))
        known = {problem["entity"] for problem in self.report.problems}
        for entity, error in (*self._taken_away(), *finder.taken_away()):
            if entity not in known:
                self._problem(entity, error)
                known.add(entity)
        for path, kept in missing.still_lost(self._root, self._position):
            if kept.stream not in known and not self._is_unwanted(kept.entity):
                self._problem(kept.stream, _lost_for_good(path, kept, self._place.label))
        if finder.entities and not unlisted:
            self._name_unknown(finder.entities)
        self._position.problems = self.report.problems

    def _name_unknown(self, entities: set[str]) -> None:
        """Say which of the entities that were asked for are not there."""
        held = {stream.partition("/")[2] for stream in self._position.streams}
        for entity in self._only:
            if entity not in entities | held:
                there = f"There are: {', '.join(sorted(entities))}"
                self._problem("", Refused(f"there is no entity {entity} at {self._place.label}", next_step=there))

    def _nothing_there(self) -> None:
        if self._position.kept:
            self._problem("", nothing_left(self._place, self._position))
        else:
            self.report.notes.append(f"{self._place.label} holds no deliveries yet")

    def _taken_away(self) -> Iterator[tuple[str, Refused]]:
        for stream, (generation, sequence, path) in sorted(self._lost.items()):
            if (generation, sequence) > (self._position.last(*stream) or (0, 0)):
                what = f"is no longer there, and the list of its date names it: sequence {sequence} of {'/'.join(stream)}"
                step = "Ask the sender to redeliver it, or for a full load, which starts a new generation"
                yield "/".join(stream), Refused(f"{what} generation {generation}", where=f"{self._place.label}{path}", next_step=step)

    def _explain(self, stream: tuple[str, str], waiting: list[Waiting]) -> None:
        name = "/".join(stream)
        last = self._position.last(*stream)
        for arrival, published in waiting:
            if error := self._failed.get(arrival.path):
                rest = "" if published.kind == "backfill" else f"; {name} stays as it was before sequence {published.sequence}"
                step = f"Pull again; if it is still so, ask the sender to run `waybill redeliver {published.delivery_id}`"
                if not isinstance(error, Damaged):
                    step = OTHER_HISTORY_STEP
                self._problem(name, Refused(f"{error.what}{rest}", where=error.where, next_step=step))
        whole = [manifest for arrival, manifest in waiting if arrival.path not in self._failed]
        first = next((manifest for manifest in whole if manifest.kind != "backfill"), None)
        stuck = any(manifest.kind != "backfill" and chain.step(last, manifest) == "next" for _, manifest in waiting)
        if first is not None and not stuck:
            what = f"{chain.gap(last, first)} at {self._place.label}, so sequence {first.sequence} and what follows was not fetched"
            step = (
                "It may still come. If it was taken away before you pulled it, as old files are in time, or stays away, "
                "ask the sender to redeliver it, or for a full load, which starts a new generation"
            )
            self._problem(name, Refused(what, next_step=step))

    def _problem(self, entity: str, error: Refused) -> None:
        self.report.problems.append(error.as_problem(entity))


def _lost_for_good(path: str, kept: Kept, label: str) -> Refused:
    again = "ask the sender to redeliver it, or for a full load, which starts a new generation"
    what = f"{kept.named} was fetched, is no longer here, and is no longer at {label}"
    return Refused(what, next_step=f"Put {path.lstrip('/')} and its files back, or {again}")


def _listed(name: str, data: bytes) -> list[str]:
    """Return the manifests that one of a date's lists names, relative to its folder. Raises Refused if it is no such list."""
    if SUMS.match(name):
        return [line.partition("  ")[2] for line in data.decode(errors="replace").splitlines()]
    return [str(entry["manifest"]) for entry in day_manifest(data)["deliveries"]]


def _in_chain_order(waiting: Waiting) -> tuple[int, int, bool, str]:
    manifest = waiting[1]
    return manifest.generation, manifest.sequence, manifest.redelivers is not None, waiting[0].path
