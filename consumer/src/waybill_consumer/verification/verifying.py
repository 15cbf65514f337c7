"""Checks delivered files: every manifest, every file, every chain, every day's list. It needs nothing but the files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from waybill_consumer import chain, manifest, signatures
from waybill_consumer.chain import Link, Remark
from waybill_consumer.errors import Refused
from waybill_consumer.manifest import DAY_MANIFEST, SUFFIX, SUMS, File, Manifest, package_hash
from waybill_consumer.own_files import OURS, POSITION
from waybill_consumer.signatures import Key
from waybill_consumer.verification.recount import dialect_of, differences, recount
from waybill_consumer.verification.sums import sums

DATA = re.compile(
    r"^([a-z][a-z0-9_]{0,62})(?:\.g\d+\.\d+(?:\.r\d+)?)?(?:\.[0-9a-f]{32})?(?:-\d{4,})?(?:\.deletes)?\.(?:csv|ndjson|parquet)(?:\.gz|\.zst)?(?:\.pgp)?\Z"
)
UNCOUNTED = 'bytes and hash are right; to count its records as well: pip install "waybill-consumer[duckdb]"'
BESIDE = re.compile(r"/(?:feed\.json|_README\.txt|feed/[0-9a-f]{32}/page-\d{6,}(?:\.[0-9a-f]{32})?\.json)\Z")
"""What explains the files, in a tenant's folder."""
UNFINISHED = re.compile(r"^\..+\.part\Z")
_PLACE = re.compile(r"/exports/(?P<tenant>[^/]+)/\d{4}/\d\d/\d\d/(?P<entity>[^/]+)/")
_DAY_FIELDS = {"tenant": str, "date": str, "number": int, "rows": int, "bytes": int, "deliveries": list}
_ENTRY_FIELDS = {"delivery_id": str, "entity": str, "generation": int, "sequence": int, "rows": int, "bytes": int, "sha256": str}


class Item(Protocol):
    """A file or folder. `path` begins with a slash and is below the tree's root."""

    @property
    def path(self) -> str: ...
    @property
    def is_folder(self) -> bool: ...


class Tree(Protocol):
    """Where the files are: a folder, or a server behind something that answers like one."""

    def walk(self, folder: str) -> Iterable[Item]:
        """Yield everything below, each folder's own entries before those of its subfolders' siblings: depth first."""
        ...

    def read(self, path: str) -> bytes | None: ...
    def blocks(self, path: str) -> Iterator[bytes]: ...
    def size(self, path: str) -> int | None: ...


@dataclass
class Report:
    """What was found. `problems` make it wrong, and `notes` are for information."""

    manifests: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    streams: int = 0
    signed: int = 0
    encrypted: int = 0
    problems: list[Remark] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("manifests", "files", "rows", "bytes", "streams", "signed", "encrypted")}
        remarks = {name: [{"path": remark.path, "what": remark.what} for remark in getattr(self, name)] for name in ("problems", "notes")}
        return {"whole": self.is_whole, **counts, **remarks}


def verify(
    tree: Tree,
    base: str = "",
    progress: Callable[[str], None] = lambda path: None,
    signers: Sequence[Key] | None = None,
    loaded: Mapping[str, tuple[int, int]] | None = None,
) -> Report:
    """Check everything below the tree's root, which is at `base` (a root, a tenant's folder, a day: any depth).

    With `signers`, one of them must have signed every manifest. Without, an existing signature must be of its manifest. Files are read
    once, in constant memory. `loaded` says how far databases hold each `tenant/entity`: until there, deliveries may be gone whole. What
    reading raises passes through, except Refused.
    """
    if tree.size(f"/{POSITION}") is not None:
        base = ""  # whoever pulled it named this folder, which may stand in one that is called `exports`
    work = _Verification(tree, base.rstrip("/"), progress, signers or ())
    for folder, items in _folders(tree.walk("/")):
        work.folder(folder, items)
    work.remark(chain.check(work.links))
    work.remark(work.taken_away(loaded or {}))
    report = work.report
    if report.signed and not signers:
        what = f"{report.signed} manifests are signed, by whom was not checked: name the signer's key with --signer"
        work.remark([Remark("/", what, is_problem=False)])
    if report.encrypted:
        what = f"{report.encrypted} files are encrypted: their bytes are compared with the manifests, their records are not counted"
        work.remark([Remark("/", what, is_problem=False)])
    report.streams = len({link.stream for link in work.links if link.manifest.kind != "backfill"})
    if not report.manifests and not report.problems and not loaded:
        work.remark([Remark("/", "there is no manifest here: nothing was delivered to this place")])
    return report


