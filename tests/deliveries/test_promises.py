"""How each tenant's promise (`deliverBy`) stands, as the overview tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.installations import DAY, NOON, Place, make_place
from waybill.configuration.registration import Registration
from waybill.deliveries.reports.overview import State, tenant_row
from waybill.ledger import registrations
from waybill.ledger.registrations import Provenance
from waybill.registrations.applying import apply

MIDNIGHT = NOON.replace(hour=0)
HOUR = timedelta(hours=1)
PROMISED = {"deliverAt": "02:00", "deliverBy": "06:00"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.tenant(**PROMISED)
        yield place


def standing(place: Place, hours: float, days: int = 0) -> tuple[str, str, str]:
    """State, state of the promise and the hour it is for, at this time of that day."""
    place.clock = MIDNIGHT + days * DAY + hours * HOUR
    row = tenant_row(place.installation(), "acme")
    assert row is not None
    assert row.promise is not None
    assert row.promise_state is not None
    return row.state, row.promise_state, f"{row.promise.deliver_by:%d %H:%M}"


def test_a_promise_is_kept_open_at_risk_broken_and_kept_again(place):
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    day = f"{MIDNIGHT:%d}"
    assert standing(place, 1) == (State.DUE, "kept", f"{day} 06:00")
    assert standing(place, 2) == (State.DUE, "open", f"{day} 06:00")
    assert standing(place, 5) == (State.DUE, "at_risk", f"{day} 06:00")
    assert standing(place, 6) == (State.LATE, "breached", f"{day} 06:00")
    # The next day's run has started and has time, but what was promised for today is still not there.
    assert standing(place, 3, days=1) == (State.LATE, "breached", f"{day} 06:00")
    place.run(place.clock)
    assert standing(place, 3, days=1)[:2] == (State.DELIVERED, "kept")
    assert standing(place, 5.5, days=2)[1] == "at_risk"


def test_a_tenant_registered_after_the_run_started_is_owed_the_next_one(place):
    place.clock = NOON
    apply(place.installation(), actor="test")
    tomorrow = f"{MIDNIGHT + DAY:%d} 06:00"
    assert standing(place, 13) == (State.DUE, "kept", tomorrow)
    assert standing(place, 6, days=1)[1:] == ("breached", tomorrow)


def test_a_new_version_makes_a_new_promise_only_where_it_promises_something_else(place):
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    place.clock = MIDNIGHT + 8 * HOUR
    place.tenant(**PROMISED, csv={"bom": True})
    apply(place.installation(), actor="test")
    assert standing(place, 9)[1] == "breached", "another dialect hides nothing"
    place.tenant(**PROMISED | {"deliverBy": "05:00"}, csv={"bom": True})
    apply(place.installation(), actor="test")
    assert standing(place, 9) == (State.DUE, "kept", f"{MIDNIGHT + DAY:%d} 05:00")


def test_an_entity_that_came_later_is_owed_with_its_first_scheduled_run(place):
    place.tenant(**PROMISED, entityList=["user"])
    place.run(MIDNIGHT)
    place.clock = NOON
    place.tenant(**PROMISED)
    apply(place.installation(), actor="test")
    tomorrow = f"{MIDNIGHT + DAY:%d} 06:00"
    assert standing(place, 13)[1:] == ("kept", tomorrow)
    assert standing(place, 7, days=1)[1:] == ("breached", tomorrow)


def test_nothing_is_promised_without_a_time_or_where_exports_are_disabled(place):
    place.clock = MIDNIGHT - HOUR
    place.tenant()
    apply(place.installation(), actor="test")
    row = tenant_row(place.installation(), "acme")
    assert row is not None
    assert row.promise is None
    place.tenant(**PROMISED, exportOption="disable export")
    apply(place.installation(), actor="test", allow_mass_deactivation=True)
    row = tenant_row(place.installation(), "acme")
    assert row is not None
    assert row.promise is None


def test_a_promise_of_words_that_cannot_be_read_any_more_is_none(place):
    installation = place.installation()
    good = Registration.model_validate({"entityList": ["user"], **PROMISED})
    body = good.model_copy(update={"timezone": "No/Where"})
    with installation.ledger.begin() as connection:
        registrations.replace(connection, "acme", body, ["user"], by=Provenance("api", "test"), now=NOON)
    row = tenant_row(installation, "acme")
    assert row is not None
    assert (row.promise, row.troubles[0].code) == (None, "registration_unreadable")


def test_an_earlier_version_that_is_no_object_hides_no_promise(place):
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    place.clock = MIDNIGHT + 8 * HOUR
    place.tenant(**PROMISED, csv={"bom": True})
    apply(place.installation(), actor="test")
    with place.installation().ledger.begin() as connection:
        connection.execute(text("update registration set body = '[]' where version = 1"))
    row = tenant_row(place.installation(), "acme")
    assert row is not None
    assert row.promise is not None
