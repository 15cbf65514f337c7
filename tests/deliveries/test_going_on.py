"""A delivery in parts whose attempt ended after it had read everything: the next one sends what is missing and reads nothing again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import func, select

from tests.copies import Copy
from tests.destinations.sftp_places import key_place, local_place
from tests.faults.proxy import Proxy, proxied
from tests.installations import DAY, NOON, Place, make_place
from tests.servers.s3 import S3Server
from tests.servers.sshd import SftpAccess, serve_sshd
from waybill.configuration.registration import S3Destination
from waybill.connection import Connection
from waybill.deliveries.publishing.upload import Uploads
from waybill.deliveries.running import Result, run
from waybill.destinations.base import Destination, Session
from waybill.destinations.s3 import S3
from waybill.errors import ConflictError
from waybill.files.places import verify
from waybill.housekeeping import housekeeping
from waybill.ledger.tables import attempt
from waybill.registrations.applying import apply

SIZES = (4_000, 150_000)
"""Rows of the parts: one arrives at once, one is held up."""
ENTITY = {
    "source": "lake",
    "relation": "*.parquet",
    "tenant_column": "tenant_id",
    "key": ["id"],
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "1h"},
    "streams": len(SIZES),
    "columns": {"id": {"type": "integer"}, "name": {"type": "string"}, "updated_at": {"type": "timestamp"}},
}


@pytest.fixture(scope="module")
def server() -> Iterator[SftpAccess]:
    with serve_sshd() as started:
        yield started


class Scene:
    """A lake of two files, each a part, and an SFTP server behind a proxy that lets through the small one and some of the large one."""

    def __init__(self, place: Place, server: SftpAccess, proxy: Proxy) -> None:
        self.place, self.server, self.proxy = place, server, proxy
        self.out = server.root / place.root.name
        self.out.mkdir()
        self.lake = place.root / "lake"
        self.lake.mkdir()
        for number, rows in enumerate(SIZES):
            columns = f"'acme' tenant_id, (i * 2 + {number})::bigint id, md5(i::text) \"name\", timestamp '2026-01-01' updated_at"
            target = f"'{self.lake}/{number}.parquet' (format parquet, row_group_size 200000)"
            duckdb.execute(f"copy (select {columns} from range({rows}) t(i)) to {target}")
        place.write("catalog.yaml", {"sources": {"lake": {"kind": "lake", "path": str(self.lake)}}, "entities": {"user": ENTITY}})
        self.register()
        extra = {"host_key": server.host_key, "private_key": server.private_key.read_text()}
        place.connections["consumer"] = Connection("consumer", "sftp", server.host, proxy.port, server.login, extra=extra)

    def register(self, **body: object) -> None:
        root = f"{self.server.remote_root.rstrip('/')}/{self.place.root.name}"
        self.place.tenant(entityList=["user"], destination={"kind": "sftp", "connection": "consumer", "root": root}, **body)

    def run(self) -> Result:
        installation = self.place.installation()
        apply(installation, actor="test")
        [result] = run(installation, "acme", NOON)
        return result

    def attempts(self) -> int:
        with self.place.installation().ledger.read() as connection:
            return connection.execute(select(func.count()).select_from(attempt)).scalar_one()

    def spools(self) -> list[Path]:
        return sorted((self.place.root / ".waybill/spool").glob("*"))

    def wait(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def hold_up(self) -> None:
        """From now on the server gets some of the bytes, and then none."""
        self.proxy.waits = True
        self.proxy.limits["up"] = self.proxy.passed["up"] + 4_000_000

    def let_through(self) -> None:
        self.proxy.limits["up"] = None

    def is_held_up(self) -> bool:
        """Everything is read, the small part has arrived, the large one has not."""
        spooled = {path.stat().st_size for spool in self.spools() for path in spool.iterdir()}
        arrived = [path for path in self.hidden() if path.is_file() and path.stat().st_size in spooled]
        return bool(self.attempts() and len(arrived) == 1 and self.proxy.passed["up"] == self.proxy.limits["up"])

    def cut(self) -> Result:
        """A run whose connection breaks after everything was read and some parts have arrived."""
        self.hold_up()
        results: list[Result] = []
        thread = threading.Thread(target=lambda: results.append(self.run()))
        thread.start()
        self.wait(self.is_held_up)
        self.proxy.waits = False
        self.proxy.close()
        thread.join()
        self.let_through()
        self.proxy.passed["up"] = 0
        return results[0]

    def delivered(self) -> None:
        """Everything is there once, nothing else, and the spool is free."""
        [path] = self.out.rglob("*.manifest.json")
        facts = json.loads(path.read_text())
        assert (facts["rows"], len(facts["files"]), facts["possible_duplicate"]) == (sum(SIZES), len(SIZES), False)
        assert verify(str(self.out), pytest.fail).problems == []
        assert len(Copy().catch_up(self.out).rows) == sum(SIZES)

    def hidden(self) -> list[Path]:
        return [path for path in self.out.rglob("*") if ".part" in str(path.relative_to(self.out))]


@pytest.fixture
def scene(tmp_path: Path, server: SftpAccess) -> Iterator[Scene]:
    with closing(make_place(tmp_path)) as place, proxied(server.port) as proxy:
        yield Scene(place, server, proxy)


def test_after_a_broken_connection_only_what_is_missing_is_sent_and_nothing_is_read_again(scene: Scene) -> None:
    failed = scene.cut()
    assert failed.error is not None
    assert len(scene.spools()) == 1
    shutil.rmtree(scene.lake)
    large = max(path.stat().st_size for path in scene.spools()[0].iterdir())
    assert scene.run().error is None
    scene.delivered()
    assert (scene.attempts(), scene.spools(), scene.hidden()) == (1, [], [])
    assert large < scene.proxy.passed["up"] < large + 150_000


@contextmanager
def working(scene: Scene) -> Iterator[subprocess.Popen[str]]:
    """Another process at the same delivery, which has read everything and is held up while it sends."""
    found = scene.place.connections["consumer"]
    fields = {"conn_type": "sftp", "host": found.host, "port": found.port, "login": found.login, "extra": found.extra}
    env = {**os.environ, "AIRFLOW_CONN_CONSUMER": json.dumps(fields), "WAYBILL_CONFIG_DIR": str(scene.place.root / "config")}
    scene.hold_up()
    argv = [sys.executable, "-c", "from waybill.cli.app import main; main()", "run", "acme", "--until", NOON.isoformat()]
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            scene.wait(scene.is_held_up)
            yield process
        finally:
            process.kill()


def test_after_a_kill_the_next_process_goes_on(scene: Scene) -> None:
    with working(scene) as process:
        process.kill()
        process.wait(30)
    scene.let_through()
    shutil.rmtree(scene.lake)
    assert scene.run().error is None
    scene.delivered()
    assert (scene.attempts(), scene.spools(), scene.hidden()) == (1, [], [])


def test_a_process_that_is_only_slow_keeps_its_spool(scene: Scene) -> None:
    scene.cut()
    [spool] = scene.spools()
    descriptor = os.open(spool, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert scene.run().error is None
    finally:
        os.close(descriptor)
    assert (scene.attempts(), scene.spools()) == (2, [spool])
    scene.delivered()


def test_a_process_that_is_told_to_stop_leaves_neither_spool_nor_arrived_parts(scene: Scene) -> None:
    with working(scene) as process:
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:  # the server answers, and is slow
            scene.proxy.limits["up"] += 20_000
            time.sleep(0.02)
    scene.let_through()
    assert (scene.spools(), scene.hidden()) == ([], [])
    assert scene.run().error is None
    scene.delivered()


def _other_columns(scene: Scene) -> None:
    scene.place.write(
        "catalog.yaml",
        {
            "sources": {"lake": {"kind": "lake", "path": str(scene.lake)}},
            "entities": {"user": {**ENTITY, "columns": {**ENTITY["columns"], "name": {"type": "string", "export": "anonymize"}}}},
        },
    )


def _damaged(scene: Scene) -> None:
    for path in scene.spools()[0].iterdir():
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1)


def _a_day_later(scene: Scene) -> None:
    scene.place.clock = datetime.now(UTC) + timedelta(days=1, hours=1)


@pytest.mark.parametrize("happened", [_other_columns, _damaged, _a_day_later], ids=lambda item: item.__name__)
def test_what_is_no_longer_the_same_is_read_anew(scene: Scene, happened: Callable[[Scene], None]) -> None:
    scene.cut()
    happened(scene)
    assert scene.run().error is None
    scene.delivered()
    assert (scene.attempts(), scene.spools()) == (2, [])


def test_bytes_that_changed_on_the_disk_are_never_published(scene: Scene) -> None:
    scene.cut()
    for path in scene.spools()[0].iterdir():
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"X")
    assert getattr(scene.run().error, "code", "") == "verify"
    assert scene.spools() == []
    assert scene.run().error is None
    scene.delivered()


def test_a_spool_that_nobody_goes_on_with_is_removed_when_its_time_is_up(scene: Scene) -> None:
    scene.cut()
    [spool] = scene.spools()
    elsewhere = replace(scene.place.installation(), settings=replace(scene.place.installation().settings, spool_dir=scene.place.root / "b"))
    [result] = run(elsewhere, "acme", NOON)
    assert result.error is None
    scene.place.clock = datetime.now(UTC) + timedelta(days=2)
    for path in scene.hidden():
        os.utime(path, (0, 0))  # the server's own clock counts there
    housekeeping(scene.place.installation())
    assert not spool.exists()
    assert scene.hidden() == []
    scene.delivered()


def _sessions(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Session]:
    if where == "folder":
        destination: Destination = local_place(tmp_path).destination
    elif where == "sftp":
        destination = key_place(request.getfixturevalue("server")).destination
    else:
        s3: S3Server = request.getfixturevalue("s3")
        s3.client().create_bucket(Bucket=tmp_path.name.replace("_", "-"))
        spec = S3Destination(kind="s3", bucket=tmp_path.name.replace("_", "-"), connection="aws", root="/")
        extra = {"endpoint_url": s3.endpoint, "region_name": s3.region}
        destination = S3(spec, lambda _: Connection("aws", "aws", login=s3.access_key, password=s3.secret_key, extra=extra))
    with destination.connect() as session:
        yield session


@pytest.mark.parametrize("where", ["folder", "sftp", "s3"])
def test_what_arrived_whole_is_not_sent_again_and_anything_else_is(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    whole = [os.urandom(300_000) for _ in range(4)]
    arrived = [whole[0], whole[1][:200_000], os.urandom(300_000), None]  # whole, cut off, of the same size, and not there
    spool = tmp_path / "spool"
    spool.mkdir()
    for number, data in enumerate(whole, 1):
        (spool / str(number)).write_bytes(data)
    for session in _sessions(where, tmp_path, request):
        session.prepare("/exports/acme/.user.part")
        for number, found in enumerate(arrived, 1):
            if found is not None:
                session.upload(f"/exports/acme/.user.part/{number}", [found])
        (spool / "1").write_bytes(b"not looked at")
        with Uploads(
            session, lambda number: spool / str(number), lambda number: f"/exports/acme/.user.part/{number}", hold=False
        ) as uploads:
            for number, data in enumerate(whole, 1):
                uploads.go_on(number, {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
            uploads.finish()
        assert [b"".join(session.blocks(f"/exports/acme/.user.part/{number}")) for number in range(1, 5)] == whole


def test_a_folder_that_holds_something_else_is_told_and_not_tried_again_for_ever(tmp_path: Path) -> None:
    with closing(make_place(tmp_path)) as place:
        place.tenant(entityList=["user"], csv={"max_rows_per_file": 1})
        place.user(1, "Ada", NOON - 10 * DAY)
        place.sql('alter table "user" rename to hidden')
        assert [result.error is None for result in place.run(NOON)] == [False]  # the ledger knows that it has begun
        place.sql('alter table hidden rename to "user"')
        left = place.out / "exports/acme/2026/05/31/user/user.deletes.csv"
        left.parent.mkdir(parents=True)
        left.write_text("left behind")
        [failed] = place.run(NOON)
        assert isinstance(failed.error, ConflictError)
        assert "2026/05/31/user holds files, and none of this delivery" in str(failed.error)
        shutil.rmtree(left.parent)
        assert [result.error for result in place.run(NOON)] == [None]
