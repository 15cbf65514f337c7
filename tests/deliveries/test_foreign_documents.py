"""Objects at a destination with the names of Waybill's own, and with what anybody may have put there.

Whatever they hold, every use case that reads them either goes on or says in a WaybillError what is wrong.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.deliveries.recovery.reconciling import reconcile
from waybill.deliveries.sweeping import Limits, began_at, sweep
from waybill.errors import WaybillError
from waybill.files.feed import newest_number
from waybill.files.verification import verify

MONDAY = NOON + DAY
FIRST = "2026/05/31"
IN_TURN = "0123456789abcdef0123456789abcdef"

CONTENTS = {
    "nothing": b"",
    "no UTF-8": b"\xff\xfe\x00\x01",
    "no JSON": b"<html>",
    "null": b"null",
    "a list": b"[]",
    "a number": b"17",
    "an empty object": b"{}",
    "nested without end": b"[" * 200_000,
    "a number of 5,000 digits": b'{"deliveries": ' + b"9" * 5_000 + b"}",
    "infinity": b'{"tenant": "acme", "feed": "", "last_number": Infinity}',
    "a lone surrogate": b'{"tenant": "acme", "feed": "\\ud800", "last_number": 1, "deliveries": []}',
    "a huge number": json.dumps({"tenant": "acme", "feed": "", "last_number": 1 << 70}).encode(),
    "what lists a huge number": json.dumps(
        {"deliveries": [{"entity": "user", "delivery_id": IN_TURN, "generation": 1 << 70, "sequence": 1 << 70, "manifest": "x"}]}
    ).encode(),
    "what lists odd texts": json.dumps(
        {"deliveries": [{"entity": "\0", "delivery_id": "\0\ud800", "generation": 1, "sequence": 2, "manifest": "../../\0"}]}
    ).encode(),
    "more than a manifest holds": b" " * (65 << 20),
}
NAMES = [
    f"{FIRST}/_MANIFEST.json",
    f"{FIRST}/_MANIFEST.7.json",
    f"{FIRST}/_MANIFEST.{'9' * 30}.json",
    f"{FIRST}/_MANIFEST.\u0663.json",
    f"{FIRST}/_MANIFEST.json.sig",
    f"{FIRST}/user/user.manifest.json",
    f"{FIRST}/user/user.manifest.json.sig",
    f"{FIRST}/user/user.g1.2.manifest.json",
    f"{FIRST}/user/.user.csv.{'f' * 12}7{'f' * 19}.part",
    "2026/06/01/user/user.manifest.json",
    "2026/06/01/_MANIFEST.json",
    "2026/99/99/_MANIFEST.json",
    "2026/99/99/user/user.manifest.json",
    "\u0662\u0660\u0662\u0667/\u0660\u0661/\u0660\u0661/_MANIFEST.json",
]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_place(tmp_path_factory.mktemp("foreign"))
    place.write("catalog.yaml", catalog(user=USER))
    place.tenant(entityList=["user"], frequency="daily")
    place.user(1, "ann", NOON - DAY)
    assert all(result.error is None for result in place.run(MONDAY))
    place.close()
    return place.root


@pytest.mark.parametrize(
    ("name", "content"),
    [(name, "what lists a huge number") for name in NAMES] + [(f"{FIRST}/user/user.g1.2.manifest.json", content) for content in CONTENTS],
)
def test_what_anybody_put_there_ends_nothing_without_a_word(delivered: Path, tmp_path: Path, name: str, content: str) -> None:
    place = Place(shutil.copytree(delivered, tmp_path / "place"))
    try:
        path = place.out / "exports/acme" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENTS[content])
        place.user(2, "bob", MONDAY + timedelta(hours=1))
        for step in (run, swept, verified, reconciled, run):
            with suppress(WaybillError):
                step(place)
    finally:
        place.close()


@pytest.mark.fast
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_feed_tells_no_number(content: str) -> None:
    assert newest_number(CONTENTS[content], "acme", "") in (None, 0, 1, 1 << 70)


@pytest.mark.fast
def test_an_id_of_a_year_that_no_calendar_has_tells_no_time() -> None:
    assert began_at(f"{'f' * 12}7{'f' * 19}") is None


def run(place: Place) -> None:
    for result in place.run(MONDAY + DAY):
        if result.error is not None and not isinstance(result.error, WaybillError):
            raise result.error


def swept(place: Place) -> None:
    installation = place.installation()
    with installation.session(installation.registered("acme")) as session:
        sweep(installation.ledger, session, "acme", Limits(MONDAY + 9 * DAY, DAY, MONDAY + 8 * DAY))


def verified(place: Place) -> None:
    installation = place.installation()
    with installation.session(installation.registered("acme")) as session:
        verify(session, "/")


def reconciled(place: Place) -> None:
    reconcile(place.installation(), "acme", actor="test")
