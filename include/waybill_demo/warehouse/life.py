"""How rows of the demo warehouse begin, change and end: a pure function of (tenant, start, until, scale).

A row draws its whole life at birth, from a generator that (tenant, table, day, place in the day) seeds. So what is known about it at an
instant does not depend on how far the story is told, and one more day adds to the story and never rewrites it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

Row = dict[str, Any]
DAY = timedelta(days=1)


@dataclass(slots=True)
class Life:
    """One row at the story's end, with the instants that others need to refer to it."""

    id: Any
    born: datetime
    gone: datetime | None
    row: Row


@dataclass
class Company:
    """One tenant's story, filled table by table."""

    tenant: str
    start: datetime
    until: datetime
    scale: float
    lives: dict[str, list[Life]] = field(default_factory=dict)

    @property
    def founders(self) -> int:
        """Return how many people the tenant has on its first day: at least five."""
        size = Random(f"{self.tenant}|size").randrange(60, 121)
        return max(5, round(size * self.scale))

    def days(self) -> Iterator[datetime]:
        day = self.start
        while day < self.until:
            yield day
            day += DAY

    def before(self, table: str, instant: datetime) -> int:
        return bisect_left(self.lives[table], instant, key=_born)

    def born_on(self, table: str, day: datetime) -> list[Life]:
        return self.lives[table][self.before(table, day) : self.before(table, day + DAY)]

    def pick(self, table: str, r: Random, at: datetime) -> Life | None:
        """Return a row of the table that is alive at the instant, or None if there is none (or a few tries met only deleted ones)."""
        lives = self.lives[table]
        known = bisect_right(lives, at, key=_born)
        for _ in range(8 if known else 0):
            life = lives[r.randrange(known)]
            if life.gone is None or life.gone > at:
                return life
        return None


@dataclass
class Draw:
    """What a row may draw from while it is born or edited."""

    company: Company
    r: Random
    at: datetime
    number: int
    parent: Life | None

    def pick(self, table: str) -> Any:
        """Return the id of a row that is alive now, or None."""
        life = self.company.pick(table, self.r, self.at)
        return life and life.id

    def from_parent(self, column: str) -> Any:
        return self.parent.row[column] if self.parent else None

    def parent_id(self) -> Any:
        return self.parent and self.parent.id

    def chance(self, share: float) -> bool:
        return self.r.random() < share

    def one_of(self, *choices: Any) -> Any:
        return self.r.choice(choices)

    def upto(self, top: int) -> int:
        """Return a number with 0 <= n <= top, small ones more often."""
        return int(self.r.random() ** 2 * (top + 1))


Births = Callable[[Company, datetime, Random], Sequence[Life | None]]


@dataclass(frozen=True)
class Table:
    """`columns` maps names to DuckDB types. Every table also has tenant_id, created_at, updated_at and deleted_at.

    `edits` and `deletes` are the chances that a row is ever changed or soft-deleted. With `hour`, all rows of a day are born in one batch
    at exactly that hour UTC (midnight somewhere, so that windows meet rows on their very edge).
    """

    name: str
    columns: dict[str, str]
    births: Births
    draw: Callable[[Draw], Row]
    edit: dict[str, Callable[[Draw, Row], Any]]
    edits: float
    deletes: float
    hour: int | None

    @property
    def types(self) -> dict[str, str]:
        stamps = dict.fromkeys(("created_at", "updated_at", "deleted_at"), "TIMESTAMPTZ")
        return {"tenant_id": "VARCHAR", **self.columns, **stamps}


def table(
    columns: str,
    births: Births,
    *,
    edit: dict[str, Callable[[Draw, Row], Any]] | None = None,
    edits: float = 0.0,
    deletes: float = 0.0,
    hour: int | None = None,
) -> Callable[[Callable[[Draw], Row]], Table]:
    """Make a Table that is named like the function below it. `columns` is `name TYPE, name TYPE`, the id first."""
    pairs = (column.partition(" ") for column in columns.split(", "))
    types = {name: kind for name, _, kind in pairs}

    def decorate(draw: Callable[[Draw], Row]) -> Table:
        return Table(draw.__name__, types, births, draw, edit or {}, edits, deletes, hour)

    return decorate


