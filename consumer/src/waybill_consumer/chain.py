"""The chain of a stream's deliveries, as its manifests tell it: each sequence is one higher, and each window begins where the last one
ended.

`step` says whether a delivery leaves a gap, and `gap` which numbers are missing. What that keeps a consumer from, and what to do, is added
where it happens: `pull.explaining` for what is not fetched, `load.loading` for what is not loaded, and here for what `verify` reports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from waybill_consumer.manifest import Manifest, instant_text


class Link(NamedTuple):
    """A delivery, the path of its manifest, and the SHA-256 of that manifest if it is known."""

    path: str
    manifest: Manifest
    document: str = ""

    @property
    def stream(self) -> tuple[str, str, int]:
        manifest = self.manifest
        return manifest.tenant, manifest.entity, manifest.generation

    @property
    def repeats(self) -> bool:
        return self.manifest.possible_duplicate or self.manifest.redelivers is not None


class Remark(NamedTuple):
    """Something about a path that a person should know. Only a problem makes the whole wrong."""

    path: str
    what: str
    is_problem: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def check(links: Iterable[Link], moved: Collection[tuple[str, str, int, int]] = ()) -> Iterator[Remark]:
    """What is wrong with the chains these links belong to. Deliveries before the first one present may have been taken away.

    `moved` are others that may be gone: tenant, entity, generation and sequence.
    """
    chained = [link for link in links if link.manifest.kind != "backfill"]
    ordered = sorted(chained, key=lambda link: (link.stream, link.manifest.sequence, link.manifest.redelivers is not None, link.path))
    for _, chain in groupby(ordered, key=lambda link: link.stream):
        before: list[Link] = []
        for _, group in groupby(chain, key=lambda link: link.manifest.sequence):
            same = list(group)
            yield from _same_sequence(same)
            yield from _beginning(same[0], alone=not before)
            if before:
                yield from _step(before, same[0], moved)
            before = same


def missing(last: int, found: int) -> str:
    """Return the numbers between two sequences in words."""
    return f"sequence {last + 1}" + (f" to {found - 1}" if found > last + 2 else "")


def _same_sequence(same: list[Link]) -> Iterator[Remark]:
    first, *others = same
    for other in others:
        if other.manifest.delivery_id == first.manifest.delivery_id:
            yield Remark(other.path, f"is the delivery that {first.path} is, once more", is_problem=False)
        elif not other.repeats and not first.repeats:
            yield Remark(other.path, f"sequence {other.manifest.sequence} was delivered twice, also by {first.path}")
        elif other.manifest.redelivers and other.manifest.sha256 != first.manifest.sha256:
            yield Remark(other.path, f"says it repeats delivery {other.manifest.redelivers}, but {first.path} holds other bytes")


def _beginning(link: Link, *, alone: bool) -> Iterator[Remark]:
    manifest = link.manifest
    if manifest.start is not None and manifest.start >= manifest.end:
        yield Remark(link.path, f"its window [{_shown(manifest.start)}, {_shown(manifest.end)}) is empty or reversed")
    if manifest.sequence < 1:
        yield Remark(link.path, f"sequence {manifest.sequence} is not a sequence number")
    elif manifest.sequence == 1:
        if manifest.previous is not None or manifest.start is not None:
            yield Remark(link.path, "is the first of its generation, yet names a previous delivery or a window start")
    elif manifest.previous is None or manifest.previous.sequence != manifest.sequence - 1:
        yield Remark(link.path, f"sequence {manifest.sequence} does not name sequence {manifest.sequence - 1} as its previous")
    elif alone:
        sentence = f"the chain begins with sequence {manifest.sequence} here: earlier deliveries were taken away"
        yield Remark(link.path, sentence, is_problem=False)


def _step(before: list[Link], link: Link, moved: Collection[tuple[str, str, int, int]]) -> Iterator[Remark]:
    last, manifest = before[0].manifest, link.manifest
    if manifest.sequence > last.sequence + 1:
        if all((*link.stream, number) in moved for number in range(last.sequence + 1, manifest.sequence)):
            return
        tenant, entity, generation = link.stream
        what = f"{missing(last.sequence, manifest.sequence)} of {tenant}/{entity} generation {generation} is missing before it"
        yield Remark(link.path, what)
        return
    if manifest.start != last.end:
        what = f"its window begins at {_shown(manifest.start)}, but the one before ({before[0].path}) ends at {_shown(last.end)}"
        yield Remark(link.path, what)
    if manifest.previous is not None and all(manifest.previous.sha256 != other.manifest.sha256 for other in before):
        yield Remark(link.path, f"names another previous file than {before[0].path} holds (previous.sha256 differs)")
    named = manifest.facts.get("previous_manifest_sha256")
    originals = [other for other in before if other.manifest.redelivers is None]
    if named is not None and originals and all(other.document not in ("", named) for other in originals):
        yield Remark(link.path, f"names another manifest than {before[0].path} as the one before (previous_manifest_sha256 differs)")


def _shown(at: datetime | None) -> str:
    return "the beginning" if at is None else instant_text(at)


Position = tuple[int, int]
"""Generation and sequence."""


def step(last: Position | None, manifest: Manifest) -> str:
    """Return what a delivery of the chain is to somebody who has everything up to `last`: `next`, `behind`, or `gap`."""
    if last is not None and manifest.generation <= last[0]:
        if (manifest.generation, manifest.sequence) <= last:
            return "behind"
        return "next" if manifest.sequence == last[1] + 1 else "gap"
    # A full delivery holds every row, so whatever came before it does not matter.
    return "next" if manifest.kind == "full" or manifest.sequence == 1 else "gap"


def gap(last: Position | None, manifest: Manifest) -> str:
    """Return which numbers are missing between `last` and a delivery that `step` calls a gap."""
    before = last[1] if last is not None and last[0] == manifest.generation else 0
    verb = "are" if manifest.sequence > before + 2 else "is"
    return f"{missing(before, manifest.sequence)} of {manifest.tenant}/{manifest.entity} generation {manifest.generation} {verb} missing"
