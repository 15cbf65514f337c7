"""A source that changes in every way a source may, and a consumer's copy that is compared with it after each delivery.

`World` (`mirror_rows`) holds what the source holds, row by row, and writes it into a real one (`mirror_sources`). `Mirror` runs `waybill`
and `waybill-consumer` as their users do, kills runs and loses files, and tells where the copy differs from what the source held when the
delivery was read. Everything follows from one seed.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.consumer.copies import well
from tests.faults.mirror_rows import DAY, FAR, LAG, TENANTS, Texts, World, text
from tests.faults.mirror_sources import COLUMNS, MariaBooks, Source, Values
from tests.faults.processes import Launcher
from tests.installations import Place
from tests.servers.sshd import SftpAccess
from waybill.deliveries import repairs
from waybill.deliveries.running import run
from waybill.errors import WaybillError
from waybill.registrations.applying import apply

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Australia/Lord_Howe", "Africa/Cairo")
KEYS = (["id"], ["code"], ["code", "id"])
EACH_TIME = ("compare", "compare_rows")
_FEW_ENTITIES = 4
_MANY_CALLS = 400
"""About as many calls that change something as a run makes here."""


@dataclass
class Mirror:
    """An installation over a world: three tenants, one entity for each way to find changes, and a copy for each tenant.

    A small one delivers some of the entities to one of the tenants, daily.
    """

    root: Path
    launcher: Launcher
    source: Source
    seed: int
    server: SftpAccess | None = None
    """Where deliveries go; a folder otherwise."""
    small: bool = False
    trouble: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    compared: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.place = Place(self.root)
        self.env = dict(self.source.env)
        self.to: dict[str, str] = {"kind": "folder", "root": "out"}
        if self.server:
            extra = {"key_file": str(self.server.private_key), "host_key": self.server.host_key}
            at = {"conn_type": "sftp", "host": self.server.host, "port": self.server.port, "login": self.server.login, "extra": extra}
            self.env["AIRFLOW_CONN_TENANTS_SFTP"] = json.dumps(at)
            self.to = {"kind": "sftp", "connection": "tenants_sftp", "root": self.server.remote_root}
            self.place.out.symlink_to(self.server.root)
        late, silent, secret = self.dice.random() < 0.6, self.dice.random() < 0.5, self.dice.random() < 0.4
        begin = datetime(2026, self.dice.choice([2, 3, 10]), 24, 12, tzinfo=UTC)
        self.world = World(self.source, self.dice, begin, late=late, silent=silent, secret=secret)
        self.entities = self._entities(late, silent or secret, "compare_rows" if secret else "compare")
        if self.small:
            self.entities = {name: self.entities[name] for name in self.dice.sample(list(self.entities), _FEW_ENTITIES)}
        by_time = [item for name, item in self.entities.items() if name.startswith(("lookback", "horizon"))]
        self.world.marks_alone = all("deleted_column" in item for item in by_time)
        self.tenants = {name: self._tenant() for name in TENANTS[: 1 if self.small else None]}
        self.seen: set[str] = set()
        self.fresh: dict[str, set[str]] = {}
        self.source.make()
        self.world.some(30)
        self._configure()

    def _entities(self, late: bool, silent: bool, how: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        marks = self.dice.random() < 0.7
        modes = [*self.source.modes, *(["horizon"] if "snapshot" in self.source.modes and not late and not silent else [])]
        look_back = "3d" if late else "0s"
        for mode in [*modes, "append_time", "child"]:
            changes = {
                "snapshot": {"mode": "snapshot", "column": "waybill_xid"},
                "lookback": {"mode": "lookback", "column": "updated_at", "lookback": look_back},
                "child": {"mode": "lookback", "column": "updated_at", "lookback": look_back},
                "horizon": {"mode": "horizon", "column": "updated_at"},
                "append": {"mode": "append", "column": "id", "lag": LAG},
                "append_time": {"mode": "append", "column": "updated_at", "lookback": look_back},
                "full": {"mode": "full"},
            }[mode]
            table = "event" if mode.startswith("append") else "child" if mode == "child" else "thing"
            for compares in (True, False):
                moves_unseen = mode == "child" or (silent and mode != "full" and (table == "thing" or how == "compare_rows"))
                if (moves_unseen and not compares) or (mode == "full" and compares):
                    continue
                found[f"{mode}_{'compared' if compares else 'plain'}"] = {
                    "source": "books",
                    "relation": self._relation(table),
                    **self._tenant_of(table),
                    "key": self.dice.choice(KEYS),
                    "changes": changes,
                    "deletes": how if compares else "never",
                    "fill": self.dice.choice(["from_now", "full_load"]),
                    **({"deleted_column": "deleted_at"} if marks and table == "thing" and mode != "full" else {}),
                    **({"time_column": "updated_at"} if table == "event" else {}),
                    **({"streams": 3} if self.source.spec["kind"] in ("postgres", "lake") and self.dice.random() < 0.3 else {}),
                    **({"source_rows": True} if self.dice.random() < 0.5 else {}),
                    "columns": {name: {"type": kind} for name, kind in COLUMNS.items()},
                }
        return found

    def _relation(self, table: str) -> str:
        return f"{table}/*.parquet" if self.source.spec["kind"] == "lake" else table

    def _tenant_of(self, table: str) -> dict[str, Any]:
        if table != "child":
            return {"tenant_column": "tenant_id"}
        return {"tenant_through": [{"table": self._relation("parent"), "on": "parent_id = id", "column": "tenant_id"}]}

    def _tenant(self) -> dict[str, Any]:
        dice = self.dice
        form = dice.choice(["csv", "csv", "csv", "ndjson", "parquet"])
        csv: dict[str, Any] = {"compression": dice.choice(["none", "gzip", "zstd"]), "delimiter": dice.choice([",", ";", "tab"])}
        if dice.random() < 0.5:
            csv["max_rows_per_file"] = dice.randrange(1, 9)
        body: dict[str, Any] = {
            "entityList": list(self.entities),
            "frequency": "daily" if self.small else dice.choice(["daily", "daily", "weekly", "monthly"]),
            "timezone": dice.choice(ZONES),
            "destination": self.to,
            "csv": csv,
            "files": {"format": form},
            "where": {},
            "rename": {},
            "columns": {},
        }
        for entity, spec in self.entities.items():
            if dice.random() < 0.3:
                # a row that no longer meets a condition is told where keys are compared only
                body["where"][entity] = [{"column": "flag", "op": "is not null"}] if spec["deletes"] in EACH_TIME else []
            if dice.random() < 0.3:
                body["rename"][entity] = {"name": "label", "id": "number"}
            if dice.random() < 0.3:
                body["columns"][entity] = [*spec["key"], *(name for name in ("amount", "name", "deleted_at") if dice.random() < 0.8)]
                body["rename"].pop(entity, None)
        return body

    def _configure(self) -> None:
        self.place.write("catalog.yaml", {"sources": {"books": self.source.spec}, "entities": self.entities})
        for name, body in self.tenants.items():
            self.place.write(f"tenants/{name}.yaml", body)

    def waybill(self, *argv: str) -> str:
        if isinstance(self.source, MariaBooks):
            self.trouble += in_process(self.place, self.source, *argv)
            return ""
        done = self.launcher.run(self.root, *argv, env=self.env)
        if done.status:
            self.trouble.append(f"waybill {' '.join(argv)} ended with {done.status}: {done.said.strip()[-600:]}")
        return done.out

    def steps(self, count: int) -> Iterator[int]:
        """Live through so many days, each compared; yields the number of comparisons so far."""
        try:
            for number in range(count):
                self._step(number, self.dice.choice([1, 1, 1, 1, 2, 3, 8]) if number else 0)
                yield self.compared
                if self.trouble:
                    return
        finally:
            self.world.end()

    def _step(self, number: int, days: int) -> None:
        self.world.pass_time(days)
        if number:
            self.world.some(self.dice.randrange(0, 25))
            self._change_mind()
            if self.world.late and self.dice.random() < 0.3:
                self.world.hold()
        for tenant in self.tenants:
            self.deliver(tenant, *(["--full-load"] if number and self.dice.random() < 0.08 else []))
            if self.dice.random() < 0.1:
                self._lose(tenant)
            self.compare(tenant)
            self._repair(tenant)

    def _change_mind(self) -> None:
        """Sometimes the operator changes what a tenant gets."""
        tenant, dice = self.dice.choice(list(self.tenants)), self.dice
        body = self.tenants[tenant]
        entity = dice.choice(list(self.entities))
        chosen = self.entities[entity]
        match dice.randrange(17):
            case 0:
                body["frequency"] = dice.choice(["daily", "weekly", "monthly"])
            case 1:
                body["csv"] = {**body["csv"], "compression": dice.choice(["none", "gzip", "zstd"])}
                body["csv"].pop("max_rows_per_file", None)
            case 2:
                body["files"] = {"format": dice.choice(["csv", "ndjson", "parquet"])}
            case 3 if entity not in body["columns"]:
                body["rename"][entity] = {"name": dice.choice(["label", "title"])}
            case 4:
                body["timezone"] = dice.choice(ZONES)
            case 5 if chosen["deletes"] in EACH_TIME:
                body["where"][entity] = dice.choice([[], [{"column": "flag", "op": "is not null"}]])
            case 6 if chosen["deletes"] in EACH_TIME:
                chosen["key"] = dice.choice(KEYS)
                for other in self.tenants.values():
                    listed = other["columns"].get(entity, chosen["key"])
                    listed += [name for name in chosen["key"] if name not in listed]
            case 7:
                if not chosen["columns"].pop("seen", None):
                    chosen["columns"]["seen"] = {"type": dice.choice(["date", "string"])}
            case 8 if not (self.world.silent or self.world.secret) and chosen["deletes"] != "never":
                chosen["deletes"] = dice.choice(["compare", {"mode": "compare", "every": 2}])
            case _:
                return
        self.done.append(f"{self.world.now:%m-%d}: {tenant} is registered or {entity} is catalogued otherwise")
        self._configure()

    def deliver(self, tenant: str, *options: str) -> None:
        argv = ["run", tenant, "--until", f"{self.world.now:%Y-%m-%dT%H:%M:%S}Z", *options]
        self.done.append(f"{self.world.now:%m-%d}: waybill {' '.join(argv)}")
        if not isinstance(self.source, MariaBooks) and self.dice.random() < 0.2:
            self._disturb(argv)
        self.waybill(*argv)

    def _disturb(self, argv: list[str]) -> None:
        """Run it once or twice at the same time before, each killed before some call that changes something."""
        kills = [self.dice.randrange(1, _MANY_CALLS) for _ in range(self.dice.choice([1, 1, 2]))]
        self.done.append(f"    killed before call {' and '.join(map(str, kills))}")
        for running in [self.launcher.start(self.root, *argv, env=self.env, kill_at=kill_at) for kill_at in kills]:
            running.wait()

    def _lose(self, tenant: str) -> None:
        """A date is gone before the consumer pulls it, which asks for all of it again."""
        folder = self.place.out / "exports" / tenant
        new = {path: manifest for path, manifest in self._manifests(tenant) if manifest["delivery_id"] not in self.seen}
        if not new:
            return
        date = self.dice.choice(sorted({path.relative_to(folder).parts[:3] for path in new}))
        self.done.append(f"{self.world.now:%m-%d}: {tenant} loses {'-'.join(date)}")
        shutil.rmtree(folder.joinpath(*date))
        for path, manifest in new.items():
            if path.relative_to(folder).parts[:3] == date:
                self.waybill("redeliver", manifest["delivery_id"])

    def _repair(self, tenant: str) -> None:
        """Sometimes something is delivered again, which changes nothing for a copy that is up to date."""
        found = [manifest for manifest in self.manifests(tenant) if manifest["kind"] != "backfill" and "redelivers" not in manifest]
        if not found or self.dice.random() > 0.25:
            return
        chosen = self.dice.choice(found)
        before = self._held(tenant, chosen["entity"])
        if self.dice.random() < 0.5:
            self.done.append(f"{self.world.now:%m-%d}: redeliver {chosen['entity']} {chosen['generation']}.{chosen['sequence']}")
            self.waybill("redeliver", chosen["delivery_id"])
        elif chosen["window"]["mode"] in ("lookback", "horizon", "append"):
            newest = max((o for o in found if o["entity"] == chosen["entity"]), key=lambda o: (o["generation"], o["sequence"]))
            end = datetime.fromisoformat(newest["window"]["to"])
            start = end - self.dice.choice([1, 3, 9]) * DAY
            self.done.append(f"{self.world.now:%m-%d}: backfill {chosen['entity']} from {start}")
            self.waybill("backfill", tenant, chosen["entity"], "--from", start.isoformat(), "--to", end.isoformat())
        else:
            return
        self.compare(tenant, repaired=chosen["entity"])
        if "redeliver" in self.done[-1] and self._held(tenant, chosen["entity"]) != before:
            self.trouble.append(
                f"a redelivery of {chosen['entity']} {chosen['generation']}.{chosen['sequence']} changed the copy of {tenant}"
            )

    def _held(self, tenant: str, entity: str) -> list[Any]:
        with closing(sqlite3.connect(self.root / f"{tenant}.sqlite")) as connection:
            return sorted(connection.execute(f'select * from "{entity}"').fetchall(), key=repr)

    def manifests(self, tenant: str) -> list[dict[str, Any]]:
        return [manifest for _, manifest in self._manifests(tenant)]

    def _manifests(self, tenant: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted((self.place.out / "exports" / tenant).rglob("*.manifest.json")):
            yield path, json.loads(path.read_text())

    def compare(self, tenant: str, *, repaired: str = "") -> None:
        """Load what came, and compare every entity that came with the source; a repaired one if its own delivery came with the last run."""
        folder, held = self.place.out / "exports" / tenant, self.root / "held" / tenant
        if self.trouble or not folder.exists():
            return
        well("pull", folder, held)
        url = f"sqlite:{self.root}/{tenant}.sqlite"
        well("load", held, "--to", url)
        new = [manifest for manifest in self.manifests(tenant) if manifest["delivery_id"] not in self.seen]
        self.seen |= {delivery["delivery_id"] for delivery in new}
        came = {delivery["entity"] for delivery in new}
        if not repaired:
            self.fresh[tenant] = came
        for entity in sorted(came & self.fresh[tenant]):
            of_it = [manifest for manifest in self.manifests(tenant) if manifest["entity"] == entity]
            here = {item["delivery_id"] for item in of_it}
            chain = [item for item in of_it if item["kind"] != "backfill" and item.get("redelivers") not in here]
            newest = max(chain, key=lambda delivery: (delivery["generation"], delivery["sequence"]))
            found = self._differences(tenant, entity, newest, Path(f"{self.root}/{tenant}.sqlite"))
            self.trouble += [f"{self.world.now:%m-%d} {tenant} {entity} ({newest['kind']} {newest['sequence']}): {what}" for what in found]
            self.compared += 1

    def _differences(self, tenant: str, entity: str, newest: Mapping[str, Any], path: Path) -> Iterator[str]:
        kinds = {column.get("source_name", column["name"]): column["type"] for column in newest["columns"]}
        delivered = [column["name"] for column in newest["columns"]]
        with closing(sqlite3.connect(path)) as connection:
            listed = ", ".join(f'"{name}"' for name in delivered)
            records = connection.execute(f'select {listed} from "{entity}"').fetchall()
        at = [list(kinds).index(name) for name in self.entities[entity]["key"]]
        copy = {}
        for record in records:
            texts = tuple(text(kind, value) for kind, value in zip(kinds.values(), record, strict=True))
            key = tuple(texts[item] for item in at)
            if key in copy:
                yield f"the copy holds {key} twice"
            copy[key] = texts
        wanted = {name: self._of(values, kinds, entity) for name, values in self._source(tenant, entity)}
        filled = ["filled_from_sequence" in column for column in newest["columns"]]
        boundary = datetime.fromisoformat(newest["window"]["to"])
        by_time = self.entities[entity]["changes"].get("column") == "updated_at"
        everything = newest["kind"] == "full" or not by_time
        for values, (key, texts) in wanted.values():
            position = max(values["updated_at"], values["deleted_at"] or values["updated_at"]) if values["deleted_at"] != FAR else FAR
            if self.entities[entity].get("deleted_column") is None or (values["deleted_at"] and values["deleted_at"] >= FAR):
                position = values["updated_at"]
            if everything or position < boundary or position >= FAR:
                if key not in copy:
                    yield f"{key} is missing: {texts}, position {position}, boundary {boundary}"
                elif any(
                    has != is_ and not (may_lack and has is None) for has, is_, may_lack in zip(copy[key], texts, filled, strict=True)
                ):
                    yield f"{key} is {copy[key]} in the copy, {texts} in the source, position {position}, boundary {boundary}"
        compares = newest.get("deletes") is not None
        if not compares and newest["kind"] != "full" and self.entities[entity]["deletes"] in EACH_TIME:
            yield "no keys were compared"
        ghosts = copy.keys() - {key for _, (key, _) in wanted.values()}
        if ghosts and (compares or newest["kind"] == "full"):
            yield f"{len(ghosts)} rows are in the copy and not in the source, as {min(ghosts)}"
        if newest.get("source_rows") not in (None, len(wanted)):
            yield f"source_rows is {newest['source_rows']}, the source holds {len(wanted)}"

    def _source(self, tenant: str, entity: str) -> Iterable[tuple[tuple[str, int], Values]]:
        conditions = self.tenants[tenant]["where"].get(entity)
        for at, values in self._rows(self.entities[entity]["relation"]):
            if at[0] == tenant and (not conditions or values["flag"] is not None):
                yield at, values

    def _rows(self, relation: str) -> Iterator[tuple[tuple[str, int], Values]]:
        world = self.world
        if not relation.startswith("child"):
            yield from (world.events if relation.startswith("event") else world.rows).items()
            return
        for number, (parent, values) in world.children.items():
            if parent in world.parents:
                yield (world.parents[parent], number), values

    def _of(self, values: Values, kinds: Mapping[str, str], entity: str) -> tuple[Values, tuple[Texts, Texts]]:
        texts = {name: text(COLUMNS[name], value) for name, value in values.items()}
        return values, (tuple(texts[name] for name in self.entities[entity]["key"]), tuple(texts[name] for name in kinds))


def in_process(place: Place, source: MariaBooks, command: str, *argv: str) -> Iterator[str]:
    """Do what a command does; yields what goes wrong."""
    installation = replace(place.installation(), connect_db=lambda name: source.connect())
    apply(installation, actor="test")
    try:
        match command, argv:
            case "run", (tenant, "--until", until, *more):
                done = run(installation, tenant, datetime.fromisoformat(until), full_load=bool(more))
                yield from [str(result.error) for result in done if result.error]
            case "redeliver", (delivery_id,):
                repairs.redeliver(installation, delivery_id, actor="test")
            case "backfill", (tenant, entity, "--from", start, "--to", end):
                repairs.backfill(installation, tenant, entity, *map(datetime.fromisoformat, (start, end)), actor="test")
            case _:
                raise ValueError(command, argv)
    except WaybillError as error:
        yield f"{command} {argv}: {error}"
