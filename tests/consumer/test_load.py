"""`load` applies what the manifests say, in the order of the chains, in every database alike."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.consumer.copies import consumer, rows, run, well
from tests.consumer.sender import DAY, MIDNIGHT, Sender
from waybill_consumer.load.loading import load
from waybill_consumer.progress import Progress
from waybill_consumer.targets.duckdb import DuckDB


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    return Sender(tmp_path / "in")


def held(database: str, table: str = "user") -> dict[int, str | None]:
    return dict(rows(database, table, "id, name"))


def test_a_full_replaces_a_delta_upserts_and_a_deletes_file_removes(sender: Sender, database: str) -> None:
    sender.deliver([("1", "Ada"), ("2", None), ("3", "")], kind="full")
    well("load", sender.root, "--to", database)
    assert held(database) == {1: "Ada", 2: None, 3: ""}
    sender.day = 1
    sender.deliver([("3", "Eve"), ("4", "Bob")], deletes=[("1", "2026-06-02T00:00:00.000000Z"), ("3", "2026-06-02T00:00:00.000000Z")])
    well("load", sender.root, "--to", database)
    assert held(database) == {2: None, 3: "Eve", 4: "Bob"}
    sender.day = 2
    sender.deliver([("9", "new")], kind="full")
    well("load", sender.root, "--to", database)
    assert held(database) == {9: "new"}
    assert well("load", sender.root, "--to", database)["deliveries"] == 0


def test_parts_and_compression_make_no_difference(sender: Sender, database: str) -> None:
    wanted = {number: f"name, {number}" for number in range(50)}
    given = [(str(number), name) for number, name in wanted.items()]
    sender.deliver(given, kind="full", parts=3, csv={"compression": "gzip"})
    sender.deliver(
        given, entity="other", kind="full", parts=2, csv={"compression": "zstd", "line_ending": "\r\n", "bom": True, "delimiter": ";"}
    )
    well("load", sender.root, "--to", database)
    assert held(database) == held(database, "other") == wanted
    sender.day = 1
    sender.deliver([("1", "a\r\nb"), ("2", 'say "hi"'), ("50", "é€")], parts=2, csv={"compression": "gzip", "delimiter": "\t"})
    well("load", sender.root, "--to", database)
    assert held(database) == {**wanted, 1: "a\r\nb", 2: 'say "hi"', 50: "é€"}


def test_a_gap_stops_its_entity_and_a_new_generation_goes_on(sender: Sender, database: str) -> None:
    sender.deliver([("1", "Ada")], kind="full")
    for day in (1, 2):
        sender.day = day
        lost = sender.deliver([("1", f"day {day}")])
        if day == 1:
            sender.path(lost, 1, "user.manifest.json").unlink()
    sender.deliver([("7", "fine")], entity="other", kind="full")
    said = consumer("load", sender.root, "--to", database, "--json")
    assert said.code == 1
    (problem,) = said.json["problems"]
    assert problem["entity"] == "acme/user"
    assert "sequence 2 of acme/user generation 1 is missing" in problem["what"]
    assert held(database) == {1: "Ada"}
    assert held(database, "other") == {7: "fine"}
    sender.day = 3
    sender.deliver([("5", "start over")], kind="full")
    well("load", sender.root, "--to", database)
    assert held(database) == {5: "start over"}


def test_a_damaged_file_stops_its_entity_until_a_redelivery_takes_its_place(sender: Sender, database: str) -> None:
    sender.deliver([("1", "Ada")], kind="full")
    sender.day = 1
    second = sender.deliver([("1", "Eve"), ("2", "Bob")])
    path = sender.path(second, 1)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"Eve", b"Evf"))
    sender.day = 2
    sender.deliver([("2", "Bea")])
    sender.deliver([("7", "fine")], entity="other", kind="full")
    said = consumer("load", sender.root, "--to", database)
    assert said.code == 1
    assert str(path) in said.err
    assert "SHA-256" in said.err
    assert f"waybill redeliver {second['delivery_id']}" in said.err
    assert held(database) == {1: "Ada"}
    assert held(database, "other") == {7: "fine"}
    sender.redeliver(second, [("1", "Eve"), ("2", "Bob")], day=1)
    well("load", sender.root, "--to", database)
    assert held(database) == {1: "Eve", 2: "Bea"}


@pytest.mark.parametrize("harm", ["cut", "longer", "missing", "packed"])
def test_every_damage_is_found_before_anything_is_kept(sender: Sender, database: str, harm: str) -> None:
    csv = {"compression": "gzip"} if harm == "packed" else {}
    sender.deliver([("1", "Ada")], kind="full")
    sender.day = 1
    path = sender.path(sender.deliver([(str(number), "x" * 50) for number in range(2000)], csv=csv), 1)
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "longer": data + b"9,y\n", "packed": data[: len(data) // 2] + b"!" * 9}[harm])
    said = consumer("load", sender.root, "--to", database)
    assert said.code == 1
    assert path.name in said.err
    assert held(database) == {1: "Ada"}


def test_a_redelivery_of_what_is_loaded_changes_nothing(sender: Sender, database: str) -> None:
    first = sender.deliver([("1", "Ada")], kind="full")
    sender.day = 1
    sender.deliver([("1", "Eve")])
    well("load", sender.root, "--to", database)
    sender.redeliver(first, [("1", "Ada")], day=0)
    assert well("load", sender.root, "--to", database)["deliveries"] == 0
    assert held(database) == {1: "Eve"}


def test_a_backfill_that_comes_late_does_not_undo_newer_rows(sender: Sender, database: str) -> None:
    sender.deliver([("1", "Ada"), ("2", "Bob"), ("3", "Cid")], kind="full")
    well("load", sender.root, "--to", database)
    sender.day = 2
    sender.deliver([("1", "newer")], deletes=[("3", "2026-06-03T00:00:00.000000Z")])
    well("load", sender.root, "--to", database)
    sender.day = 1
    older = MIDNIGHT + DAY
    sender.deliver([("1", "older"), ("2", "mended"), ("3", "gone")], kind="backfill", folder="backfill-0123456789ab", at=older)
    well("load", sender.root, "--to", database)
    assert held(database) == {1: "newer", 2: "mended"}


def test_a_backfill_waits_its_turn_and_an_old_one_is_passed_over(sender: Sender, database: str) -> None:
    sender.deliver([("1", "Ada")], kind="full")
    sender.deliver([("1", "backfilled")], kind="backfill", folder="backfill-a", at=MIDNIGHT + timedelta(hours=5))
    sender.day = 1
    sender.deliver([("1", "newest")])
    well("load", sender.root, "--to", database)
    assert held(database) == {1: "newest"}
    sender.day = 2
    sender.deliver([("1", "full")], kind="full")
    well("load", sender.root, "--to", database)
    sender.deliver([("1", "old")], kind="backfill", generation=1, folder="backfill-b", at=MIDNIGHT + DAY * 2)
    well("load", sender.root, "--to", database)
    assert held(database) == {1: "full"}


def test_new_columns_come_and_a_full_brings_the_columns_it_has(sender: Sender, database: str) -> None:
    sender.deliver([("1", "Ada")], kind="full")
    well("load", sender.root, "--to", database)
    sender.day = 1
    columns = {"id": "integer", "name": "string", "age": "integer"}
    sender.deliver([("2", "Bob", "30")], columns=columns)
    well("load", sender.root, "--to", database)
    assert rows(database, "user", "id, name, age") == [(1, "Ada", None), (2, "Bob", 30)]
    sender.day = 2
    sender.deliver([("2", "thirty")], kind="full", columns={"id": "integer", "age": "string"})
    well("load", sender.root, "--to", database)
    assert rows(database, "user") == [(2, "thirty")]


def test_numbers_that_outgrow_their_column_are_kept_exactly(sender: Sender, database: str) -> None:
    columns = {"id": "integer", "amount": "decimal", "price": {"type": "decimal", "precision": 6, "scale": 2}}
    sender.deliver([("1", "1.10", "9.99")], kind="full", columns=columns)
    well("load", sender.root, "--to", database)
    sender.day = 1
    long = "123456789012345678901234567890"
    sender.deliver([(long, "0.000000001", "1000000.00")], columns=columns)
    well("load", sender.root, "--to", database)
    found = [tuple(str(value) for value in row) for row in rows(database, "user", "id, amount, price")]
    assert {(row[0], float(row[1]), float(row[2])) for row in found} == {("1", 1.1, 9.99), (long, 1e-9, 1e6)}


def test_rows_without_a_key_are_appended_once(sender: Sender, database: str) -> None:
    sender.deliver([("1", "a"), ("1", "a")], kind="full", key=(), mode="append")
    sender.day = 1
    sender.deliver([("1", "a")], key=(), mode="append")
    for _ in range(2):
        well("load", sender.root, "--to", database)
        assert rows(database, "user") == [(1, "a")] * 3


@pytest.mark.parametrize("other", ["1", None])
def test_a_key_that_is_not_unique_is_said(sender: Sender, database: str, other: str | None) -> None:
    sender.deliver([("1", "a"), (other, "b")], kind="full", columns={"id": "string", "name": "string"})
    said = consumer("load", sender.root, "--to", database)
    assert said.code == 1
    assert "key does not tell rows apart" in said.err
    assert "Traceback" not in said.err


def test_two_tenants_do_not_meet_in_one_table(tmp_path: Path, database: str) -> None:
    for tenant in ("acme", "zeta"):
        Sender(tmp_path / "in" / tenant, tenant).deliver([("1", tenant)], kind="full")
    said = consumer("load", tmp_path / "in", "--to", database)
    assert (said.code, "acme, zeta" in said.err, "--tenant" in said.err) == (1, True, True)
    well("load", tmp_path / "in", "--to", database, "--tenant", "zeta")
    assert held(database) == {1: "zeta"}
    said = consumer("load", tmp_path / "in", "--to", database, "--tenant", "acme")
    assert (said.code, "deliveries of tenant zeta" in said.err) == (1, True)
    assert held(database) == {1: "zeta"}


def test_a_database_takes_the_deliveries_of_one_tenant_whatever_the_entities(tmp_path: Path, database: str) -> None:
    for tenant, entity in (("acme", "user"), ("zeta", "invoice")):
        Sender(tmp_path / tenant, tenant).deliver([("1", tenant)], kind="full", entity=entity)
    well("load", tmp_path / "acme", "--to", database)
    said = consumer("load", tmp_path / "zeta", "--to", database)
    assert (said.code, "holds the deliveries of tenant acme, and these are of zeta" in said.err) == (1, True)
    assert held(database) == {1: "acme"}


TYPES: dict[str, Any] = {
    "id": "integer",
    "s": "string",
    "d": {"type": "decimal", "precision": 20, "scale": 4},
    "f": "float",
    "b": "boolean",
    "day": "date",
    "at": "timestamp",
    "u": "uuid",
    "j": "json",
    "raw": "binary",
}
UUIDS = ["6f2d9b5e-0f0b-4b8e-9d55-0c6a3a1d2b3c", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]
VALUES = [
    ("1", "", "-12345678901234.5678", "NaN", "true", "2026-02-28", "2026-06-01T00:00:00.123456Z", UUIDS[0], '{"a":[1,null,"é"]}', "AP8="),
    ("2", None, None, None, None, None, None, None, None, None),
    ("3", "#x, \"y\"\r\n\\N \\.", "0.0000", "-Infinity", "false", "0001-01-01", "1969-12-31T23:59:59.999999Z", UUIDS[1], '""', ""),
    ("4", "\\.", "1.5000", "1e+300", "true", "9999-12-31", "2026-06-01T00:00:00.000000Z", UUIDS[2], "[]", "YQ=="),
]  # fmt: skip


def test_every_type_arrives_as_what_it_is(sender: Sender, database: str) -> None:
    sender.deliver(VALUES, kind="full", columns=TYPES)
    sender.day = 1
    sender.deliver(VALUES[:2], columns=TYPES)
    well("load", sender.root, "--to", database)
    texts = ", ".join(f'cast("{name}" as text)' if name in ["d", "f", "day", "at", "u", "j"] else f'"{name}"' for name in TYPES)
    found = {row[0]: row[1:] for row in run(database, f'select {texts} from "user"')}
    assert found[2] == (None,) * 9
    for row in VALUES:
        if row[0] == "2":
            continue
        s, d, f, b, day, at, u, j, raw = found[int(str(row[0]))]
        assert (s, d, bool(b), day, u, j) == (row[1], row[2], row[4] == "true", row[5], row[7], row[8])
        assert str(float(f)) == str(float(str(row[3])))
        assert at.replace(" ", "T")[:19] == str(row[6])[:19]
        assert bytes(raw) == {"AP8=": b"\x00\xff", "": b"", "YQ==": b"a"}[str(row[9])]


@pytest.mark.parametrize("name", ["select", "with space", 'quo"te', "per%cent", "d'oh", "naïve"])
def test_any_name_may_be_a_column(sender: Sender, database: str, name: str) -> None:
    for day in range(2):
        sender.day = day
        sender.deliver(
            [("1", f"day {day}")], kind="delta" if day else "full", columns={"id": "integer", name: "string"}, deletes=[] if day else None
        )
        well("load", sender.root, "--to", database)
    assert rows(database, "user") == [(1, "day 1")]


@pytest.mark.parametrize("later", [False, True])
def test_columns_that_differ_only_by_case_are_apart_or_are_named(sender: Sender, database: str, later: bool) -> None:
    columns = {"id": "integer", "name": "string", "Name": "string"}
    if later:
        sender.deliver([("1", "a")], kind="full", columns=dict(list(columns.items())[:2]))
        well("load", sender.root, "--to", database)
        sender.day = 1
    sender.deliver([("1", "a", "b")], kind="delta" if later else "full", columns=columns)
    if database.startswith("postgresql"):
        well("load", sender.root, "--to", database)
        assert rows(database, "user") == [(1, "a", "b")]
    else:
        done = consumer("load", sender.root, "--to", database)
        assert done.code == 1
        assert "the columns name and Name differ only by case" in done.err
        assert "Ask the sender to rename one of them" in done.err


def test_refusals_are_sentences_with_exit_code_1_and_usage_is_2(sender: Sender, tmp_path: Path) -> None:
    sender.deliver([("1", "Ada")], kind="full")
    cases: list[tuple[int, list[object], str]] = [
        (1, ["load", tmp_path / "nowhere", "--to", f"sqlite:{tmp_path}/untouched"], "no such folder"),
        (1, ["load", sender.root, "--to", "oracle://x"], "oracle"),
        (1, ["load", sender.root, "--to", f"sqlite:{tmp_path}/x", "--schema", "s"], "no schemas"),
        (1, ["load", sender.root, "--to", "postgresql://nobody@127.0.0.1:1/x"], "cannot be reached"),
        (1, ["pull", tmp_path / "nowhere", tmp_path / "d"], "no such folder"),
        (1, ["pull", "ftp://host/x", tmp_path / "d"], "is no SOURCE"),
        (1, ["status", tmp_path / "nowhere"], "no such folder"),
        (1, ["verify", tmp_path / "nowhere"], "no such folder"),
        (2, ["load", sender.root], "--to"),
        (2, ["status", sender.root, "--max-age", "soon"], "26h, 8d"),
        (2, [], "COMMAND"),
    ]
    for code, arguments, words in cases:
        said = consumer(*arguments)
        assert (said.code, words in said.err, "Traceback" in said.err) == (code, True, False), (arguments, said)
        if code == 1:
            answer = consumer(*arguments, "--json")
            assert words in json.dumps(answer.json)
    assert not (tmp_path / "untouched").exists()


def named(name: str, kind: str, source: str = "") -> dict[str, Any]:
    return {name: {"type": kind, **({"source_name": source} if source else {})}}


@pytest.mark.parametrize("kind", ["delta", "full"])
def test_a_column_that_reads_the_same_under_another_name_is_renamed(sender: Sender, database: str, kind: str) -> None:
    sender.deliver([("1", "Ada"), ("2", "Eve")], kind="full")
    well("load", sender.root, "--to", database)
    sender.day = 1
    renamed = {"columns": named("number", "integer", "id") | named("who", "string", "name"), "key": ["number"]}
    gone = [("2", "2026-06-02T00:00:00.000000Z")] if kind == "delta" else None
    sender.deliver([("3", "Bob")], kind=kind, deletes=gone, **renamed)
    well("load", sender.root, "--to", database)
    assert rows(database, "user", "number, who") == [(1, "Ada"), (3, "Bob")][kind == "full" :]
    assert len(rows(database, "user")[0]) == 2
    sender.day = 2
    sender.deliver([("3", "Zoe")])
    well("load", sender.root, "--to", database)
    assert held(database)[3] == "Zoe"


def test_two_columns_may_change_their_names_with_each_other(sender: Sender, database: str) -> None:
    plain = named("id", "integer") | named("first", "string") | named("last", "string")
    sender.deliver([("1", "Ada", "Lovelace"), ("2", "Grace", "Hopper")], kind="full", columns=plain)
    well("load", sender.root, "--to", database)
    sender.day = 1
    swapped = named("id", "integer") | named("last", "string", "first") | named("first", "string", "last")
    sender.deliver([("2", "G.", "H.")], columns=swapped)
    well("load", sender.root, "--to", database)
    assert rows(database, "user", "id, last, first") == [(1, "Ada", "Lovelace"), (2, "G.", "H.")]
    sender.day = 2
    sender.deliver([("3", "Joan")], columns=named("id", "integer") | named("first", "string", "first"))
    well("load", sender.root, "--to", database)
    assert rows(database, "user", "id, first") == [(1, "Ada"), (2, "G."), (3, "Joan")]


def test_duckdb_gets_more_memory_where_the_index_of_a_key_needs_it(tmp_path: Path) -> None:
    sender = Sender(tmp_path / "in")
    rows = [(hashlib.sha512(str(number).encode()).hexdigest(), "x") for number in range(150_000)]
    sender.deliver(rows, kind="full", columns={"id": "string", "name": "string"})
    with duckdb.connect(str(tmp_path / "copy.duckdb")) as connection:
        connection.execute("set threads = 1")
        report = load(tmp_path / "in", DuckDB(connection, "", memory=8), Progress(shown=False))
        assert report.problems == []
        assert connection.execute('select count(*) from "user"').fetchall() == [(150_000,)]
        (limit,) = connection.execute("select current_setting('memory_limit')").fetchall()[0]
    assert float(limit.split()[0]) > 8


def test_a_key_of_numbers_is_one_in_all_its_spellings_if_it_is_at_the_source(sender: Sender, database: str) -> None:
    """SQLite holds such numbers as texts, so one spelling has to replace another. What the source holds as texts stays apart."""
    numbers: dict[str, Any] = {
        "columns": {"id": {"type": "decimal", "native_type": "numeric"}, "part": "string", "name": "string"},
        "key": ("id", "part"),
    }
    texts: dict[str, Any] = {"entity": "code", "columns": {"id": {"type": "string", "native_type": "text"}, "name": "string"}}
    sender.deliver([("1.0", "a", "old"), ("1.0", "b", "other"), ("-20", "a", "kept")], kind="full", **numbers)
    sender.deliver([("1.0", "x")], kind="full", **texts)
    well("load", sender.root, "--to", database)
    sender.day = 1
    sender.deliver([("1.00", "a", "new"), ("0.10", "a", "x"), ("-20", "a", "kept too")], **numbers)
    sender.deliver([("1.00", "y")], **texts)
    sender.day = 2
    sender.deliver([("1", "a", "newest"), ("0.1", "a", "y")], **numbers)
    well("load", sender.root, "--to", database)
    found = sorted((float(number), part, name) for number, part, name in rows(database, "user", "id, part, name"))
    assert found == [(-20.0, "a", "kept too"), (0.1, "a", "y"), (1.0, "a", "newest"), (1.0, "b", "other")]
    assert [name for _, name in rows(database, "code", "id, name")] == ["x", "y"]
