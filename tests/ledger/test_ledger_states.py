"""A ledger that is read-only, full or failing over is told as what it is, and work goes on by itself where that helps."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from tests.installations import DAY, NOON, Place, make_place
from tests.servers.postgres import Cluster, Database, serve_postgres
from waybill.errors import PermanentError, TransientError
from waybill.ledger import Ledger
from waybill.web.problems import status_of

WRITE = text("DELETE FROM day")


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        ledger.ready()
        yield ledger


def with_pragma(ledger: Ledger, pragma: str) -> None:
    """Every further connection begins with that setting."""
    ledger.engine.dispose()

    @event.listens_for(ledger.engine, "connect")
    def _set(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA {pragma}")


def test_a_sqlite_ledger_that_cannot_be_written_needs_somebody(sqlite: Ledger) -> None:
    with_pragma(sqlite, "query_only=ON")
    with sqlite.read() as connection:
        connection.execute(text("SELECT * FROM day"))
    with pytest.raises(PermanentError, match="the ledger cannot be written") as caught, sqlite.begin() as connection:
        connection.execute(WRITE)
    assert caught.value.code == "ledger_read_only"
    assert "mount the disk writable" in str(caught.value)
    assert status_of(caught.value) == 503


_AS_NOBODY = """
import os, sys
from waybill.errors import WaybillError
from waybill.ledger import Ledger
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    Ledger(sys.argv[1]).ready()
except WaybillError as error:
    print(type(error).__name__, error.code)
"""


@pytest.mark.parametrize(
    ("file", "folder"),
    [(0o000, 0o755), (0o600, 0o000), (None, 0o755)],
    ids=["a closed file", "a file in a closed folder", "a folder in its place"],
)
def test_a_sqlite_ledger_of_another_account_needs_somebody(file: int | None, folder: int) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        Path(scratch).chmod(0o755)
        path = Path(scratch) / "state/ledger.db"
        if file is None:
            path.mkdir(parents=True)
        else:
            with closing(Ledger(f"sqlite:///{path}")) as ledger:
                ledger.ready()
            path.chmod(file)
        path.parent.chmod(folder)
        done = subprocess.run([sys.executable, "-c", _AS_NOBODY, f"sqlite:///{path}"], capture_output=True, text=True, check=False)
        path.parent.chmod(0o755)
    assert (done.returncode, done.stdout.strip()) == (0, "PermanentError ledger_refused"), done.stderr


def test_a_sqlite_ledger_whose_disk_is_full_goes_on_when_there_is_room(sqlite: Ledger) -> None:
    insert = text("INSERT INTO audit (tenant, at, actor, action, detail) VALUES ('acme', '2026-06-01', 'x', 'x', :detail)")
    with sqlite.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    with_pragma(sqlite, f"max_page_count={pages}")
    with pytest.raises(TransientError, match="the ledger's disk is full") as caught, sqlite.begin() as connection:
        connection.execute(insert, {"detail": '"' + "x" * 100_000 + '"'})
    assert caught.value.code == "ledger_full"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with serve_postgres(extra_config="wal_level = replica\nmax_wal_senders = 4") as cluster:
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    with cluster.database() as database:
        with closing(Ledger(database.url)) as ledger:
            ledger.ready()
        yield database


def test_a_database_set_to_read_only_passes_by_itself(database: Database) -> None:
    """What managed databases do when their disk fills up."""
    with closing(Ledger(database.url)) as ledger:
        database.psql(f"alter database {database.name} set default_transaction_read_only = on")
        ledger.engine.dispose()
        with pytest.raises(TransientError, match="takes no writes") as caught, ledger.begin() as connection:
            connection.execute(WRITE)
        assert caught.value.code == "ledger_read_only"
        assert "has to reach the primary" in str(caught.value)
        database.psql(f"set default_transaction_read_only = off; alter database {database.name} reset default_transaction_read_only")
        with ledger.begin() as connection:
            connection.execute(WRITE)


def test_an_account_without_rights_needs_somebody(database: Database) -> None:
    database.psql("create role reader_only login; grant usage on schema public to reader_only")
    try:
        url = database.url.replace(f"{database.user}@", "reader_only@")
        with (
            closing(Ledger(url)) as ledger,
            pytest.raises(PermanentError, match="does not let this account") as caught,
            ledger.begin() as connection,
        ):
            connection.execute(WRITE)
        assert caught.value.code == "ledger_refused"
        assert "Grant" in str(caught.value)
    finally:
        database.psql("drop owned by reader_only; drop role reader_only")


def test_a_run_meets_a_standby_and_goes_on_at_the_promoted_one(tmp_path: Path) -> None:
    """The primary is lost; its standby is reached first as it is, and after its promotion."""
    with (
        serve_postgres(extra_config="wal_level = replica\nmax_wal_senders = 4") as primary,
        primary.database() as database,
        closing(make_place(tmp_path, ledger_url=database.url)) as place,
    ):
        place.user(1, "Ada", NOON - DAY)
        assert [result.error for result in place.run(NOON)] == [None, None]
        with primary.standby() as standby:
            wait_for_replay(primary, standby, database)
            hosts = "&".join(f"host=127.0.0.1:{cluster.port}" for cluster in (primary, standby))
            place.ledger_url = f"postgresql+psycopg://{database.user}@/{database.name}?{hosts}"
            failing_over(place, primary, standby)


def wait_for_replay(primary: Cluster, standby: Cluster, database: Database) -> None:
    here = Database("127.0.0.1", standby.port, database.name, database.user)
    written = database.psql("select pg_current_wal_lsn()").strip()
    here.psql(
        f"do $$ begin for i in 1..3000 loop exit when pg_last_wal_replay_lsn() >= '{written}'; perform pg_sleep(0.02); end loop; end $$"
    )
    assert here.psql(f"select pg_last_wal_replay_lsn() >= '{written}'").strip() == "t"


def failing_over(place: Place, primary: Cluster, standby: Cluster) -> None:
    primary.stop(signal.SIGQUIT)
    place.user(2, "Bob", NOON)
    with pytest.raises(TransientError, match="is a standby, is failing over") as caught:
        place.run(NOON + DAY)
    assert caught.value.code == "ledger_read_only"
    standby.promote()
    place.ledger_url += "&target_session_attrs=read-write"
    assert [result.error for result in place.run(NOON + DAY)] == [None, None]
    assert [row[1] for row in place.rows()] == ["Ada", "Bob"]
