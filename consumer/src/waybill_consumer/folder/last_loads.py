"""What `load` last did with a folder, by database: `.waybill-consumer-loads.json`, which `status` and `pull` read.

The database alone knows what it holds. This file tells those who do not ask it: what may be moved away, and what failed at night.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from waybill_consumer.errors import without_password
from waybill_consumer.folder.files import write_whole
from waybill_consumer.folder.position import Kept
from waybill_consumer.manifest import json_object, now_text
from waybill_consumer.own_files import LOADS
from waybill_consumer.targets import Applied

FORMAT = 1


def database_named(url: str, schema: str) -> str:
    """A database as it may be shown and kept."""
    scheme, mark, rest = without_password(url).partition(":")
    if scheme in ("sqlite", "duckdb"):
        path = rest[3:] if rest.startswith("///") else rest
        shown = f"{scheme}:{Path(path).resolve()}"
    else:
        place, _, query = rest.partition("?")
        options = [option for option in query.split("&") if option and "password" not in option.lower()]
        shown = f"{scheme}{mark}{place}" + (f"?{'&'.join(options)}" if options else "")
    return f"{shown} --schema {schema}" if schema else shown


class Loads:
    """By database: `tried_at`, `problems` of that try, how far each entity is loaded, and the backfills that are."""

    def __init__(self, root: Path) -> None:
        self._path = root / LOADS
        self.databases: dict[str, dict[str, Any]] = {}
        self._known: tuple[dict[str, tuple[int, int]], set[str]] | None = None
        try:
            body = json_object(self._path.read_bytes()) or {}
        except FileNotFoundError:
            return
        if body.get("format") == FORMAT and isinstance(body.get("databases"), dict):
            self.databases = {str(name): _checked(facts) for name, facts in body["databases"].items() if _is_one(facts)}

    def reached(self) -> dict[str, tuple[int, int]]:
        """By tenant and entity, how far the database is that got furthest."""
        found: dict[str, tuple[int, int]] = {}
        for facts in self.databases.values():
            for stream, place in facts["entities"].items():
                found[stream] = max(found.get(stream, (0, 0)), (place["generation"], place["sequence"]))
        return found

    def has(self, kept: Kept) -> bool:
        """Whether a database holds a delivery, or a newer history: then its files may be gone."""
        if self._known is None:
            self._known = self.reached(), {content for facts in self.databases.values() for content in facts["backfills"]}
        places, backfills = self._known
        place = places.get(kept.stream, (0, 0))
        if kept.kind != "backfill" or kept.generation < place[0]:
            return (kept.generation, kept.sequence) <= place
        return kept.content in backfills

    def note(self, database: str, problems: Sequence[dict[str, str]], applied: Iterable[Applied] | None, only: Sequence[str] = ()) -> None:
        """Remember how a load ended; `applied` is what the database remembers where it could be asked. Raises OSError."""
        old = self.databases.get(database, {"entities": {}, "backfills": [], "problems": []})
        others = [problem for problem in old["problems"] if only and problem["entity"].rpartition("/")[2] not in only]
        facts = {**old, "tried_at": now_text(), "problems": [*others, *problems]}
        if applied is not None:
            facts |= reached(applied)
        self.databases[database] = facts
        self._known = None
        self._write()

    def forget(self, database: str) -> bool:
        """Count a database no longer. Whether it was known."""
        known = self.databases.pop(database, None) is not None
        if known:
            self._write()
        return known

    def _write(self) -> None:
        write_whole(self._path, json.dumps({"format": FORMAT, "databases": self.databases}, ensure_ascii=False).encode())


def reached(applied: Iterable[Applied]) -> dict[str, Any]:
    """How far each entity is by what a database remembers, and its backfills."""
    entities: dict[str, dict[str, Any]] = {}
    backfills = []
    for step in applied:
        if step.kind == "backfill":
            backfills.append(step.content)
            continue
        stream = f"{step.tenant}/{step.entity}"
        place = {"generation": step.generation, "sequence": step.sequence, "window_to": step.window_to}
        known = entities.get(stream)
        if known is None or (known["generation"], known["sequence"]) < (step.generation, step.sequence):
            entities[stream] = place
    return {"entities": entities, "backfills": sorted(backfills)}


def _is_one(facts: Any) -> bool:
    try:
        _checked(facts)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return True


def _checked(facts: dict[str, Any]) -> dict[str, Any]:
    """Raises AttributeError, KeyError, TypeError or ValueError for what `note` did not write."""
    entities = {
        str(stream): {
            "generation": int(place["generation"]),
            "sequence": int(place["sequence"]),
            "window_to": str(place["window_to"]),
        }
        for stream, place in facts["entities"].items()
    }
    problems = [{name: str(problem[name]) for name in ("entity", "what", "next_step")} for problem in facts["problems"]]
    backfills = [str(content) for content in facts["backfills"]]
    return {"tried_at": str(facts["tried_at"]), "problems": problems, "entities": entities, "backfills": backfills}
