"""Every generation that begins beside a registration has a line in the audit log that says why."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.deliveries.full_load_requests import queue_full_load
from waybill.errors import WaybillError
from waybill.ledger import streams
from waybill.ledger.tables import audit
from waybill.states import GenerationReason

pytestmark = pytest.mark.fast


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.user(1, "Ada", NOON - 2 * DAY)
        place.tenant(entityList=["user"])
        place.run(NOON)
        yield place


def _asked(place: Place) -> None:
    queue_full_load(place.installation(), "acme", ["user"], actor="test", when="now")


def _other_rows(place: Place) -> None:
    place.tenant(entityList=["user"], sourceTenant="other")


def _other_values(place: Place) -> None:
    name = {"type": "string", "export": "anonymize"}
    place.write("catalog.yaml", catalog(user={**USER, "columns": {**USER["columns"], "name": name}}))


@pytest.mark.parametrize(
    ("happens", "reason"),
    [(_asked, GenerationReason.FULL_LOAD_ASKED), (_other_rows, GenerationReason.OTHER_ROWS), (_other_values, None)],
)
def test_the_audit_log_says_why_a_generation_began(place: Place, happens: Callable[[Place], Any], reason: str | None) -> None:
    happens(place)
    place.run(NOON + DAY)
    with place.installation().ledger.read() as connection:
        [stream] = streams.active(connection, "acme")
        told = connection.execute(select(audit.c.detail).where(audit.c.action == "new_generation")).scalars().all()
    assert stream.generation == 2
    assert told == [{"entity": "user", "reason": stream.reason}]
    assert reason in (None, stream.reason)


def test_no_full_load_is_asked_for_without_its_line_in_the_audit_log(place: Place) -> None:
    nobody: Any = None  # the ledger takes no line without an actor
    with pytest.raises((WaybillError, SQLAlchemyError)):
        queue_full_load(place.installation(), "acme", ["user"], actor=nobody, when="now")
    with place.installation().ledger.read() as connection:
        [stream] = streams.active(connection, "acme")
    assert not stream.full_load
