"""What a folder holds: the deliveries with a manifest, by entity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from waybill_consumer import signatures
from waybill_consumer.errors import Refused
from waybill_consumer.folder.lock import is_pulled
from waybill_consumer.folder.missing import incomplete
from waybill_consumer.folder.position import Position
from waybill_consumer.manifest import SUFFIX, Manifest, parse
from waybill_consumer.places.folder import Folder
from waybill_consumer.signatures import Key


class Held(NamedTuple):
    """A delivery on this disk. `path` is that of its manifest below the root, with a slash in front."""

    path: str
    folder: Path
    manifest: Manifest


class Holdings(NamedTuple):
    """Everything that a folder holds, and by their paths the manifests that nobody can read."""

    entities: dict[tuple[str, str], list[Held]]
    unreadable: dict[str, Refused]

    @property
    def tenants(self) -> list[str]:
        return sorted({tenant for tenant, _ in self.entities})


def holdings(root: Path) -> Holdings:
    """Read every manifest below a folder. Raises Refused if there is no such folder."""
    require_folder(root)
    tree = Folder(root)
    found: dict[tuple[str, str], list[Held]] = defaultdict(list)
    unreadable = {}
    for item in tree.walk("/"):
        if not item.path.endswith(SUFFIX) or item.is_folder or "/." in item.path:
            continue
        try:
            manifest = parse(tree.read(item.path) or b"")
        except Refused as error:
            step = "Pull once more, which fetches it again; if it is still so, ask the sender" if is_pulled(root) else "Ask the sender"
            unreadable[item.path] = Refused(error.what, where=f"{root}{item.path}", next_step=step)
            continue
        found[manifest.tenant, manifest.entity].append(Held(item.path, (root / item.path.lstrip("/")).parent, manifest))
    return Holdings(dict(found), unreadable)


def require_folder(root: Path) -> None:
    """Raises Refused if there is no such folder."""
    if not root.is_dir():
        raise Refused("there is no such folder", where=str(root), next_step="Pull into it first")


def require_signed(held: Held, signers: Sequence[Key]) -> None:
    """Raises Wrong unless one of `signers` signed the manifest of a delivery on this disk, as it was read."""
    document = held.folder / held.path.rpartition("/")[2]
    beside = document.with_name(document.name + signatures.SUFFIX)
    try:
        data, signature = document.read_bytes(), beside.read_bytes() if beside.exists() else None
    except OSError as error:
        raise signatures.Wrong(f"cannot be read: {error.strerror}") from None
    signatures.require(data, signature, signers)
    if parse(data) != held.manifest:
        raise signatures.Wrong("was changed while it was loaded")


def adopt(root: Path, position: Position, signers: Sequence[Key] = ()) -> None:
    """Learn from the files themselves how far a folder got, if its position is lost. With `signers`, only what they signed counts."""
    for deliveries in holdings(root).entities.values():
        for held in deliveries:
            if not incomplete(held.folder, held.manifest) and is_signed(held, signers):
                where, _, name = held.path.rpartition("/")
                position.hold(where, name, held.manifest)


class Counting(NamedTuple):
    """The deliveries that a known signer signed, and those of the others that do not pretend to be one of them."""

    signed: list[Held]
    others: list[Held]


def counting(deliveries: Sequence[Held], signers: Sequence[Key]) -> Counting:
    """Without signers every delivery counts. What nobody signed must not say where what is signed belongs, nor stand in its place."""
    signed = [held for held in deliveries if is_signed(held, signers)]
    contents = {held.manifest.content for held in signed}
    return Counting(signed, [held for held in deliveries if held.manifest.content not in contents])


def is_signed(held: Held, signers: Sequence[Key]) -> bool:
    """Return whether one of `signers` signed a delivery's manifest, or nobody asks for signatures."""
    try:
        if signers:
            require_signed(held, signers)
    except signatures.Wrong:
        return False
    return True
