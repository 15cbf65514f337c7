"""What a folder holds: the deliveries whose manifest is there, by entity."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from waybill_consumer.errors import Refused
from waybill_consumer.manifest import SUFFIX, Manifest, parse
from waybill_consumer.places.folder import Folder
from waybill_consumer.position import Position


class Held(NamedTuple):
    """A delivery on this disk. `path` is that of its manifest below the root, with a slash in front."""

    path: str
    folder: Path
    manifest: Manifest


class Holdings(NamedTuple):
    """Everything a folder holds, and by their paths the manifests nobody can read."""

    entities: dict[tuple[str, str], list[Held]]
    unreadable: dict[str, Refused]

    @property
    def tenants(self) -> list[str]:
        return sorted({tenant for tenant, _ in self.entities})


def holdings(root: Path) -> Holdings:
    """Read every manifest below a folder. Raises Refused when there is no such folder."""
    if not root.is_dir():
        raise Refused("there is no such folder", where=str(root), next_step="Pull into it first")
    tree = Folder(root)
    found: dict[tuple[str, str], list[Held]] = defaultdict(list)
    unreadable = {}
    for item in tree.walk("/"):
        if not item.path.endswith(SUFFIX) or item.is_folder or "/." in item.path:
            continue
        try:
            manifest = parse(tree.read(item.path) or b"")
        except Refused as error:
            unreadable[item.path] = Refused(error.what, where=f"{root}{item.path}", next_step="Pull it again or ask the sender")
            continue
        found[manifest.tenant, manifest.entity].append(Held(item.path, (root / item.path.lstrip("/")).parent, manifest))
    return Holdings(dict(found), unreadable)


def adopt(root: Path, position: Position) -> None:
    """Learn from the files themselves how far a folder got, when its position is lost."""
    for deliveries in holdings(root).entities.values():
        for path, folder, manifest in deliveries:
            if all((folder / file.path).exists() for file in manifest.all_files):
                where, _, name = path.rpartition("/")
                position.hold(where, name, manifest)
