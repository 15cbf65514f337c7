"""Checking delivered files as their consumer: every manifest, every file, every chain. Needs no ledger and no configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from waybill.configuration.deletes import NOTICED
from waybill.destinations import Item, Session
from waybill.errors import ConflictError, PermanentError
from waybill.files import chain, manifest, sums
from waybill.files.chain import Link, Remark
from waybill.files.manifest import File, Manifest, all_files, package_hash
from waybill.files.recount import Recount, recount
from waybill.layout import is_part

MANIFEST = ".manifest.json"
_DAY = re.compile(r"^_MANIFEST(?:\.([2-9]|[1-9]\d+))?\.json\Z")
DATA = re.compile(
    r"^([a-z][a-z0-9_]{0,62})(?:\.g\d+\.\d+(?:\.r\d+)?)?(?:\.[0-9a-f]{32})?(?:-\d{4,}|\.deletes)?\.(?:csv|ndjson|parquet)(?:\.gz|\.zst)?\Z"
)
_PLACE = re.compile(r"/exports/(?P<tenant>[^/]+)/\d{4}/\d\d/\d\d/(?P<entity>[^/]+)/")


@dataclass
class Report:
    """What was found. `problems` make it wrong; `notes` are for information."""

    manifests: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    streams: int = 0
    problems: list[Remark] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("manifests", "files", "rows", "bytes", "streams")}
        remarks = {name: [{"path": one.path, "what": one.what} for one in getattr(self, name)] for name in ("problems", "notes")}
        return {"whole": self.is_whole, **counts, **remarks}


class _Entry(BaseModel):
    """One delivery as a day manifest lists it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    delivery_id: str
    entity: str
    generation: int
    sequence: int
    manifest: str
    files: tuple[dict[str, Any], ...]
    rows: int
    bytes: int
    sha256: str


