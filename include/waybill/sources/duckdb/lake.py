"""Parquet files on disk or S3, read through DuckDB. The list of files is fixed when the snapshot first looks at an entity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from waybill import aws
from waybill.canonical import ColumnType
from waybill.configuration.catalog import Entity, LakeSource
from waybill.configuration.selection import Selection
from waybill.configuration.values.columns import described, sources
from waybill.connection import Connection, Connections
from waybill.errors import PermanentError
from waybill.sources.base import Rows, Slice
from waybill.sources.definitions import Definition
from waybill.sources.duckdb import bounds, engine, parquet_schema, partitions, storage, table_formats
from waybill.sources.duckdb.source import EngineSnapshot
from waybill.sources.query import Query
from waybill.sources.sql import Bind, Sql, join, quote, sql

_READ_AHEAD = 1 << 20


class Lake:
    """The source."""

    def __init__(self, spec: LakeSource, base: Path, connections: Connections) -> None:
        self.spec = spec
        self.base = base
        self.connections = connections

    @contextmanager
    def snapshot(self, entities: Iterable[Entity] = ()) -> Iterator[LakeSnapshot]:
        with self._engine() as connection:
            yield LakeSnapshot(connection, self._filesystem(), self._root(), self._engine)

    @contextmanager
    def _engine(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with engine.connect() as connection:
            if self.spec.path.startswith("s3://"):
                connection.register_filesystem(self._filesystem())
            with engine.errors("lake"):
                connection.execute("BEGIN TRANSACTION")
            yield connection

    def _root(self) -> str:
        return self.spec.path if "://" in self.spec.path else str(self.base / self.spec.path)

    def _filesystem(self) -> Any:
        if not self.spec.path.startswith("s3://"):
            return storage.LocalFiles()
        if not self.spec.connection:
            raise PermanentError(
                "an s3:// lake needs an Airflow connection",
                where=self.spec.path,
                code="config",
                next_step="Set its connection in the catalog",
            )
        from waybill.sources.duckdb.buckets import BucketFiles

        target = self.connections(self.spec.connection)
        return BucketFiles(session=_session(target), **s3_settings(target))


def _session(target: Connection) -> Any:
    from aiobotocore.session import AioSession

    session = AioSession()
    with storage.errors(f"connection {target.id}"):
        aws.share_models(session)
    return session


_LIMITS: dict[str, Any] = {"connect_timeout": 15, "read_timeout": 60, "retries": {"max_attempts": 1, "mode": "standard"}}


def s3_settings(target: Connection) -> dict[str, Any]:
    """Return what s3fs needs of an `aws` connection. Nothing is cached between snapshots; s3fs itself tries five times.

    Without keys, a profile or a role in the connection, s3fs finds credentials as every AWS program does, and renews them.
    """
    extra = target.extra
    with storage.errors(f"connection {target.id}"):
        given = aws.session_of(target, _LIMITS)
        keys = given.get_credentials() if target.login or extra.keys() & _TELLING else None
    client = {"endpoint_url": aws.endpoint_of(target, "s3"), "region_name": given.region_name, "verify": extra.get("verify")}
    return {
        "key": keys and keys.access_key,
        "secret": keys and keys.secret_key,
        "token": keys and keys.token,
        "client_kwargs": {name: value for name, value in client.items() if value not in (None, "")},
        "config_kwargs": _LIMITS | extra.get("config_kwargs", {}),
        "default_block_size": _READ_AHEAD,
        "skip_instance_cache": True,
        "use_listings_cache": False,
    }


_TELLING = {"aws_access_key_id", "profile_name", "role_arn"}


class LakeSnapshot(EngineSnapshot):
    """The files that existed when each entity was first looked at."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        files: Any,
        root: str,
        another: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]],
    ) -> None:
        super().__init__(connection, root or "lake")
        self._another = another
        self.files = files
        self.root = root
        self.reads_again = self.counts_cheaply = "://" not in root
        self._listed: dict[str, list[str]] = {}
        self._cut: dict[str, tuple[int, int]] = {}
        """Of files that are not read whole, the first row and the one behind the last."""
        self._untyped: dict[str, set[str]] = {}
        self._types: Mapping[str, str] = {}
        """Of columns that have no type in the files, where another snapshot knows it."""
        self._seen: dict[str, dict[str, storage.Stamp]] = {}
        self._tenants: dict[str, str] = {}
        """The tenant that was asked for last, by relation."""
        self._plain: frozenset[str] = frozenset()
        self._disordered: dict[tuple[str, str], set[str]] = {}

    def changed_file(self) -> str:
        for relation, seen in self._seen.items():
            with storage.errors(self.where):
                now = self._matches(relation)
            if changed := [path for path, stamp in seen.items() if now.get(path) != stamp]:
                return changed[0]
        return ""

    def relation(self, entity: Entity, tenant: str = "") -> Sql:
        return self._relation(entity, tenant)

    def lookup(self, selection: Selection) -> Query:
        """Nothing else is asked of the key's columns, so that the engine may pass over groups of rows that hold none of the keys."""
        entity = selection.entity
        asked = {condition.column for condition in (*selection.where, entity.deleted_when) if condition}
        return replace(self.query(selection), relation=self._relation(entity, selection.tenant, set(entity.key) - asked))

    def _relation(self, entity: Entity, tenant: str, sought: Collection[str] = ()) -> Sql:
        paths = self._paths(entity, tenant)
        if tenant:
            self._tenants[entity.relation] = tenant
        partitions.refuse_doubled(paths, entity)
        partitions.refuse_misread(paths, entity)
        hive_columns = partitions.types_of(paths[0], entity)
        types = ", ".join(f"{engine.DuckDBFlavour().literal(name)}: '{kind}'" for name, kind in hive_columns.items())
        hive = f", hive_types_autocast = false, hive_types = {{{types}}}" if types else ""
        how = f"hive_partitioning = {'true' if types else 'false'}{hive}"
        files = self._files(paths, how)
        read_as = {
            name: f"DECIMAL(38, {self._scale(entity, name)})"
            for name in hive_columns
            if (column := described(entity.columns, name)) and column.type is ColumnType.DECIMAL
        }
        if parquet_schema.untyped(self._describe(entity, files)):  # the first file's types count, unless all are asked for
            files = self._files(paths, f"{how}, union_by_name = true")
            natives = self._describe(entity, files)
            self._untyped[entity.relation] = parquet_schema.untyped(natives)
            read_as |= parquet_schema.assumed(entity, natives, self._types)
        values = {name: f"CAST({quote(name)} AS {kind})" for name, kind in read_as.items()}
        doubted = self._doubted(entity, tenant, paths, files, sought) - read_as.keys() - hive_columns.keys()
        values |= {name: bounds.unbounded(name) for name in doubted}
        if not values:
            return files
        return sql("(SELECT * REPLACE ({}) FROM {}) AS f", ", ".join(f"{x} AS {quote(name)}" for name, x in sorted(values.items())), files)

    def _doubted(self, entity: Entity, tenant: str, paths: list[str], files: Sql, sought: Collection[str]) -> set[str]:
        """Return the columns that groups of rows are not passed over by."""
        if (place := (entity.relation, tenant)) not in self._disordered:
            with engine.errors(f"{entity.id} in {self.where}"):
                self._disordered[place] = bounds.disordered(_these(paths), lambda asked: engine.run(self.connection, asked))
        return bounds.doubted(self._describe(entity, files), self._disordered[place], {entity.tenant_column, *sought})

    def definition(self, selection: Selection) -> Definition:
        """A column that has no type yet may get one: no row that was delivered without a value changes by that."""
        found, entity = super().definition(selection), selection.entity
        columns = found["tables"][entity.relation]["columns"]
        for name in self._untyped.get(entity.relation, set()) & columns.keys():
            columns[name] = (0, "")
        return found

    def _files(self, paths: list[str], how: str) -> Sql:
        def read(some: list[str]) -> Sql:
            return sql(f"read_parquet({{}}, {how})", _these(some))

        whole, cut = [path for path in paths if path not in self._cut], [path for path in paths if path in self._cut]
        if not cut:
            return read(whole)
        # The engine skips the groups of rows that lie outside.
        ranges = [(path, *self._cut[path]) for path in cut]
        parts = [sql(f"{{}} WHERE file_row_number >= {first} AND file_row_number < {end}", read([path])) for path, first, end in ranges]
        every = [sql("SELECT * FROM {}", part) for part in ([read(whole)] if whole else []) + parts]
        return sql("({}) AS p", join(" UNION ALL BY NAME ", every))

    @contextmanager
    def slices(self, selection: Selection, most: int) -> Iterator[list[Slice]]:
        """Yield the files, shared out by their rows in the order of their names, each share in an engine of its own.

        A file that holds more than a share is cut between its groups of rows.
        """
        shares = self._shares(selection, most)
        if len(shares) < 2:
            yield [Rows(self, selection)]
            return
        with ExitStack() as engines:
            slices: list[Slice] = []
            for share in shares:
                connection = engines.enter_context(self._another())
                beside = LakeSnapshot(connection, self.files, self.root, self._another)
                beside.taken_at, beside._listed = self.taken_at, self._listed | {selection.entity.relation: list(share)}
                beside._seen = {selection.entity.relation: self._seen[selection.entity.relation]}
                beside._cut = {path: piece for path, piece in share.items() if piece}
                beside._types, beside._disordered = self.query(selection).natives, self._disordered
                slices.append(Rows(beside, selection))
            with self.unchanging():
                yield slices

    def _shares(self, selection: Selection, most: int) -> list[dict[str, tuple[int, int] | None]]:
        """Return the files of each share, and the rows of those that are cut."""
        if selection.changed.back:
            return []
        paths = self._paths(selection.entity, selection.tenant)
        rows = dict(self._run(selection, sql("SELECT file_name, num_rows FROM parquet_file_metadata({})", _these(paths))))
        total, before = sum(rows.values()) or 1, 0
        large = [path for path in paths if rows[path] * most > total]
        groups = self._groups(selection, large)
        shares: dict[int, dict[str, tuple[int, int] | None]] = defaultdict(dict)
        for path in paths:
            first = 0
            for count in groups.get(path, [rows[path]]):
                share = shares[min(most - 1, (before + count // 2) * most // total)]  # where its middle is
                begun = share.get(path)
                share[path] = (begun[0] if begun else first, first + count) if count < rows[path] else None
                first, before = first + count, before + count
        return list(shares.values())

    def _groups(self, selection: Selection, paths: list[str]) -> dict[str, list[int]]:
        """Return how many rows each group of these files holds, in their order.

        A file with a column of the engine's own name is not cut.
        """
        if not paths or "file_row_number" in map(str.casefold, self.columns(selection.entity)):
            return {}
        asked = sql("SELECT DISTINCT file_name, row_group_id, row_group_num_rows FROM parquet_metadata({}) ORDER BY ALL", _these(paths))
        found: dict[str, list[int]] = defaultdict(list)
        for path, _, count in self._run(selection, asked):
            found[path].append(count)
        return found

    def _scale(self, entity: Entity, name: str) -> int:
        """Return the most fraction digits a decimal partition column is spelt with."""
        return max(len(partitions.values_of(path).get(name, "").partition(".")[2]) for path in self._all_paths(entity))

    def columns(self, entity: Entity) -> dict[str, str]:
        """Return the columns of the files of the tenant that was asked for last. Those of others may be broken, or have other types."""
        with storage.errors(f"{entity.id} in {self.where}"):
            return self._describe(entity, self.relation(entity, self._tenants.get(entity.relation, "")))

    def never_null(self, entity: Entity) -> None:
        return None  # a file may say so, and the next one say otherwise

    def check(self, selection: Selection) -> None:
        with storage.errors(f"{selection.entity.id} in {self.where}"):
            self._check_same_schema(selection)
            super().check(selection)

    def _paths(self, entity: Entity, tenant: str) -> list[str]:
        """Return the entity's files.

        If they are partitioned by tenant, only the tenant's are read, so that another's broken file holds nobody up.
        """
        paths = self._all_paths(entity)
        tenants = [partitions.values_of(path).get(entity.tenant_column) for path in paths] if tenant else []
        if not any(value is not None for value in tenants):
            return paths
        if None in tenants:
            raise PermanentError(
                f"{paths[tenants.index(None)]} lies in no folder {entity.tenant_column}=..., and other files do",
                where=entity.id,
                code="schema_drift",
                next_step="Move it into its tenant's folder, or narrow the pattern to files that are partitioned alike",
            )
        return partitions.of_tenant(entity, dict(zip(paths, tenants, strict=True)), tenant) or paths[:1]

    def _all_paths(self, entity: Entity) -> list[str]:
        found = self._listed.get(entity.relation)
        if found is None:
            with storage.errors(f"{entity.id} in {self.where}"), table_formats.kept_listing(self.files):
                found = self._list(entity)
            self._listed[entity.relation] = found
        return found

    def _list(self, entity: Entity) -> list[str]:
        """Return the file that an entity names, else the files that match its pattern, by name. The path of the source is never a pattern.

        A name that begins with a dot or an underscore is somebody's unfinished work.
        """
        named, fixed, depth = self._place(entity.relation)
        matches = self._matches(entity.relation)
        found = [path for path in matches if not any(part.startswith((".", "_")) for part in path.split("/")[depth:])]
        for path in found:
            partitions.refuse_unreadable(path, entity)
        self._plain |= table_formats.refuse(self.files, entity, found, self.root, self._plain)
        self._seen[entity.relation] = {path: matches[path] for path in found}
        if not found:
            if not self.files.exists(self.root or fixed.rpartition("/")[0] or "."):
                raise FileNotFoundError
            raise PermanentError(
                f"no file matches {named}",
                where=entity.id,
                code="relation_missing",
                next_step=f"Correct entities.{entity.id}.{entity.named_by}, or the path of the source",
            )
        return found

    def _place(self, relation: str) -> tuple[str, str, int]:
        """Return a relation's name below the root, its part without a pattern, and the depth of that in folders."""
        root = f"{self.root.rstrip('/')}/" if self.root else ""
        fixed = root + partitions.PATTERN_MARKS.split(relation, maxsplit=1)[0]
        return f"{root}{relation}", fixed, fixed.count("/")

    def _matches(self, relation: str) -> dict[str, storage.Stamp]:
        """Return the file a relation names, else those its pattern matches, in order, each with what changes when it is written again.

        A folder that the pattern matches stands for the files below it.
        """
        named, _, _ = self._place(relation)
        if self.files.isfile(named):
            return {named: storage.stamp(self.files.info(named))}
        listed = self.files.glob(partitions.literal(named.removesuffix(relation)) + relation, detail=True)
        folders = [path for path, info in listed.items() if info["type"] == "directory"]
        for folder in folders:  # the engine would read what is below in its own way: unfinished files, and no partitions
            del listed[folder]
            listed |= self.files.find(folder, detail=True)
        found = sorted(path for path in listed if not path.endswith("/"))  # an object of S3's of that name marks an empty folder
        protocol = "" if "://" in named else "file://"
        return {self.files.unstrip_protocol(path).removeprefix(protocol): storage.stamp(listed[path]) for path in found}

    def every_file(self, most: int) -> list[str]:
        """Return at most `most` Parquet files below the root, as paths from there, by name. Unfinished ones are left out."""
        root = self.root.rstrip("/")
        with storage.errors(self.where):
            if not self.files.exists(root or "."):
                raise FileNotFoundError
            found = sorted(self.files.unstrip_protocol(path) for path in self.files.find(root or ".") if path.endswith(".parquet"))
        protocol = "" if "://" in root else "file://"
        paths = [path.removeprefix(protocol).removeprefix(root).lstrip("/") for path in found[:most]]
        return [path for path in paths if not any(part.startswith((".", "_")) for part in path.split("/"))]

    def _check_same_schema(self, selection: Selection) -> None:
        """Refuse files whose needed columns differ: DuckDB would silently read NULLs or cast."""
        entity = selection.entity
        paths = self._paths(entity, selection.tenant)
        every = {*entity.needed_columns, *sources(selection.columns)}
        needed = every - partitions.types_of(paths[0], entity).keys()
        columns = parquet_schema.refuse_differing(entity, needed, self._run(selection, sql(parquet_schema.FOOTERS, _these(paths))))
        conditions = (condition.column for condition in selection.where)
        every |= {*conditions, *entity.scopes.values(), entity.time_column}
        partitions.refuse_disagreeing(entity, every, columns, lambda asked: self._run(selection, asked))


def pattern_entity(pattern: str) -> Entity:
    """Return what a pattern of files can be looked at by before there is an entity for it."""
    plain = {"source": "", "key": ["*"], "changes": {"mode": "full"}, "columns": {"*": {"type": "string"}}}
    return Entity.model_validate({"id": "files", "relation": pattern, "tenant_column": "", **plain})


def _these(paths: list[str]) -> Bind:
    """Return the files for DuckDB, which reads every path as a pattern."""
    return Bind(tuple(map(partitions.literal, paths)), "VARCHAR[]")
