"""The channels of a policy (the house) or a registration (the tenant): who hears about scheduled deliveries, of what, and how soon."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer

from waybill.configuration.catalog import ConnectionId
from waybill.configuration.values.durations import Duration
from waybill.configuration.values.strict import Strict
from waybill.language import unfit


class Event(StrEnum):
    """What happened. `delivered` happens to a delivery. The others begin and end a state of the tenant, and each is told once."""

    FAILED = "failed"
    LATE_WARNING = "late_warning"
    BREACH = "breach"
    RECOVERED = "recovered"
    DELIVERED = "delivered"


ALARMS = (Event.FAILED, Event.LATE_WARNING, Event.BREACH, Event.RECOVERED)
_ADDRESS = re.compile(r"[^@\s,;<>()\"]+@[^@\s,;<>()\"]+")


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise unfit("mail_address")
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and parts.hostname and value.isprintable() and " " not in value
        named = parts.username is not None or parts.port == 0
    except ValueError:
        sound, named = False, False
    if not sound or named:
        raise unfit("webhook")
    return value


Address = Annotated[str, AfterValidator(_address)]
After = Annotated[Duration, PlainSerializer(lambda span: f"{span.total_seconds():.0f}s", when_used="json")]


class _Channel(Strict):
    """What every channel may say."""

    events: Annotated[tuple[Event, ...], Field(min_length=1)] = ALARMS
    """What this channel hears of."""
    after: After = timedelta(0)
    """How long a state has to last before this channel hears of it: how alarms escalate to somebody else."""


class MailChannel(_Channel):
    """Mail, through the connection that `mail` in the policy names."""

    kind: Literal["mail"]
    """What kind of channel this is."""
    to: Annotated[tuple[Address, ...], Field(min_length=1, max_length=20)]
    """The addresses."""


class SlackChannel(_Channel):
    """A Slack incoming webhook."""

    kind: Literal["slack"]
    """What kind of channel this is."""
    connection: ConnectionId
    """The Airflow connection of type slackwebhook."""


class WebhookChannel(_Channel):
    """A signed POST."""

    kind: Literal["webhook"]
    """What kind of channel this is."""
    connection: ConnectionId
    """The Airflow connection whose password is the secret to sign with, and whose host is the URL where `url` says none."""
    url: Annotated[str, AfterValidator(_url)] | None = None
    """Where to post."""
    events: Annotated[tuple[Event, ...], Field(min_length=1)] = tuple(Event)
    """What this channel hears of."""


Channel = Annotated[MailChannel | SlackChannel | WebhookChannel, Field(discriminator="kind")]
Channels = Annotated[tuple[Channel, ...], Field(max_length=20)]
