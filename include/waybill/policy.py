"""House rules: one value per knob, each with a default, read from `config/policy.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from waybill.catalog import Duration, Strict
from waybill.registration import DestinationSpec, SftpDestination


class Notify(Strict):
    """Mail about scheduled deliveries: on failure, and when a tenant's day is not complete `late_after` its run was due."""

    failed: bool = False
    late_after: Duration | None = None
    to: tuple[str, ...] = ()


class Policy(Strict):
    """`destination` serves tenants that name none. Delivered bytes are archived for `archive_days` so that they can be sent again.

    Files at the destination are kept for ever unless `destination_days` is set.
    """

    destination: DestinationSpec = SftpDestination(kind="sftp", connection="waybill_sftp")
    archive_days: Annotated[int, Field(ge=0)] = 7
    destination_days: Annotated[int, Field(ge=1)] | None = None
    notify: Notify = Notify()