def _folders(items: Iterable[Item]) -> Iterator[tuple[str, list[Item]]]:
    """Yield each folder with its own files when the walk leaves it, so subfolders come first."""
    entered: list[tuple[str, list[Item]]] = [("", [])]
    for item in items:
        parent = item.path.rpartition("/")[0]
        while entered[-1][0] != parent:
            yield entered.pop()
        if item.is_folder:
            entered.append((item.path, []))
        else:
            entered[-1][1].append(item)
    yield from reversed(entered)


class _Verification:
    """One pass. `seen` holds the manifests of the current day, by path, until its day manifests were compared with them."""

    def __init__(self, tree: Tree, base: str, progress: Callable[[str], None], signers: Sequence[Key]) -> None:
        self._tree = tree
        self._signers = signers
        self._base = base
        self._progress = progress
        self._seen: dict[str, Manifest] = {}
        self._missing: list[tuple[str, str, dict[str, Any]]] = []
        self.links: list[Link] = []
        self.report = Report()

    def remark(self, remarks: Iterable[Remark]) -> None:
        for remark in remarks:
            (self.report.problems if remark.is_problem else self.report.notes).append(remark)

    def folder(self, folder: str, items: list[Item]) -> None:
        name = folder.rpartition("/")[2]
        if "/." in folder:
            if name.startswith(".") and "/." not in folder.rpartition("/")[0]:
                self.remark([_hidden(folder, name)])
            return
        names = {item.path.rpartition("/")[2] for item in items} - OURS
        listed: set[str] = set()
        for name in sorted(names):
            if name.endswith(SUFFIX) and not name.startswith("."):
                listed |= {name, f"{name}{signatures.SUFFIX}"} | self._manifest(f"{folder}/{name}", names)
        days = [name for name in names if DAY_MANIFEST.match(name)]
        listed |= {f"{name}{signatures.SUFFIX}" for name in days}
        beside = {name for name in names if SUMS.match(name)}
        strays = sorted(names - listed - set(days) - beside)
        self.remark(self._stray(folder, name) for name in strays if not BESIDE.search(f"{folder}/{name}"))
        if days:
            self._days(folder, days, names)
        for name in sorted(beside):
            self.remark(self._sums(folder, name))

    def _sums(self, folder: str, name: str) -> Iterator[Remark]:
        """Return whether a SHA256SUMS says what the day manifest beside it says."""
        found = SUMS.match(name)
        day = f"_MANIFEST.{found[1]}.json" if found and found[1] else "_MANIFEST.json"
        path = f"{folder}/{name}"
        try:
            document = self._tree.read(f"{folder}/{day}")
            if document is None:
                yield Remark(path, f"stands there without {day}: not complete yet", is_problem=False)
                return
            same = self._tree.read(path) == sums(document, day)
        except (Refused, ValueError, KeyError, TypeError):
            same = False
        if not same:
            yield Remark(path, f"is not what {day} says")

    def _stray(self, folder: str, name: str) -> Remark:
        """Report a file that no manifest lists."""
        path = f"{folder}/{name}"
        if name.startswith("."):
            return _hidden(path, name)
        if name.endswith(f".json{signatures.SUFFIX}"):
            return Remark(path, "is the signature of a manifest that is not here: not delivered (or not yet)", is_problem=False)
        data = DATA.match(name)
        if data and data[1] in f"{self._base}{folder}".split("/")[-3:]:
            return Remark(path, "no manifest lists it: not delivered (or not yet)")
        return Remark(path, "is not Waybill's, ignored", is_problem=False)

    def _manifest(self, path: str, names: set[str]) -> set[str]:
        """Check one manifest with its files. Returns the names that it lists."""
        try:
            data = self._tree.read(path) or b""
            self._signature(path, data, names)
            delivered = manifest.parse(data)
        except Refused as error:
            self.remark([Remark(path, error.what)])
            return set()
        self.report.manifests += 1
        self._seen[path] = delivered
        self.links.append(Link(path, delivered, hashlib.sha256(data).hexdigest()))
        self.remark(Remark(path, what) for what in self._contradictions(path, delivered))
        for file in delivered.all_files:
            self._file(f"{path.rpartition('/')[0]}/{file.path}", file, delivered, present=file.path in names)
        return {file.path for file in delivered.all_files}

    def _signature(self, path: str, document: bytes, names: set[str]) -> None:
        """Remark on the signature of a document, if there has to be one or there is one."""
        is_there = f"{path.rpartition('/')[2]}{signatures.SUFFIX}" in names
        if not is_there and not self._signers:
            return
        try:
            signature = self._tree.read(f"{path}{signatures.SUFFIX}") if is_there else None
            if self._signers:
                signatures.require(document, signature, self._signers)
            elif signature is not None:
                signatures.signer(document, signature)
            self.report.signed += 1
        except Refused as error:
            self.remark([Remark(path, error.what)])

    def _contradictions(self, path: str, delivered: Manifest) -> Iterator[str]:
        """Yield where a manifest disagrees with itself or with its place."""
        if delivered.format_version != manifest.FORMAT_VERSION:  # a newer one is no manifest this program reads
            yield f"has format_version {delivered.format_version}; this program knows {manifest.FORMAT_VERSION}"
        totals = (sum(file.rows for file in delivered.files), sum(file.bytes for file in delivered.files))
        if totals != (delivered.rows, delivered.bytes):
            yield f"says {delivered.rows} rows and {delivered.bytes} bytes, its files add up to {totals[0]} and {totals[1]}"
        if delivered.sha256 != package_hash([file.sha256 for file in delivered.files]):
            yield "its sha256 is not that of its files"
        if unknown := set(delivered.key) - {column.name for column in delivered.columns}:
            self.remark([Remark(path, f"key columns that are not exported: {', '.join(sorted(unknown))}", is_problem=False)])
        place = _PLACE.search(f"{self._base}{path}")
        if place and (delivered.tenant, delivered.entity) != (place["tenant"], place["entity"]):
            yield f"is of tenant {delivered.tenant}, entity {delivered.entity}, and does not belong here"

    def _file(self, path: str, file: File, manifest: Manifest, *, present: bool) -> None:
        self.report.files += 1
        self.report.encrypted += bool(manifest.encryption)
        self._progress(path)
        if not present:
            self.remark([Remark(path, "is listed in its manifest and missing")])
            return
        names = manifest.header(file)
        try:
            found = recount(self._tree.blocks(path), dialect_of(file, manifest.csv), len(names), manifest.stored_as(file))
        except Refused as error:
            self.remark([Remark(path, error.what)])
            return
        self.report.bytes += found.bytes
        self.report.rows += 0 if file is manifest.deletes else found.rows or 0
        if manifest.stored_as(file) == "parquet" and not found.faults and found.rows is None:
            self.remark([Remark(path, UNCOUNTED, is_problem=False)])
        self.remark(Remark(path, what) for what in differences(found, file, names))

    def _days(self, folder: str, names: list[str], beside: set[str]) -> None:
        """Compare a day's manifests, which list everything so far, with the manifests below."""
        earlier: set[str] = set()
        numbers = []
        for name in sorted(names, key=_number):
            day = self._day(f"{folder}/{name}", beside)
            if day is None:
                continue
            numbers.append(day["number"])
            here = {str(entry["delivery_id"]) for entry in day["deliveries"]}
            if lost := earlier - here:
                self.remark([Remark(f"{folder}/{name}", f"leaves out {len(lost)} deliveries that the one before lists")])
            earlier |= here
        if numbers and numbers != list(range(1, len(numbers) + 1)):
            self.remark([Remark(folder, f"its day manifests are numbered {', '.join(map(str, numbers))}: one is missing")])
        for path in [path for path in self._seen if path.startswith(f"{folder}/")]:
            manifest = self._seen.pop(path)
            if numbers and manifest.delivery_id not in earlier and manifest.kind != "backfill":
                self.remark([Remark(path, "no day manifest lists it yet", is_problem=False)])

    def _day(self, path: str, beside: set[str]) -> dict[str, Any] | None:
        """Check one day manifest on its own and against the manifests that it lists."""
        try:
            data = self._tree.read(path) or b""
            self._signature(path, data, beside)
            day = day_manifest(data)
        except Refused as error:
            self.remark([Remark(path, error.what)])
            return None
        folder, _, name = path.rpartition("/")
        whole = f"{self._base}{folder}/"
        if day["number"] != _number(name):
            self.remark([Remark(path, f"says it is number {day['number']}")])
        if re.search(r"/\d{4}/\d\d/\d\d/\Z", whole) and not whole.endswith(f"/{day['date'].replace('-', '/')}/"):
            self.remark([Remark(path, f"is of {day['date']}, and does not belong here")])
        if any(day[name] != sum(delivery[name] for delivery in day["deliveries"]) for name in ("rows", "bytes")):
            self.remark([Remark(path, "its rows and bytes are not the sums of its deliveries")])
        for entry in day["deliveries"]:
            own = self._seen.get(f"{folder}/{entry['manifest']}")
            if own is None:
                self._missing.append((path, day["tenant"], entry))
            elif wrong := _disagreements(entry, own, day["tenant"]):
                self.remark([Remark(path, f"says other {', '.join(wrong)} than {entry['manifest']}")])
        return day

    def taken_away(self, loaded: Mapping[str, tuple[int, int]]) -> Iterator[Remark]:
        """Report what day manifests list and nobody finds. A delivery that is gone whole, while a later one or its redelivery is there or a
        database holds it, was collected.
        """
        latest: dict[tuple[str, str], tuple[int, int]] = {}
        repeated = {link.manifest.redelivers for link in self.links}
        for chained in (link.manifest for link in self.links if link.manifest.kind != "backfill"):
            place = chained.generation, chained.sequence
            latest[chained.tenant, chained.entity] = max(latest.get((chained.tenant, chained.entity), (0, 0)), place)
        for path, tenant, entry in self._missing:
            folder = path.rpartition("/")[0]
            names = [entry["manifest"], *(str(file.get("path")) for file in entry["files"])]
            is_gone = all(self._tree.size(f"{folder}/{name}") is None for name in names)
            place = entry["generation"], entry["sequence"]
            is_past = place < latest.get((tenant, str(entry["entity"])), (0, 0)) or place <= loaded.get(
                f"{tenant}/{entry['entity']}", (0, 0)
            )
            collected = is_gone and (is_past or entry["delivery_id"] in repeated)
            what = "which was taken away" if collected else "which is missing or not a manifest"
            yield Remark(path, f"lists {entry['manifest']}, {what}", is_problem=not collected)


