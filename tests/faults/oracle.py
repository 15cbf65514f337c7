"""The one judge of every fault: what may never be seen while it lasts, and what must be true after recovery.

(a) a reader that polls the destination never sees an incomplete file, nor one that changes; (b) manifests equal their files; (c) all
deliveries together are the source, each version once; (d) sequences and windows have no hole; (e) housekeeping leaves no part behind;
(f) a message says who, what, where, why and what to do; (g) no planted secret in any log, table or file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.copies import Copy
from tests.faults.consumer import Delivered, Incomplete, Row, deliveries, parse
from waybill_consumer.errors import Refused
from waybill_consumer.signatures import Key, require

PLANTED = "PLANTED-Secret-5f0c"
TWO_DAYS = 2 * 86_400
FEED, README = "feed.json", "_README.txt"


class Watcher:
    """(a): reads every visible file over and over while the block lasts; `violations` is complete after it."""

    def __init__(self, out: Path, signers: tuple[Key, ...] = ()) -> None:
        self.out = out
        self._signers = signers
        self.violations: list[str] = []
        self._seen: dict[Path, str] = {}
        self._stamps: dict[Path, tuple[int, int, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher")

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._stop.wait(0.003):
            self.look()

    def look(self) -> None:
        for path in visible(self.out):
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                stamp = facts.st_ino, facts.st_mtime_ns, facts.st_size
                if self._stamps.get(path) != stamp:
                    self._judge(path, path.read_bytes())
                    self._stamps[path] = stamp

    def _judge(self, path: Path, data: bytes) -> None:
        name = str(path.relative_to(self.out))
        digest = hashlib.sha256(data).hexdigest()
        before, self._seen[path] = self._seen.get(path), digest
        if before == digest:
            return
        if path.name == FEED:
            self.violations += [f"{name} {what}" for what in unfounded(path, data)]
            return
        if before is not None:
            self.violations.append(f"{name} changed after it was visible")
        if self._signers and path.suffix == ".json":
            self.violations += [f"{name} {what}" for what in unsigned(path, data, self._signers)]
        if path.name == README or path.suffix == ".sig":
            return
        try:
            parse(name, data)
        except Incomplete as error:
            self.violations.append(f"{name} was visible while it {error}")


def unsigned(path: Path, data: bytes, signers: tuple[Key, ...]) -> list[str]:
    """Why a manifest that is visible does not count with those who know the signer."""
    try:
        signature = path.with_name(f"{path.name}.sig")
        require(data, signature.read_bytes() if signature.exists() else None, signers)
    except Refused as error:
        return [error.what]
    return []


def visible(out: Path) -> list[Path]:
    """Every file a consumer sees: nothing hidden, and nothing in a hidden folder."""
    found = []
    for folder, names, files in os.walk(out):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    return sorted(found)


def hidden(out: Path) -> list[Path]:
    return sorted(path for path in out.rglob(".*"))


def judge(
    out: Path, versions: dict[str, Iterable[Row]] | None = None, tenant: str = "acme", held: Mapping[str, list[str]] | None = None
) -> list[str]:
    """(b), (c), (d) and the day manifests: the list of what is wrong. `versions` are the rows each entity must have delivered.

    `held` are the keys a copy that applies every delivery by its manifest must hold, deletes included.
    """
    found, wrong = deliveries(out / "exports" / tenant)
    wrong += sequences(found)
    wrong += days(out / "exports" / tenant, found)
    wrong += _strangers(out / "exports" / tenant, found)
    wrong += feed(out / "exports" / tenant, found)
    for entity, expected in (versions or {}).items():
        got = Counter(row for delivery in found if delivery.manifest["entity"] == entity for row in delivery.rows)
        wrong += difference(entity, Counter(expected), got)
    for entity, keys in (held or {}).items():
        if (copy := Copy().catch_up(out / "exports" / tenant, entity).keys()) != keys:
            wrong.append(f"{entity}: a copy holds the keys {copy}, the source {keys}")
    return wrong


def difference(entity: str, expected: Counter[Row], got: Counter[Row]) -> list[str]:
    """(c): lost and duplicated versions."""
    lost, extra = expected - got, got - expected
    wrong = [f"{entity}: {sum(lost.values())} versions lost, as {next(iter(lost))}"] if lost else []
    return wrong + ([f"{entity}: {sum(extra.values())} versions delivered twice or never written, as {next(iter(extra))}"] if extra else [])


def sequences(found: list[Delivered]) -> list[str]:
    """(d): sequences rise by one, windows abut, and each manifest names the one before."""
    wrong = []
    last: dict[tuple[str, str, int], dict[str, Any]] = {}
    for delivery in found:
        manifest, before = delivery.manifest, last.get(delivery.stream)
        expected = {
            "sequence": before["sequence"] + 1 if before else 1,
            "from": before["window"]["to"] if before else None,
            "previous": {"sequence": before["sequence"], "sha256": before["sha256"]} if before else None,
        }
        got = {"sequence": manifest["sequence"], "from": manifest["window"]["from"], "previous": manifest["previous"]}
        if got != expected:
            wrong.append(f"{delivery.path}: {got} follows, expected {expected}")
        last[delivery.stream] = manifest
    return wrong


def days(exports: Path, found: list[Delivered]) -> list[str]:
    """The last day manifest of each date lists every delivery of the date with its hashes."""
    wrong = []
    folders = {folder for path in exports.rglob("*.manifest.json") for folder in path.parents if _is_day(exports, folder)}
    for folder in sorted(folders):
        listings = sorted(folder.glob("_MANIFEST*.json"), key=lambda path: (len(path.name), path.name))
        if not listings:
            wrong.append(f"{folder} has no day manifest")
            continue
        try:
            listed = {delivery["delivery_id"]: delivery["sha256"] for delivery in json.loads(listings[-1].read_bytes())["deliveries"]}
        except ValueError as error:
            wrong.append(f"{listings[-1]} is no JSON: {error}")
            continue
        here = {delivery.manifest["delivery_id"]: delivery.manifest["sha256"] for delivery in found if folder in delivery.path.parents}
        if listed != here:
            wrong.append(f"{listings[-1]} lists {sorted(listed)}, there are {sorted(here)}")
    return wrong


def unfounded(path: Path, data: bytes) -> list[str]:
    """What a feed names that is not there, or is something else."""
    try:
        listed = json.loads(data)["deliveries"]
    except ValueError as error:
        return [f"is no JSON: {error}"]
    wrong = []
    for item in listed:
        manifest = path.parent / item["manifest"]
        if not manifest.exists() or hashlib.sha256(manifest.read_bytes()).hexdigest() != item["manifest_sha256"]:
            wrong.append(f"names {item['manifest']}, which is not there as it says")
    return wrong


def feed(exports: Path, found: list[Delivered]) -> list[str]:
    """Where there is a feed, it lists every delivery once, numbered from 1."""
    path = exports / FEED
    if not path.exists():
        return []
    listed = json.loads(path.read_bytes())["deliveries"]
    wrong = [f"{path} {what}" for what in unfounded(path, path.read_bytes())]
    if [delivery["number"] for delivery in listed] != list(range(1, len(listed) + 1)):
        wrong.append(f"{path} is numbered {[delivery['number'] for delivery in listed]}")
    if Counter(delivery["delivery_id"] for delivery in listed) != Counter(delivery.manifest["delivery_id"] for delivery in found):
        wrong.append(f"{path} lists {len(listed)} deliveries, there are {len(found)}")
    return wrong


def _is_day(exports: Path, folder: Path) -> bool:
    return exports in folder.parents and len(folder.relative_to(exports).parts) == 3


def _strangers(exports: Path, found: list[Delivered]) -> list[str]:
    """Visible files that no manifest names."""
    known = {item.path for item in found}
    for delivery in found:
        known |= {delivery.path.with_name(f"{delivery.path.name}.sig")}
        known |= {delivery.path.parent / file["path"] for file in [*delivery.manifest["files"], delivery.manifest.get("deletes")] if file}
    return [
        f"{path} is in no manifest"
        for path in visible(exports)
        if path not in known and not path.name.startswith("_MANIFEST") and path.name not in (FEED, README)
    ]


def age(out: Path, seconds: float = TWO_DAYS) -> None:
    """Make everything hidden as old as housekeeping wants it before it removes it."""
    then = time.time() - seconds
    for path in hidden(out):
        for item in [path, *path.rglob("*")]:
            os.utime(item, (then, then), follow_symlinks=False)


def unclear(said: str, *words: str) -> list[str]:
    """(f): which of the words a message lacks; a traceback is never a message."""
    wrong = [f"the message does not name {word!r}: {said!r}" for word in words if word.casefold() not in said.casefold()]
    if "Traceback" in said:
        wrong.append(f"a traceback instead of a message: {said[-600:]}")
    return wrong


def leaks(places: Iterable[Path], said: str = "", secret: str = PLANTED) -> list[str]:
    """(g): where a planted secret is found."""
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()]
    wrong = [f"the planted secret stands in {path}" for path in files if secret.encode() in path.read_bytes()]
    return wrong + (["the planted secret was printed"] if secret in said else [])


@contextlib.contextmanager
def watched(out: Path) -> Iterator[list[str]]:
    """Watch for the length of the block; the violations are in the list afterwards."""
    found: list[str] = []
    with Watcher(out) as watcher:
        yield found
    found += watcher.violations
