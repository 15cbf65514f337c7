"""What a folder of deliveries holds and how far it got: `.waybill-consumer.json`, which is replaced whole or not at all.

The files themselves are the truth, and the position makes a run cost only what is new. Without it, everything is looked at once more.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from waybill_consumer.errors import Refused
from waybill_consumer.folder.files import write_whole
from waybill_consumer.folder.lock import alone, is_at_work, is_pulled, stamp
from waybill_consumer.manifest import Manifest, instant_text, json_object, now_text
from waybill_consumer.own_files import LOCK, POSITION

FORMAT = 1
RECENT_DATES = 35
"""The number of the newest dates, which are always looked at, because late and repeated deliveries come there."""
SETTLE_SECONDS = 3.0
"""A folder's time has whole seconds on most servers. Only a second look, this long after the first, proves that it does not move."""
_SAVE_EVERY = 2.0
_DATED = re.compile(r"(.*)/(\d{4}/\d\d/\d\d)/([^/]+)(?:/.*)?\Z")
"""A tenant's folder, a date, and the folder of an entity."""
_NUMBERED = re.compile(r"\.g(\d{1,9})\.(\d{1,9})(?:\.r\d+)?\.manifest\.json\Z")
"""The generation and sequence in a manifest's name."""
_EVER = "1970-01-01T00:00:00.000000Z"


class Kept(NamedTuple):
    """A delivery that was fetched, as far as it has to be known when its files are gone. `content` is that of its manifest."""

    tenant: str
    entity: str
    generation: int
    sequence: int
    kind: str
    content: str

    @classmethod
    def of(cls, manifest: Manifest) -> Kept:
        place = manifest.generation, manifest.sequence, manifest.kind
        return cls(manifest.tenant, manifest.entity, *place, manifest.content)

    @property
    def stream(self) -> str:
        return f"{self.tenant}/{self.entity}"

    @property
    def order(self) -> tuple[int, bool, int]:
        """Its place in a sentence that names the first of several."""
        return self.generation, self.kind == "backfill", self.sequence

    @property
    def named(self) -> str:
        what = "a backfill" if self.kind == "backfill" else f"sequence {self.sequence}"
        return f"{what} of {self.stream} generation {self.generation}"


@dataclass
class Known:
    """What is known of one folder at the source: its stamp, the manifests held from it, and whether it need not be looked at again."""

    stamp: float | None = None
    is_settled: bool = False
    has_folders: bool = False
    held: set[str] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        flags = {"settled": self.is_settled, "folders": self.has_folders}
        return {"stamp": self.stamp, **{name: True for name, is_set in flags.items() if is_set}, "held": sorted(self.held)}


