"""Lists the folders of a place. One that the place does not let us list keeps nobody from the others, and nobody takes it for empty."""

from __future__ import annotations

from collections.abc import Sequence

from waybill_consumer.errors import Refused
from waybill_consumer.places import Entry, Place


class Listings:
    """What a run lists. `refused` are the folders that could not be listed, and why: what they hold is fetched by a later run."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.refused: dict[str, Refused] = {}

    def lists(self, folders: Sequence[str], *, were_listed: bool = False) -> list[list[Entry] | None]:
        """Return what each folder holds, or None for one that could not be listed. A missing folder holds nothing.

        If the folders above have just listed these (`were_listed`), a missing one was taken away since, or the server keeps it from us.
        """
        found: list[list[Entry] | None] = []
        for folder, answer in zip(folders, self._place.lists(folders) if folders else (), strict=True):
            listing = self._vanished(folder) if answer is None and were_listed else answer
            if isinstance(listing, Refused):
                self.refused[folder] = listing
            found.append(None if isinstance(listing, Refused) else listing or [])
        return found

    def _vanished(self, folder: str) -> Refused | None:
        above, _, name = folder.rpartition("/")
        if not name.isprintable():  # no sender gives a folder such a name, so nothing of a delivery is missing with it
            return None
        [now] = self._place.lists([above or "/"])
        if isinstance(now, Refused):
            return now
        if not any(entry == name and is_folder for entry, is_folder, _ in now or ()):
            return None
        return Refused("is listed in the folder above, and the server says that it is not there", where=f"{self._place.label}{folder}")

    def problems(self) -> list[Refused]:
        step = "What it holds is fetched once it can be listed. If it stays so, ask whoever runs the server"
        return [Refused(error.what, where=error.where, next_step=step) for _, error in sorted(self.refused.items())]
