"""Messages to people about scheduled deliveries, in words of the language file: subject and text, for mail and Slack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from waybill.canonical import parse_timestamp
from waybill.configuration.channels import Event
from waybill.language import tell
from waybill.ledger.reports.notices import Notice

Facts = dict[str, Any]


def written(notice: Notice, facts: Facts, zone: ZoneInfo, names: Mapping[str, str]) -> tuple[str, str]:
    """Return the subject and the text of a message. Times are those of `zone`, and `names` are the display names of the entities, by id.

    Only the house's own people read which command helps.
    """
    match notice.event:
        case Event.DELIVERED:
            subject, lines = _delivered(notice, facts)
        case Event.RECOVERED:
            subject, lines = _recovered(notice, facts, zone)
        case Event.FAILED:
            subject, lines = _failed(notice, facts, names)
        case _:
            subject, lines = _late(notice, facts, zone, names)
    return subject, "\n".join(lines) + "\n"


def _delivered(notice: Notice, facts: Facts) -> tuple[str, list[str]]:
    manifest = facts["manifest"]
    sizes = [tell(f"notice.{unit}", count=manifest[unit]) for unit in ("rows", "bytes")]
    size = tell("notice.size", rows=sizes[0], bytes=sizes[1], sha256=manifest["sha256"])
    subject = tell("notice.delivered_subject", entity=manifest["entity_name"], tenant=notice.tenant)
    return subject, [tell("notice.delivered", path=facts["manifest_path"]), size]


def _recovered(notice: Notice, facts: Facts, zone: ZoneInfo) -> tuple[str, list[str]]:
    reached = [tell("notice.reached", until=_time(facts["data_until"], zone))] if "data_until" in facts else []
    over = tell(f"notice.over_{facts['was']}", since=_time(facts["since"], zone))
    return tell("notice.recovered_subject", tenant=notice.tenant), [over, *reached]


def _failed(notice: Notice, facts: Facts, names: Mapping[str, str]) -> tuple[str, list[str]]:
    lines = [
        tell("notice.delivery", entity=_name(each, names), sequence=each["sequence"], why=each["error"] or tell("notice.no_cause"))
        for each in facts["deliveries"]
    ]
    advice = "notice.failed_advice_tenant" if notice.channel["own"] else "notice.failed_advice_house"
    return tell("notice.failed_subject", count=len(lines), tenant=notice.tenant), [*lines, "", tell(advice, tenant=notice.tenant)]


def _late(notice: Notice, facts: Facts, zone: ZoneInfo, names: Mapping[str, str]) -> tuple[str, list[str]]:
    until, by = (_time(facts[name], zone) for name in ("data_until", "deliver_by"))
    missing = [
        tell("notice.missing", entity=_name(each, names), why=each["error"]) if each["error"] else _name(each, names)
        for each in facts["missing"]
    ]
    subject = tell(f"notice.{notice.event}_subject", tenant=notice.tenant)
    advice = "notice.late_advice_tenant" if notice.channel["own"] else "notice.late_advice_house"
    return subject, [tell(f"notice.{notice.event}", until=until, by=by), *missing, "", tell(advice, tenant=notice.tenant)]


def _name(about: Facts, names: Mapping[str, str]) -> str:
    return names.get(about["entity"], about["entity"])


def _time(text: str, zone: ZoneInfo) -> str:
    return tell("notice.time", at=f"{parse_timestamp(text).astimezone(zone):%Y-%m-%d %H:%M}", zone=zone.key)
