"""`pull` fetches whole deliveries in the order of their chains, from a place into a folder, and no further than the first gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

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
from waybill_consumer.pull.explaining import Pulled, Stream, Unfetched, Waiting, explain, in_chain_order, is_made_up_for
from waybill_consumer.pull.fetching import discard, fetch
from waybill_consumer.pull.finding import Finder
from waybill_consumer.pull.histories import (
    ForeignDeliveries,
    homes_of,
    other_history,
    require_fitting,
    require_same_home,
    require_same_tenant,
    rewritten,
)
from waybill_consumer.pull.listing import Listings
from waybill_consumer.signatures import Key, Wrong
from waybill_consumer.verification import day_manifest

SMALL_BYTES, AHEAD_BYTES = 1 << 18, 1 << 24
"""The size of a small file, and how much of them is held in memory at once."""


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
            explain(work.report, work.found, finder, position, place, root, only)
            finder.settle()
            position.problems, position.pulled_at, position.began_at = work.report.problems, now_text(), ""
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


class Step(Enum):
    """What is to be done with a delivery that is not held."""

    FETCH = "fetch"
    LEAVE_OUT = "leave out"
    """A newer full delivery replaced the rows of its history."""
    WAIT = "wait"
    """Something before it is missing, or it failed before."""


class _Document(NamedTuple):
    """One of a date's lists, and the signature beside it if there is one."""

    data: bytes
    signature: bytes | None