class _Day(BaseModel):
    """A day manifest: every delivery of its date so far."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tenant: str
    date: str
    number: int
    rows: int
    bytes: int
    deliveries: tuple[_Entry, ...]


def verify(session: Session, base: str = "", progress: Callable[[str], None] = lambda path: None) -> Report:
    """Check everything below the session's root, which stands at `base` (a root, a tenant's folder, a day: any depth).

    Files are read once, in constant memory. Raises TransientError when the destination cannot be read on.
    """
    work = _Verification(session, base.rstrip("/"), progress)
    for folder, items in _folders(session.walk("/")):
        work.folder(folder, items)
    work.remark(chain.check(work.links))
    work.remark(work.taken_away())
    report = work.report
    report.streams = len({one.stream for one in work.links})
    if not report.manifests and not report.problems:
        work.remark([Remark("/", "there is no manifest here: nothing was delivered to this place")])
    return report


def _folders(items: Iterable[Item]) -> Iterator[tuple[str, list[Item]]]:
    """Each folder with its own files, when the walk leaves it: subfolders first."""
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
    """One pass. `seen` holds the manifests of the day at hand, by path, until its day manifests were compared with them."""

    def __init__(self, session: Session, base: str, progress: Callable[[str], None]) -> None:
        self._session = session
        self._base = base
        self._progress = progress
        self._seen: dict[str, Manifest] = {}
        self._missing: list[tuple[str, str, _Entry]] = []
        self.links: list[Link] = []
        self.report = Report()

    def remark(self, remarks: Iterable[Remark]) -> None:
        for one in remarks:
            (self.report.problems if one.is_problem else self.report.notes).append(one)

    def folder(self, folder: str, items: list[Item]) -> None:
        name = folder.rpartition("/")[2]
        if "/." in folder:
            if name.startswith(".") and "/." not in folder.rpartition("/")[0]:
                self.remark([_hidden(folder, name)])
            return
        files = {item.path.rpartition("/")[2]: item for item in items}
        listed: set[str] = set()
        for name in files:
            if name.endswith(MANIFEST) and not name.startswith("."):
                listed |= {name} | self._manifest(f"{folder}/{name}", files)
        days = [name for name in files if _DAY.match(name)]
        beside = [name for name in files if sums.NAME.match(name)]
        self.remark(self._stray(folder, name) for name in files if name not in {*listed, *days, *beside})
        if days:
            self._days(folder, days)
        for name in beside:
            self.remark(self._sums(folder, name))

    def _sums(self, folder: str, name: str) -> Iterator[Remark]:
        """Whether a SHA256SUMS says what the day manifest beside it says."""
        match = sums.NAME.match(name)
        day = "_MANIFEST.json" if not match or not match[1] else f"_MANIFEST.{match[1]}.json"
        path = f"{folder}/{name}"
        document = self._session.read(f"{folder}/{day}")
        if document is None:
            yield Remark(path, f"stands there without {day}: not complete yet", is_problem=False)
            return
        try:
            same = self._session.read(path) == sums.sums(document, day)
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            yield Remark(path, f"is not what {day} says")

    def _stray(self, folder: str, name: str) -> Remark:
        """A file that no manifest lists."""
        path = f"{folder}/{name}"
        if name.startswith("."):
            return _hidden(path, name)
        data = DATA.match(name)
        above = f"{self._base}{folder}".split("/")[-3:]
        if data and data[1] in above:
            return Remark(path, "no manifest lists it: not delivered (or not yet)")
        return Remark(path, "is not Waybill's, ignored", is_problem=False)

    def _manifest(self, path: str, files: dict[str, Item]) -> set[str]:
        """Check one manifest with its files; returns the names it lists."""
        try:
            one = manifest.parse(self._session.read(path) or b"", "")
        except (PermanentError, ConflictError) as error:
            self.remark([Remark(path, error.what)])
            return set()
        self.report.manifests += 1
        self._seen[path] = one
        if place := chain.link(path, one):
            self.links.append(place)
        self.remark(Remark(path, what) for what in self._contradictions(path, one))
        for file in all_files(one):
            self._file(f"{path.rpartition('/')[0]}/{file.path}", file, one, present=file.path in files)
        return {file.path for file in all_files(one)}

    def _contradictions(self, path: str, one: Manifest) -> Iterator[str]:
        """Where a manifest disagrees with itself or with the place it stands in."""
        if one.format_version != manifest.FORMAT_VERSION:
            yield f"has format_version {one.format_version}; this program knows {manifest.FORMAT_VERSION}"
        totals = (sum(file.rows for file in one.files), sum(file.bytes for file in one.files))
        if totals != (one.rows, one.bytes):
            yield f"says {one.rows} rows and {one.bytes} bytes, its files add up to {totals[0]} and {totals[1]}"
        if one.sha256 != package_hash([file.sha256 for file in one.files]):
            yield "its sha256 is not that of its files"
        if unknown := set(one.key) - {column.get("name") for column in one.columns}:
            self.remark([Remark(path, f"key columns that are not exported: {', '.join(sorted(unknown))}", is_problem=False)])
        place = _PLACE.search(f"{self._base}{path}")
        if place and (one.tenant, one.entity) != (place["tenant"], place["entity"]):
            yield f"is of tenant {one.tenant}, entity {one.entity}, and does not belong here"

    def _file(self, path: str, file: File, one: Manifest, *, present: bool) -> None:
        self.report.files += 1
        self._progress(path)
        if not present:
            self.remark([Remark(path, "is listed in its manifest and missing")])
            return
        try:
            found = recount(self._session.blocks(path), one.csv, len(_header(file, one)), one.shape(file))
        except (PermanentError, ConflictError) as error:
            self.remark([Remark(path, error.what)])
            return
        self.report.bytes += found.bytes
        self.report.rows += 0 if file is one.deletes else found.rows or 0
        self.remark(Remark(path, what) for what in _differences(found, file, one))

    def _days(self, folder: str, names: list[str]) -> None:
        """Compare a day's manifests, which list everything so far, with the manifests below."""
        earlier: set[str] = set()
        numbers = []
        for name in sorted(names, key=_number):
            day = self._day(f"{folder}/{name}")
            if day is None:
                continue
            numbers.append(day.number)
            here = {entry.delivery_id for entry in day.deliveries}
            if lost := earlier - here:
                self.remark([Remark(f"{folder}/{name}", f"leaves out {len(lost)} deliveries that the one before lists")])
            earlier |= here
        if numbers and numbers != list(range(1, len(numbers) + 1)):
            self.remark([Remark(folder, f"its day manifests are numbered {', '.join(map(str, numbers))}: one is missing")])
        below = [path for path in self._seen if path.startswith(f"{folder}/")]
        for path in below:
            one = self._seen.pop(path)
            if numbers and one.delivery_id not in earlier and one.kind != "backfill":
                self.remark([Remark(path, "no day manifest lists it yet", is_problem=False)])

    def _day(self, path: str) -> _Day | None:
        """Check one day manifest on its own and against the manifests it lists."""
        try:
            day = _Day.model_validate_json(self._session.read(path) or b"")
        except ValidationError:
            self.remark([Remark(path, "is not a day manifest")])
            return None
        except (PermanentError, ConflictError) as error:
            self.remark([Remark(path, error.what)])
            return None
        folder, _, name = path.rpartition("/")
        whole = f"{self._base}{folder}/"
        if day.number != _number(name):
            self.remark([Remark(path, f"says it is number {day.number}")])
        if re.search(r"/\d{4}/\d\d/\d\d/\Z", whole) and not whole.endswith(f"/{day.date.replace('-', '/')}/"):
            self.remark([Remark(path, f"is of {day.date}, and does not belong here")])
        if (day.rows, day.bytes) != (sum(one.rows for one in day.deliveries), sum(one.bytes for one in day.deliveries)):
            self.remark([Remark(path, "its rows and bytes are not the sums of its deliveries")])
        for entry in day.deliveries:
            own = self._seen.get(f"{folder}/{entry.manifest}")
            if own is None:
                self._missing.append((path, day.tenant, entry))
            elif wrong := _disagreements(entry, own, day):
                self.remark([Remark(path, f"says other {', '.join(wrong)} than {entry.manifest}")])
        return day

    def taken_away(self) -> Iterator[Remark]:
        """What day manifests list and nobody finds. A delivery that is gone whole, while a later one is there, was collected."""
        latest: dict[tuple[str, str], tuple[int, int]] = {}
        for tenant, entity, generation, sequence in ((*one.stream, one.sequence) for one in self.links):
            latest[tenant, entity] = max(latest.get((tenant, entity), (0, 0)), (generation, sequence))
        for path, tenant, entry in self._missing:
            folder = path.rpartition("/")[0]
            names = [entry.manifest, *(str(file.get("path")) for file in entry.files)]
            is_gone = all(self._session.size(f"{folder}/{name}") is None for name in names)
            collected = is_gone and (entry.generation, entry.sequence) < latest.get((tenant, entry.entity), (0, 0))
            what = "which was taken away" if collected else "which is missing or not a manifest"
            yield Remark(path, f"lists {entry.manifest}, {what}", is_problem=not collected)


