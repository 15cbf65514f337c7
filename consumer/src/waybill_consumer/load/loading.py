"""`load` applies every delivery in the order of its chain, each in one transaction that also remembers it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from waybill_consumer import chain
from waybill_consumer.errors import Damaged, Refused, Unreachable
from waybill_consumer.folder.holdings import Held, Holdings, counting, holdings, is_signed, require_folder, require_signed
from waybill_consumer.folder.last_loads import Loads, database_named
from waybill_consumer.folder.lock import is_pulled
from waybill_consumer.folder.position import Kept, Position, forget
from waybill_consumer.load.decrypting import Plain, decrypting
from waybill_consumer.load.tables import wanted_shape
from waybill_consumer.manifest import Column, Csv, File, Manifest, instant_text
from waybill_consumer.progress import Progress
from waybill_consumer.signatures import Key, Wrong
from waybill_consumer.targets import Applied, Shape, Target, Widen, open_target
from waybill_consumer.targets.data import DataFile
from waybill_consumer.verification.recount import dialect_of

Place = tuple[int, int, int, str]
"""Where a delivery belongs: generation, sequence, 1 for a backfill after that sequence, snapshot time."""


@dataclass
class Loaded:
    """What a run did. If there are `problems`, an entity is not as it could be, and a person should look."""

    applied: list[dict[str, Any]] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remembered: list[Applied] | None = None
    """What the database remembers afterwards; None where it could not be asked."""

    def problem(self, entity: str, error: Refused) -> None:
        self.problems.append(error.as_problem(entity))

    def as_json(self) -> dict[str, Any]:
        counts = {"deliveries": len(self.applied), "rows": sum(applied["rows"] for applied in self.applied)}
        return {"done": not self.problems, **counts, "applied": self.applied, "problems": self.problems, "notes": self.notes}


def load(
    root: Path,
    target: Target,
    progress: Progress,
    *,
    tenant: str = "",
    gpg: bool = False,
    signers: Sequence[Key] = (),
    only: Sequence[str] = (),
) -> Loaded:
    """Apply what the database does not hold of everything in `root`, or of the entities in `only`. What stops one does not stop the others.

    With `gpg`, it decrypts encrypted files for the length of their transaction. Without it, their entity is refused. With `signers`, only a
    delivery whose manifest one of them signed is applied.

    Raises Refused if there is nothing to load from, and Unreachable if the database stops answering. What was applied stays.
    """
    report = Loaded()
    position = _position(root, report)
    found = holdings(root)  # after the position, which names nothing that was not here when it was read
    for unreadable in found.unreadable.values():
        report.problem("", unreadable)
    forget(root, [*found.unreadable])
    streams = {*found.entities, *((kept.tenant, kept.entity) for kept in _fetched(position).values())}
    tenants = sorted({owner for owner, _ in streams})
    if not tenant and len(tenants) > 1:
        step = "Name one with --tenant, and give each tenant a schema or database of its own"
        raise Refused(f"holds deliveries of several tenants: {', '.join(tenants)}", where=str(root), next_step=step)
    _check_names(streams, root, tenant, only)
    wanted = sorted(stream for stream in streams if tenant in ("", stream[0]) and (not only or stream[1] in only))
    owners = sorted({owner for owner, _ in wanted})
    _prepare(target, owners)
    known, gone = _applied(target, owners), _gone(found, position)
    for owner, entity in wanted:
        progress.begin(entity, 0)
        work = _Entity(target, (owner, entity), root, progress, report, known, gpg=gpg, signers=signers)
        work.run(found.entities.get((owner, entity), ()), gone[owner, entity])
    progress.end()
    report.remembered = _applied(target, owners)
    if not streams:
        _nothing(root, target, report)
    return report


def _prepare(target: Target, owners: Sequence[str]) -> None:
    with target.transaction():
        target.prepare()
        for owner in owners:
            _require_no_other(target, owner)


def _nothing(root: Path, target: Target, report: Loaded) -> None:
    """A folder without deliveries is well as long as nothing came out of it."""
    if target.tenants():
        step = "Pull once more, which fetches what is missing"
        report.problem("", Refused("holds no deliveries, and the database does", where=str(root), next_step=step))
    else:
        report.notes.append(f"{root} holds no deliveries yet")


def load_into(url: str, schema: str, root: Path, progress: Progress, **options: Any) -> Loaded:
    """`load` into the database that a URL names. How it ended is kept beside what `pull` fetched, for `status`."""
    database, only = database_named(url, schema), options.get("only", ())
    require_folder(root)  # before the target, which makes an empty database where there is none
    try:
        with open_target(url, schema) as target:
            report = load(root, target, progress, **options)
    except Refused as error:
        _keep_failure(root, database, error, only)
        raise
    except OSError as error:
        step = "Free space, or let this account read and write there, then load again: what was loaded stays"
        refused = Refused(error.strerror or str(error), where=str(error.filename or root), next_step=step)
        _keep_failure(root, database, refused, only)
        raise refused from error
    try:
        _keep(root, database, report, only)
    except OSError as error:
        report.notes.append(f"{root}: what was loaded cannot be kept for `status` and `pull`: {error.strerror}")
    return report


def _keep_failure(root: Path, database: str, error: Refused, only: Sequence[str]) -> None:
    failed = Loaded()
    failed.problem("", error)
    with contextlib.suppress(OSError):
        _keep(root, database, failed, only)


def _keep(root: Path, database: str, report: Loaded, only: Sequence[str]) -> None:
    if is_pulled(root):
        Loads(root).note(database, report.problems, report.remembered, only)


def _applied(target: Target, tenants: Iterable[str]) -> list[Applied]:
    return [applied for tenant in tenants for applied in target.applied(tenant)]


def _position(root: Path, report: Loaded) -> Position | None:
    """What pull says it fetched; None where it does not say."""
    if not root.is_dir():
        return None
    try:
        position = Position(root)
        position.require()
    except Refused as error:
        report.problem("", error)
        return None
    return position


def _fetched(position: Position | None) -> dict[str, Kept]:
    """By the paths of their manifests, the deliveries that pull fetched, those it is to fetch again among them."""
    return {} if position is None else {**position.kept, **position.lost}


def _gone(found: Holdings, position: Position | None) -> Mapping[tuple[str, str], dict[str, Kept]]:
    """By tenant and entity, what pull fetched and is here no longer."""
    here = {*found.unreadable, *(held.path for entity in found.entities.values() for held in entity)}
    gone: dict[tuple[str, str], dict[str, Kept]] = defaultdict(dict)
    for path, kept in _fetched(position).items():
        if path not in here:
            gone[kept.tenant, kept.entity][path] = kept
    return gone


def _require_no_other(target: Target, tenant: str) -> None:
    """Raises Refused where a schema holds the deliveries of another tenant alone: their rows would stand side by side."""
    others = [other for other in target.tenants() if other != tenant]
    if others and not target.applied(tenant):
        step = "Load each tenant into a schema or database of its own"
        raise Refused(f"the database holds the deliveries of tenant {', '.join(sorted(others))}, and these are of {tenant}", next_step=step)


def _check_names(streams: Collection[tuple[str, str]], root: Path, tenant: str, only: Sequence[str]) -> None:
    """Raises Refused for a tenant or entity of which nothing is held. A wrong name would load nothing for ever, and say nothing."""
    entities = {entity for owner, entity in streams if tenant in ("", owner)}
    if streams and not entities:
        there = f"It holds {', '.join(sorted({owner for owner, _ in streams}))}"
        raise Refused(f"holds nothing of a tenant {tenant}", where=str(root), next_step=there)
    if streams and (unknown := set(only) - entities):
        there = f"It holds {', '.join(sorted(entities))}"
        raise Refused(f"holds nothing of an entity {', '.join(sorted(unknown))}", where=str(root), next_step=there)


class _Entity:
    """One entity of a tenant. `_last` is how far its chain is applied, and `_known` what the database remembers in order."""

    def __init__(
        self,
        target: Target,
        stream: tuple[str, str],
        root: Path,
        progress: Progress,
        report: Loaded,
        known: Iterable[Applied],
        *,
        gpg: bool,
        signers: Sequence[Key],
    ) -> None:
        self._target = target
        self._gpg = gpg
        self._signers = signers
        self._tenant, self._entity = stream
        self._root = root
        self._progress = progress
        self._report = report
        self._known = [applied for applied in known if (applied.tenant, applied.entity) == stream]
        self._last = max(((applied.generation, applied.sequence) for applied in self._known if _counts(applied)), default=None)
        self._held: dict[str, Held] = {}
        self._gone: Mapping[str, Kept] = {}
        self._lost: dict[str, Kept] = {}
        self._stopped: tuple[int, Refused] | None = None

    def run(self, held: Sequence[Held], gone: Mapping[str, Kept]) -> None:
        """Apply what is here; `gone` was fetched and is here no longer, which is well where the database holds it."""
        self._gone = gone
        self._lost = {path: kept for path, kept in gone.items() if self._lacks(kept)}
        done = {applied.content for applied in self._known}
        new = counting([kept for kept in held if kept.manifest.content not in done], self._signers)
        self._held = {kept.manifest.content: kept for kept in (*held, *new.signed)}
        chained = [(applied.generation, applied.sequence, applied.snapshot_time) for applied in self._known if _counts(applied)]
        chained += [_step_of(kept.manifest) for kept in new.signed if kept.manifest.kind != "backfill"]
        waiting = sorted((_place(kept.manifest, chained), kept.manifest.content, kept.path, kept) for kept in (*new.signed, *new.others))
        self._progress.begin(self._entity, sum(file.bytes for *_, item in waiting for file in item.manifest.all_files))
        for (place, _), same in groupby(waiting, key=lambda item: item[:2]):
            try:
                self._take(place, [item[3] for item in same], chained)
            except Unreachable:
                raise
            except Refused as error:
                self._stopped = place[0], error
        lost = {path: kept for path, kept in self._lost.items() if self._lacks(kept)}
        forget(self._root, [*lost])
        if self._stopped is None and lost:
            self._stopped = 0, self._refused(lost)
        if self._stopped is None and not waiting:
            self._check_table()
        if self._stopped is not None:
            self._report.problem(f"{self._tenant}/{self._entity}", self._stopped[1])

    def _check_table(self) -> None:
        """Nothing is to be applied: look at least whether what was applied is there."""
        try:
            with self._target.transaction():
                self._target.check(self._entity)
        except Unreachable:
            raise
        except Refused as error:
            self._stopped = 0, error

    def _lacks(self, kept: Kept) -> bool:
        """Whether the database needs a delivery and does not hold it."""
        if self._last is not None and kept.generation < self._last[0]:
            return False
        return all(kept.content != known.content for known in self._known)

    def _refused(self, lost: Mapping[str, Kept], rest: str = "") -> Refused:
        path, first = min(lost.items(), key=lambda item: (item[1].order, item[0]))
        which = f"{first.named} and {len(lost) - 1} more were fetched, are" if len(lost) > 1 else f"{first.named} was fetched, is"
        what = f"{which} no longer here, and not in the database{rest}"
        return Refused(what, where=f"{self._root}{path}", next_step="Pull once more, which fetches it again")

    def _take(self, place: Place, same: list[Held], chained: list[tuple[int, int, str]]) -> None:
        """Apply the next delivery, given with whatever repeats it. Raises Refused if the entity cannot go on."""
        manifest = same[0].manifest
        if self._stopped is not None and place[0] <= self._stopped[0]:
            return
        later = sorted((_place(known, chained), known.content) for known in self._known if known.result == "applied")
        later = [known for known in later if known[0] > place and known[0][0] == place[0]]
        contents = [content for _, content in later]
        if self._is_superseded(manifest, set(contents)):
            if is_signed(same[0], self._signers):  # otherwise it could name a delivery that is still to come
                self._remember(same[0], "superseded")
            return
        if manifest.kind == "backfill":
            if self._last is None or manifest.generation > self._last[0]:
                return  # the full delivery it belongs to is not here yet
            self._apply(same, contents)
            return
        match chain.step(self._last, manifest):
            case "gap":
                step = "Pull it; if it is not there, ask the sender to redeliver it, or for a full load, which starts a new generation"
                rest = f"so sequence {manifest.sequence} and what follows was not loaded"
                if self._lost:
                    raise self._refused(self._lost, f", {rest}")
                raise Refused(f"{chain.gap(self._last, manifest)}, {rest}", next_step=step)
            case "behind" if not manifest.possible_duplicate:
                step = "Ask the sender: `waybill reconcile` shows what its ledger knows"
                raise Refused(f"{manifest.named} came twice with different content", where=f"{self._root}{same[0].path}", next_step=step)
        self._apply(same, contents)
        if self._stopped is not None:
            self._report.notes.append(f"{self._tenant}/{self._entity}: {self._stopped[1].what}; a newer full delivery made up for it")
            self._stopped = None

    def _is_superseded(self, manifest: Manifest, later: set[str]) -> bool:
        """Return whether a full delivery with newer rows is applied already."""
        if self._last is not None and manifest.generation < self._last[0]:
            return True
        return any(known.kind == "full" and known.content in later for known in self._known)

    def _apply(self, same: list[Held], later: list[str]) -> None:
        """Apply one of several that hold the same: the first that is whole."""
        if lost := [content for content in later if content not in self._held]:
            moved = [path for path, kept in self._gone.items() if kept.content in lost]
            forget(self._root, moved)
            step = "Put those files back, or ask the sender for a full load"
            if moved:
                step = "Pull once more, which fetches those that the sender still has; otherwise put them back, or ask for a full load"
            what = f"comes after {len(lost)} deliveries that hold newer rows and are no longer here to be applied after it"
            raise Refused(what, where=f"{self._root}{same[0].path}", next_step=step)
        damage: Damaged | None = None
        for delivery in same:
            try:
                self._in_one_transaction(delivery, [self._held[content] for content in later])
            except Damaged as error:
                forget(self._root, [delivery.path])
                damage = damage or error
            else:
                return
        if damage is not None:
            first = same[0].manifest
            again = "Pull once more, which fetches it again" if is_pulled(self._root) else "Fetch it again"
            step = f"{again}; if it is still so, ask the sender to run `waybill redeliver {first.content}`"
            raise Damaged(f"{damage.what}; {self._tenant}/{self._entity} stays as it was before", where=damage.where, next_step=step)

    def _in_one_transaction(self, delivery: Held, later: Iterable[Held]) -> None:
        wider: dict[str, Column] = {}
        while True:
            try:
                with decrypting(gpg=self._gpg) as plain, self._target.transaction():
                    if is_mine := not self._target.is_applied(delivery.manifest.content):
                        for each in (delivery, *later):
                            self._require_signed(each)
                            self._write(each, wider, plain)
                        self._target.remember(_facts(delivery.manifest, "applied"))
                break
            except Widen as error:
                wider |= {column.name: column for column in error.columns}
        self._now_known(delivery.manifest, "applied")
        if not is_mine:
            return  # another load did it meanwhile
        facts = {"entity": delivery.manifest.entity, "generation": delivery.manifest.generation, "sequence": delivery.manifest.sequence}
        what = {"kind": delivery.manifest.kind, "rows": delivery.manifest.rows, "window_to": instant_text(delivery.manifest.end)}
        self._report.applied.append({"delivery_id": delivery.manifest.delivery_id, **facts, **what})

    def _require_signed(self, held: Held) -> None:
        """Raises Refused for a manifest that no known signer signed. Nobody asks again about what the database holds already."""
        if not self._signers:
            return
        try:
            require_signed(held, self._signers)
        except Wrong as error:
            forget(self._root, [held.path])  # a signature, or the manifest it is of, may have been lost or damaged here
            step = "Pull once more with --signer, which fetches it again; if it is still so, do not load it, and ask the sender"
            raise Refused(error.what, where=f"{self._root}{held.path}", next_step=step) from None

    def _write(self, held: Held, wider: dict[str, Column], plain: Plain) -> None:
        """Change the entity's table as one delivery says."""
        manifest, target = held.manifest, self._target
        owner, old = target.shape(manifest.entity) or (manifest.tenant, None)
        if owner != manifest.tenant:
            step = "Load each tenant into a schema or database of its own"
            raise Refused(f"the table {manifest.entity} holds the rows of tenant {owner}", where=f"{self._root}{held.path}", next_step=step)
        new = wanted_shape(old, manifest, wider)
        target.reshape(manifest.tenant, manifest.entity, old, new, emptied=manifest.kind == "full")
        columns = tuple(new.column(column.name) for column in manifest.columns)
        files = [self._data(held, file, columns, plain) for file in manifest.files]
        if manifest.kind == "full":
            target.replace(manifest.entity, new, files)
            return
        if manifest.deletes is not None and new.key:
            target.delete(manifest.entity, new, self._deletes(held, manifest.deletes, new, plain))
        if new.key:
            target.upsert(manifest.entity, new, files)
        elif manifest.kind == "backfill" or manifest.mode not in ("append", "full"):
            step = "Ask the sender to export the key's columns, and for full loads until then"
            what = "has no key, so its rows cannot be found among those that are here"
            raise Refused(what, where=f"{self._root}{held.path}", next_step=step)
        else:
            target.append(manifest.entity, new, files)

    def _deletes(self, held: Held, file: File, shape: Shape, plain: Plain) -> DataFile:
        """Remove the keys that are gone. The file's own header says in which order they are, and ends with the time they were noticed."""
        bare = self._data(held, file, (), plain)
        *keys, noticed = bare.header() or [""]
        if sorted(keys) != sorted(shape.key):
            raise Refused("is not a list of keys", where=str(bare.path), next_step="Ask the sender to redeliver it")
        return replace(bare, columns=(*(shape.column(name) for name in keys), Column(noticed, "timestamp")))

    def _data(self, held: Held, file: File, columns: tuple[Column, ...], plain: Plain) -> DataFile:
        path, format = held.folder / file.path, held.manifest.format_of(file)
        if held.manifest.encryption:
            path, file = plain.file(path, file, held.manifest)
        dialect = dialect_of(file, held.manifest.csv) if format == "csv" else Csv()
        return DataFile(path, file, dialect, columns, self._progress.add, format)

    def _remember(self, delivery: Held, result: str) -> None:
        with self._target.transaction():
            if not self._target.is_applied(delivery.manifest.content):
                self._target.remember(_facts(delivery.manifest, result))
        self._now_known(delivery.manifest, result)

    def _now_known(self, manifest: Manifest, result: str) -> None:
        self._known.append(_facts(manifest, result))
        if _counts(self._known[-1]):
            self._last = max(self._last or (0, 0), (manifest.generation, manifest.sequence))


def _counts(applied: Applied) -> bool:
    return applied.kind != "backfill"


def _step_of(manifest: Manifest) -> tuple[int, int, str]:
    return manifest.generation, manifest.sequence, instant_text(manifest.snapshot_time)


def _place(delivery: Manifest | Applied, chained: list[tuple[int, int, str]]) -> Place:
    """A backfill's rows are newer than those of every delivery of the chain that was read before it."""
    at = delivery.snapshot_time if isinstance(delivery, Applied) else instant_text(delivery.snapshot_time)
    if delivery.kind != "backfill":
        return delivery.generation, delivery.sequence, 0, at
    before = [sequence for generation, sequence, snapshot in chained if generation == delivery.generation and snapshot <= at]
    return delivery.generation, max(before, default=0), 1, at


def _facts(manifest: Manifest, result: str) -> Applied:
    times = instant_text(manifest.snapshot_time), instant_text(manifest.end)
    place = manifest.generation, manifest.sequence, manifest.kind
    return Applied(manifest.delivery_id, manifest.content, manifest.tenant, manifest.entity, *place, *times, manifest.rows, result)
