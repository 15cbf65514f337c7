"""The commands as functions for tasks. They raise where the command would end with exit code 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException

from waybill_consumer.airflow.connections import login_of
from waybill_consumer.errors import Refused, without_password


def pull(source: str, folder: str, *, connection: str = "", signers: Sequence[str] = (), once: bool = False) -> dict[str, Any]:
    """Fetch what is new into `folder`, as `waybill-consumer pull` does. `signers` and `once` are what `--signer` and `--once` say there.

    Raises AirflowException if something is missing.
    """
    from waybill_consumer.places import open_place
    from waybill_consumer.progress import Progress
    from waybill_consumer.pull.failures import keep_failures
    from waybill_consumer.pull.pulling import pull as fetch
    from waybill_consumer.signatures import read_signers

    found = BaseHook.get_connection(connection) if connection else None
    try:
        with keep_failures(Path(folder)), login_of(source, found) as (place, login), open_place(place, login) as opened:
            allowed = read_signers(signers)
            report = fetch(opened, without_password(place), Path(folder), Progress(shown=False), signers=allowed, once=once)
    except Refused as error:
        raise AirflowException(str(error)) from error
    return _done(report.as_json())


def load(folder: str, to: str, *, schema: str = "", tenant: str = "", gpg: bool = False, signers: Sequence[str] = ()) -> dict[str, Any]:
    """Load what is new into a database, as `waybill-consumer load` does. `gpg` is its `--gpg`, and `signers` what `--signer` names there.

    Raises AirflowException if an entity could not be loaded.
    """
    from waybill_consumer.load.loading import load_into
    from waybill_consumer.progress import Progress
    from waybill_consumer.signatures import read_signers

    try:
        allowed = read_signers(signers)
        report = load_into(to, schema, Path(folder), Progress(shown=False), tenant=tenant, gpg=gpg, signers=allowed)
    except Refused as error:
        raise AirflowException(str(error)) from error
    return _done(report.as_json())


def _done(report: dict[str, Any]) -> dict[str, Any]:
    if report["problems"]:
        raise AirflowException("; ".join(f"{problem['what']}. {problem['next_step']}" for problem in report["problems"]))
    return report
