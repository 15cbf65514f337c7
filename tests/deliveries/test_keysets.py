"""Sets of keys larger than memory: what is gone and what came, against Python's own sets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waybill.canonical import csv_line, key_digest
from waybill.deliveries.key_changes import keysets
from waybill.deliveries.key_changes.keysets import Buckets, ByBucket, Held, Packed, Step
from waybill.files.records import fields_of

pytestmark = pytest.mark.fast

FIELD = st.none() | st.text(alphabet='ab,"\n\r\0 0é', max_size=5)
RECORD = st.lists(FIELD, min_size=1, max_size=3).map(lambda fields: csv_line(fields, line_end="").encode())
KEYS = st.sets(RECORD, max_size=20)
IN_A_FOLDER = settings(max_examples=60)


def buckets(folder: Path, keys: set[bytes]) -> Buckets:
    found = Buckets(folder)
    found.fill((record + b"\n", 1) for record in sorted(keys))
    return found


def keys_of(held: Callable[[int], Held]) -> set[bytes]:
    found = [held(bucket) for bucket in range(keysets.BUCKETS)]
    assert not any(one.dead for one in found)
    return set().union(*(one.rows for one in found))


def all_of(packed: Packed) -> set[bytes]:
    return set(packed.records())


@IN_A_FOLDER
@given(before=KEYS, here=KEYS, now=KEYS, later=KEYS, whole=st.booleans())
def test_a_comparison_is_what_sets_say(tmp_path, before, here, now, later, whole):
    held = keysets.consumer_keys([Step(True, ByBucket(keysets.packed(buckets(tmp_path, before), tmp_path).blobs()), ByBucket([]))])
    found = keysets.compare(
        held, buckets(tmp_path, here), buckets(tmp_path, now), buckets(tmp_path, later), tmp_path, whole=whole, most_back=100
    )
    after = (before & here) | now
    assert all_of(found.gone) == before - here
    assert sorted(found.back) == sorted(key_digest(key) for key in here - before - now - later)
    assert all_of(found.added) == (after if whole else after - (before & here))
    assert (found.kept, found.missing) == (len(after), len(here - before - now - later))


VALUES = st.dictionaries(RECORD, st.text(alphabet='v,"\n', max_size=2), max_size=12)


@settings(max_examples=30)
@given(before=VALUES, here=VALUES, now=VALUES, later=KEYS, whole=st.booleans())
def test_a_comparison_of_rows_is_what_dictionaries_say(tmp_path, before, here, now, later, whole):
    """Keys of as many fields as the first has, with a value behind them."""
    width = len(fields_of(next(iter([*before, *here, *now]), b"").decode()))

    def alike(some: dict[bytes, str]) -> dict[bytes, str]:
        return {key: value for key, value in some.items() if len(fields_of(key.decode())) == width}

    before, here, now = map(alike, (before, here, now))
    here, now, later = here | now, {key: {**here, **now}[key] for key in now}, later - now.keys()

    def rows(some: dict[bytes, str]) -> Buckets:
        lines = [key + b"," + csv_line([value], line_end="").encode() + b"\n" for key, value in sorted(some.items())]
        return Buckets(tmp_path, key_fields=width).fill((line, 1) for line in lines)

    def first() -> Step:
        return Step(True, ByBucket(keysets.packed(rows(before), tmp_path).blobs()), ByBucket([]))

    found = keysets.compare(
        keysets.consumer_keys([first()]), rows(here), rows(now), buckets(tmp_path, later), tmp_path, whole=whole, most_back=100
    )
    others = {key for key, value in here.items() if before.get(key) != value}
    assert sorted(found.back) == sorted(key_digest(key) for key in others - now.keys() - later)
    assert all_of(found.gone) == before.keys() - here.keys()
    then = keysets.consumer_keys([first(), Step(whole, ByBucket(found.added.blobs()), ByBucket(found.departed.blobs()))])
    after = rows({key: value for key, value in before.items() if key in here} | now)
    for bucket in range(keysets.BUCKETS):
        assert then(bucket).rows == after.at(bucket)
    assert found.kept == after.count


@given(rows=st.dictionaries(RECORD, st.sampled_from([b"", b"0123456789abcdef"])), dead=KEYS)
def test_keys_with_versions_keys_without_and_marks_of_deleted_rows_are_kept_apart(rows, dead):
    held = Held(rows, dead)
    assert Held.of(held.records()) == held


@IN_A_FOLDER
@given(before=KEYS, dead=KEYS, here=KEYS, whole=st.booleans())
def test_without_marks_in_the_source_those_of_earlier_deliveries_go(tmp_path, before, dead, here, whole):
    def step(whole: bool, added: Packed, gone: Packed) -> Step:
        return Step(whole, ByBucket(added.blobs()), ByBucket(gone.blobs()))

    def first() -> Step:
        return step(True, keysets.packed(buckets(tmp_path, before), tmp_path, buckets(tmp_path, before - dead)), Packed(tmp_path))

    held, none = keysets.consumer_keys([first()]), Buckets(tmp_path)
    found = keysets.compare(held, buckets(tmp_path, here), none, none, tmp_path, whole=whole, most_back=100)
    assert all_of(found.gone) == before - here
    then = keysets.consumer_keys([first(), step(whole, found.added, found.departed)])
    assert keys_of(then) == before & here


@IN_A_FOLDER
@given(steps=st.lists(st.tuples(st.booleans(), KEYS, KEYS), max_size=5))
def test_changes_add_up_in_their_order(tmp_path, steps):
    expected: set[bytes] = set()
    for whole, added, gone in steps:
        expected = (set() if whole else expected - gone) | added
    packed = [
        Step(whole, *(ByBucket(keysets.packed(buckets(tmp_path, keys), tmp_path).blobs()) for keys in (added, gone)))
        for whole, added, gone in steps
    ]
    held = keysets.consumer_keys(packed)
    assert keys_of(held) == expected


@IN_A_FOLDER
@given(keys=st.lists(RECORD, max_size=30))
def test_what_exceeds_memory_is_sorted_on_disk(tmp_path, keys):
    runs = keysets.in_order(keys, tmp_path, in_memory=4)
    assert list(runs) == sorted(keys)


@given(fields=st.lists(FIELD, min_size=1, max_size=4))
def test_a_record_comes_apart_into_the_fields_it_was_made_of(fields):
    assert fields_of(csv_line(fields, line_end="")) == fields
