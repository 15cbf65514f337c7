"""What the Airflow triggers of the consumer see, on a real server: a day counts when its list is there, and is told once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.installations import DAY, NOON, Place, make_place
from tests.servers.sshd import SftpAccess
from waybill_consumer.airflow import days, triggers
from waybill_consumer.airflow.connections import login_of
from waybill_consumer.errors import Refused
from waybill_consumer.places import Login, open_place

CONNECTION = "WAYBILL_FILES"


@pytest.fixture
def place(tmp_path: Path, sshd: SftpAccess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """acme delivers to the server, and Airflow has a connection to it."""
    extra = {"private_key": sshd.private_key.read_text(), "host_key": sshd.host_key}
    said = {"conn_type": "sftp", "host": sshd.host, "port": sshd.port, "login": sshd.login, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION}", json.dumps(said))
    with closing(make_place(tmp_path / "place")) as place:
        place.tenant(entityList=["user", "theme"], destination={"kind": "folder", "root": str(sshd.root)})
        place.user(1, "Ada", NOON - 2 * DAY)
        yield place


def source(sshd: SftpAccess) -> str:
    return f"{sshd.remote_root}/exports/acme"


async def first(events: AsyncIterator[Any]) -> list[Any]:
    found = [(await asyncio.wait_for(anext(events), 60)).payload]
    await events.aclose()  # type: ignore[attr-defined]
    return found


def test_a_day_is_complete_with_its_list_and_its_newest_list_counts(place: Place, tmp_path: Path) -> None:
    place.tenant(destination={"kind": "folder", "root": "out"})
    for day in range(5):
        place.run(NOON + day * DAY)
    with open_place(str(place.out), Login()) as at:
        assert [day.date for day in days.newest(at)] == ["2026-06-02", "2026-06-03", "2026-06-04"]
        found = days.on(at, "2026-06-04")
        assert found is not None
        assert (found.tenant, found.number, found.entities) == ("acme", 1, ("theme", "user"))
        assert found.manifest == "/exports/acme/2026/06/04/_MANIFEST.json"
        assert days.on(at, "2026-06-05") is None
        (place.out / "exports/acme/2026/06/04/_MANIFEST.json").rename(tmp_path / "kept")
        assert days.on(at, "2026-06-04") is None
        assert [day.date for day in days.newest(at)] == ["2026-06-01", "2026-06-02", "2026-06-03"]
        with pytest.raises(Refused, match="is no date"):
            days.on(at, "yesterday")


def test_a_day_whose_list_is_damaged_keeps_no_other_back(place: Place) -> None:
    place.tenant(destination={"kind": "folder", "root": "out"})
    for day in range(5):
        place.run(NOON + day * DAY)
    (place.out / "exports/acme/2026/06/03/_MANIFEST.json").write_text("{")
    with open_place(str(place.out), Login()) as at:
        assert [day.date for day in days.newest(at)] == ["2026-06-01", "2026-06-02", "2026-06-04"]
        with pytest.raises(Refused, match=r"06/03/_MANIFEST\.json"):
            days.on(at, "2026-06-03")


def test_of_several_tenants_one_is_named(place: Place) -> None:
    for tenant in ("acme", "globex"):
        place.tenant(tenant, destination={"kind": "folder", "root": "out"}, **({"sourceTenant": "g"} if tenant == "globex" else {}))
        place.run(NOON, tenant)
    with open_place(str(place.out), Login()) as at:
        with pytest.raises(Refused, match="several tenants: acme, globex"):
            days.on(at, "2026-05-31")
        found = days.on(at, "2026-05-31", "globex")
        assert found is not None
        assert {day.tenant for day in days.newest(at)} == {"acme", "globex"}


def test_the_trigger_of_the_sensor_waits_for_its_day(place: Place, sshd: SftpAccess) -> None:
    async def wait() -> list[Any]:
        trigger = triggers.DayTrigger(source(sshd), "2026-06-01", CONNECTION.lower(), every=0.1)
        name, arguments = trigger.serialize()
        assert "private" not in json.dumps(arguments).lower()
        assert name == "waybill_consumer.airflow.triggers.DayTrigger"
        waiting = asyncio.create_task(first(triggers.DayTrigger(**arguments).run()))
        await asyncio.to_thread(place.run, NOON)
        assert not waiting.done()
        await asyncio.to_thread(place.run, NOON + DAY)
        return await waiting

    place.out.mkdir(exist_ok=True)
    (sshd.root / "exports/acme").mkdir(parents=True, exist_ok=True)
    [event] = asyncio.run(wait())
    assert (event["date"], event["tenant"], event["entities"]) == ("2026-06-01", "acme", ["theme", "user"])


def test_the_watcher_tells_the_newest_day_and_then_every_new_one_once(place: Place, sshd: SftpAccess) -> None:
    place.run(NOON)
    place.run(NOON + DAY)

    async def watch() -> list[Any]:
        events = triggers.DayWatcher(source(sshd), CONNECTION.lower(), every=0.1).run()
        told = [(await asyncio.wait_for(anext(events), 60)).payload]
        for full_load in (False, True):  # the full load makes a second list of the same date
            following = asyncio.create_task(asyncio.wait_for(anext(events), 60))
            await asyncio.to_thread(place.run, NOON + 2 * DAY, full_load=full_load)
            told.append((await following).payload)
        await events.aclose()  # type: ignore[attr-defined]
        return told

    found = [(result["date"], result["number"]) for result in asyncio.run(watch())]
    assert found == [("2026-06-01", 1), ("2026-06-02", 1), ("2026-06-02", 2)]


class Store:
    """What Airflow keeps of an asset's state, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = json.loads(json.dumps(value))