class _Pull:
    """One run. `_step` and `_is_needless` decide what is to be done, and do nothing; what they decide on is in `found`."""

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
        self._ahead: dict[str, bytes] = {}
        """Small files that were asked for together and are not written yet, by path."""
        self.found = Unfetched()
        self.report = Pulled()

    def lost_here(self, listings: Listings) -> list[Date]:
        """What was fetched before and is lost on this disk, or stands for something else now, as far as it is still at the place."""
        self.found.others = rewritten(self._place, self._position)
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
            self.found.unheld.add(path)
            try:
                published = self._read(arrival)
            except Refused as error:
                error.where = error.where or f"{self._place.label}{path}"
                self.found.unreadable.append((arrival, error))
                continue
            require_same_home(self._homes, arrival.folder, published, label=self._place.label)
            require_same_tenant(self._position, arrival.folder, published, where=f"{self._place.label}{path}", is_moved=self._is_moved)
            if self._is_unwanted(published.entity):
                continue
            self.found.waiting[_stream_of(published)].append((arrival, published))
            streams.add(_stream_of(published))
        self._ahead = self._small_files(streams)
        self._progress.begin(date.folder[-10:], sum(manifest.bytes for _, manifest in self._all_waiting(streams)))
        for stream in sorted(streams):
            self._drain(stream)
        for arrival, wrong in self.found.unreadable:
            if arrival.folder.startswith(f"{date.folder}/") and is_made_up_for(self._position, arrival, wrong):
                self.found.unheld.discard(arrival.path)
                missing.remove(self._root, self._position, arrival.path)
        for name in date.day_manifests:
            self._day_manifest(date, name)

    def _read(self, arrival: Arrival) -> Manifest:
        data, signature = taken(arrival.data) or b"", taken(arrival.signature)
        if self._signers:
            signatures.require(data, signature, self._signers)
        return parse(data)

    def _small_files(self, streams: set[Stream]) -> dict[str, bytes]:
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

    def _all_waiting(self, streams: set[Stream]) -> list[Waiting]:
        return [pair for stream in streams for pair in self.found.waiting[stream]]

    def is_short(self) -> bool:
        """Return whether something that was found cannot be fetched: what belongs before it may be where nobody looked."""
        return any(self.found.waiting.values())

    def _drain(self, stream: Stream) -> None:
        """Fetch what follows what is held, and let the rest wait. A full delivery that begins a generation makes up for what waits before
        it.
        """
        before: chain.Position | None = (-1, -1)
        while self.found.waiting[stream] and before != (last := self._position.last(*stream)):
            before = last
            waiting = sorted(self.found.waiting[stream], key=in_chain_order)
            self.found.waiting[stream] = [pair for pair in waiting if not self._carried_out(*pair)]
        waiting, self.found.waiting[stream] = self.found.waiting[stream], []
        for arrival, manifest in waiting:
            if self._is_needless(arrival, manifest):
                self._do_without(arrival, manifest)
            else:
                self.found.waiting[stream].append((arrival, manifest))

    def _carried_out(self, arrival: Arrival, manifest: Manifest) -> bool:
        """Do what is to be done with a delivery now. Returns False if it has to wait."""
        match self._step(arrival, manifest):
            case Step.LEAVE_OUT:
                self._leave_out(arrival, manifest)
                return True
            case Step.FETCH:
                return self._fetch(arrival, manifest)
            case Refused() as error:
                self.found.failed[arrival.path] = error
        return False

    def _step(self, arrival: Arrival, manifest: Manifest) -> Step | Refused:
        """Return what is to be done with a delivery, or why it must not be fetched although it is next. Nothing is done here."""
        last = self._position.last(*_stream_of(manifest))
        where = "beside" if manifest.kind == "backfill" else chain.step(last, manifest)
        if where == "next" and (other := other_history(self._position, manifest)):
            return Refused(other, where=f"{self._place.label}{arrival.path}")
        if where == "behind" and last is not None and manifest.generation < last[0]:
            return Step.LEAVE_OUT
        return Step.WAIT if where == "gap" or arrival.path in self.found.failed else Step.FETCH

    def _is_needless(self, arrival: Arrival, manifest: Manifest) -> bool:
        """Return whether what is held makes up for a delivery that is damaged or gone at the place."""
        kept = Kept.of(manifest)
        if not isinstance(self.found.failed.get(arrival.path), Damaged):
            return False
        return self._position.repeats(arrival.path, kept) or self._position.is_superseded(kept) or self._loads.has(kept)

    def _leave_out(self, arrival: Arrival, manifest: Manifest) -> None:
        """Count a delivery as held without its files, and keep nothing that had come of them."""
        self._position.known(arrival.folder).held.add(arrival.name)
        discard(arrival, manifest, self._root)
        self.found.unheld.discard(arrival.path)

    def _do_without(self, arrival: Arrival, manifest: Manifest) -> None:
        """Leave out a delivery that failed, also where an earlier run had fetched it."""
        missing.remove(self._root, self._position, arrival.path)
        self._leave_out(arrival, manifest)
        failed = self.found.failed[arrival.path]
        self.report.notes.append(f"{failed.where} {failed.what}; a delivery that is held made up for it")

    def _fetch(self, arrival: Arrival, manifest: Manifest) -> bool:
        try:
            travelled = fetch(self._blocks, arrival, manifest, self._root, self._progress.add)
        except Unreachable:
            raise
        except Refused as error:  # one file that nobody can read stops its own entity
            self.found.failed[arrival.path] = Damaged(error.what, where=f"{self._place.label}{error.where.removeprefix(self._place.label)}")
            return False
        self._position.hold(arrival.folder, arrival.name, manifest)
        self.found.unheld.discard(arrival.path)
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
        """A date's list comes when everything that it lists is here."""
        try:
            if (document := self._read_list(date, name)) is None:
                return
            listed = _listed(name, document.data)
            gone = self._gone(date, document.data) if DAY_MANIFEST.match(name) else []
        except Wrong as error:
            self.report.add_problem("", Wrong(error.what, where=f"{self._place.label}{date.folder}/{name}", next_step="Ask the sender"))
            return
        except Refused as error:
            self.report.notes.append(f"{self._place.label}{date.folder}/{name} {error.what}")
            return
        if self._only and not all(path.partition("/")[0] in self._only for path in listed):
            return  # what it lists will not all be here
        if not gone and not any(f"{date.folder}/{path}" in self.found.unheld for path in listed):
            self._keep_list(date, name, document)

    def _read_list(self, date: Date, name: str) -> _Document | None:
        """Return one of a date's lists, or None if it is not there any more. Raises Refused, or Wrong for what no known key signed.

        Checksums carry no signature, because they follow from the day manifest.
        """
        path = f"{date.folder}/{name}"
        is_signed = DAY_MANIFEST.match(name) and (self._signers or f"{name}{signatures.SUFFIX}" in date.signatures)
        found = read_signatures(self._place, [path]).get(path) if is_signed else None
        answer = self._place.reads([path])[0]
        if answer is None:
            return None
        document = _Document(taken(answer) or b"", taken(found))
        if self._signers and is_signed:
            signatures.require(document.data, document.signature, self._signers)
        return document

    def _keep_list(self, date: Date, name: str, document: _Document) -> None:
        folder = self._root / date.folder.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        if document.signature is not None:
            write_whole(folder / f"{name}{signatures.SUFFIX}", document.signature)
        write_whole(folder / name, document.data)
        self._position.known(date.folder).held.add(name)

    def _gone(self, date: Date, data: bytes) -> list[str]:
        """Return manifests that a date's list names and that are not held. `found.gone` remembers those that are no longer there."""
        day, gone = day_manifest(data), []
        for entry in day["deliveries"]:
            path, stream = f"{date.folder}/{entry['manifest']}", (day["tenant"], str(entry["entity"]))
            folder, _, name = path.rpartition("/")
            known = self._position.folders.get(folder)
            last = self._position.last(*stream)
            is_past = last is not None and (entry["generation"], entry["sequence"]) <= last
            if is_past or path in self.found.unheld or (known is not None and name in known.held) or self._is_unwanted(stream[1]):
                continue
            if self._place.reads([path])[0] is None:
                self.found.gone[stream] = (entry["generation"], entry["sequence"], path)
            gone.append(path)
        return gone

    def _is_unwanted(self, entity: str) -> bool:
        return bool(self._only) and entity not in self._only


def _stream_of(manifest: Manifest) -> Stream:
    return manifest.tenant, manifest.entity


def _listed(name: str, data: bytes) -> list[str]:
    """Return the manifests that one of a date's lists names, relative to its folder. Raises Refused if it is no such list."""
    if SUMS.match(name):
        return [line.partition("  ")[2] for line in data.decode(errors="replace").splitlines()]
    return [str(entry["manifest"]) for entry in day_manifest(data)["deliveries"]]