def _hidden(path: str, name: str) -> Remark:
    return Remark(path, "is an unfinished part, ignored" if is_part(name) else "is hidden, ignored", is_problem=False)


def _number(name: str) -> int:
    found = _DAY.match(name)
    return int(found[1] or 1) if found else 0


def _differences(found: Recount, file: File, one: Manifest) -> Iterator[str]:
    """Where a file is not what its manifest says."""
    if found.bytes != file.bytes:
        yield f"has {found.bytes} bytes, its manifest says {file.bytes}"
    if found.sha256 != file.sha256:
        yield f"has SHA-256 {found.sha256}, its manifest says {file.sha256}"
    if found.rows is not None and found.rows != file.rows:
        yield f"has {found.rows} records, its manifest says {file.rows}"
    names = _header(file, one)
    if found.header is not None and found.header != names:
        yield f"has the header {', '.join(found.header)[:200]}, its manifest says {', '.join(names)[:200]}"
    yield from found.faults


def _header(file: File, one: Manifest) -> tuple[str, ...]:
    """The columns a file of the manifest has."""
    return (*one.key, NOTICED) if file is one.deletes else tuple(str(column.get("name")) for column in one.columns)


def _disagreements(entry: _Entry, own: Manifest, day: _Day) -> list[str]:
    folder = entry.manifest.rpartition("/")[0]
    files = [{**file.model_dump(), "path": f"{folder}/{file.path}"} for file in own.files]
    pairs = {
        "tenant": (day.tenant, own.tenant),
        "delivery_id": (entry.delivery_id, own.delivery_id),
        "entity": (entry.entity, own.entity),
        "generation": (entry.generation, own.generation),
        "sequence": (entry.sequence, own.sequence),
        "rows": (entry.rows, own.rows),
        "bytes": (entry.bytes, own.bytes),
        "sha256": (entry.sha256, own.sha256),
        "files": ([{name: file.get(name) for name in ("path", "rows", "bytes", "sha256")} for file in entry.files], files),
    }
    return [name for name, (listed, said) in pairs.items() if listed != said]
