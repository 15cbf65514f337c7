"""What a batch of deliveries answers for each of them, and what it refuses."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.deliveries import running
from waybill.deliveries.reports import describing
from waybill.errors import PermanentError
from waybill.ledger import deliveries
from waybill.registrations.applying import apply

pytestmark = pytest.mark.fast


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.user(1, "Ada", NOON - 2 * DAY)
        place.tenant(entityList=["user"])
        yield place


def planned(place: Place, tenant: str) -> list[str]:
    installation = place.installation()
    apply(installation, actor="test")
    return list(running.begin(installation, tenant, NOON).planned.values())


def test_a_result_names_the_full_load_that_was_delivered_and_not_the_delta_in_its_place(place: Place) -> None:
    place.run(NOON)
    name = {"type": "string", "export": "anonymize"}
    place.write("catalog.yaml", catalog(user={**USER, "columns": {**USER["columns"], "name": name}}))
    [result] = place.run(NOON + DAY)
    assert result.outcome is not None
    assert (result.delivery.id, result.delivery.kind) == (result.outcome.delivery, "full")
    assert Path(describing.where(place.installation(), result.delivery)).is_file()


def test_deliveries_of_two_tenants_are_never_sent_over_one_connection(place: Place) -> None:
    place.tenant("other", entityList=["user"], destination={"kind": "folder", "root": "elsewhere"})
    mixed = planned(place, "acme") + planned(place, "other")
    with pytest.raises(PermanentError, match="belongs to other"):
        running.deliver_batch(place.installation(), mixed)
    assert place.files() == []


@pytest.mark.parametrize(("surprise", "code"), [(OSError(24, "Too many open files"), "machine"), (ZeroDivisionError(), "unexpected")])
def test_any_error_while_connecting_is_that_of_every_delivery_and_noted(place: Place, surprise: Exception, code: str) -> None:
    place.tenant(entityList=["user", "theme"], destination={"kind": "sftp", "connection": "away", "root": "/"})

    def connection(name: str) -> None:
        raise surprise

    ids = planned(place, "acme")
    results = running.deliver_batch(replace(place.installation(), connections=connection), ids)
    assert [result.error and result.error.code for result in results] == [code, code]
    with place.installation().ledger.read() as ledger:
        assert {found.error_code for found in deliveries.several(ledger, ids).values()} == {code}
