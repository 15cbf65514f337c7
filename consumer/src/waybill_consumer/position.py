"""What a folder of deliveries holds and how far it got: `.waybill-consumer.json`, replaced whole or not at all.

The files themselves are the truth; the position makes a run cost what is new. Without it everything is looked at once more.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from waybill_consumer.errors import Refused
from waybill_consumer.manifest import Manifest, instant_text, json_object
from waybill_consumer.verification import LOCK, POSITION

FORMAT = 1
SETTLE_SECONDS = 3.0
"""A folder's time has whole seconds on most servers: only a second look, this long after the first, proves that it stands still."""
_SAVE_EVERY = 2.0
_DATED = re.compile(r"(.*)/(\d{4}/\d\d/\d\d)/([^/]+)(?:/.*)?\Z")
"""A tenant's folder, a date, and the folder of an entity."""
_NO_LOCKS = errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS
"""What file systems answer that know no locks: the cron line itself must then see to one pull at a time."""


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
    """The position of one folder. Changes are kept in memory and saved every few seconds, and by `save`."""

    def __init__(self, root: Path) -> None:
        self._path = root / POSITION
        body = self._read()
        self.exists = bool(body)
        try:
            self._take(body)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._strange() from None
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
        self.problems: list[dict[str, str]] = [{name: str(said) for name, said in problem.items()} for problem in body.get("problems", [])]
        self.feeds: dict[str, dict[str, Any]] = {
            path: {**feed, "number": int(feed["number"]), "state": dict(feed["state"])} for path, feed in body.get("feeds", {}).items()
        }
        """By tenant's folder: how far its feed was read, what of it is not held, and what it says of the sender."""
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
            raise self._strange()
        return body

    def _strange(self) -> Refused:
        step = "Remove it: the next pull looks at everything once more and fetches nothing that is here"
        return Refused("is damaged, or no position this program wrote", where=str(self._path), next_step=step)

    def begin(self, source: str, only: Sequence[str]) -> None:
        """What is pulled now. Where that is something else than before, everything is looked at once more."""
        if self.source != source or self.only != sorted(only):
            for known in self.folders.values():
                known.is_settled = False
        if self.only != sorted(only):
            self.feeds = {}
        self.source, self.only = source, sorted(only)

    def known(self, folder: str) -> Known:
        return self.folders.setdefault(folder, Known())

    def last(self, tenant: str, entity: str) -> tuple[int, int] | None:
        """Generation and sequence of the newest delivery held of an entity's chain."""
        found = self.streams.get(f"{tenant}/{entity}")
        return None if found is None else (int(found["generation"]), int(found["sequence"]))

    def hold(self, folder: str, name: str, manifest: Manifest) -> None:
        """Remember that a delivery is here whole."""
        self.known(folder).held.add(name)
        if manifest.kind != "backfill" and (manifest.generation, manifest.sequence) > (
            self.last(manifest.tenant, manifest.entity) or (0, 0)
        ):
            stream = f"{manifest.tenant}/{manifest.entity}"
            full = folder if manifest.kind == "full" else self.streams.get(stream, {}).get("full", "")
            self.streams[stream] = {
                "full": full,
                "generation": manifest.generation,
                "sequence": manifest.sequence,
                "delivery_id": manifest.delivery_id,
                "window_to": instant_text(manifest.end),
                "snapshot_time": instant_text(manifest.snapshot_time),
            }
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def is_made_up_for(self, folder: str) -> bool:
        """Whether a full delivery of a later date is held of the entity a folder belongs to."""
        where = _DATED.match(folder)
        return where is not None and any(
            (full := _DATED.match(str(stream.get("full", "")))) is not None
            and (full[1], full[3]) == (where[1], where[3])
            and full[2] > where[2]
            for stream in self.streams.values()
        )

    def forget(self, manifest: str) -> None:
        """A delivery is here no longer. `manifest` is the path of its manifest below the folder."""
        folder, _, name = manifest.rpartition("/")
        if name in self.known(folder).held:
            self.known(folder).held.discard(name)
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
            "streams": self.streams,
            "problems": self.problems,
            **({"feeds": self.feeds} if self.feeds else {}),
            "folders": {path: known_file.as_json() for path, known_file in sorted(self.folders.items())},
        }
        write_whole(self._path, json.dumps(body, ensure_ascii=False, indent=1).encode())
        self._saved = time.monotonic()


def forget(root: Path, manifests: Sequence[str]) -> None:
    """Have the next pull fetch deliveries once more, named by the paths of their manifests.

    While a pull runs this does nothing, as the pull would write over it: the next check finds the same damage.
    """
    with contextlib.suppress(Refused, OSError), alone(root):
        position = Position(root)
        if position.exists:
            for path in manifests:
                position.forget(path)
            position.save()


def is_pulled(root: Path) -> bool:
    """Whether `pull` keeps this folder."""
    return (root / POSITION).exists()


def write_whole(path: Path, data: bytes) -> None:
    """A small file, complete under its name or not there."""
    part = path.with_name(f".{path.name.lstrip('.')}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def now_text() -> str:
    return instant_text(datetime.now(timezone.utc))


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """One pull at a time for a folder. Raises Refused when another one runs."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    # A file opened for writing: a folder cannot be locked on NFS.
    handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another pull into this folder is running", where=str(root), next_step="Let it end") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)
