"""PgBouncer in transaction mode before a PostgreSQL cluster, handing every transaction to another server connection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.servers.postgres import Database
from tests.servers.process import free_port, listening, ordinary_account, program, running, scratch

CONFIG = """
[databases]
{name} = host={host} port={server_port} dbname={name}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
unix_socket_dir =
pool_mode = transaction
server_round_robin = 1
default_pool_size = {connections}
min_pool_size = {connections}
server_reset_query =
"""


@contextlib.contextmanager
def serve_pgbouncer(database: Database, connections: int = 3) -> Iterator[Database]:
    """The same database, reached through a pool of so many server connections."""
    account = ordinary_account("postgres")
    port = free_port()
    with scratch("pgbouncer", account) as folder:
        config = folder / "pgbouncer.ini"
        config.write_text(
            CONFIG.format(
                host=database.host, server_port=database.port, name=f"{database.name}", port=port, connections=connections
            ).replace(f"dbname={database.name}", f"dbname={database.name} user={database.user}")
        )
        log = folder / "pgbouncer.log"
        with running([program("pgbouncer"), str(config)], ready=lambda: listening(port), log=log, account=account, cwd=folder):
            yield Database("127.0.0.1", port, database.name, database.user)
