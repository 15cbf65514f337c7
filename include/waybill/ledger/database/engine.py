"""Opens the ledger: engine, transactions, migrations. `Ledger.ready` says when an old ledger is upgraded and when it is refused."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from waybill import private
from waybill.errors import PermanentError, TransientError
from waybill.ledger.database.failures import READ_ONLY, refused, sqlstate, translated
from waybill.ledger.database.rows import json_or_text
from waybill.ledger.denials import Denials

MIGRATIONS = Path(__file__).parent.parent / "migrations"
_LOCK = 7_236_145  # our own number for PostgreSQL's advisory lock around migrations


POSTGRES_PORT = 5432
"""Where PostgreSQL listens unless it is told otherwise."""


class Ledger:
    """The database of registrations, streams, deliveries and requests. One per process; safe to use from several threads."""

    def __init__(self, url: str) -> None:
        """Keep the URL and connect to nothing yet. Raises PermanentError for a URL that no ledger can be behind, and does not repeat it."""
        try:
            self.url = make_url(url)
        except (ArgumentError, ValueError) as error:
            raise _unusable("is not a database URL") from error
        if self.url.get_backend_name() not in ("sqlite", "postgresql"):
            raise _unusable(f"names a database of another kind ({self.url.get_backend_name()})")
        if self.url.get_backend_name() == "sqlite" and self.url.database in (None, "", ":memory:"):
            raise _unusable("names a database in memory, which the next run would find empty")
        try:
            self.engine = _engine(str(self.url.render_as_string(hide_password=False)))
        except (NoSuchModuleError, ImportError) as error:
            raise _unusable(f"names a driver that is not installed ({self.url.drivername})") from error
        self.denials = Denials()
        self._reading = self.engine.execution_options(postgresql_readonly=True, waybill_reads=True)

    def begin(self) -> AbstractContextManager[Connection]:
        """Open one write transaction. It is short and holds no other I/O.

        Raises TransientError if the ledger is locked or away, or if another process was faster with what can be there only once.
        """
        return self._transaction(self.engine)

    def read(self) -> AbstractContextManager[Connection]:
        """Open one read transaction. On SQLite it waits for no writer and blocks none. PostgreSQL refuses writes in it."""
        return self._transaction(self._reading)

    @contextmanager
    def rolled_back(self) -> Iterator[Connection]:
        """Open a write transaction that is rolled back at its end, to see what would be. Raises what `begin` raises."""
        with self.begin() as connection:
            yield connection
            connection.rollback()

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            reads = engine is self._reading
            failure = None if reads and sqlstate(error) in READ_ONLY else self.unreachable(error)  # a write where only reads belong is ours
            if failure is None:
                raise
            if failure.code == "ledger_read_only":
                self.engine.dispose()  # pooled connections outlive a change of the primary
            raise failure from error

    def unreachable(self, error: DBAPIError) -> TransientError | PermanentError | None:
        """Return what a database error means for the caller. None if it says nothing about the ledger's state."""
        where = f"ledger {self.url.render_as_string(hide_password=True)}"
        if self.url.get_backend_name() == "sqlite" and self.url.database and _is_closed(Path(self.url.database)):
            return refused(where)
        return translated(error, where)

    def is_pooled(self) -> bool:
        """Return whether something stands between here and PostgreSQL, as far as the server's own port tells."""
        if self.url.get_backend_name() != "postgresql":
            return False
        with self.read() as connection:
            own = connection.execute(text("SELECT inet_server_port()")).scalar()
        return own is not None and own != (self.url.port or POSTGRES_PORT)

    def revision(self) -> str | None:
        """Return the migration that the ledger is at. None if it is empty."""
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
            return found

    @staticmethod
    def head() -> str:
        """Return the newest migration that this version of Waybill knows. Migrations are files that are numbered in their order.

        Raises TransientError if they cannot be listed, for example because no file descriptor is left.
        """
        try:
            return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))
        except OSError as error:
            step = "The next run goes on from there"
            raise TransientError(f"this machine could not go on: {error.strerror}", next_step=step, code="machine") from error

    def require_known(self) -> None:
        """Raises PermanentError for a ledger that a newer version of Waybill has upgraded."""
        current, head = self.revision(), self.head()
        if current is not None and current > head:
            raise PermanentError(
                f"the ledger stands at migration {current}, which a newer version of Waybill made, and this version knows {head} at most",
                next_step="Run the newer version, or restore the ledger from a backup of before the upgrade and run `waybill reconcile`",
                code="ledger_newer",
            )

    def upgrade(self) -> None:
        """Bring the tables to this version. Several processes may call this at once, and one does the work.

        Raises what `require_known` raises.
        """
        from alembic import command  # 0.3 s that only an upgrade has to pay
        from alembic.config import Config

        self.require_known()
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def ready(self) -> None:
        """Create the tables of an empty ledger, and keep a SQLite file up to date.

        Raises PermanentError when a shared ledger is behind, and what `require_known` raises.
        """
        current, head = self.revision(), self.head()
        if current == head:
            return
        if current is not None and current < head and self.engine.dialect.name != "sqlite":
            raise PermanentError(
                f"the ledger stands at migration {current}, this version needs {head}",
                next_step="Run: waybill ledger upgrade",
                code="ledger_not_upgraded",
            )
        self.upgrade()

    def close(self) -> None:
        self.engine.dispose()


