"""A task that waits for one day of deliveries, in the triggerer by default."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowException

from waybill_consumer.airflow import days
from waybill_consumer.airflow.connections import opened
from waybill_consumer.airflow.triggers import DayTrigger
from waybill_consumer.errors import Refused, Unreachable

if TYPE_CHECKING:
    from airflow.sdk import Context


class DaySensor(BaseSensorOperator):
    """Succeeds when the day's manifest is there. Its result names the day's entities, rows and bytes.

    `source` is a SOURCE of `waybill-consumer pull`, or with `connection` (the id of an SFTP connection) a path on that server. `date` is
    the date of the folder. `poke_interval` and `timeout` are those of every sensor.
    """

    template_fields: Sequence[str] = ("source", "date", "connection", "tenant")

    def __init__(self, *, source: str, date: str, connection: str = "", tenant: str = "", deferrable: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.source, self.date, self.connection, self.tenant, self.deferrable = source, date, connection, tenant, deferrable

    def poke(self, context: Context) -> PokeReturnValue:
        connection = BaseHook.get_connection(self.connection) if self.connection else None
        try:
            with opened(self.source, connection) as place:
                found = days.on(place, self.date, self.tenant)
        except Unreachable as error:
            self.log.warning("%s", error)
            return PokeReturnValue(is_done=False)
        except Refused as error:
            raise AirflowException(str(error)) from error
        return PokeReturnValue(is_done=found is not None, xcom_value=found.as_json() if found else None)

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        looked = self.poke(context)
        if looked.is_done:
            return looked.xcom_value
        trigger = DayTrigger(self.source, self.date, self.connection, self.tenant, self.poke_interval)
        return self.defer(trigger=trigger, method_name="complete", timeout=timedelta(seconds=self.timeout))

    def complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        if "problem" in event:
            raise AirflowException(event["problem"])
        return event
