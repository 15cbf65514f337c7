"""What a transaction of ours sets, through whatever driver: no setting of a role, a database or a server changes the text of a value."""

from __future__ import annotations

from datetime import timedelta

LOCK_SECONDS = 60
"""How long an extraction waits for somebody who replaces a table."""

REPLAYED = """
CASE WHEN NOT pg_is_in_recovery() OR to_regproc('aurora_version') IS NOT NULL THEN clock_timestamp()
     ELSE (SELECT least(clock_timestamp(),
                        CASE WHEN r.pid IS NOT NULL AND pg_last_wal_replay_lsn() >= greatest(pg_last_wal_receive_lsn(), r.latest_end_lsn)
                             THEN r.last_msg_send_time
                             ELSE coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()) END)
             FROM (VALUES (1)) AS one LEFT JOIN pg_stat_wal_receiver AS r ON true) END
"""
"""Up to when the server shows what was committed: its clock. On a standby that has replayed all that its primary had, it is the time of
the primary's last message: what was committed later is still to come, however long nothing is heard. That time is NULL, and does not
count, without `pg_read_all_stats`.

On a standby that has not replayed all of it, or receives nothing, it is the time of the newest transaction there. Aurora's readers share
the primary's storage and refuse these questions.
"""

UNHEARD = """
pg_is_in_recovery() AND to_regproc('aurora_version') IS NULL AND NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
    AND EXISTS (SELECT FROM pg_stat_wal_receiver)
"""
"""Whether this is a standby that does not show us when it heard from its primary."""

_SETTINGS = {
    "client_encoding": "'UTF8'",
    "TimeZone": "'UTC'",
    "DateStyle": "'ISO, YMD'",
    "IntervalStyle": "'postgres'",
    "extra_float_digits": "1",
    "bytea_output": "'hex'",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "row_security": "on",
    "gin_fuzzy_search_limit": "0",  # with a limit, an index leaves out rows at random
    "xmlbinary": "'base64'",
    "lc_monetary": "'C'",
    "jit": "off",  # compiling what spells nested values takes minutes, and no export was faster with it
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": f"'{LOCK_SECONDS}s'",
}
"""What decides which rows are seen, the text of a value, or how long a statement may take, whatever the role or the database sets."""
_AS_OPENED = ("RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL")
"""Whatever others have set in a session behind a pool, as views and policies may ask for it: custom settings, languages, who reads.

A transaction that is rolled back takes this back as well: such a session is somebody else's before and after.
"""

_TRANSACTION_TIMEOUT_SINCE = 170000


def transaction_settings(server_version: int, statement_timeout: timedelta) -> list[str]:
    """Return statements that set what counts until the transaction is rolled back. `server_version` as libpq tells it."""
    settings = _SETTINGS | {"statement_timeout": str(int(statement_timeout.total_seconds() * 1000))}
    if server_version >= _TRANSACTION_TIMEOUT_SINCE:
        settings["transaction_timeout"] = "0"
    return [*_AS_OPENED, *(f"SET LOCAL {name} = {value}" for name, value in settings.items())]
