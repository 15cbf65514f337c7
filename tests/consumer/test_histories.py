"""A DIR and a database hold one tenant's deliveries and one sender's history of them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.consumer.copies import consumer, well
from tests.consumer.sender import Sender
from tests.consumer.test_pull import tree

pytestmark = pytest.mark.fast


def sent(root: Path, tenant: str = "acme", days: int = 2, *, first: int = 0, name: str = "x") -> Sender:
    sender = Sender(root, tenant, first)
    for day in range(first, first + days):
        sender.day = day
        sender.deliver([(str(day), name)], kind="delta" if day > first else "full")
    return sender


@pytest.mark.parametrize("first", [0, 1, 2, 5], ids="on day {}".format)
def test_another_tenants_source_is_refused_and_nothing_of_it_is_kept(tmp_path: Path, first: int) -> None:
    copy = tmp_path / "copy"
    acme = sent(tmp_path / "acme")
    sent(tmp_path / "zeta", "zeta", first=first)
    well("pull", acme.root, copy)
    before = tree(copy)
    for _ in range(2):
        said = consumer("pull", tmp_path / "zeta", copy)
        assert (said.code, "Pull each" in said.err, "of a DIR" not in said.err) == (1, True, True)
        assert "zeta" in said.err
        assert tree(copy) == before
    acme.day = 2
    acme.deliver([("9", "y")])
    assert well("pull", acme.root, copy)["deliveries"] == 1
    well("status", copy)


def test_a_source_that_becomes_another_tenants_is_refused(tmp_path: Path) -> None:
    acme, copy = sent(tmp_path / "in"), tmp_path / "copy"
    well("pull", acme.root, copy)
    shutil.rmtree(acme.root)
    sent(acme.root, "zeta", first=4)
    said = consumer("pull", acme.root, copy)
    assert (said.code, "is of tenant zeta, and this folder keeps the deliveries of acme" in said.err) == (1, True)
    assert not (copy / "2026/06/05").exists()


def test_one_more_tenant_below_the_same_source_is_welcome(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    sent(tmp_path / "in/exports/acme")
    well("pull", tmp_path / "in", copy)
    sent(tmp_path / "in/exports/zeta", "zeta")
    assert well("pull", tmp_path / "in", copy)["deliveries"] == 2
    well("status", copy)


def test_the_same_deliveries_under_another_address_go_on(tmp_path: Path) -> None:
    acme, copy = sent(tmp_path / "in"), tmp_path / "copy"
    well("pull", acme.root, copy)
    shutil.move(acme.root, tmp_path / "moved")
    assert well("pull", tmp_path / "moved", copy)["fetched"] == []
    acme.root, acme.day = tmp_path / "moved", 2
    acme.deliver([("9", "y")])
    assert well("pull", tmp_path / "moved", copy)["deliveries"] == 1


@pytest.mark.parametrize("is_old_gone", [False, True])
def test_another_history_of_the_same_tenant_is_refused(tmp_path: Path, is_old_gone: bool) -> None:
    copy = tmp_path / "copy"
    well("pull", sent(tmp_path / "in").root, copy)
    other = sent(tmp_path / "staging", days=3, name="staging")
    for path in other.root.rglob("*.manifest.json"):
        body = json.loads(path.read_text())
        path.write_text(json.dumps(body | {"delivery_id": body["delivery_id"][::-1]}))
    if is_old_gone:
        shutil.rmtree(other.root / "2026/06/01")
        shutil.rmtree(other.root / "2026/06/02")
    before = tree(copy)
    said = consumer("pull", other.root, copy)
    assert (said.code, "another delivery" in said.err, "of its own" in said.err) == (1, True, True)
    assert tree(copy) == before


@pytest.mark.parametrize("lost", [0, 1, 3])
@pytest.mark.parametrize("is_position_lost", [False, True])
def test_a_sender_that_went_back_to_an_earlier_state_is_told_until_a_full_load(tmp_path: Path, lost: int, is_position_lost: bool) -> None:
    """The sender's machine was put back with its ledger and its files, and delivers other rows under the numbers that were pulled."""
    acme, copy, url = sent(tmp_path / "in"), tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    shutil.copytree(acme.root, tmp_path / "backup")
    earlier = replace(acme, last={**acme.last})
    for day in range(2, 3 + lost):
        acme.day = day
        acme.deliver([(str(day), "lost")])
    well("pull", acme.root, copy)
    well("load", copy, "--to", url)
    shutil.rmtree(acme.root)
    shutil.move(tmp_path / "backup", acme.root)
    earlier.day = 2
    earlier.deliver([("2", "new")], delivery_id="b" * 32)
    if is_position_lost:
        (copy / ".waybill-consumer.json").unlink()
    for _ in range(2):
        said = consumer("pull", acme.root, copy)
        assert (said.code, "went back to an earlier state" in said.out + said.err) == (1, True), said
        assert "earlier state" in consumer("status", copy).out
    earlier.day = 3
    earlier.deliver([("0", "x"), ("2", "new")], kind="full", delivery_id="c" * 32)
    well("pull", acme.root, copy)
    for day in range(4, 8):
        earlier.day = day
        earlier.deliver([(str(day), "new")], delivery_id=f"{day}" * 32)
        well("pull", acme.root, copy)
    well("load", copy, "--to", url)
    assert well("pull", acme.root, copy)["deliveries"] == 0
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        held = connection.execute("select id, name from user order by id").fetchall()
    assert held == [
        (0, "x"),
        (2, "new"),
        *((day, "new") for day in range(4, 8)),
    ]


