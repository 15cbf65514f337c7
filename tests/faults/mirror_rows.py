"""The rows of the story in `mirror`: what its sources hold, as this process knows it, and how each change is written into the real one."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.faults.mirror_sources import Source, Statement, Values

DAY = timedelta(days=1)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
TENANTS = ("acme", "globex", "initech")
LOOK_BACK = timedelta(days=3)
NAMES = ("", "plain", 'with "quotes"', "two\nlines", "comma, semicolon; tab\t", "\r", "Ä ß 漢 🚀", "  edges  ", "NULL", "\\N", "=1+1", None)
LAG = 9
"""How far below the highest id of `event` a row may still be committed."""

Texts = tuple[str | None, ...]
_FEW_PARENTS = 6


def code_of(number: int) -> str:
    """A text key by number: some differ in case, in accents, in blanks or in quotes only."""
    return ("a{}", "A{}", "á{}", "a{} ", 'a"{}"', "a,{}", "a\n{}", "'{}")[number % 8].format(number // 8)


class World:
    """The rows, by tenant and id, and everything they ever were. `now` is the story's time.

    In a `silent` one rows move and come back with old change times; in a `secret` one they also change and no change time tells.
    """

    def __init__(self, source: Source, dice: random.Random, now: datetime, *, late: bool, silent: bool, secret: bool = False) -> None:
        self.source, self.dice, self.now = source, dice, now
        self.late, self.silent, self.secret, self.marks_alone = late, silent, secret, False
        self.rows: dict[tuple[str, int], Values] = {}
        self.was: dict[tuple[str, int], list[Values]] = {}
        self.events: dict[tuple[str, int], Values] = {}
        self.parents: dict[int, str] = {}
        self.children: dict[int, tuple[int | None, Values]] = {}
        self.next_event = 1
        self.left_out: list[int] = []
        self.next_id = 1
        self.since = now - DAY
        """No stamp lies before it, but for what is committed late."""
        self._pending: list[Statement] = []
        self._last_held = 0
        self._held: list[tuple[Callable[[], None], tuple[str, int], Values]] = []

    def some(self, count: int) -> None:
        """So many changes, in one transaction."""
        kinds = [self.insert] * 5 + [self.update] * 6 + [self.delete] * 3 + [self.mark, self.move, self.renumber, self.swap_names]
        kinds += [self.come_back, self.ahead] + ([self.move_silently, self.restore] if self.silent else [])
        kinds += [self.change_secretly, self.become_as_before, self.rewrite_event] * 2 if self.secret else []
        kinds += [self.happen] * 4 + [self.purge] + [self.bear] * 3 + [self.grow, self.part, self.adopt, self.move_parent]
        for _ in range(count):
            self.dice.choice(kinds)()
        self.flush()
        if self.dice.random() < 0.3 and not self._held:
            self.source.rebuild(self.dice)

    def pass_time(self, days: int) -> None:
        """Commit what a look back from the next delivery would no longer reach, and some of the rest."""
        until = self.now + days * DAY
        for held in list(self._held):
            commit, at, values = held
            if until - values["updated_at"] > LOOK_BACK - DAY / 2 or self.dice.random() < 0.5:
                commit()
                self.rows[at] = values
                self.was.setdefault(at, []).append(values)
                self._held.remove(held)
        self.since, self.now = self.now, until

    def hold(self) -> None:
        """A row is written now, and committed after deliveries that would have held it."""
        self._last_held -= 1
        number = self._last_held
        at, values = (self.dice.choice(TENANTS), number), {**self._values(number), "updated_at": self.now - self.dice.random() * DAY / 2}
        if commit := self.source.hold(_insert("thing", {"tenant_id": at[0], **values})):
            self._held.append((commit, at, values))

    def end(self) -> None:
        for commit, _, _ in self._held:
            commit()

    def flush(self) -> None:
        self.source.write(self._pending)
        self._pending = []

    def stamp(self) -> datetime:
        span = (self.now - self.since).total_seconds()
        at = self.since + timedelta(seconds=self.dice.random() * span)
        if self.late and self.dice.random() < 0.3:
            at -= self.dice.random() * (LOOK_BACK - DAY / 2)
        return at.replace(microsecond=self.dice.choice([0, 1, 999_999]))

    def some_row(self) -> tuple[str, int] | None:
        return self.dice.choice(sorted(self.rows)) if self.rows else None

    def _values(self, number: int) -> Values:
        dice = self.dice
        return {
            "id": number,
            "code": code_of(number),
            "name": dice.choice(NAMES),
            "amount": dice.choice([None, Decimal(dice.randrange(-(10**6), 10**6)) / 100]),
            "seen": dice.choice([None, date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)]),
            "flag": dice.choice([None, True, False]),
            "updated_at": self.stamp(),
            "deleted_at": None,
        }

    def _put(self, at: tuple[str, int], values: Values) -> None:
        new = at not in self.rows
        self.rows[at] = values
        self.was.setdefault(at, []).append(values)
        names = list(values)
        if new:
            self._pending.append(_insert("thing", {"tenant_id": at[0], **values}))
        else:
            text = f"update thing set {', '.join(f'{name} = ?' for name in names)} where tenant_id = ? and id = ?"
            self._pending.append((text, [*values.values(), *at]))

    def _drop(self, at: tuple[str, int]) -> Values:
        self._pending.append(("delete from thing where tenant_id = ? and id = ?", at))
        return self.rows.pop(at)

    def happen(self) -> None:
        """An event is added: with the next id, or late, with one that was left out."""
        late = [number for number in self.left_out if number > self.next_event - LAG]
        if late and self.dice.random() < 0.3:
            number = self.dice.choice(late)
            self.left_out.remove(number)
        else:
            if self.dice.random() < 0.3:
                self.left_out.append(self.next_event)
                self.next_event += 1
            number, self.next_event = self.next_event, self.next_event + 1
        at, values = (self.dice.choice(TENANTS), number), self._values(number)
        self.events[at] = values
        self._pending.append(_insert("event", {"tenant_id": at[0], **values}))

    def purge(self) -> None:
        """An event is removed for good."""
        if self.events:
            at = self.dice.choice(sorted(self.events))
            del self.events[at]
            self._pending.append(("delete from event where tenant_id = ? and id = ?", at))

    def bear(self) -> None:
        """A child is added: to a parent, to none, or to one that comes later."""
        number, parent = self.next_id, self.dice.choice([None, *range(_FEW_PARENTS)])
        self.next_id += 1
        self.children[number] = parent, self._values(number)
        self._pending.append(_insert("child", {"parent_id": parent, **self.children[number][1]}))

    def grow(self) -> None:
        if self.children:
            number = self.dice.choice(sorted(self.children))
            values = self._values(number)
            self.children[number] = self.children[number][0], values
            text = f"update child set {', '.join(f'{name} = ?' for name in values)} where id = ?"
            self._pending.append((text, [*values.values(), number]))

    def part(self) -> None:
        if self.children:
            number = self.dice.choice(sorted(self.children))
            del self.children[number]
            self._pending.append(("delete from child where id = ?", [number]))

    def adopt(self) -> None:
        """A child has another parent from now on, and no change time tells."""
        if self.children:
            number, parent = self.dice.choice(sorted(self.children)), self.dice.choice([None, *range(_FEW_PARENTS)])
            self.children[number] = parent, self.children[number][1]
            self._pending.append(("update child set parent_id = ? where id = ?", [parent, number]))

    def move_parent(self) -> None:
        """A parent comes, goes to another tenant with all its children, or goes for good."""
        number, tenant = self.dice.randrange(_FEW_PARENTS), self.dice.choice(TENANTS)
        if number not in self.parents:
            self._pending.append(_insert("parent", {"tenant_id": tenant, "id": number}))
        elif self.dice.random() < 0.7:
            self._pending.append(("update parent set tenant_id = ? where id = ?", [tenant, number]))
        else:
            del self.parents[number]
            self._pending.append(("delete from parent where id = ?", [number]))
            return
        self.parents[number] = tenant

    def insert(self) -> None:
        number = self.next_id if self.dice.random() < 0.8 else self.dice.randrange(1, self.next_id + 1)
        at = (self.dice.choice(TENANTS), number)
        self.next_id = max(self.next_id, number) + 1
        if at not in self.rows:
            self._put(at, self._values(number))

    def update(self) -> None:
        if at := self.some_row():
            self._put(at, self._values(at[1]))

    def delete(self) -> None:
        if at := self.some_row():
            self._drop(at)

    def mark(self) -> None:
        """Deleted by its column; where every entity looks at that, without a touch of the change column."""
        if (at := self.some_row()) and self.rows[at]["deleted_at"] is None:
            touched = {} if self.marks_alone else {"updated_at": self.stamp()}
            self._put(at, {**self.rows[at], **touched, "deleted_at": self.stamp()})

    def move(self) -> None:
        """To another tenant, with all it is."""
        if (at := self.some_row()) and (to := (self.dice.choice(TENANTS), at[1])) not in self.rows:
            self._put(to, {**self._drop(at), "updated_at": self.stamp()})

    def move_silently(self) -> None:
        if (at := self.some_row()) and (to := (self.dice.choice(TENANTS), at[1])) not in self.rows:
            self._put(to, self._drop(at))

    def renumber(self) -> None:
        """A key is changed; the row stays."""
        if at := self.some_row():
            values = self._drop(at)
            self._put((at[0], self.next_id), {**values, "id": self.next_id, "code": code_of(self.next_id), "updated_at": self.stamp()})
            self.next_id += 1

    def swap_names(self) -> None:
        """Two rows exchange what they hold."""
        if (single := self.some_row()) and (two := self.some_row()) and single != two:
            a, b = self.rows[single]["name"], self.rows[two]["name"]
            self._put(single, {**self.rows[single], "name": b, "updated_at": self.stamp()})
            self._put(two, {**self.rows[two], "name": a, "updated_at": self.stamp()})

    def come_back(self) -> None:
        """A key that was there once, with other values."""
        gone = sorted(self.was.keys() - self.rows.keys())
        if gone:
            at = self.dice.choice(gone)
            self._put(at, self._values(at[1]))

    def restore(self) -> None:
        """A row as it was, its old change time included."""
        gone = sorted(self.was.keys() - self.rows.keys())
        if gone:
            at = self.dice.choice(gone)
            self._put(at, self.was[at][-1])

    def change_secretly(self) -> None:
        if at := self.some_row():
            self._put(at, {**self._values(at[1]), **{name: self.rows[at][name] for name in ("updated_at", "deleted_at")}})

    def become_as_before(self) -> None:
        """A version of the row that was there once, its old change time included."""
        if at := self.some_row():
            self._put(at, self.dice.choice(self.was[at]))

    def rewrite_event(self) -> None:
        if self.events:
            at = self.dice.choice(sorted(self.events))
            self.events[at] = {**self._values(at[1]), "updated_at": self.events[at]["updated_at"]}
            text = f"update event set {', '.join(f'{name} = ?' for name in self.events[at])} where tenant_id = ? and id = ?"
            self._pending.append((text, [*self.events[at].values(), *at]))

    def ahead(self) -> None:
        """A change time that no window reaches, or a deletion that is yet to come."""
        if at := self.some_row():
            name = self.dice.choice(["updated_at", "deleted_at"])
            values = {**self._values(at[1]), name: FAR + timedelta(seconds=self.dice.randrange(10**6))}
            self._put(at, values)


def _insert(table: str, values: Values) -> Statement:
    return f"insert into {table} ({', '.join(values)}) values ({', '.join('?' * len(values))})", list(values.values())


def text(kind: str, value: Any) -> str | None:
    """A value as its file spells it, from whatever a database gave."""
    if value is None:
        return None
    match kind:
        case "timestamp":
            at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        case "boolean":
            return str(bool(value)).lower()
        case "decimal":
            return f"{Decimal(value):.2f}"
    return str(value)
