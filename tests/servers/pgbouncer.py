"""PgBouncer before a PostgreSQL cluster. In transaction mode it hands every transaction to another server connection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.servers.postgres import Database
from tests.servers.process import free_port, listening, ordinary_account, program, running, scratch

CONFIG = """
[databases]
{name} = host={host} port={server_port} dbname={name} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
unix_socket_dir =
pool_mode = {mode}
server_round_robin = 1
default_pool_size = {connections}
min_pool_size = {connections}
server_reset_query = {reset}
server_reset_query_always = {always}
query_wait_timeout = {patience}
"""


@contextlib.contextmanager
def serve_pgbouncer(
    database: Database, connections: int = 3, *, mode: str = "transaction", reset: str = "", patience: int = 120
) -> Iterator[Database]:
    """The same database, reached through a pool of so many server connections. Nobody waits longer for one than `patience` seconds."""
    account = ordinary_account("postgres")
    port = free_port()
    with scratch("pgbouncer", account) as folder:
        config = folder / "pgbouncer.ini"
        facts = {"name": database.name, "host": database.host, "server_port": database.port, "user": database.user, "port": port}
        pool = {"connections": connections, "mode": mode, "reset": reset, "always": int(bool(reset)), "patience": patience}
        config.write_text(CONFIG.format(**facts, **pool))
        log = folder / "pgbouncer.log"
        with running([program("pgbouncer"), str(config)], ready=lambda: listening(port), log=log, account=account, cwd=folder):
            yield Database("127.0.0.1", port, database.name, database.user)