def test_a_watcher_that_is_started_again_tells_what_became_complete_meanwhile(place: Place, sshd: SftpAccess) -> None:
    store = Store()
    place.run(NOON)

    async def watch(count: int, *, kept: bool) -> list[tuple[str, int]]:
        watcher = triggers.DayWatcher(source(sshd), CONNECTION.lower(), every=0.1)
        watcher.asset_state_store = store  # type: ignore[assignment]  # as the triggerer sets it
        events = watcher.run()
        told = [(await asyncio.wait_for(anext(events), 60)).payload for _ in range(count)]
        following = asyncio.create_task(anext(events))
        while kept and not any(told[-1]["date"] in str(item) for item in store.kept.values()):
            await asyncio.sleep(0.05)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await events.aclose()  # type: ignore[attr-defined]
        return [(delivery["date"], delivery["number"]) for delivery in told]

    assert asyncio.run(watch(1, kept=True)) == [("2026-05-31", 1)]
    for day in range(1, 6):
        place.run(NOON + day * DAY)
    missed = [(f"2026-06-0{day}", 1) for day in range(1, 6)]
    assert asyncio.run(watch(5, kept=False)) == missed  # and the triggerer dies before the events are known to be kept
    assert asyncio.run(watch(5, kept=True)) == missed
    place.run(NOON + 5 * DAY, full_load=True)
    assert asyncio.run(watch(1, kept=True)) == [("2026-06-05", 2)]


def test_a_tenant_that_stands_still_has_no_day_of_another_told_again(place: Place) -> None:
    for tenant in ("acme", "globex"):
        place.tenant(tenant, destination={"kind": "folder", "root": "out"}, **({"sourceTenant": "g"} if tenant == "globex" else {}))
        place.run(NOON, tenant)
    for day in range(1, 9):
        place.run(NOON + day * DAY)

    async def watch() -> list[Any]:
        watcher, store = triggers.DayWatcher(str(place.out), every=0.01), Store()
        store.kept[watcher.store_key()] = [["acme", "2026-05-31", 1], ["globex", "2026-05-31", 1]]
        watcher.asset_state_store = store  # type: ignore[assignment]  # as the triggerer sets it
        events = watcher.run()
        told = [(await asyncio.wait_for(anext(events), 60)).payload for _ in range(8)]
        following = asyncio.create_task(first(events))
        await asyncio.to_thread(place.run, NOON + 9 * DAY)
        return told + await following

    found = [(result["tenant"], result["date"]) for result in asyncio.run(watch())]
    assert found == [("acme", f"2026-06-0{day}") for day in range(1, 10)]


def test_a_login_that_is_refused_is_told_to_the_task(place: Place, sshd: SftpAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"private_key": sshd.private_key.read_text(), "host_key": "ssh-ed25519 " + "A" * 68}
    said = {"conn_type": "sftp", "host": sshd.host, "port": sshd.port, "login": sshd.login, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION}", json.dumps(said))
    [event] = asyncio.run(first(triggers.DayTrigger(source(sshd), "2026-06-01", CONNECTION.lower(), every=0.1).run()))
    assert "host key" in event["problem"] or "cannot be read" in event["problem"]


def test_a_connection_takes_a_path_and_no_address() -> None:
    from airflow.sdk import Connection

    connection = Connection(
        conn_id="x", conn_type="sftp", host="files.example.com", login="a@b", password="p", extra='{"host_key": "AAAA"}'
    )
    with login_of("/exports/acme", connection) as (place, login):
        assert place == "sftp://a%40b@files.example.com:22/exports/acme"
        assert Path(login.known_hosts).read_text() == "files.example.com ssh-rsa AAAA\n"
        assert login.password == "p"
    assert not Path(login.known_hosts).exists()
    with pytest.raises(Refused, match="is no path on a server"), login_of("sftp://other/x", connection):
        pass