@pytest.mark.parametrize("end", ["2026", "2026/06", "2026/06/", "2026/06/02", "2026/06/02/user"])
@pytest.mark.parametrize("is_pulled", [False, True])
def test_a_source_inside_the_dates_is_refused_with_the_folder_to_use(tmp_path: Path, end: str, is_pulled: bool) -> None:
    acme, copy = sent(tmp_path / "in/acme"), tmp_path / "copy"
    if is_pulled:
        well("pull", acme.root, copy)
    before = tree(copy) if is_pulled else {}
    said = consumer("pull", f"{acme.root}/{end}", copy)
    assert (said.code, f"Use {acme.root} as SOURCE" in said.err) == (1, True), said
    assert tree(copy) == before
    well("pull", acme.root, copy)
    well("status", copy)


def test_a_source_that_is_named_like_a_year_is_one(tmp_path: Path) -> None:
    acme = sent(tmp_path / "2026/06/01")
    well("pull", acme.root, tmp_path / "copy")
    well("pull", tmp_path / "2026/06", tmp_path / "other")


@pytest.mark.parametrize("change", ["higher", "two higher", "deeper"])
@pytest.mark.parametrize("is_position_lost", [False, True])
def test_a_source_of_another_depth_is_refused_before_anything_is_written(tmp_path: Path, change: str, is_position_lost: bool) -> None:
    copy, top = tmp_path / "copy", tmp_path / "in"
    acme = sent(top / "exports/acme")
    sent(top / "exports/beta", "beta", first=1)
    right, wrong = (top / "exports", acme.root) if change == "deeper" else (acme.root, top / "exports" if change == "higher" else top)
    well("pull", right, copy)
    if is_position_lost:
        (copy / ".waybill-consumer.json").unlink()
    before = tree(copy)
    for _ in range(2):
        said = consumer("pull", wrong, copy)
        assert (said.code, "would be fetched twice" in said.err) == (1, True), said
        assert change == "deeper" or f"Use {acme.root} as SOURCE" in said.err
        assert tree(copy) == before
    acme.day = 2
    acme.deliver([("9", "y")])
    assert well("pull", right, copy)["deliveries"] == 1
    well("status", copy)


@pytest.mark.parametrize("left", ["nothing", "a year", "a day"])
def test_a_source_without_any_date_is_a_problem_where_deliveries_were_pulled(tmp_path: Path, left: str) -> None:
    acme, copy = sent(tmp_path / "in"), tmp_path / "copy"
    assert well("pull", acme.root, tmp_path / "new")["deliveries"] == 2
    well("pull", acme.root, copy)
    (acme.root / "2026").rename(tmp_path / "disk")
    (acme.root / {"nothing": "", "a year": "2026", "a day": "2026/06"}[left]).mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        said = consumer("pull", acme.root, copy)
        assert (said.code, "came up without its disk" in said.err, "removed all old files" in said.err) == (1, True, True), said
        assert consumer("status", copy).code == 1
    assert consumer("pull", acme.root, tmp_path / "first").code == 0
    shutil.rmtree(acme.root / "2026", ignore_errors=True)
    (tmp_path / "disk").rename(acme.root / "2026")
    assert well("pull", acme.root, copy)["fetched"] == []
    well("status", copy)