class Position:
    """The position of one folder. Changes are kept in memory, and saved every few seconds and by `save`."""

    def __init__(self, root: Path) -> None:
        self._path = root / POSITION
        self.trouble = ""
        """What is wrong with the file, in words. The next pull makes it again from what is there."""
        body = self._read()
        try:
            self._take(body)
        except (AttributeError, KeyError, TypeError, ValueError):
            self.trouble, body = "is damaged", {}
            self._take(body)
        self.exists = bool(body)
        self.knows_deliveries = "deliveries" in body
        """Whether `kept` is complete: an older version of this program did not write it."""
        self._saved = time.monotonic()

    def _take(self, body: dict[str, Any]) -> None:
        self.source = str(body.get("source", ""))
        self.only = [str(entity) for entity in body.get("only", ())]
        self.pulled_at = str(body.get("pulled_at", ""))
        self.looked_at = float(body.get("looked_at", 0.0))
        self.turn = str(body.get("turn", ""))
        self.streams: dict[str, dict[str, Any]] = {
            name: {**stream, "generation": int(stream["generation"]), "sequence": int(stream["sequence"])}
            for name, stream in body.get("streams", {}).items()
        }
        self.kept = {path: _kept(facts) for path, facts in body.get("deliveries", {}).items()}
        """By the paths of their manifests, the deliveries that were fetched."""
        self.lost = {path: _kept(facts) for path, facts in body.get("lost", {}).items()}
        """Those of them that are to be fetched once more."""
        self.once = bool(body.get("once", False))
        self.homes: dict[str, str] = {str(home): str(tenant) for home, tenant in body.get("homes", {}).items()}
        """By the folders that hold their years, the tenants."""
        self.problems: list[dict[str, str]] = [{name: str(text) for name, text in problem.items()} for problem in body.get("problems", [])]
        self.feeds: dict[str, dict[str, Any]] = {
            path: {**feed, "number": int(feed["number"]), "state": dict(feed["state"])} for path, feed in body.get("feeds", {}).items()
        }
        """By tenant's folder: how far its feed was read, what of it is not held, and what it says of the sender."""
        self.lost_feeds: dict[str, str] = {str(path): str(since) for path, since in body.get("lost_feeds", {}).items()}
        """By tenant's folder, since when a feed that was read before is missing or cannot be read."""
        self.began_at = str(body.get("began_at", ""))
        """When a pull began that did not end."""
        self.folders = {
            path: Known(folder.get("stamp"), folder.get("settled", False), folder.get("folders", False), set(folder.get("held", ())))
            for path, folder in body.get("folders", {}).items()
        }

    def _read(self) -> dict[str, Any]:
        try:
            body = json_object(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        format = body.get("format") if body is not None else None
        if isinstance(format, int) and format > FORMAT:
            step = "Use that version, or remove the file: the next pull looks at everything once more and fetches nothing that is here"
            raise Refused("was written by a newer version of this program", where=str(self._path), next_step=step)
        if body is None or format != FORMAT:
            self.trouble = "is damaged, or no position this program wrote"
            return {}
        return body

    def require(self) -> None:
        """Raises Refused where the file is damaged, or gone from a folder that `pull` keeps."""
        if self.trouble or (not self.exists and (self._path.parent / LOCK).exists() and not is_at_work(self._path.parent)):
            step = "Pull once more: it looks at everything, and fetches what is not here"
            raise Refused(self.trouble or "is no longer there", where=str(self._path), next_step=step)

    def begin(self, source: str, only: Sequence[str], *, once: bool = False) -> None:
        """Set what is pulled now. If that differs from before, everything is looked at once more."""
        self.once = once
        if self.source != source or self.only != sorted(only):
            for known in self.folders.values():
                known.is_settled = False
        if self.only != sorted(only):
            self.feeds = {}
        self.source, self.only = source, sorted(only)
        self.began_at = now_text()
        stamp(self._path.parent)

    def known(self, folder: str) -> Known:
        return self.folders.setdefault(folder, Known())

    def last(self, tenant: str, entity: str) -> tuple[int, int] | None:
        """Return generation and sequence of the newest delivery held of an entity's chain."""
        found = self.streams.get(f"{tenant}/{entity}")
        return None if found is None else (int(found["generation"]), int(found["sequence"]))

    def hold(self, folder: str, name: str, manifest: Manifest) -> None:
        """Remember that a whole delivery is here."""
        self.known(folder).held.add(name)
        path, kept = f"{folder}/{name}", Kept.of(manifest)
        self.kept[path] = kept
        self.homes.setdefault(home_of(folder), manifest.tenant)
        last = self.last(manifest.tenant, manifest.entity) or (0, 0)
        place = manifest.generation, manifest.sequence
        stream = kept.stream
        if manifest.kind != "backfill" and place == last:
            self.streams[stream]["sha256"] = sorted({*self.streams[stream].get("sha256", ()), manifest.sha256})
        if manifest.kind == "full" and manifest.generation > last[0]:
            self._free(path, kept)
        if manifest.kind != "backfill" and place > last:
            full = folder if manifest.kind == "full" else self.streams.get(stream, {}).get("full", "")
            self.streams[stream] = {
                "full": full,
                "generation": manifest.generation,
                "sequence": manifest.sequence,
                "delivery_id": manifest.delivery_id,
                "window_to": instant_text(manifest.end),
                "snapshot_time": instant_text(manifest.snapshot_time),
                "sha256": [manifest.sha256],
            }
        # What repeats it, or a newer history, makes up for what was lost.
        made_up_for = [other for other, lost in self.lost.items() if lost.content == kept.content or self.is_superseded(lost)]
        for other in made_up_for:
            del self.lost[other]
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def _free(self, path: str, full: Kept) -> None:
        """Forget names of older generations from the date of a full delivery on: a sender that was put back gives them out again."""
        later = [
            other
            for other, kept in self.kept.items()
            if other != path and kept.stream == full.stream and kept.generation < full.generation and date_of(other) >= date_of(path)
        ]
        for other in later:
            folder, _, name = other.rpartition("/")
            self.known(folder).held.discard(name)
            self.known(f"{home_of(folder)}/{date_of(other)}").is_settled = False
            del self.kept[other]

    def reach(self, places: Mapping[str, tuple[int, int]]) -> None:
        """Go on behind what databases are known to hold: its files may have been moved away before the position was lost."""
        for stream, (generation, sequence) in places.items():
            tenant, _, entity = stream.partition("/")
            if (generation, sequence) > (self.last(tenant, entity) or (0, 0)):
                self.streams[stream] = {"generation": generation, "sequence": sequence}

    def is_made_up_for(self, folder: str) -> bool:
        """Return whether a full delivery of a later date is held of the entity of a folder."""
        where = _DATED.match(folder)
        return where is not None and any(
            (full := _DATED.match(str(stream.get("full", "")))) is not None
            and (full[1], full[3]) == (where[1], where[3])
            and full[2] > where[2]
            for stream in self.streams.values()
        )

    def is_ended(self, tenant: str, entity: str) -> bool:
        """Return whether an entity is delivered no more: the sender's feed no longer names it, or `end` was told since it last came."""
        named = [feed["state"].get("entities") for feed in self.feeds.values() if feed["tenant"] == tenant]
        is_named = any(entity in names for names in named if isinstance(names, list))
        is_told = bool(self.streams.get(f"{tenant}/{entity}", {}).get("ended"))
        return not is_named and (is_told or any(isinstance(names, list) for names in named))

    def repeats(self, path: str, kept: Kept) -> bool:
        """Return whether the same rows are held under another path than that of this manifest."""
        return any((known.stream, known.content) == (kept.stream, kept.content) for other, known in self.kept.items() if other != path)

    def is_repeated(self, folder: str, name: str) -> bool:
        """Return whether what is held shows that the copy lacks nothing of a manifest that nobody can read.

        A chain is held without a gap, so whatever is held from the same date on comes after the first delivery of that date.
        """
        where = _DATED.match(folder)
        if where is None or f"{folder}/{name}" in self.lost:
            return False
        if folder != f"{where[1]}/{where[2]}/{where[3]}":  # a backfill has a folder of its own
            return any(path.rpartition("/")[0] == folder for path in self.kept)
        numbered = _NUMBERED.search(name)
        for path, kept in self.kept.items():
            beside = _DATED.match(path.rpartition("/")[0])
            if beside is None or (beside[1], beside[3]) != (where[1], where[3]) or kept.kind == "backfill":
                continue
            place = (int(numbered[1]), int(numbered[2])) if numbered else None
            if beside[2] >= where[2] if place is None else place <= (kept.generation, kept.sequence):
                return True
        return False

    def is_superseded(self, kept: Kept) -> bool:
        """Whether a newer full delivery holds what a delivery brought."""
        last = self.last(kept.tenant, kept.entity)
        return last is not None and kept.generation < last[0]

    def forget(self, manifest: str) -> None:
        """Forget a delivery that is no longer here. `manifest` is the path of its manifest below the folder."""
        folder, _, name = manifest.rpartition("/")
        if name not in self.known(folder).held:
            return
        self.known(folder).held.discard(name)
        if kept := self.kept.pop(manifest, None):
            self.lost[manifest] = kept
        for feed in self.feeds.values():
            feed["walked"] = _EVER  # a feed that was read does not name it again
        while folder:
            self.known(folder).is_settled = False
            folder = folder.rpartition("/")[0]

    def save(self) -> None:
        body = {
            "format": FORMAT,
            "source": self.source,
            **({"only": self.only} if self.only else {}),
            "pulled_at": self.pulled_at,
            "looked_at": self.looked_at,
            "turn": self.turn,
            **({"once": True} if self.once else {}),
            "homes": self.homes,
            "streams": self.streams,
            "deliveries": self.kept,
            **({"lost": self.lost} if self.lost else {}),
            "problems": self.problems,
            **({"feeds": self.feeds} if self.feeds else {}),
            **({"lost_feeds": self.lost_feeds} if self.lost_feeds else {}),
            **({"began_at": self.began_at} if self.began_at else {}),
            "folders": {path: known_file.as_json() for path, known_file in sorted(self.folders.items())},
        }
        write_whole(self._path, json.dumps(body, ensure_ascii=False).encode())
        self._saved = time.monotonic()


def end(root: Path, stream: str) -> bool:
    """Have the age of an entity (`tenant/entity`) count no longer, until something new of it comes. Return whether it is held.

    Raises Refused while a pull runs.
    """
    if not is_pulled(root):
        return False
    with alone(root):
        position = Position(root)
        position.require()
        held = position.streams.get(stream)
        if held is not None:
            held["ended"] = True
            position.save()
    return held is not None


def _kept(facts: Any) -> Kept:
    tenant, entity, generation, sequence, kind, content = facts
    return Kept(str(tenant), str(entity), int(generation), int(sequence), str(kind), str(content))


def home_of(folder: str) -> str:
    """The folder of a tenant's years that a delivery's folder stands in."""
    found = _DATED.match(folder)
    return found[1] if found else folder


def date_of(folder: str) -> str:
    """The date a path below a tenant's folder belongs to, as `2026/06/01`."""
    found = _DATED.match(folder)
    return found[2] if found else ""


def forget(root: Path, manifests: Sequence[str]) -> None:
    """Have the next pull fetch deliveries once more. The paths of their manifests name them.

    While a pull runs, this does nothing, because the pull would write over it. The next check finds the same damage.
    """
    if not manifests or not is_pulled(root):
        return
    with contextlib.suppress(Refused, OSError), alone(root):
        position = Position(root)
        if position.exists:
            for path in manifests:
                position.forget(path)
            position.save()
