"""Who wins when several ask, cancel, publish and delete at once: on SQLite and on PostgreSQL, with real threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.exports import MINUTE, Office, make_office, person
from tests.servers.postgres import Database
from waybill.destinations.archives import FolderArchives
from waybill.errors import TransientError, WaybillError
from waybill.installation import Installation
from waybill.ledger.database.clock import LedgerClock
from waybill.ledger.on_demand import requests
from waybill.ledger.on_demand.request_records import ExportRequest, Status
from waybill.requests.following import cancel, delete, get_request, list_requests
from waybill.requests.fulfilment.exporting import ExportJob, Resources, fulfil
from waybill.requests.upkeep import archives_of, keep_requests
from waybill.sources import Source


@pytest.fixture(params=["sqlite", "postgresql"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    url = ""
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("postgres")
        url = database.url
    office = make_office(tmp_path, ledger_url=url)
    yield office
    office.place.close()


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What `count` threads return that start together; an error on purpose is returned by its code."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except WaybillError as error:
            return error.code

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_fifty_people_asking_at_once_for_one_project_give_one_request(office: Office) -> None:
    installation = office.installation()
    got = at_once(50, lambda number: office.ask(installation, person(f"p{number}"), scope={"level": "project", "project": "p1"}))
    refused = Counter(item for item in got if isinstance(item, str))
    assert refused == {"export_in_progress": 49}
    assert len(list_requests(installation, person(), "acme").requests) == 1


def test_two_requests_at_a_time_are_two_where_policy_allows_two(office: Office) -> None:
    office.policy(max_active_per_project=2)
    installation = office.installation()
    got = at_once(12, lambda number: office.ask(installation, person(f"p{number}")))
    assert Counter(isinstance(item, ExportRequest) for item in got) == {True: 2, False: 10}


def test_the_same_key_in_twenty_threads_is_one_request(office: Office) -> None:
    installation = office.installation()
    got = at_once(20, lambda _: office.ask(installation, key="k1"))
    assert {export.id for export in got} == {got[0].id}


def test_a_person_asking_twice_at_once_for_the_same_is_refused_once_where_policy_says_so(office: Office) -> None:
    office.policy(max_active_per_project="none", refuse_duplicates=True)
    installation = office.installation()
    got = at_once(10, lambda _: office.ask(installation))
    assert Counter(item if isinstance(item, str) else "made" for item in got) == {"made": 1, "duplicate_request": 9}


PROJECTS: list[dict[str, Any]] = [{"level": "tenant"}, *({"level": "project", "project": name} for name in ("p1", "p2", "p3"))]


def test_an_export_of_the_whole_tenant_never_runs_beside_one_of_a_project(office: Office) -> None:
    installation = office.installation()
    for project in ("p2", "p3"):
        office.measure(int(project[1]), project_id=project)
    for _ in range(4):
        got = at_once(12, lambda number: office.ask(installation, person(f"p{number}"), scope=PROJECTS[number % 4]))
        made = [item for item in got if isinstance(item, ExportRequest)]
        slots = sorted(str(item.slot) for item in made)
        assert slots == ["tenant#1"] or slots == sorted(set(slots) - {"tenant#1"}), slots
        assert made
        for export in made:
            cancel(office.installation(), person(export.requested_by.removeprefix("api:")), "acme", export.id)


@pytest.mark.parametrize(
    ("most", "first", "then"),
    [
        (1, [{"level": "tenant"}], {"p1": "refused", "p2": "refused", "": "refused"}),
        (1, [{"level": "project", "project": "p1"}], {"p1": "refused", "p2": "made", "": "refused"}),
        (2, [{"level": "tenant"}, {"level": "project", "project": "p1"}], {"p1": "refused", "p2": "made", "": "refused"}),
        (2, [{"level": "tenant"}], {"p1": "made"}),
        (2, [{"level": "project", "project": "p1"}], {"": "made"}),
        (1, [{"level": "study", "study": "s1"}], {"p1": "refused", "": "refused"}),
        (1, [{"level": "study", "study": "s1", "project": "p1"}], {"p1": "refused", "p2": "made"}),
    ],
)
def test_what_is_active_counts_against_its_project_and_what_reaches_further_against_each(
    office: Office, most: int, first: list[dict[str, Any]], then: dict[str, str]
) -> None:
    office.policy(max_active_per_project=most)
    office.measure(1)
    office.measure(2, project_id="p2")
    for scope in first:
        office.ask(scope=scope)
    for project, expected in then.items():
        scope = {"level": "project", "project": project} if project else {"level": "tenant"}
        [got] = at_once(1, lambda _, scope=scope: office.ask(who=person("eve"), scope=scope))
        assert ("made" if isinstance(got, ExportRequest) else got) == {"refused": "export_in_progress"}.get(expected, expected), project
        if isinstance(got, ExportRequest):
            cancel(office.installation(), person("eve"), "acme", got.id)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_workers_clock_that_is_an_hour_off_stalls_nobodys_export(postgres: Database, tmp_path: Path, hours: int) -> None:
    office = make_office(tmp_path, ledger_url=postgres.url)
    here = office.installation()
    there = replace(here, now=LedgerClock(here.ledger, lambda: datetime.now(UTC) + timedelta(hours=hours)))
    right = replace(here, now=LedgerClock(here.ledger))
    assert abs(there.now() - right.now()) < timedelta(seconds=30)
    export = office.ask(there)
    with there.ledger.begin() as connection:
        got = requests.claim(connection, export, "w", there.now())
        assert got is not None
        assert requests.beat(connection, got, 10, there.now())
    assert keep_requests(right).stalled == 0
    assert keep_requests(there).stalled == 0
    office.place.close()


def test_a_worker_that_lost_its_request_says_why(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    office.measure(1)
    for number, (lose, said) in enumerate(
        [
            (lambda item: cancel(office.installation(), person(), "acme", item.id), "The request is cancelled meanwhile."),
            (lambda item: delete(office.installation(), person(), "acme", [item.id]), "The request was deleted meanwhile."),
            (lambda item: office.later(3 * MINUTE) and keep_requests(office.installation()), "given up as stalled"),
        ]
    ):
        export, installation = claimed(office, key=str(number)), office.installation()

        def source(name: str, lose: Any = lose, item: ExportRequest = export, installation: Installation = installation) -> Source:
            lose(item)
            return installation.source(name)

        entities = (installation.entity("measurement"),)
        job = ExportJob(
            export,
            installation.configuration.export_policy("acme"),
            entities,
            {"acme": b"salt"},
            {"acme": installation.words_of("acme")},
            "test",
        )
        spool = installation.settings.spool_dir
        archives = archives_of(installation)
        resources = Resources(installation.ledger, source, archives, spool, installation.now, time.sleep, lambda kind: None)
        assert fulfil(job, resources) is None
        assert said in caplog.text


def test_one_worker_claims_a_request(office: Office) -> None:
    installation = office.installation()
    export = office.ask(installation)

    def claim(number: int) -> bool:
        with installation.ledger.begin() as connection:
            return requests.claim(connection, export, f"w{number}", installation.now()) is not None

    assert Counter(at_once(10, claim)) == {True: 1, False: 9}


def claimed(office: Office, **body: Any) -> ExportRequest:
    installation = office.installation()
    export = office.ask(installation, **body)
    with installation.ledger.begin() as connection:
        got = requests.claim(connection, export, "w", installation.now())
    assert got is not None
    return got


def publish(office: Office, export: ExportRequest) -> bool:
    installation = office.installation()
    values = {
        "rows": 1,
        "bytes": 1,
        "sha256": "0" * 64,
        "archive": f"acme/{export.id}.1.zip",
        "expires_at": installation.now() + timedelta(days=7),
    }
    with installation.ledger.begin() as connection:
        return requests.publish(connection, export, [], values, None, installation.now())


def test_a_cancelled_request_cannot_be_published(office: Office) -> None:
    export = claimed(office)
    assert cancel(office.installation(), person(), "acme", export.id).status == Status.CANCELLED
    assert not publish(office, export)
    assert get_request(office.installation(), person(), "acme", export.id).status == Status.CANCELLED


def test_a_published_request_cannot_be_cancelled(office: Office) -> None:
    export = claimed(office)
    assert publish(office, export)
    with pytest.raises(WaybillError, match="not active") as caught:
        cancel(office.installation(), person(), "acme", export.id)
    assert caught.value.code == "not_active"


def test_cancel_and_publish_at_once_have_one_winner(office: Office) -> None:
    for _ in range(4):
        export = claimed(office)
        installation = office.installation()
        outcome = at_once(
            2,
            lambda number, item=export, installation=installation: (
                publish(office, item) if number else cancel(installation, person(), "acme", item.id).status
            ),
        )
        status = get_request(installation, person(), "acme", export.id).status
        assert outcome in ([Status.CANCELLED, False], ["not_active", True])
        assert status == (Status.CANCELLED if outcome[1] is False else Status.DONE)


def test_cancelling_frees_the_slot_at_once(office: Office) -> None:
    export = claimed(office)
    cancel(office.installation(), person(), "acme", export.id)
    assert office.ask().status == Status.PENDING


def test_a_silent_worker_is_given_up_and_cannot_publish_afterwards(office: Office) -> None:
    zombie = claimed(office)
    office.later(2 * MINUTE)
    fresh = office.ask()
    assert fresh.id != zombie.id
    assert not publish(office, zombie)
    installation = office.installation()
    with installation.ledger.begin() as connection:
        assert not requests.beat(connection, zombie, 50, installation.now())
    seen = get_request(office.installation(), person(), "acme", zombie.id)
    assert (seen.status, seen.error_code) == (Status.FAILED, "stalled")


def test_a_worker_that_beats_is_not_given_up(office: Office) -> None:
    export = claimed(office)
    for _ in range(5):
        now = office.later(MINUTE)
        with office.installation().ledger.begin() as connection:
            assert requests.beat(connection, export, 10, now)
        assert keep_requests(office.installation()).stalled == 0


def test_progress_never_falls_and_reaches_a_hundred_with_done_alone(office: Office) -> None:
    export = claimed(office)
    seen = []
    for progress in (10, 40, 30, 100, 5):
        installation = office.installation()
        with installation.ledger.begin() as connection:
            requests.beat(connection, export, progress, installation.now())
        seen.append(get_request(installation, person(), "acme", export.id).progress)
    publish(office, export)
    assert [*seen, get_request(office.installation(), person(), "acme", export.id).progress] == [10, 40, 40, 99, 99, 100]


def test_deleting_at_once_in_ten_threads_deletes_once(office: Office) -> None:
    export = claimed(office)
    publish(office, export)
    got = at_once(10, lambda _: delete(office.installation(), person(), "acme", [export.id]))
    assert Counter(got) == {None: 1, "not_found": 9}


class Away(FolderArchives):
    """A store that does not answer when something is to be removed."""

    def remove(self, name: str) -> None:
        raise TransientError("the archive cannot be reached", code="storage_unavailable")


def test_a_store_that_is_away_when_a_cancelled_export_is_tidied_up_holds_up_no_other(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    export, installation = claimed(office), office.installation()

    def source(name: str) -> Source:
        cancel(office.installation(), person(), "acme", export.id)
        return installation.source(name)

    job = ExportJob(
        export,
        installation.configuration.export_policy("acme"),
        (installation.entity("measurement"),),
        {"acme": b"salt"},
        {"acme": installation.words_of("acme")},
        "test",
    )
    archives = Away(office.place.root / "archive")
    resources = Resources(
        installation.ledger, source, archives, installation.settings.spool_dir, installation.now, time.sleep, lambda kind: None
    )
    assert fulfil(job, resources) is None
    assert "Housekeeping removes" in caplog.text
