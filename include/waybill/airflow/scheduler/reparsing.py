"""Has Airflow parse the DAG file of a tenant at once, and again until the registered version is there.

Airflow's DAG processor drops a request that arrives while it parses the file, and that parse may have read an older ledger. So the caller
has to look, and ask again. The description of a DAG names the version of the registration that it was made from.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from waybill.airflow.names import dag_id, described, exports_file, file_number
from waybill.configuration.loading import Settings
from waybill.errors import WaybillError
from waybill.ledger import Ledger

EVERY = 3.0
GIVE_UP = 900.0
"""Seconds. If a DAG has not appeared by then, no DAG processor is running, or it cannot parse the file."""

log = logging.getLogger(__name__)


def ask(tenants: Iterable[str]) -> None:
    """Ask as `PUT /api/v2/parseDagFile` does, for the tenants' files, in every bundle that holds one or may hold it.

    A file that Airflow does not know may be missing. The DAGs of its tenants are in the first file then.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagbag import DagPriorityParsingRequest
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    wanted = {exports_file(file_number(tenant)) for tenant in tenants}
    with create_session() as session:
        known = select(DagModel.bundle_name, DagModel.relative_fileloc).where(DagModel.relative_fileloc.in_(wanted)).distinct()
        files = {(row[0], str(row[1])) for row in session.execute(known) if row[0]}
        if unknown := wanted - {file for _, file in files}:
            every = list(session.scalars(select(DagBundleModel.name).where(DagBundleModel.active.is_(True))))
            files |= {(bundle, file) for bundle in every for file in (*unknown, exports_file())}
    for bundle, file in sorted(files):
        wanted_file = {"bundle_name": bundle, "relative_fileloc": file}
        try:
            with create_session() as session:
                session.add(DagPriorityParsingRequest(**wanted_file))
        except IntegrityError:
            with create_session() as session:
                if session.scalars(select(DagPriorityParsingRequest.id).filter_by(**wanted_file)).first() is None:
                    session.add(DagPriorityParsingRequest(**wanted_file))  # the other was taken meanwhile, or this raises again


def is_processed() -> bool:
    """Return whether a DAG processor is running that could drop a request. One that starts later parses everything first."""
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session

    lately = datetime.now(UTC) - timedelta(minutes=10)  # it shows no sign of life while it writes thousands of DAGs
    alive = select(Job.id).where(Job.job_type == "DagProcessorJob", Job.state == "running", Job.latest_heartbeat > lately)
    with create_session() as session:
        return session.scalars(alive.limit(1)).first() is not None


def behind(settings: Settings, tenants: Collection[str]) -> set[str]:
    """Return the tenants whose DAG is not there yet, or was made from an older registration."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    from waybill.ledger.registrations import versions

    ledger = Ledger(settings.ledger_url)
    try:
        with ledger.read() as connection:
            wanted = {dag_id(tenant): described(version) for tenant, version in versions(connection, tenants).items()}
    finally:
        ledger.close()
    with create_session() as session:
        shown = session.execute(select(DagModel.dag_id, DagModel.description).where(DagModel.dag_id.in_(wanted), ~DagModel.is_stale))
        found = {row[0]: row[1] for row in shown}
    return {tenant for tenant in tenants if wanted.get(dag_id(tenant)) != found.get(dag_id(tenant))}


class Reparser:
    """Asks again, in a thread of its own, until every tenant has the DAG of its registration. A process has one."""

    def __init__(self, every: float = EVERY, give_up: float = GIVE_UP) -> None:
        self._every = every
        self._give_up = give_up
        self._since: dict[str, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def follow(self, tenants: Collection[str]) -> None:
        settings = Settings.from_environment()
        with self._changed:
            self._since |= dict.fromkeys(tenants, time.monotonic())
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, args=(settings,), name="waybill-parsing", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Return whether nothing is left to follow within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, seconds)

    def _run(self, settings: Settings) -> None:
        while True:
            time.sleep(self._every)
            with self._changed:
                asked = dict(self._since)
            left = self._look(settings, asked)
            with self._changed:
                # A tenant that was announced again meanwhile stays.
                self._since = {dag: since for dag, since in self._since.items() if dag in left or since != asked.get(dag)}
                if not self._since:
                    self._thread = None
                    self._changed.notify_all()
                    return

    def _look(self, settings: Settings, asked: dict[str, float]) -> set[str]:
        now = time.monotonic()
        try:
            left = behind(settings, asked)
            if left and is_processed():
                ask(left)
        except (SQLAlchemyError, WaybillError, OSError):
            log.warning("Airflow's database or the ledger does not answer; asked again later", exc_info=True)
            left = set(asked)
        except Exception:
            log.exception("what the DAG processor has parsed could not be looked at; asked again later")
            left = set(asked)
        late = {tenant for tenant in left if now - asked[tenant] > self._give_up}
        if late:
            log.error("the DAG processor has not shown the DAGs of %s; is it running, and is the file free of import errors?", sorted(late))
        return left - late


following = Reparser()
