"""The chain of a stream's deliveries, as its manifests tell it: sequence +1, and each window begins where the one before ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from waybill.canonical import timestamp_text
from waybill.files.manifest import Manifest, Previous

Stream = tuple[str, str, int]
"""Tenant, entity, generation."""


@dataclass(frozen=True)
class Link:
    """What one manifest says of its place in the chain. `path` is where it stands."""

    path: str
    stream: Stream
    sequence: int
    delivery: str
    redelivers: str | None
    possible_duplicate: bool
    previous: Previous | None
    start: datetime | None
    end: datetime
    sha256: str


@dataclass(frozen=True)
class Remark:
    """Something about a path that a person should know. Only a problem makes the whole wrong."""

    path: str
    what: str
    is_problem: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def link(path: str, one: Manifest) -> Link | None:
    """The manifest's place in its chain; None for a backfill, which stands apart."""
    if one.kind == "backfill":
        return None
    stream = (one.tenant, one.entity, one.generation)
    repeats = one.possible_duplicate or one.redelivers is not None
    window = one.window
    return Link(path, stream, one.sequence, one.delivery_id, one.redelivers, repeats, one.previous, window.start, window.end, one.sha256)


def check(links: Iterable[Link]) -> Iterator[Remark]:
    """What is wrong with the chains these links belong to. Deliveries before the first one present may have been collected."""
    ordered = sorted(links, key=lambda one: (one.stream, one.sequence, one.redelivers is not None, one.path))
    for _, chain in groupby(ordered, key=lambda one: one.stream):
        before: list[Link] = []
        for _, group in groupby(chain, key=lambda one: one.sequence):
            same = list(group)
            yield from _same_sequence(same)
            yield from _beginning(same[0], alone=not before)
            if before:
                yield from _step(before, same[0])
            before = same


def _same_sequence(same: list[Link]) -> Iterator[Remark]:
    first, *others = same
    for other in others:
        if not other.possible_duplicate and not first.possible_duplicate:
            yield Remark(other.path, f"sequence {other.sequence} was delivered twice, also by {first.path}")
        elif other.redelivers and other.sha256 != first.sha256:
            yield Remark(other.path, f"says it repeats delivery {other.redelivers}, but {first.path} holds other bytes")


def _beginning(one: Link, *, alone: bool) -> Iterator[Remark]:
    if one.start is not None and one.start >= one.end:
        yield Remark(one.path, f"its window [{_shown(one.start)}, {_shown(one.end)}) is empty or reversed")
    if one.sequence < 1:
        yield Remark(one.path, f"sequence {one.sequence} is not a sequence number")
    elif one.sequence == 1:
        if one.previous is not None or one.start is not None:
            yield Remark(one.path, "is the first of its generation, yet names a previous delivery or a window start")
    elif one.previous is None or one.previous.sequence != one.sequence - 1:
        yield Remark(one.path, f"sequence {one.sequence} does not name sequence {one.sequence - 1} as its previous")
    elif alone:
        yield Remark(one.path, f"the chain begins with sequence {one.sequence} here: earlier deliveries were taken away", is_problem=False)


def _step(before: list[Link], one: Link) -> Iterator[Remark]:
    last = before[0]
    if one.sequence > last.sequence + 1:
        missing = f"sequence {last.sequence + 1}" + (f" to {one.sequence - 1}" if one.sequence > last.sequence + 2 else "")
        yield Remark(one.path, f"{missing} of {_named(one.stream)} is missing before it")
        return
    if one.start != last.end:
        yield Remark(one.path, f"its window begins at {_shown(one.start)}, but the one before ({last.path}) ends at {_shown(last.end)}")
    if one.previous is not None and all(one.previous.sha256 != other.sha256 for other in before):
        yield Remark(one.path, f"names another previous file than {last.path} holds (previous.sha256 differs)")


def _named(stream: Stream) -> str:
    tenant, entity, generation = stream
    return f"{tenant}/{entity} generation {generation}"


def _shown(at: datetime | None) -> str:
    return "the beginning" if at is None else timestamp_text(at)
