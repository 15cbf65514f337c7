"""Whose deliveries a folder keeps: one tenant's where its years stand, and one sender's history of it."""

from __future__ import annotations

from waybill_consumer.errors import Refused
from waybill_consumer.manifest import Manifest, parse
from waybill_consumer.places import Place
from waybill_consumer.position import Position, home_of

OTHER_HISTORY_STEP = "Pull each SOURCE into a DIR of its own; if it is the same SOURCE as before, ask the sender for a full load"
_ASKED = 50


class Foreign(Refused):
    """Deliveries of somebody else, or of another history. Nothing of them was fetched."""


def require_same_history(place: Place, position: Position) -> None:
    """Raises Foreign where another SOURCE than before holds other deliveries under the names of those that are here."""
    asked = [*position.kept.items()][-_ASKED:]
    for (path, kept), data in zip(asked, place.reads([path for path, _ in asked]) if asked else (), strict=True):
        if data is None:
            continue
        try:
            found = parse(data)
        except Refused:
            continue
        if (found.tenant, found.content) != (kept.tenant, kept.content):
            what = f"holds another delivery than {position.source}, which was pulled into this folder before"
            whose = f" (tenant {found.tenant}, here is {kept.tenant})" if found.tenant != kept.tenant else ""
            raise Foreign(f"{what}{whose}", where=f"{place.label}{path}", next_step="Pull each SOURCE into a DIR of its own")


def require_same_tenant(position: Position, folder: str, manifest: Manifest, *, where: str, is_moved: bool) -> None:
    """Raises Foreign for a tenant that does not belong here. One more tenant may come below the SOURCE that was pulled before."""
    home = home_of(folder)
    known = {*position.homes.values(), *(stream.partition("/")[0] for stream in position.streams)}
    owner = position.homes.get(home)
    if owner is None and (not known or manifest.tenant in known or not is_moved):
        position.homes[home] = manifest.tenant
        return
    if owner != manifest.tenant:
        held = owner or ", ".join(sorted(known))
        what = f"is of tenant {manifest.tenant}, and this folder keeps the deliveries of {held}"
        raise Foreign(what, where=where, next_step="Pull each tenant's SOURCE into a DIR of its own")


def other_history(position: Position, manifest: Manifest) -> str:
    """What is wrong with a delivery that comes next by its number, but names another one before it than is here; else nothing."""
    stream = position.streams.get(f"{manifest.tenant}/{manifest.entity}", {})
    if manifest.previous is None or stream.get("generation") != manifest.generation or not stream.get("sha256"):
        return ""
    if manifest.previous.sha256 in stream["sha256"]:
        return ""
    return f"names another delivery before it than sequence {stream['sequence']} that is here, so it belongs to another history"