def founded(count: int, then_every: int = 0) -> Births:
    """Make `count` rows on the first day, then one more every so many days."""

    def births(company: Company, day: datetime, r: Random) -> Sequence[None]:
        age = (day - company.start).days
        if age == 0:
            return [None] * count
        return [None] if then_every and age % then_every == 0 else []

    return births


def staff(company: Company, day: datetime, r: Random) -> Sequence[None]:
    """Make the founders in one import, then hires now and then."""
    if day == company.start:
        return [None] * company.founders
    return [None] * _whole(company.founders * 0.004, r)


def daily(per_head: float) -> Births:
    """Make so many rows per founder on a working day, and a third of that at weekends."""

    def births(company: Company, day: datetime, r: Random) -> Sequence[None]:
        share = 1.0 if day.weekday() < 5 else 1 / 3
        return [None] * _whole(company.founders * per_head * share, r)

    return births


def on_weekday(weekday: int) -> Births:
    return lambda company, day, r: [None] if day.weekday() == weekday else []


def each(parent: str, low: int, high: int) -> Births:
    """Make between low and high rows for each parent born this day."""

    def births(company: Company, day: datetime, r: Random) -> Sequence[Life]:
        return [life for life in company.born_on(parent, day) for _ in range(r.randint(low, high))]

    return births


def following(parent: str, within: int, chance: float) -> Births:
    """Follow each parent of the last days by a row with this chance per day. The chance falls as days pass."""

    def births(company: Company, day: datetime, r: Random) -> Sequence[Life]:
        return [life for ago in range(within) for life in company.born_on(parent, day - ago * DAY) if r.random() < chance / (ago + 1)]

    return births


def staff_of(parent: str, within: int, share: float) -> Births:
    """Make so many rows per founder a day for each parent of the last days. They become fewer as days pass."""

    def births(company: Company, day: datetime, r: Random) -> Sequence[Life]:
        return [
            life
            for ago in range(within)
            for life in company.born_on(parent, day - ago * DAY)
            for _ in range(_whole(company.founders * share / (ago + 1), r))
        ]

    return births


def tell(tables: Sequence[Table], company: Company) -> None:
    """Fill company.lives for every table, parents first as listed."""
    for table in tables:
        lives = company.lives[table.name] = []
        for day in company.days():
            r = Random(f"{company.tenant}|{table.name}|{day:%Y-%m-%d}")
            parents = table.births(company, day, r)
            moment = None if table.hour is None else day + timedelta(hours=table.hour)
            today = [_live(table, company, day, len(lives) + place, parent, moment) for place, parent in enumerate(parents, start=1)]
            lives.extend(sorted(today, key=_born))


def _live(table: Table, company: Company, day: datetime, number: int, parent: Life | None, moment: datetime | None) -> Life:
    r = Random(f"{company.tenant}|{table.name}|{day:%Y-%m-%d}|{number}")
    earliest = max(day, parent.born) if parent else day
    born = max(moment, earliest) if moment else _between(r, earliest, day + DAY)
    draw = Draw(company, r, born, number, parent)
    row = {"tenant_id": company.tenant, **table.draw(draw)}
    row |= {"created_at": born, "updated_at": born, "deleted_at": None}
    gone = _between(r, born, born + 50 * DAY) if r.random() < table.deletes else None
    edits = [_between(r, born, born + 70 * DAY) for _ in range(4) if r.random() < table.edits / 2]
    for at in sorted(edits):
        if at >= company.until or (gone and at >= gone):
            break
        draw.at = row["updated_at"] = at
        row |= {column: change(draw, row) for column, change in table.edit.items()}
    if gone and gone < company.until:
        row["updated_at"] = row["deleted_at"] = gone
    return Life(row["id"], born, gone, row)


def _born(life: Life) -> datetime:
    return life.born


def _between(r: Random, low: datetime, high: datetime) -> datetime:
    return low + timedelta(microseconds=int((high - low) / timedelta(microseconds=1) * r.random()))


def _whole(expected: float, r: Random) -> int:
    return int(expected + r.random())
