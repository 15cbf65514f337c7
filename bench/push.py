"""Sending files over SFTP, side by side with OpenSSH's `sftp` and Airflow's SFTPHook, against OpenSSH's sshd on this machine.

`python -m bench push [--quick]` prints one line per leg: leg | against | ours | theirs | ratio | goal | met.
Every figure is a median of rounds that take turns, on the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.leg import Leg
from tests.servers.sshd import SftpAccess, serve_sshd
from waybill.connection import Connection
from waybill.destinations.base import Profile
from waybill.destinations.sftp.session import Sftp

MB = 1024 * 1024
SMALL_FILES, SMALL_BYTES, THREADS = 500, 20_000, 16


def legs(quick: bool) -> Iterator[Leg]:
    megabytes, rounds = (256, 3) if quick else (1024, 3)
    with tempfile.TemporaryDirectory() as scratch, serve_sshd() as server:
        folder = Path(scratch)
        large, quarter = folder / "large.csv", folder / "quarter.csv"
        _write_csv(large, megabytes)
        _write_csv(quarter, megabytes // 4)
        connection = _connection(server)
        times = _take_turns(
            rounds,
            server,
            **_pushes(connection, server, large),
            openssh=lambda name: server.sftp(f"put {large} {server.root}/{name}"),
            synced=lambda name: server.sftp(f"put -f {large} {server.root}/{name}"),
        )
        yield Leg(f"push of {megabytes} MB, with login, unverified | sftp put", times["unverified"], times["openssh"], 1.0)
        yield Leg(
            f"push of {megabytes} MB, with login, unverified | sftp put that syncs, too (-f)", times["unverified"], times["synced"], 1.0
        )
        yield Leg(f"push of {megabytes} MB, with login, verified by reading back | sftp put", times["verified"], times["openssh"], 1.8)
        store = _hook(connection)
        times = _take_turns(
            rounds,
            server,
            **_pushes(connection, server, quarter),
            hook=lambda name: store(f"{server.root}/{name}", str(quarter)),
        )
        for side in ("unverified", "verified"):
            yield Leg(f"push of {megabytes // 4} MB, with login, {side} | SFTPHook.store_file", times[side], times["hook"], 1 / 6)
        small = _small_files(folder)
        batch = [f"put {path} {server.root}/{path.name}" for path in small]
        times = _take_turns(
            rounds,
            server,
            ours=lambda _: _push_small(connection, server, small),
            openssh=lambda _: server.sftp(*batch),
            synced=lambda _: server.sftp(*(command.replace("put", "put -f", 1) for command in batch)),
        )
        what = f"push of {SMALL_FILES} files of {SMALL_BYTES // 1000} KB, with login, synced and verified"
        yield Leg(f"{what} | sftp batch", times["ours"], times["openssh"], 1.0)
        yield Leg(f"{what} | sftp batch that syncs, too (put -f)", times["ours"], times["synced"], 1.0)


def _connection(server: SftpAccess) -> Connection:
    extra = {"host_key": server.host_key, "private_key": server.private_key.read_text()}
    return Connection("bench", "sftp", server.host, server.port, server.login, extra=extra)


def _write_csv(path: Path, megabytes: int) -> None:
    """Rows as exports hold them: ids, times, words, numbers; they compress about as real ones do."""
    rng = random.Random(7)
    rows = "".join(
        f"{number},{rng.getrandbits(64):016x},2026-06-01T{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.random() * 60:09.6f}Z,"
        f"{rng.choice(['login', 'logout', 'refresh'])},{rng.random():.6f}\n"
        for number in range(200_000)
    ).encode()
    with path.open("wb") as file:
        left = megabytes * MB
        while left > 0:
            left -= file.write(rows[:left])


def _small_files(folder: Path) -> list[Path]:
    paths = [folder / f"small-{number:03}.csv" for number in range(SMALL_FILES)]
    for path in paths:
        path.write_bytes(os.urandom(SMALL_BYTES))
    return paths


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(MB):
            yield block


def _pushes(connection: Connection, server: SftpAccess, path: Path) -> dict[str, Callable[[str], None]]:
    """Both of our sides, login included, each of the name to push to."""

    def push(profile: Profile, name: str) -> None:
        with Sftp(connection, server.remote_root, profile).connect() as session:
            session.upload(f"/{name}", _blocks(path))

    return {"verified": partial(push, Profile.FULL), "unverified": partial(push, Profile.DROPBOX)}


def _push_small(connection: Connection, server: SftpAccess, paths: list[Path]) -> None:
    """As a task with many small entities does it: log in, then for each file write, verify and publish."""
    with Sftp(connection, server.remote_root).connect() as session, ThreadPoolExecutor(THREADS) as pool:

        def deliver(path: Path) -> None:
            session.upload(f"/.{path.name}.part", [path.read_bytes()])
            if not session.publish(f"/.{path.name}.part", f"/{path.name}"):
                raise RuntimeError(f"{path.name} was there already")

        list(pool.map(deliver, paths))


def _hook(connection: Connection) -> Callable[[str, str], None]:
    """SFTPHook.store_file on a connection as it comes, but for the pinned host key."""
    extra = dict(connection.extra)
    given = {"conn_type": "sftp", "host": connection.host, "port": connection.port, "login": connection.login, "extra": extra}
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(given)
    from airflow.providers.sftp.hooks.sftp import SFTPHook

    logging.getLogger("paramiko").setLevel(logging.WARNING)  # it tells of every login at INFO, into the table

    hook = SFTPHook(ssh_conn_id="bench")
    return hook.store_file


def _take_turns(rounds: int, server: SftpAccess, **sides: Callable[[str], object]) -> dict[str, float]:
    """The median seconds of each side."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, push in sides.items():
            began = time.perf_counter()
            push(f"{name}.csv")
            taken[name].append(time.perf_counter() - began)
            for path in server.root.iterdir():
                path.unlink()
    return {name: statistics.median(seconds) for name, seconds in taken.items()}
