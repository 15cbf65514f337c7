"""What the pages say of runs: under way, waiting to be tried again, started by hand; and what a page that follows one is sent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from markupsafe import Markup

from tests.exports import START, make_office, person
from tests.issuer import RecordingScheduler
from tests.open_access import OpenDoor
from waybill.access import Caller
from waybill.deliveries.reports.overview import SchedulerState
from waybill.installation import Installation
from waybill.registrations.applying import Failed
from waybill.web.app import create_app

FOLLOWING = {"HX-Request": "true", "HX-Target": "standing"}


@dataclass
class House:
    client: TestClient
    scheduler: RecordingScheduler
    installation: Installation

    def look(self, path: str, **headers: str) -> str:
        answer = self.client.get(f"/page/{path}", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    def follow(self, path: str) -> str:
        return self.look(path, **FOLLOWING)


def words(html: str) -> str:
    return str(Markup(html).striptags())  # noqa: S704 (read here, shown nowhere)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """acme has its data, initech fails."""
    office = make_office(tmp_path_factory.mktemp("house"))
    office.place.tenant("initech", entityList=["site"], destination={"kind": "sftp", "connection": "initech_sftp"})
    for tenant in ("acme", "initech"):
        office.place.run(START, tenant)
    installation, scheduler = office.installation(), RecordingScheduler()
    with TestClient(create_app(lambda: installation, OpenDoor(), scheduler)) as client:
        yield House(client, scheduler, installation)
    office.place.close()


@pytest.fixture
def house(opened: House) -> House:
    """No run is under way."""
    opened.scheduler.scheduler_states = {name: SchedulerState() for name in ("acme", "globex", "initech")}
    return opened


def scheduler_state(house: House, **facts: object) -> None:
    assert house.scheduler.scheduler_states is not None
    house.scheduler.scheduler_states["initech"] = SchedulerState(**facts)  # type: ignore[arg-type]


def test_the_overview_says_what_comes_next_and_a_run_can_be_started_from_it(house: House) -> None:
    said = house.look("?q=initech")
    assert "No run is under way; the next one is at" in words(said)
    assert 'hx-post="./tenants/initech/run"' in said
    scheduler_state(house, run="running", retry_at=START + timedelta(minutes=5))
    said = words(house.look("?q=initech"))
    assert "Airflow tries again by itself at 2026-06-01 12:05 UTC; “Run what is due” tries at once." in said
    assert "retrying" in said
    scheduler_state(house, scheduled=False)
    assert "no schedule here" in words(house.look("?q=initech"))
    scheduler_state(house, paused=True)
    assert "tenants/initech/run" not in house.look("?q=initech")


def test_who_is_behind_and_held_by_a_paused_dag_is_no_good_news_and_stands_before_who_has_their_data(house: House) -> None:
    scheduler_state(house, paused=True)
    said = house.look("")
    assert '<section class="verdict warn"' in said
    assert "1 tenant is paused in Airflow and behind" in words(said)
    order = [said.index(f'tenants/{name}">') for name in ("initech", "globex", "acme")]
    assert order == sorted(order)
    assert "Its DAG is paused in Airflow. Switch it on there" in words(house.look("?state=held"))
    assert house.scheduler.scheduler_states is not None
    house.scheduler.scheduler_states["acme"] = SchedulerState(paused=True)  # has its data: nothing is owed to it
    assert "initech" not in words(house.look("?state=paused")).partition("Next run")[2]


def test_what_is_due_without_a_schedule_can_be_started_from_the_overview(house: House) -> None:
    assert house.scheduler.scheduler_states is not None
    house.scheduler.scheduler_states["globex"] = SchedulerState(scheduled=False)
    said = house.look("?q=globex&state=due")
    assert "runs are started by hand, with “Run what is due”." in words(said)
    assert 'hx-post="./tenants/globex/run"' in said


def test_a_page_follows_a_run_and_is_sent_what_changed_once(house: House) -> None:
    scheduler_state(house, run="queued")
    said = house.look("tenants/initech?said=run_now")
    assert said.count("now-causes") == 1
    place = said.partition('id="standing" aria-label="Standing" hx-get="../')[2].partition('"')[0].replace("&amp;", "&")
    again = house.follow(place)
    assert "now-causes" not in again  # nothing is new
    assert "A run is queued" in words(again)
    scheduler_state(house, run="running")
    assert 'id="now-causes" hx-swap-oob="innerHTML"' in house.follow(place)
    scheduler_state(house)
    over = house.follow(place)
    assert "hx-get" not in over
    assert "The run has ended, and not everything that is due was delivered." in words(over)
    assert 'id="now-deliveries" hx-swap-oob="innerHTML"' in over
    scheduler_state(house, run="running")
    assert "This page has stopped updating." in words(house.follow("tenants/initech?said=run_now&look=120"))


def test_a_new_tenant_is_followed_until_its_first_run_is_made_and_no_longer_where_there_is_no_schedule(house: House) -> None:
    assert house.scheduler.scheduler_states is not None
    del house.scheduler.scheduler_states["globex"]
    said = house.look("tenants/globex?said=created")
    assert "Its DAG is not in Airflow yet" in words(said)
    assert "look=1" in said
    house.scheduler.scheduler_states["globex"] = SchedulerState()
    still = house.follow("tenants/globex?said=created&look=2")
    assert "look=3" in still
    assert "has ended" not in still
    house.scheduler.scheduler_states["globex"] = SchedulerState(scheduled=False)
    assert "hx-get" not in house.follow("tenants/globex?said=created&look=2")
    assert "runs are started by hand" in words(house.look("tenants/globex"))


def test_a_state_there_is_not_is_told_and_all_tenants_are_shown(house: House) -> None:
    said = words(house.look("?state=bogus"))
    assert "There is no state “bogus”: all tenants are shown." in said
    assert "initech" in said


@dataclass(frozen=True)
class DoorFor:
    """A shell that knows but one person."""

    who: Caller

    async def caller(self, request: object) -> Caller:
        return self.who


Edited = Callable[..., House]


@pytest.fixture
def edited(house: House, tmp_path: Path) -> Iterator[Edited]:
    """The same ledger, with files that were edited since they were applied; seen by somebody who may do everything, or by `who`."""
    config = tmp_path / "config"
    with ExitStack() as stack:

        def edit(files: dict[str, str | None], who: Caller | None = None, failed: Failed | None = None) -> House:
            shutil.copytree(house.installation.settings.config_dir, config, dirs_exist_ok=True)
            for name, text in files.items():
                (config / name).unlink(missing_ok=True)
                if text is not None:
                    (config / name).write_text(text)
            installation = replace(house.installation, settings=replace(house.installation.settings, config_dir=config))
            scheduler = RecordingScheduler(
                scheduler_states={name: SchedulerState() for name in ("acme", "globex", "initech")}, failed=failed
            )
            door = DoorFor(who) if who else OpenDoor()
            client = stack.enter_context(TestClient(create_app(lambda: installation, door, scheduler)))
            return House(client, scheduler, installation)

        yield edit


BROKEN = {"tenants/globex.yaml": "entityList: [measurement]\nfrequency: weakly\n", "tenants/umbrella.yaml": "entityList: [usr]\n"}
FAILED = Failed(START, "dags/apply_config/runs/scheduled__1")


def test_files_that_cannot_be_applied_are_told_above_all_tenants_and_on_their_own_pages(edited: Edited) -> None:
    there = edited(BROKEN, failed=FAILED)
    page = there.look("")
    said = words(page)
    assert "2 files of tenants are not applied: 2 problems, the first: config/tenants/globex.yaml: frequency: " in said
    assert "apply_config has failed since 2026-06-01 12:00 UTC: its last run." in said
    assert 'href="./../../dags/apply_config/runs/scheduled__1"' in page
    for tenant in ("globex", "umbrella"):
        shown = words(there.look(f"tenants/{tenant}"))
        assert f"{tenant} is managed as code by config/tenants/{tenant}.yaml, which is not applied: it has 1 mistake." in shown
        assert "Managed as code by" not in shown


def test_a_file_that_was_changed_or_removed_since_is_told_as_not_applied_yet(edited: Edited) -> None:
    there = edited({"tenants/acme.yaml": "entityList: [site]\n"})
    assert "managed as code by config/tenants/acme.yaml, which is not applied yet." in words(there.look("tenants/acme"))
    assert "is not applied" not in words(there.look(""))
    gone = edited({"tenants/globex.yaml": None}).look("tenants/globex")
    assert "which is gone or switches its exports off. That is not applied yet." in words(gone)


def test_who_sees_one_tenant_reads_nothing_of_other_tenants_files(edited: Edited) -> None:
    ada = person("ada", "acme")
    theirs = edited(BROKEN, ada, FAILED).look("?state=delivered")
    assert '<section class="verdict good"' in theirs
    for word in ("globex", "umbrella", "not applied", "apply_config"):
        assert word not in theirs
    shared = edited({"catalog.yaml": "sources: {}\n"}, ada).look("?state=delivered")
    assert '<section class="verdict warn"' in shared
    assert "Every tenant got its data; not all configuration is applied" in words(shared)
    assert "No change of the configuration is applied: files that all tenants share have mistakes." in words(shared)
    assert "catalog.yaml" not in shared


def test_rounds_that_fail_for_another_reason_than_a_file_are_told_too(edited: Edited) -> None:
    said = words(edited({}, failed=FAILED).look(""))
    assert "The configuration was not applied. apply_config has failed since 2026-06-01 12:00 UTC: its last run." in " ".join(said.split())
