"""Mail to operators about scheduled deliveries, through a real SMTP server."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.installations import DAY, NOON, Place, make_place
from waybill.connection import Connection
from waybill.deliveries.reports.describing import listed
from waybill.deliveries.reports.notifying import notify_failed, notify_late
from waybill.errors import TransientError
from waybill.registrations.applying import apply

MAIL = {"disable_ssl": True, "disable_tls": True, "from_email": "waybill@example.org"}


@pytest.fixture
def place(tmp_path: Path, smtp) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.connections["smtp_default"] = Connection("smtp_default", "smtp", smtp.host, smtp.port, extra=MAIL)
        place.write("policy.yaml", {"notify": {"failed": True, "late_after": "2h", "to": ["ops@example.org"]}})
        yield place


def test_what_failed_is_mailed_with_its_cause(place, smtp):
    place.clock = NOON
    place.sql('alter table "user" rename column name to nome')
    place.run(NOON)
    installation = place.installation()
    assert notify_failed(installation, "acme", listed(installation, "acme", status="open"))
    (letter,) = (one.message for one in smtp.received)
    assert letter["Subject"] == "Waybill: 1 deliveries of acme failed"
    assert "nome" in letter.get_content()
    assert "waybill run acme" in letter.get_content()


def test_a_late_tenant_is_mailed_once_for_each_boundary(place, smtp):
    place.clock = NOON - DAY
    apply(place.installation(), actor="test")
    place.clock = NOON.replace(hour=2)
    assert notify_late(place.installation()) == []
    place.clock = NOON.replace(hour=4)
    assert notify_late(place.installation()) == ["acme"]
    assert notify_late(place.installation()) == []
    assert ["theme, user" in letter.get_content() for letter in (one.message for one in smtp.received)] == [True]
    place.run(NOON)
    place.clock += DAY
    assert notify_late(place.installation()) == ["acme"]


def test_nobody_is_late_whose_run_delivered_or_who_was_just_registered(place, smtp):
    place.clock = NOON
    apply(place.installation(), actor="test")
    assert notify_late(place.installation()) == []
    place.run(NOON)
    place.clock = NOON + timedelta(hours=9)
    assert notify_late(place.installation()) == []
    assert smtp.received == []


def test_a_mail_that_was_not_taken_is_sent_the_next_time(place, smtp):
    place.clock = NOON - DAY
    apply(place.installation(), actor="test")
    place.clock = NOON
    good = place.connections["smtp_default"]
    place.connections["smtp_default"] = Connection("smtp_default", "smtp", "127.0.0.1", 1, extra=MAIL)
    with pytest.raises(TransientError):
        notify_late(place.installation())
    place.connections["smtp_default"] = good
    assert notify_late(place.installation()) == ["acme"]