def day_manifest(data: bytes) -> dict[str, Any]:
    """Return a day manifest from its bytes. Raises Refused if it is none."""
    wrong = Refused("is not a day manifest")
    day = manifest.json_object(data)
    if day is None or not _has(day, _DAY_FIELDS):
        raise wrong
    for entry in day["deliveries"]:
        if not _has(entry, {**_ENTRY_FIELDS, "manifest": str, "files": list}) or not all(isinstance(file, dict) for file in entry["files"]):
            raise wrong
    return day


def _has(facts: Any, kinds: Mapping[str, type]) -> bool:
    return isinstance(facts, dict) and all(isinstance(facts.get(name), kind) for name, kind in kinds.items())


def _hidden(path: str, name: str) -> Remark:
    return Remark(path, "is an unfinished part, ignored" if UNFINISHED.match(name) else "is hidden, ignored", is_problem=False)


def _number(name: str) -> int:
    found = DAY_MANIFEST.match(name)
    return int(found[1] or 1) if found else 0


def _disagreements(entry: dict[str, Any], own: Manifest, tenant: str) -> list[str]:
    folder = entry["manifest"].rpartition("/")[0]
    wrong = [name for name in _ENTRY_FIELDS if entry[name] != getattr(own, name)]
    files = [{"path": f"{folder}/{file.path}", "rows": file.rows, "bytes": file.bytes, "sha256": file.sha256} for file in own.files]
    listed = [{name: file.get(name) for name in ("path", "rows", "bytes", "sha256")} for file in entry["files"]]
    return (["tenant"] if tenant != own.tenant else []) + wrong + (["files"] if listed != files else [])
