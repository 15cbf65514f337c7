"""A tenant whose id in the data is another one, and rows a registration picks: delivered, asked for on demand, changed, refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.copies import Copy
from tests.exports import Office, make_office
from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill import doctor
from waybill.configuration import loading
from waybill.errors import InvalidInput
from waybill.files import places
from waybill.ledger import streams
from waybill.registrations import applying, estimating, replacing
from waybill.requests.fulfilment import running

MIDNIGHT = NOON.replace(hour=0)
FOLDER = {"kind": "folder", "root": "out"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place", clock=NOON)) as place:
        place.write("catalog.yaml", catalog(user=USER))
        place.tenant(entityList=["user"], sourceTenant="ORG-7")
        place.user(1, "Ada", MIDNIGHT - 2 * DAY, tenant="ORG-7")
        place.user(2, "Grace", MIDNIGHT - 2 * DAY, tenant="acme")
        place.user(3, "Joan", MIDNIGHT - 2 * DAY, tenant="ORG-7")
        yield place


def names(place: Place) -> list[Any]:
    return [row[1] for row in place.rows()]


def test_a_tenant_receives_the_rows_of_its_id_in_the_data(place: Place) -> None:
    place.run(NOON)
    assert names(place) == ["Ada", "Joan"]
    place.user(4, "Edsger", NOON, tenant="ORG-7")
    place.user(5, "Barbara", NOON, tenant="acme")
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    assert names(place) == ["Ada", "Joan", "Edsger"]
    assert {value["tenant"] for _, value in place.manifests()} == {"acme"}


def test_another_id_in_the_data_begins_anew_with_a_full_load(place: Place) -> None:
    place.run(NOON)
    place.tenant(entityList=["user"], sourceTenant="acme")
    place.run(NOON)
    assert sorted((delivery["generation"], delivery["kind"]) for _, delivery in place.manifests()) == [(1, "full"), (2, "full")]
    assert names(place) == ["Ada", "Joan", "Grace"]
    assert places.verify(str(place.out), pytest.fail).is_whole


def test_other_conditions_begin_anew_and_the_same_ones_do_not(place: Place) -> None:
    picked = {"user": [{"column": "name", "op": "!=", "value": "Joan"}]}
    place.tenant(entityList=["user"], sourceTenant="ORG-7", where=picked)
    place.run(NOON)
    place.run(NOON)
    assert names(place) == ["Ada"]
    place.tenant(entityList=["user"], sourceTenant="ORG-7")
    place.run(NOON)
    assert [row[1] for row in place.rows()] == ["Ada", "Ada", "Joan"]
    assert sorted(delivery["generation"] for _, delivery in place.manifests()) == [1, 2]


def test_rows_begin_anew_where_what_was_registered_before_cannot_be_read_any_more(place: Place) -> None:
    place.run(NOON)
    with place.installation().ledger.begin() as connection:
        connection.exec_driver_sql("update registration set body = json_set(body, '$.timezone', 'No/Where')")
    place.tenant(entityList=["user"], sourceTenant="ORG-7", frequency="weekly")
    assert [change.action for change in applying.apply(place.installation(), actor="test").changes] == ["change"]
    with place.installation().ledger.begin() as connection:
        assert [stream.generation for stream in streams.active(connection, "acme")] == [1], "the same rows go on"
        connection.exec_driver_sql("update registration set body = json_set(body, '$.timezone', 'No/Where')")
    place.tenant(entityList=["user"])
    place.run(NOON)
    assert sorted((delivery["generation"], delivery["kind"]) for _, delivery in place.manifests()) == [(1, "full"), (2, "full")]
    assert names(place) == ["Ada", "Joan", "Grace"]


def test_a_row_that_no_longer_meets_the_conditions_is_gone_where_keys_are_compared(place: Place) -> None:
    place.write("catalog.yaml", catalog(user=USER | {"deletes": "compare"}))
    place.tenant(entityList=["user"], sourceTenant="ORG-7", where={"user": [{"column": "name", "op": "!=", "value": "draft"}]})
    place.run(NOON)
    place.user(1, "draft", NOON, tenant="ORG-7")
    place.run(NOON + DAY)
    assert [manifest["deletes"] and manifest["deletes"]["rows"] for _, manifest in place.manifests()] == [None, 1]
    assert list(Copy().catch_up(place.out).rows) == [("3",)]


def test_a_tenant_receives_the_columns_chosen_for_it_in_their_order(place: Place) -> None:
    place.tenant(
        entityList=["user"], sourceTenant="ORG-7", columns={"user": ["name", "id"]}, where={"user": [{"column": "id", "value": 3}]}
    )
    place.run(NOON)
    assert place.rows() == [("Joan", "3")]
    place.user(4, "Edsger", NOON, tenant="ORG-7")
    place.clock = NOON + DAY
    place.tenant(entityList=["user"], sourceTenant="ORG-7", columns={"user": ["id", "name", "updated_at"]}, where={})
    place.run(NOON + DAY)
    last = max((value for _, value in place.manifests()), key=lambda delivery: (delivery["generation"], delivery["sequence"]))
    assert [column["name"] for column in last["columns"]] == ["name", "id", "updated_at"]
    assert places.verify(str(place.out), pytest.fail).is_whole


def test_a_tenant_whose_id_no_row_carries_is_told_in_the_manifest_the_estimate_and_by_the_doctor(place: Place) -> None:
    place.tenant(entityList=["user"], sourceTenant="ORG-77")
    [estimated] = estimating.estimate(
        place.installation(), "acme", place.installation().configuration.tenants["acme"].registration, ["user"], 60
    )
    assert (estimated.rows, estimated.note) == (0, "no row carries the tenant's id, ORG-77")
    place.run(NOON)
    [(_, manifest)] = place.manifests()
    assert (manifest["rows"], manifest["note"]) == (0, "no row carries the tenant's id, ORG-77")
    assert told_by_the_doctor(place) == [("tenant acme", "it has received files, and no row in any of them")]
    place.user(4, "Edsger", NOON, tenant="ORG-77")
    place.run(NOON + DAY)
    assert told_by_the_doctor(place) == []
    assert ["note" in delivery for _, delivery in place.manifests()] == [True, False]


def test_a_tenant_whose_conditions_no_row_meets_is_not_said_to_be_misspelt(place: Place) -> None:
    place.tenant(entityList=["user"], sourceTenant="ORG-7", where={"user": [{"column": "name", "value": "Nobody"}]})
    place.run(NOON)
    [(_, manifest)] = place.manifests()
    assert (manifest["rows"], "note" in manifest) == (0, False)


def told_by_the_doctor(place: Place) -> list[tuple[str, str]]:
    installation = place.installation()
    checks = doctor.examine(installation.settings, installation.connections, lambda: NOON, None)
    return [(check.name, check.found) for check in checks if check.name.startswith("tenant ")]


def test_an_export_on_demand_holds_the_columns_chosen_for_the_tenant(tmp_path: Path) -> None:
    office: Office = make_office(tmp_path)
    office.place.tenant(entityList=["measurement"], columns={"measurement": ["id", "value"]})
    office.measure(1)
    with closing(office.place):
        office.ask(formats=["csv"])
        [done] = running.fulfil_all(office.installation())
        assert done.status == "done"
        (archive,) = (path for path in tmp_path.rglob("*.zip"))
        with ZipFile(archive) as packed:
            assert packed.read("measurement.csv").splitlines()[0] == b"id,value"
            [about] = json.loads(packed.read("manifest.json"))["entities"]
            assert [column["name"] for column in about["columns"]] == ["id", "value"]


def test_a_state_that_tells_deletions_is_in_the_manifest(place: Place) -> None:
    state = {"column": "name", "op": "=", "value": "gone"}
    entity = {key: value for key, value in USER.items() if key != "deleted_column"}
    place.write("catalog.yaml", catalog(user={**entity, "deleted_when": state}))
    place.run(NOON)
    [(_, manifest)] = place.manifests()
    assert manifest["tombstone_when"] == state
    assert manifest["tombstone_column"] is None


def test_an_export_on_demand_reads_by_the_same_id(tmp_path: Path) -> None:
    office: Office = make_office(tmp_path)
    office.place.tenant(entityList=["measurement"], sourceTenant="ORG-7")
    office.measure(1, tenant_id="acme")
    office.measure(2, tenant_id="ORG-7")
    office.measure(3, tenant_id="ORG-7")
    with closing(office.place):
        export = office.ask()
        assert export.status == "pending"
        [done] = running.fulfil_all(office.installation())
        assert (done.status, done.rows) == ("done", 2)


def test_only_who_may_change_every_tenant_chooses_the_id_in_the_data(place: Place) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    installation = place.installation()
    body = {"entityList": ["user"], "destination": FOLDER, "sourceTenant": "ORG-9"}
    with pytest.raises(InvalidInput, match="sourceTenant: the id in the data is set by the operator"):
        replacing.rehearse(installation, "globex", body)
    with pytest.raises(InvalidInput, match="sourceTenant: the id in the data is set by the operator"):
        replacing.replace(installation, "globex", body, actor="tenant")
    replacing.replace(installation, "globex", body, actor="operator", operator=True)
    again = replacing.replace(installation, "globex", {**body, "frequency": "weekly"}, actor="tenant")
    assert again.standing.registered.body["sourceTenant"] == "ORG-9"
    with pytest.raises(InvalidInput, match="sourceTenant"):
        replacing.replace(installation, "globex", {"entityList": ["user"], "destination": FOLDER}, actor="tenant")


def test_nobody_is_registered_for_rows_another_tenant_receives(place: Place) -> None:
    applying.apply(place.installation(), actor="test")
    body = {"entityList": ["user"], "destination": FOLDER, "sourceTenant": "ORG-7"}
    with pytest.raises(InvalidInput, match="another tenant's too, and both would receive user") as refused:
        replacing.replace(place.installation(), "globex", body, actor="operator", operator=True)
    assert "acme" not in str(refused.value)


UUID = "0190f6b2-7c3e-7d11-8f00-3c5c6a1e9b42"


@pytest.mark.parametrize("second", [UUID.upper(), UUID.replace("c", "C", 1)])
def test_one_uuid_in_other_letters_is_one_tenant_and_no_two_may_name_it(place: Place, second: str) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    place.tenant(entityList=["user"], sourceTenant=UUID)
    applying.apply(place.installation(), actor="test")
    body = {"entityList": ["user"], "destination": FOLDER, "sourceTenant": second}
    with pytest.raises(InvalidInput, match="another tenant's too, and both would receive user"):
        replacing.replace(place.installation(), "globex", body, actor="operator", operator=True)
    place.tenant("globex", entityList=["user"], sourceTenant=second)
    found = {finding.file: finding.code for finding in loading.load(place.root / "config").findings}
    assert found == dict.fromkeys(["config/tenants/acme.yaml", "config/tenants/globex.yaml"], "source_tenant_taken")
    alone = applying.apply(place.installation(), actor="test", only="globex")
    assert [finding.code for finding in alone.findings] == ["source_tenant_taken"]
    place.tenant("globex", entityList=["user"], copyOf="acme", sourceTenant=second)
    assert not loading.load(place.root / "config").findings


def test_a_file_may_not_name_the_uuid_of_a_tenant_without_a_file(place: Place) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    body = {"entityList": ["user"], "destination": FOLDER, "sourceTenant": UUID.upper()}
    replacing.replace(place.installation(), "second", body, actor="operator", operator=True)
    place.tenant("globex", entityList=["user"], sourceTenant=UUID)
    found = applying.apply(place.installation(), actor="test").findings
    assert [(finding.file, finding.code) for finding in found] == [("config/tenants/globex.yaml", "source_tenant_taken")]


def test_ids_that_are_no_uuids_differ_by_their_letters(place: Place) -> None:
    place.tenant(entityList=["user"], sourceTenant="ORG-7")
    place.tenant("globex", entityList=["user"], sourceTenant="org-7")
    assert not loading.load(place.root / "config").findings
