"""Names and paths never leave the tenant's folder."""

from datetime import date
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybill import access, layout
from waybill.errors import PermanentError

pytestmark = pytest.mark.fast

tenants = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
entities = st.from_regex(r"[a-z][a-z0-9_]{0,62}", fullmatch=True)
days = st.dates(date(1970, 1, 1), date(2100, 1, 1))


@given(tenants, days, entities, st.integers(1, 9), st.integers(1, 99999), st.booleans())
def test_every_path_stays_below_the_tenants_folder(tenant, day, entity, generation, sequence, first):
    target = layout.Target(layout.entity_folder(tenant, day, entity), layout.stem(entity, generation, sequence, first_of_day=first))
    for path in (target.data, target.manifest, layout.hidden(target.data, "0" * 32)):
        parts = PurePosixPath(path).parts
        assert parts[:3] == ("/", "exports", tenant)
        assert ".." not in parts
        assert len(parts) == 8


@given(st.text(max_size=70))
def test_anything_but_a_tenant_id_is_refused(text):
    if access.TENANT_ID.fullmatch(text):
        assert access.tenant_id(text) == text
    else:
        with pytest.raises(PermanentError, match="is not a tenant id"):
            layout.tenant_folder(text)


@pytest.mark.parametrize("text", ["..", "Acme", "a/b", "", "-a", "a" * 64, "acme\n", "ac me"])
def test_wellknown_bad_tenant_ids_are_refused(text):
    with pytest.raises(PermanentError):
        access.tenant_id(text)


def test_the_contracts_names():
    target = layout.Target(layout.entity_folder("acme", date(2026, 6, 1), "user"), "user")
    assert target.data == "/exports/acme/2026/06/01/user/user.csv"
    assert target.manifest == "/exports/acme/2026/06/01/user/user.manifest.json"
    assert layout.Target("/f", layout.stem("user", 2, 7, first_of_day=False), "gzip").data == "/f/user.g2.7.csv.gz"
    assert layout.Target("/f", "user", "zstd").part(1) == "user-0001.csv.zst"
    assert [layout.day_manifest_name(number) for number in (1, 2, 3)] == ["_MANIFEST.json", "_MANIFEST.2.json", "_MANIFEST.3.json"]


numbers = st.integers(1, 99999)


@given(tenants, days, entities, numbers, numbers, st.integers(0, 12))
def test_names_are_read_back_as_they_were_given(tenant, day, entity, generation, sequence, repetition):
    folder = layout.entity_folder(tenant, day, entity)
    numbered = layout.stem(entity, generation, sequence, first_of_day=False)
    stem = layout.repeated_stem(entity, generation, sequence, repetition) if repetition else numbered
    assert layout.repetition(stem) == repetition
    target = layout.Target(folder, stem)
    in_parts = layout.Target(f"{folder}/{stem}", stem, in_parts=True)
    for path in (target.data, target.deletes, target.manifest, in_parts.appears, f"{folder}/{in_parts.part(1)}"):
        assert layout.numbered_stem(path.rpartition("/")[2]) == (None if repetition else numbered)
    for manifest in (target.manifest, in_parts.manifest):
        assert layout.place_of(manifest) == (day, folder, stem)
    assert (layout.repetition(entity), layout.numbered_stem(f"{entity}.csv")) == (0, None)


@given(tenants, days, entities)
def test_the_place_of_a_backfill_is_its_own_folder(tenant, day, entity):
    folder = layout.backfill_folder(tenant, day, entity, "0123456789ab")
    assert layout.place_of(layout.Target(folder, entity).manifest) == (day, folder, entity)


@pytest.mark.parametrize("path", ["/exports/acme/2026/99/99/user/user.manifest.json", "/exports/acme/user.manifest.json", "/x.csv"])
def test_a_path_that_waybill_gives_to_no_manifest_has_no_place(path):
    assert layout.place_of(path) is None


@given(entities, st.uuids())
def test_unfinished_names_are_hidden_and_recognised(entity, attempt):
    name = layout.hidden(f"/x/{entity}.csv", attempt.hex).rpartition("/")[2]
    assert name.startswith(".")
    assert name.endswith(".part")
    assert layout.is_hidden(name)
    assert not layout.is_hidden(f"{entity}.csv")
