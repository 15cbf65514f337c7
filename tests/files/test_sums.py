"""A SHA256SUMS beside each day manifest, where policy asks for it: the program everybody has reads it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.deliveries import repairs
from waybill.destinations import open_destination
from waybill.files import verification
from waybill.housekeeping import housekeeping
from waybill.registrations.applying import apply

MIDNIGHT = NOON.replace(hour=0)


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.write("catalog.yaml", catalog(user={**USER, "deletes": "compare"}))
        place.tenant(entityList=["user"])
        place.write("policy.yaml", {"landing": {"sha256sums": True}})
        place.user(1, "Ada", MIDNIGHT - DAY)
        place.user(2, "Eve", MIDNIGHT - DAY)
        yield place


def checked(folder: Path, name: str) -> list[str]:
    done = subprocess.run(["sha256sum", "-c", name], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return sorted(done.stdout.splitlines())


def problems(place: Place) -> list[str]:
    spec = place.installation().registered("acme").registration.destination
    assert spec is not None
    with open_destination(spec, place.root, place._connection).connect() as session:
        return [str(problem) for problem in verification.verify(session).problems]


def test_sha256sum_checks_everything_of_a_date(place):
    place.run(NOON)
    place.sql('delete from "user" where id = 1')
    place.run(NOON + DAY)
    first, second = (place.out / f"exports/acme/2026/{day}" for day in ("05/31", "06/01"))
    assert checked(first, "SHA256SUMS") == ["_MANIFEST.json: OK", "user/user.csv: OK", "user/user.manifest.json: OK"]
    assert checked(second, "SHA256SUMS") == [
        "_MANIFEST.json: OK", "user/user.csv: OK", "user/user.deletes.csv: OK", "user/user.manifest.json: OK"
    ]  # fmt: skip
    assert problems(place) == []


@pytest.mark.parametrize(
    "shape",
    [
        {"csv": {"compression": "gzip", "max_rows_per_file": 1}},
        {"files": {"format": "ndjson"}, "csv": {"compression": "zstd", "max_rows_per_file": 1}},
        {"files": {"format": "parquet"}},
    ],
    ids=["parts of gzip", "parts of zstd", "parquet"],
)
def test_sha256sum_reads_every_name_that_a_delivery_can_have(place, shape):
    """The longest ids, parts, packed files, deletes and further lists of a date."""
    entity, tenant = "e" + "_" * 61 + "9", "9-" + "_" * 60 + "-"
    place.write("catalog.yaml", catalog(**{entity: {**USER, "name": 'odd "*\\ näme', "deletes": "compare"}}))
    place.tenant(tenant, entityList=[entity], **shape)
    place.user(1, "Ada", MIDNIGHT - DAY, tenant=tenant)
    place.user(2, "Eve", MIDNIGHT - DAY, tenant=tenant)
    place.run(NOON, tenant)
    place.sql('delete from "user" where id = 1')
    place.run(NOON + DAY, tenant)
    place.run(NOON + DAY, tenant, full_load=True)
    folder = place.out / f"exports/{tenant}/2026/06/01"
    listed = {line.removesuffix(": OK") for name in ("SHA256SUMS", "SHA256SUMS.2") for line in checked(folder, name)}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.name.startswith("SHA")}
    assert listed == there


def test_a_further_day_manifest_has_sums_of_its_own(place):
    place.run(NOON)
    place.run(NOON, full_load=True)
    folder = place.out / "exports/acme/2026/05/31"
    assert "_MANIFEST.2.json: OK" in checked(folder, "SHA256SUMS.2")
    assert problems(place) == []


def test_files_that_were_lost_and_came_again_are_checked_where_they_are(place):
    """The date's list keeps the names that were lost, as its day manifest does. `--ignore-missing` leaves these out."""
    place.run(NOON)
    lost = place.out / "exports/acme/2026/05/31"
    _, manifest = next(place.manifests())
    shutil.rmtree(lost)
    redelivered = repairs.redeliver(place.installation(), manifest["delivery_id"], actor="ada")
    assert redelivered.error is None
    checking = ["sha256sum", "--ignore-missing", "-c", "SHA256SUMS.2"]
    done = subprocess.run(checking, cwd=lost, capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.splitlines()) == ["_MANIFEST.2.json: OK", "user/user.g1.1.r1.csv: OK", "user/user.g1.1.r1.manifest.json: OK"]


def test_sums_that_say_something_else_are_found(place):
    place.run(NOON)
    path = place.out / "exports/acme/2026/05/31/SHA256SUMS"
    path.write_text(path.read_text().replace("a", "b", 1))
    assert problems(place) == ["/exports/acme/2026/05/31/SHA256SUMS: is not what _MANIFEST.json says"]


def test_one_tenant_may_ask_for_them_alone(place):
    place.tenant("globex", entityList=["user"])
    place.write("policy.yaml", {"tenants": {"globex": {"landing": {"sha256sums": True}}}})
    for tenant in ("acme", "globex"):
        place.run(NOON, tenant)
    assert [path for path in place.files() if path.endswith("SHA256SUMS")] == ["exports/globex/2026/05/31/SHA256SUMS"]


def test_they_are_removed_with_their_day(place):
    place.run(NOON)
    place.write("policy.yaml", {"destination_days": 1})
    place.clock = datetime.now(NOON.tzinfo) + 3 * DAY
    apply(place.installation(), actor="test")
    assert (housekeeping(place.installation()).foreign, place.files()) == ([], [])
