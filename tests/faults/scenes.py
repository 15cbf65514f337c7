"""Small installations in a known state, and what they must have delivered once everything is well again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import update

from tests.faults.consumer import Row
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place
from tests.servers.sshd import SftpAccess, new_key
from waybill.connection import Connection
from waybill.ledger.tables import key_change
from waybill_consumer.signatures import Key, read_signers

MIDNIGHT = NOON.replace(hour=0)
FAR = NOON.replace(year=2100)
UNTIL = "2026-05-31T12:00:00Z"
NEXT = "2026-06-01T12:00:00Z"
AFTER = "2026-06-02T12:00:00Z"
CONNECTION = "acme_sftp"


@dataclass(frozen=True)
class Scene:
    """An installation just before `waybill ARGV`. `versions` are all that must have been delivered after it, by entity.

    `settle` is run in a copy before the first command; it may change the configuration and returns further environment.
    """

    root: Path
    argv: tuple[str, ...]
    versions: Mapping[str, list[Row]]
    settle: Callable[[Path], Mapping[str, str]] = field(default=lambda root: {})
    held: Mapping[str, list[str]] = field(default_factory=dict)
    """The keys that a copy which applies every delivery must hold after it, by entity."""
    signers: tuple[Key, ...] = ()
    """Who must have signed every manifest that is visible; nobody where it is empty."""

    @property
    def out(self) -> Path:
        return self.root / "out"


def text(instant: datetime | None) -> str | None:
    return None if instant is None else f"{instant:%Y-%m-%dT%H:%M:%S.%f}Z"


class Story:
    """Writes rows into the source and remembers each version as the row a consumer must get."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.versions: dict[str, list[Row]] = {"user": []}

    def write(self, number: int, name: str, at: datetime, *, deleted: datetime | None = None) -> None:
        self.place.user(number, name, at, deleted=deleted)
        self.versions["user"].append((str(number), name, text(at), text(deleted)))

    def first_day(self) -> None:
        for number in range(1, 8):
            self.write(number, f'Ada "{number}",\nof {"Löwen" * number}', MIDNIGHT - number * timedelta(hours=7))
        self.place.user(1, "Mallory", MIDNIGHT - DAY, tenant="globex")
        themes = [(1, "dark"), (2, ""), (3, None)]
        for number, name in themes:
            self.place.user(number, name, MIDNIGHT - DAY, table="theme")  # type: ignore[arg-type]
        self.themes: list[Row] = [(str(number), name, text(MIDNIGHT - DAY), None) for number, name in themes]
        self.versions["theme"] = list(self.themes)

    def beyond(self) -> None:
        """Rows past the first window's end, ahead of every clock, and to be deleted later."""
        self.write(20, "past the end", MIDNIGHT + timedelta(hours=2))
        self.write(21, "ahead", FAR)
        self.write(22, "closes later", MIDNIGHT - timedelta(hours=5), deleted=FAR)
        self.write(24, "two days past the end", MIDNIGHT + DAY + timedelta(hours=2))

    def beyond_changed(self) -> None:
        self.write(21, "ahead, changed", FAR)
        self.write(23, "closes later, too", MIDNIGHT + timedelta(hours=4), deleted=FAR)

    def second_day(self) -> None:
        self.write(2, "Bob, changed", MIDNIGHT + timedelta(hours=1))
        self.write(3, "Eve, gone", MIDNIGHT - 3 * timedelta(hours=7), deleted=MIDNIGHT + timedelta(hours=2))
        self.write(8, "Ina, new", MIDNIGHT + timedelta(hours=3))
        self.write(9, "Jan, committed late", MIDNIGHT - timedelta(hours=5))
        self.versions["theme"] += self.themes  # mode full: whole every time


def first(root: Path, **tenant: Any) -> Scene:
    """Nothing has happened yet: the run makes the ledger and delivers full loads."""
    place = make_place(root)
    place.tenant(**tenant)
    story = Story(place)
    story.first_day()
    return Scene(root, ("run", "acme", "--until", UNTIL), story.versions)


def delta(root: Path, **tenant: Any) -> Scene:
    """The full loads are delivered; the run delivers changes, a deletion and a late commit."""
    place = make_place(root)
    place.tenant(**tenant)
    story = Story(place)
    story.first_day()
    place.run(NOON)
    story.second_day()
    return Scene(root, ("run", "acme", "--until", NEXT), story.versions)


