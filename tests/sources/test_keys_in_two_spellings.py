"""Keys that differ in the source and are the same text, or the same number, once they are delivered: a consumer's copy would lose rows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sources.test_equal_ids import Place, place

__all__ = ["place"]

ONE = "0190f6b2-7c3e-7d11-8f00-3c5c6a1e9b42"
SPELLINGS: dict[str, tuple[str, list[str]]] = {
    "decimal": ("decimal", ["1.0", "1.00"]),
    "decimal, also with a zero in front": ("decimal", ["12345678901234567890.5", "012345678901234567890.50"]),
    "decimal, beside a number": ("decimal", ["1.50", "1.5"]),
    "integer": ("integer", ["1", "01"]),
    "float": ("float", ["1.5", "1.50"]),
    "boolean": ("boolean", ["true", "t"]),
    "date": ("date", ["2026-01-02", "2026-01-02 00:00:00"]),
    "timestamp": ("timestamp", ["2026-01-02 00:00:00", "2026-01-02T01:00:00+01:00"]),
}


def ids(place: Place, kind: str) -> str:
    return place.ids("acme", key=["k"], columns={"k": {"type": kind}})


def rows(place: Place, native: str, *keys: str) -> None:
    place.happens("drop table if exists orders", f"create table orders (k {native}, tenant_id varchar(9))")
    place.happens(*(f"insert into orders values ('{key}', 'acme')" for key in keys))


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("native", ["text", "", "varchar(40)"])
@pytest.mark.parametrize("spelt", SPELLINGS)
def test_texts_of_sqlite_that_are_one_value_are_one_key(place: Place, spelt: str, native: str) -> None:
    kind, keys = SPELLINGS[spelt]
    rows(place, native, *keys)
    assert ids(place, kind) == "key_not_unique"
    rows(place, native, keys[0])
    assert ids(place, kind) not in ("", "key_not_unique")
    rows(place, native, *keys)
    assert ids(place, "string") != "key_not_unique"


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_texts_of_sqlite_that_differ_beyond_what_a_float_holds_are_two_keys(place: Place) -> None:
    few = ["1.00000000000000000001", "1.00000000000000000002", "1", "20000000000000000001", "20000000000000000002"]
    many = ["0.1234567890123456789012345678901", "0.1234567890123456789012345678902"]
    rows(place, "text", *few, *many)
    assert len(ids(place, "decimal").split()) == 7


@pytest.mark.parametrize("index", [False, True], ids=["no index", "a unique index"])
def test_a_uuid_in_two_spellings_is_one_key(place: Place, index: bool) -> None:
    rows(place, "varchar(40)", ONE, ONE.upper())
    if index and place.kind != "mariadb":  # which takes both for the same text
        place.happens("create unique index one on orders (k)")
        if place.kind in ("postgres", "psycopg"):
            place.happens("alter table orders alter k set not null")
    assert ids(place, "uuid") == "key_not_unique"
    assert sorted(ids(place, "string").split()) == sorted([ONE, ONE.upper()])


def test_uuids_that_differ_are_as_many_keys(place: Place) -> None:
    rows(place, "varchar(40)", ONE, ONE.replace("1", "2"), ONE.replace("1", "a").upper())
    assert len(ids(place, "uuid").split()) == 3


@pytest.mark.parametrize("native", ["time", "time(3)", "interval", "date", "timestamp"])
def test_times_tell_no_tenant_and_no_scope(place: Place, native: str) -> None:
    """The same time is written in many ways: an id in another way than it is delivered would find no row, and nobody would be told."""
    if (place.kind, native) in (("mariadb", "interval"), ("duckdb", "time(3)")) or place.kind == "sqlite":
        return  # there is no such type
    value = {"interval": "1 day"}.get(native, "10:11:12" if native.startswith("time(") or native == "time" else "2026-01-02")
    place.happens(
        f"create table orders (tenant_id {native}, owner varchar(9), id int)", f"insert into orders values ('{value}', 'acme', 1)"
    )
    assert place.ids(value) == "tenant_unfit"
    scoped: dict[str, Any] = {"tenant_column": "owner", "scopes": {"project": "tenant_id"}}
    assert place.ids("acme", scope={"project": (value,)}, **scoped) == "scope_unfit"
    assert place.ids("acme", **scoped) == "1"
