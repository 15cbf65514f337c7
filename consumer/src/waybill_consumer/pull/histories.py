"""Whose deliveries a folder keeps: one tenant's where its years stand, and one sender's history of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from waybill_consumer.errors import Refused
from waybill_consumer.folder.position import Kept, Position, home_of
from waybill_consumer.manifest import Manifest, parse
from waybill_consumer.places import Place, taken
from waybill_consumer.pull.finding import tenant_folders

OTHER_HISTORY_STEP = "Pull each SOURCE into a DIR of its own; if it is the same SOURCE as before, ask the sender for a full load"
_ASKED = 50
_LOOKED_AT_AGAIN = 10
_INSIDE = re.compile(r"(.*)/\d{4}(?:/\d\d(?:/\d\d(?:/[^/]+){0,2})?)?/*\Z")
"""A path that ends inside a tenant's dates: in a year, a month, a day, or an entity's folder of a day."""


class ForeignDeliveries(Refused):
    """Deliveries of somebody else, or of another history. Nothing of them was fetched."""


def require_fitting(place: Place, source: str, position: Position) -> None:
    """Raises Refused for a SOURCE that can hold nothing, or other deliveries than those that are here."""
    if position.source != source or not position.kept:
        require_a_tenants_folder(place, source)
    if position.source not in ("", source):
        require_same_history(place, position)


def require_same_history(place: Place, position: Position) -> None:
    """Raises ForeignDeliveries where another SOURCE than before holds other deliveries under the names of those that are here."""
    asked = [*position.kept.items()][-_ASKED:]
    for (path, kept), data in zip(asked, place.reads([path for path, _ in asked]) if asked else (), strict=True):
        if data is None:
            continue
        try:
            found = parse(taken(data) or b"")
        except Refused:
            continue
        if (found.tenant, found.content) != (kept.tenant, kept.content):
            what = f"holds another delivery than {position.source}, which was pulled into this folder before"
            whose = f" (tenant {found.tenant}, here is {kept.tenant})" if found.tenant != kept.tenant else ""
            raise ForeignDeliveries(f"{what}{whose}", where=f"{place.label}{path}", next_step="Pull each SOURCE into a DIR of its own")


def rewritten(place: Place, position: Position) -> list[tuple[str, Kept]]:
    """Return what SOURCE holds another delivery of, under the same name, than is here, with the paths of the manifests.

    That is so where the sender went back to an earlier state, its ledger and its files together, and counts on from there. The newest
    deliveries of the entity that came last are looked at, and if one differs, all. A full load of a new generation counts as not held.
    """
    current = [(path, kept) for path, kept in position.kept.items() if not position.is_superseded(kept)]
    newest = [(path, kept) for path, kept in current if kept.stream == current[-1][1].stream][-_LOOKED_AT_AGAIN:]
    if not [*_others(place, newest)]:
        return []
    found = []
    for path, kept, manifest in _others(place, current):
        found.append((path, kept))
        if manifest.generation > kept.generation:
            position.forget(path)
    return found


def _others(place: Place, asked: Sequence[tuple[str, Kept]]) -> Iterator[tuple[str, Kept, Manifest]]:
    for (path, kept), data in zip(asked, place.reads([path for path, _ in asked]) if asked else (), strict=True):
        with suppress(Refused):
            if (manifest := parse(taken(data) or b"")).content != kept.content:
                yield path, kept, manifest


def went_back(label: str, path: str, kept: Kept) -> Refused:
    """What to say where nothing has made up for a delivery that the sender replaced by another one."""
    what = f"holds another delivery than the one that was pulled as {kept.named}: the sender went back to an earlier state"
    return Refused(what, where=f"{label}{path}", next_step="Ask the sender for a full load")


def require_same_tenant(position: Position, folder: str, manifest: Manifest, *, where: str, is_moved: bool) -> None:
    """Raises ForeignDeliveries for a tenant that does not belong here. One more tenant may come below the SOURCE that was pulled before."""
    home = home_of(folder)
    known = {*position.homes.values(), *(stream.partition("/")[0] for stream in position.streams)}
    owner = position.homes.get(home)
    if owner is None and (not known or manifest.tenant in known or not is_moved):
        position.homes[home] = manifest.tenant
        return
    if owner != manifest.tenant:
        held = owner or ", ".join(sorted(known))
        what = f"is of tenant {manifest.tenant}, and this folder keeps the deliveries of {held}"
        raise ForeignDeliveries(what, where=where, next_step="Pull each tenant's SOURCE into a DIR of its own")


def other_history(position: Position, manifest: Manifest) -> str:
    """What is wrong with a delivery that comes next by its number, but names another one before it than is here; else nothing."""
    stream = position.streams.get(f"{manifest.tenant}/{manifest.entity}", {})
    if manifest.previous is None or stream.get("generation") != manifest.generation or not stream.get("sha256"):
        return ""
    if manifest.previous.sha256 in stream["sha256"]:
        return ""
    return f"names another delivery before it than sequence {stream['sequence']} that is here, so it belongs to another history"


def require_a_tenants_folder(place: Place, source: str) -> None:
    """Raises Refused for a SOURCE that ends inside a tenant's dates, where no other date can ever come."""
    inside = _INSIDE.match(source if "://" in source else (Path.cwd() / source).as_posix())
    if inside and not tenant_folders(place):
        what = "ends inside the dates of a tenant, so that no delivery of another date would be found"
        raise Refused(what, where=source, next_step=f"Use {inside[1] or '/'} as SOURCE, the folder that holds the years")


def homes_of(position: Position) -> dict[str, str]:
    """The tenants by the folders of their years, as far as a folder keeps deliveries of them."""
    return {**position.homes, **{home_of(path.rpartition("/")[0]): kept.tenant for path, kept in position.kept.items()}}


def require_same_home(homes: Mapping[str, str], folder: str, manifest: Manifest, *, label: str) -> None:
    """Raises ForeignDeliveries where a tenant's years are in another folder below SOURCE than below DIR: everything would be here twice."""
    home = home_of(folder)
    kept = sorted(known for known, tenant in homes.items() if tenant == manifest.tenant)
    if not kept or home in kept:
        return
    shown = [f"{known.lstrip('/')}/" if known else "its top" for known in (home, kept[0])]
    what = f"has the years of tenant {manifest.tenant} in {shown[0]}, and DIR keeps them in {shown[1]}, so all would be fetched twice"
    step = "Use the same SOURCE as before, or a DIR of its own"
    if home.endswith(kept[0]):
        step = f"Use {label}{home.removesuffix(kept[0])} as SOURCE, or a DIR of its own"
    raise ForeignDeliveries(what, where=label, next_step=step)


def nothing_left(place: Place, position: Position) -> Refused:
    """What to say of a SOURCE without any date, from which deliveries were pulled before."""
    count = len(position.kept)
    what = f"holds no delivery of any date, and {count} {'delivery was' if count == 1 else 'deliveries were'} pulled before"
    step = (
        "If the server came up without its disk, or the files moved, ask the sender to bring them back; "
        "if the sender removed all old files, ask when the next delivery comes"
    )
    return Refused(what, where=place.label, next_step=step)
