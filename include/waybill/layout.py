"""Says where files are at a destination, with pure functions from ids, dates and numbers to paths below the root.

Every path consists of validated slugs and numbers only, so none can leave the tenant's folder. Names are read back here, too. Consumers
have the same rules in `waybill_consumer.verification`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from waybill.access import tenant_id
from waybill_consumer import signatures
from waybill_consumer.manifest import ENCRYPTED

EXPORTS = "/exports"
HIDDEN = re.compile(r"^\..+\.([0-9a-f]{32})\.part\Z")
"""Names of Waybill's own unfinished files: `.<final name>.<attempt id in hex>.part`."""

_NUMBERED = re.compile(r"[a-z][a-z0-9_]*\.g\d+\.\d+(?=[.-](?!r\d)|\Z)")
_REPEATED = re.compile(r"\.r(\d+)\Z")
_MANIFEST = re.compile(
    r"^(?P<folder>.*/(?P<y>[0-9]{4})/(?P<m>[0-9]{2})/(?P<d>[0-9]{2})/[^/]+(?:/backfill-[0-9a-f]+)?)(?:/.*)?/(?P<stem>[^/]+)\.manifest\.json\Z"
)

SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst"}


def date_of(year: str, month: str, day: str) -> date | None:
    """Return the date that the names of three folders spell, or None: anybody may make a folder `2026/99/99`."""
    spelt = f"{year}-{month}-{day}"
    try:
        found = date.fromisoformat(spelt)
    except ValueError:
        return None
    return found if found.isoformat() == spelt else None


def tenant_folder(tenant: str) -> str:
    return f"{EXPORTS}/{tenant_id(tenant)}"


def day_folder(tenant: str, day: date) -> str:
    return f"{tenant_folder(tenant)}/{day:%Y}/{day:%m}/{day:%d}"


def entity_folder(tenant: str, day: date, entity: str) -> str:
    return f"{day_folder(tenant, day)}/{entity}"


def backfill_folder(tenant: str, day: date, entity: str, backfill: str) -> str:
    return f"{entity_folder(tenant, day, entity)}/backfill-{backfill}"


def stem(entity: str, generation: int, sequence: int, *, first_of_day: bool) -> str:
    """Return the file name without extension. It is plain for the first delivery of an entity on a date, and numbered for any
    further one.
    """
    return entity if first_of_day else f"{entity}.g{generation}.{sequence}"


def repeated_stem(entity: str, generation: int, sequence: int, number: int) -> str:
    """Return the file name without extension of redelivery `number`, from 1, of a delivery."""
    return f"{entity}.g{generation}.{sequence}.r{number}"


def repetition(stem: str) -> int:
    """Return which redelivery a stem names, from 1, or 0 if it names an original."""
    found = _REPEATED.search(stem)
    return int(found[1]) if found else 0


def numbered_stem(name: str) -> str | None:
    """Return the stem in the name of a file or folder of a further delivery of a date, and None for any other name.

    A redelivery moves no sequence, so it counts as another name.
    """
    found = _NUMBERED.match(name)
    return found[0] if found else None


class Place(NamedTuple):
    """Where a delivery is: its date, its folder, and the stem of its files."""

    day: date
    folder: str
    stem: str


def place_of(manifest: str) -> Place | None:
    """Return the place of the delivery whose manifest has this path, and None for a path that Waybill gives to no manifest.

    The folder is that of the entity or backfill, also where a delivery in parts has one of its own in it.
    """
    found = _MANIFEST.match(manifest)
    day = date_of(found["y"], found["m"], found["d"]) if found else None
    return Place(day, found["folder"], found["stem"]) if found and day else None


def day_manifest_name(number: int) -> str:
    """Return `_MANIFEST.json` for the first, and `_MANIFEST.2.json` and so on for later deliveries of the date."""
    return "_MANIFEST.json" if number == 1 else f"_MANIFEST.{number}.json"


def feed_index(tenant: str) -> str:
    return f"{tenant_folder(tenant)}/feed.json"


def feed_page_name(feed: str, number: int, unique: str = "") -> str:
    """Return the path of a page of a feed, below the tenant's folder. `unique` goes into the name if nothing can be renamed or
    looked at.
    """
    return f"feed/{feed}/page-{number:06d}{f'.{unique}' if unique else ''}.json"


def readme(tenant: str) -> str:
    return f"{tenant_folder(tenant)}/_README.txt"


@dataclass(frozen=True)
class Target:
    """The final paths of one delivery. Everything is in `folder` and named after `stem`. `in_parts` says that the data is several files."""

    folder: str
    stem: str
    compression: str = "none"
    format: str = "csv"
    encrypted: bool = False
    in_parts: bool = False

    @property
    def suffix(self) -> str:
        """Return the ending of the data files' names. Parquet is compressed inside."""
        plain = ".parquet" if self.format == "parquet" else f".{self.format}{SUFFIXES[self.compression]}"
        return plain + ENCRYPTED * self.encrypted

    @property
    def data(self) -> str:
        return f"{self.folder}/{self.stem}{self.suffix}"

    @property
    def appears(self) -> str:
        """Return what one rename makes visible: the data file, or the folder that holds the parts."""
        return self.folder if self.in_parts else self.data

    @property
    def deletes(self) -> str:
        """Return the file with the keys that are gone, beside the data. It is CSV for every format."""
        return f"{self.folder}/{self.stem}.deletes.csv{SUFFIXES[self.compression]}{ENCRYPTED * self.encrypted}"

    @property
    def manifest(self) -> str:
        return f"{self.folder}/{self.stem}.manifest.json"

    def part(self, number: int) -> str:
        """Return the name of part `number` (from 1) of a delivery that is split into several files."""
        return f"{self.stem}-{number:04d}{self.suffix}"

    def name(self, number: int) -> str:
        """Return the bare name of data file `number`, from 1."""
        return self.part(number) if self.in_parts else f"{self.stem}{self.suffix}"


def signature(document: str) -> str:
    """Return the path of the signature of a manifest or day manifest. It is beside it, under the name that `ssh-keygen -Y sign`
    gives it.
    """
    return f"{document}{signatures.SUFFIX}"


def hidden(final: str, attempt: str) -> str:
    """Return the hidden name of a file before it is published as `final`. `attempt` is a 32 digit hex id."""
    folder, _, name = final.rpartition("/")
    return f"{folder}/.{name}.{attempt}.part"


def is_hidden(name: str) -> bool:
    """Return whether a bare file name is one of Waybill's own unfinished files."""
    return HIDDEN.match(name) is not None


def attempt_of(name: str) -> str:
    """Return the attempt that an unfinished file belongs to, by its bare name. Raises ValueError for any other name."""
    if found := HIDDEN.match(name):
        return found[1]
    raise ValueError(f"{name!r} is no unfinished file of Waybill's")
