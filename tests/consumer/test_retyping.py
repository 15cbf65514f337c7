"""A column that changes its type keeps the values that its text in a file says, in every database, or the delivery is refused."""

from __future__ import annotations

import re
from typing import Any

from tests.consumer.copies import consumer, run, well
from tests.consumer.sender import Sender

NOON = "2026-06-01T12:00:00.000000Z"
KEPT = [
    ("integer", "string", "1", "1"),
    ("integer", "decimal", "1", "1"),
    ("integer", "float", "3", "3"),
    ("string", "integer", "123456789012345678901234567890", "123456789012345678901234567890"),
    ("string", "decimal", "0.10", "0.10"),
    ("string", "timestamp", NOON, NOON),
    ("string", "boolean", "true", "true"),
    ("string", "json", '{"a":1}', '{"a":1}'),
    ("string", "binary", "AAEC", "AAEC"),
    ("timestamp", "string", NOON, NOON),
    ("timestamp", "string", "0044-03-15T12:00:00.000001Z BC", "0044-03-15T12:00:00.000001Z BC"),
    ("timestamp", "string", "infinity", "infinity"),
    ("timestamp", "date", NOON, "2026-06-01"),
    ("date", "timestamp", "2026-06-01", "2026-06-01T00:00:00.000000Z"),
    ("date", "string", "0044-03-15 BC", "0044-03-15 BC"),
    ("boolean", "string", "false", "false"),
    ("float", "string", "0.1", "0.1"),
    ("float", "string", "3", "3"),
    ("float", "decimal", "0.1", "0.1"),
    ("float", "integer", "5", "5"),
    ("decimal", "integer", "5.0", "5"),
    ("decimal", "string", "5.10", "5.10"),
    ("binary", "string", "AAEC", "AAEC"),
    ("json", "string", '{"a": 1}', '{"a": 1}'),
    ("uuid", "string", "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000a"),
]
REFUSED = [
    ("string", "integer", "abc"),
    ("string", "integer", "2.5"),
    ("string", "decimal", "abc"),
    ("string", "float", "abc"),
    ("string", "boolean", "abc"),
    ("string", "date", "abc"),
    ("string", "timestamp", "abc"),
    ("string", "uuid", "abc"),
    ("float", "integer", "2.5"),
    ("decimal", "integer", "-0.5"),
    ("boolean", "integer", "true"),
]


def canonical(database: str, kinds: dict[str, str]) -> dict[str, list[Any]]:
    """The column `v` of each entity as a file would spell it, given its type."""
    binary = {"s": "v", "d": "to_base64(v)", "p": "encode(v, 'base64')"}[database[0]]
    queries = [
        f"select '{entity}' as entity, id, {binary if kind == 'binary' else 'cast(v as text)'} as v from {entity}"
        for entity, kind in kinds.items()
    ]
    found: dict[str, list[Any]] = {}
    for entity, _, value in sorted(run(database, " union all ".join(queries)), key=lambda row: row[:2]):
        found.setdefault(entity, []).append(None if value is None else spelt(value, kinds[entity]))
    return found


def spelt(value: Any, kind: str) -> str:
    if kind == "timestamp":
        return re.sub(r"[ T]([0-9:]+)(?:[+]00|[.]000000Z)$", r"T\1.000000Z", str(value))
    if kind == "boolean":
        return {"1": "true", "0": "false"}.get(value, str(value))
    return "AAEC" if value == b"\0\1\2" else str(value).removesuffix(".0") if kind == "float" else str(value)


def test_a_value_stays_what_its_text_says_or_is_refused_until_a_full_load(sender: Sender, database: str) -> None:
    kept = {f"kept_{number}": case for number, case in enumerate(KEPT)}
    refused = {f"refused_{number}": case for number, case in enumerate(REFUSED)}
    for entity, (was, _, value, *_) in (kept | refused).items():
        sender.deliver([("1", value), ("2", None)], entity=entity, kind="full", columns={"id": "integer", "v": was})
    well("load", sender.root, "--to", database)
    before = canonical(database, {entity: was for entity, (was, *_) in refused.items()})
    for entity, (_, now, *_) in (kept | refused).items():
        sender.deliver([], entity=entity, columns={"id": "integer", "v": now})
    said = consumer("load", sender.root, "--to", database, "--json").json["problems"]
    assert {delivery["entity"] for delivery in said} == {f"acme/{entity}" for entity in refused}
    assert canonical(database, {entity: was for entity, (was, *_) in refused.items()}) == before
    found = canonical(database, {entity: now for entity, (_, now, *_) in kept.items()})
    for entity, (was, now, value, text) in kept.items():
        assert found[entity] == [text, None], (was, now, value)
    for problem in said:
        entity = problem["entity"].partition("/")[2]
        _, now, _ = refused[entity]
        assert f"v becomes {now}" in problem["what"], problem
        assert "Ask the sender for a full load" in problem["next_step"]
        sender.deliver([("3", None)], entity=entity, kind="full", columns={"id": "integer", "v": now})
    well("load", sender.root, "--to", database)
    assert set(run(database, " union all ".join(f"select id, cast(v as text) from {entity}" for entity in refused))) == {(3, None)}


def test_a_key_that_changes_is_that_of_the_table(sender: Sender, database: str) -> None:
    columns = {"id": "integer", "v": "string"}
    sender.deliver([("1", "a"), ("2", "b")], kind="full", columns=columns)
    sender.day = 1
    sender.deliver([("2", "c")], columns=columns, key=("id", "v"))
    well("load", sender.root, "--to", database)
    sender.day = 2
    sender.deliver([("2", "c")], columns=columns)
    said = consumer("load", sender.root, "--to", database)
    assert (said.code, "two rows have the same id" in said.err) == (1, True), said
    assert sorted(run(database, 'select id, v from "user"')) == [(1, "a"), (2, "b"), (2, "c")]


def test_years_before_christ_and_beyond_four_digits_are_kept(sender: Sender, database: str) -> None:
    for kind, values in {
        "date": ["0044-03-15 BC", "12026-01-01", "infinity"],
        "timestamp": ["0044-03-15T12:00:00.000001Z BC", "12026-01-01T00:00:00.000000Z", "-infinity"],
    }.items():
        rows = [(str(number), value) for number, value in enumerate(values)]
        sender.deliver(rows, entity=f"a_{kind}", kind="full", columns={"id": "integer", "v": kind})
        sender.deliver(rows[:1], entity=f"a_{kind}", columns={"id": "integer", "v": kind})
        well("load", sender.root, "--to", database)
        sender.deliver([], entity=f"a_{kind}", columns={"id": "integer", "v": "string"})
        well("load", sender.root, "--to", database)
        assert [row[0] for row in run(database, f"select v from a_{kind} order by id")] == values, kind