def _is_closed(path: Path) -> bool:
    """Return whether this account may not open the file of a ledger, or there is a folder in its place. One that is gone may come back."""
    place = path if os.path.lexists(path) else path.parent
    return _is_folder(path) or (os.access(place, os.F_OK) and not os.access(place, os.R_OK))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # nobody but its owner may look
        return False


def _unusable(what: str) -> PermanentError:
    return PermanentError(
        f"WAYBILL_LEDGER_URL {what}",
        allowed="sqlite:///path/to/ledger.db or postgresql+psycopg://user:password@host:port/database",
        next_step="Correct it, or leave it out for a SQLite file below .waybill/",
        code="ledger_url",
    )


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        driver = make_url(url).get_driver_name()
        # Behind a pool of transactions the next statement may run on a server connection that never prepared it.
        unprepared = {"prepare_threshold": None} if driver == "psycopg" else {}
        arguments = {"connect_timeout": 10} | unprepared if "psycopg" in driver else {}
        engine = create_engine(url, pool_pre_ping=True, connect_args=arguments, json_deserializer=json_or_text)
        if driver == "psycopg":
            event.listen(engine, "connect", _prepare_psycopg)
        return engine
    path = make_url(url).database
    if path:
        _own_file(Path(path))
    engine = create_engine(url, connect_args={"timeout": 30}, json_deserializer=json_or_text)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _own_file(path: Path) -> None:
    """Make an empty ledger that only this account can read: SQLite gives its -wal and -shm the mode of the file they belong to.

    One that is there already is narrowed, but no folder that the URL names by mistake. Where nothing can be made, opening it says so
    in the ledger's own words.
    """
    try:
        private.make_folder(path.parent)
        private.create(path).close()
    except OSError:
        mine = [path.parent] if path.parent.name == ".waybill" else []
        files = (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")))
        private.narrow([*mine, *(file for file in files if not _is_folder(file))])


def _prepare_psycopg(connection: Any, _record: Any) -> None:
    """Read an instant that Python has none for, such as `infinity`, as its text: the driver's error would hide all rows read with it."""
    from psycopg import DataError
    from psycopg.types.datetime import TimestamptzLoader

    class InstantOrText(TimestamptzLoader):
        def load(self, data: Any) -> Any:
            try:
                return super().load(data)
            except DataError:
                return bytes(data).decode()

    connection.adapters.register_loader("timestamptz", InstantOrText)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event opens transactions, the driver must not
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that writes takes its lock at once: one that asked for it later could be refused without being allowed to wait.
    reads = connection.get_execution_options().get("waybill_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def new_id() -> str:
    """Return a UUIDv7 as 32 hex digits. Such ids sort by the time they were made."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    return f"{milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1:032x}"


def is_id(text: str) -> bool:
    """Return whether a text has the form of `new_id`."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