def signed(root: Path) -> Scene:
    """As `delta`, and every manifest is signed."""
    place = make_place(root)
    new_key(root / "key")
    extra = {"private_key": (root / "key").read_text()}
    place.connections["house_key"] = Connection("house_key", extra=extra)
    place.write("policy.yaml", {"signing": "house_key"})
    story = Story(place)
    story.first_day()
    place.run(NOON)
    story.second_day()
    held = {"AIRFLOW_CONN_HOUSE_KEY": json.dumps({"conn_type": "generic", "extra": extra})}
    signers = read_signers([str(root / "key.pub")])
    return Scene(root, ("run", "acme", "--until", NEXT), story.versions, settle=lambda copy: held, signers=signers)


def vanished(root: Path, **entity: Any) -> Scene:
    """Rows were told to be gone, and one of them is back as it was; the run tells of others that are gone, and delivers it and a change."""
    place = make_place(root)
    place.write("catalog.yaml", catalog(user={**USER, "deletes": "compare", **entity}, theme=THEME))
    story = Story(place)
    story.first_day()
    place.run(NOON)
    compared_long_ago(place)
    place.sql("delete from \"user\" where id in (6, 7) and tenant_id = 'acme'")
    place.run(NOON + DAY)
    compared_long_ago(place)
    story.write(6, f'Ada "6",\nof {"Löwen" * 6}', MIDNIGHT - 6 * timedelta(hours=7))
    story.write(2, "Bob, changed", MIDNIGHT + DAY + timedelta(hours=1))
    place.sql("delete from \"user\" where id in (4, 5) and tenant_id = 'acme'")
    story.versions["theme"] = story.themes * 3
    return Scene(root, ("run", "acme", "--until", AFTER), story.versions, held={"user": ["1", "2", "3", "6"]})


def compared_later(root: Path) -> Scene:
    """The same where keys are compared at a time of the day, which has come again since the last comparison."""
    return vanished(root, deletes_at="02:00")


def compared_long_ago(place: Place) -> None:
    with place.installation().ledger.begin() as connection:
        connection.execute(update(key_change).values(compared_at=NOON))


def parts(root: Path) -> Scene:
    return delta(root, csv={"compression": "gzip", "max_rows_per_file": 2, "delimiter": ";", "line_ending": "\r\n"})


def large(root: Path, rows: int = 20_000) -> Scene:
    """A first delivery of a few megabytes, so that it does not fit into one block of anything."""
    place = make_place(root)
    place.tenant(entityList=["user"])
    place.sql(
        f"""insert into "user" select 'acme', i, repeat('Löwe ', 20) || i, timestamptz '2026-05-30 00:00:00Z' + i * interval 1 second, null
        from range({rows}) r(i)"""
    )
    rows_of = [(str(i), "Löwe " * 20 + str(i), text(MIDNIGHT - DAY + i * timedelta(seconds=1)), None) for i in range(rows)]
    return Scene(root, ("run", "acme", "--until", UNTIL), {"user": rows_of})


def over_sftp(root: Path, server: SftpAccess) -> Scene:
    """A first delivery over SFTP."""
    return moved_to_sftp(first(root), server)


def moved_to_sftp(scene: Scene, server: SftpAccess) -> Scene:
    """The scene with its files on a server; every copy has a folder of its own there, found as `out` in the copy."""
    tenant = yaml.safe_load((scene.root / "config/tenants/acme.yaml").read_text())

    def settle(copy: Path) -> Mapping[str, str]:
        name = f"{copy.parent.name}-{copy.name}"
        remote = server.root / name
        remote.mkdir()
        (copy / "out").symlink_to(remote)
        spec = {"kind": "sftp", "connection": CONNECTION, "root": f"{server.remote_root}/{name}"}
        Place(copy).tenant(**tenant | {"destination": spec})
        return sftp_environment(server)

    return replace(scene, settle=settle)


def sftp_environment(server: SftpAccess, **changes: Any) -> dict[str, str]:
    """The server as an Airflow connection in the environment. `changes` replace fields; `extra` ones are merged."""
    extra = {"host_key": server.host_key, "private_key": server.private_key.read_text(), **changes.pop("extra", {})}
    fields = {"conn_type": "sftp", "host": server.host, "port": server.port, "login": server.login, "extra": extra, **changes}
    return {f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(fields)}
