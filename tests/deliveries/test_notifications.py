"""Telling people about scheduled deliveries: mail through a real SMTP server, Slack and webhooks through a real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from tests.servers.http import HttpServer
from waybill.airflow import tasks
from waybill.configuration.channels import Event
from waybill.connection import Connection
from waybill.deliveries.reports import notifying, sending
from waybill.deliveries.reports.describing import listed
from waybill.errors import InvalidInput, PermanentError, TransientError
from waybill.housekeeping import housekeeping
from waybill.ledger.reports import notices
from waybill.messaging import webhooks
from waybill.registrations.applying import apply
from waybill.registrations.replacing import replace

MAIL = {"disable_ssl": True, "disable_tls": True, "from_email": "waybill@example.org"}
MIDNIGHT = NOON.replace(hour=0)
HOUR = timedelta(hours=1)
SECRET = "whsec_" + base64.b64encode(b"a secret of the consumer").decode()
PROMISED = {"deliverAt": "02:00", "deliverBy": "06:00"}


@pytest.fixture
def place(tmp_path: Path, smtp, http: HttpServer) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.connections["smtp_default"] = Connection("smtp_default", "smtp", smtp.host, smtp.port, extra=MAIL)
        place.connections["acme_hook"] = Connection("acme_hook", "http", f"{http.url}/waybill", password=SECRET)
        place.connections["ops_slack"] = Connection("ops_slack", "slackwebhook", f"{http.url}/services", password="T0/B0/token")
        yield place


def policy(place: Place, *channels: dict[str, Any], **knobs: Any) -> None:
    place.write("policy.yaml", {"notify": {"channels": list(channels), **knobs}})


def hook(**knobs: Any) -> dict[str, Any]:
    return {"kind": "webhook", "connection": "acme_hook", **knobs}


def at(place: Place, hours: float, days: int = 0) -> list[tuple[str, str]]:
    """What the watch does at this time of that day; everything due is sent."""
    place.clock = MIDNIGHT + days * DAY + hours * HOUR
    installation = place.installation()
    found = notifying.watch(installation)
    assert sending.send_due(installation) == []
    return [(tenant, str(event)) for tenant, event in found]


def types(http: HttpServer) -> list[str]:
    return [message.json["type"] for message in http.received]


def break_source(place: Place) -> None:
    place.sql('alter table "user" rename column name to nome')


def mend_source(place: Place) -> None:
    place.sql('alter table "user" rename column nome to name')


def fail(place: Place) -> bool:
    installation = place.installation()
    told = notifying.failed(installation, "acme", listed(installation, "acme", status="open"))
    sending.send_owed(installation, "acme")
    return told


def test_what_failed_is_mailed_once_with_its_cause_and_told_to_be_well_again(place, smtp):
    policy(place, failed=True, to=["ops@example.org"])
    place.clock = NOON
    break_source(place)
    place.run(NOON)
    assert fail(place)
    (letter,) = (message.message for message in smtp.received)
    assert letter["Subject"] == "Waybill: 1 delivery of acme failed"
    assert "nome" in letter.get_content()
    assert "waybill run acme" in letter.get_content()
    place.run(NOON)
    assert not fail(place), "it was told"
    mend_source(place)
    place.run(NOON)
    sending.send_owed(place.installation(), "acme")
    sending.send_owed(place.installation(), "acme")
    assert [message.message["Subject"] for message in smtp.received[1:]] == ["Waybill: acme has its data again"]


def test_a_run_of_the_command_line_tells_of_what_failed_and_is_well_again(place, http, run_waybill):
    policy(place, hook(events=["failed", "recovered"]))
    facts = {"conn_type": "http", "host": f"{http.url}/waybill", "password": SECRET}
    environment = {"WAYBILL_CONFIG_DIR": str(place.root / "config"), "AIRFLOW_CONN_ACME_HOOK": json.dumps(facts)}
    break_source(place)
    for _ in range(2):
        run_waybill("run", "acme", status=1, **environment)
    mend_source(place)
    run_waybill("run", "acme", **environment)
    assert types(http) == ["failed", "recovered"]


def test_a_second_entity_that_fails_is_told_alone(place, http):
    policy(place, hook(events=["failed"]))
    place.clock = NOON
    break_source(place)
    place.run(NOON)
    assert fail(place)
    place.sql('alter table "theme" rename column name to nome')
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    assert fail(place)
    entities = [[each["entity"] for each in message.json["data"]["deliveries"]] for message in http.received]
    assert entities == [["user"], ["theme"]]


def test_a_promise_is_warned_of_broken_and_kept_late_each_told_once(place, http):
    place.tenant(**PROMISED)
    policy(place, hook())
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    assert at(place, 4) == []
    assert at(place, 5) == [("acme", "late_warning")]
    assert at(place, 5.5) == []
    assert at(place, 6) == [("acme", "breach")]
    assert at(place, 5, days=1) == [], "one broken promise, however long"
    place.run(place.clock)
    assert at(place, 5.5, days=1) == [("acme", "recovered")]
    assert at(place, 5.8, days=1) == []
    assert types(http) == ["late_warning", "breach", "delivered", "delivered", "recovered"]
    warned, late, *_, well = (message.json for message in http.received)
    assert {key: late["data"][key] for key in ("data_until", "deliver_by")} == {
        "data_until": f"{MIDNIGHT:%Y-%m-%d}T00:00:00.000000Z",
        "deliver_by": f"{MIDNIGHT:%Y-%m-%d}T06:00:00.000000Z",
    }
    assert [delivery["entity"] for delivery in warned["data"]["missing"]] == ["theme", "user"]
    assert (well["tenant"], well["data"]["was"]) == ("acme", "breach")
    assert at(place, 5, days=2) == [("acme", "late_warning")]
    place.run(place.clock)
    assert at(place, 5.5, days=2) == [("acme", "recovered")], "in time, but people were warned"
    assert http.received[-1].json["data"]["was"] == "late_warning"


def test_a_ledger_in_postgresql_remembers_and_owes_alike(place, http, postgres):
    place.ledger_url = postgres.url
    place.tenant(**PROMISED)
    policy(place, hook(), hook(url=f"{http.url}/later", events=["breach", "recovered"], after="1h"))
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    assert at(place, 5) == [("acme", "late_warning")]
    assert at(place, 6) == [("acme", "breach")]
    break_source(place)
    place.run(place.clock)
    assert fail(place)
    assert not fail(place)
    mend_source(place)
    place.run(place.clock)
    assert at(place, 6.5) == [("acme", "recovered")]
    assert sorted(types(http)) == ["breach", "delivered", "delivered", "failed", "late_warning", "recovered"]
    place.clock += 100 * DAY
    housekeeping(place.installation())
    with place.installation().ledger.read() as connection:
        counts = [connection.exec_driver_sql(f"select count(*) from {table}").scalar_one() for table in ("notice", "alarm")]
    assert counts == [0, 0]


def test_a_tenant_without_a_promise_is_late_after_the_house_s_time(place, smtp):
    policy(place, late_after="2h", to=["ops@example.org"])
    place.clock = NOON - DAY
    apply(place.installation(), actor="test")
    assert at(place, 2) == []
    assert at(place, 4) == [("acme", "breach")]
    assert at(place, 5) == []
    (letter,) = (message.message.get_content().splitlines() for message in smtp.received)
    assert letter[1:3] == ["theme", "user"]
    place.run(NOON)
    assert at(place, 13) == [("acme", "recovered")]
    assert at(place, 4, days=1) == [("acme", "breach")]


def test_a_name_with_a_line_break_of_its_own_keeps_no_message_back(place, smtp):
    policy(place, {"kind": "mail", "to": ["ops@example.org"], "events": ["delivered"]})
    place.write("catalog.yaml", catalog(user={**USER, "name": "people\u2028and robots"}))
    place.tenant(entityList=["user"])
    place.run(NOON)
    assert sending.send_due(place.installation()) == []
    assert [message.message["Subject"] for message in smtp.received] == ["Waybill: people and robots of acme is delivered"]


def test_nobody_is_late_whose_run_delivered_or_who_was_just_registered(place, smtp):
    policy(place, late_after="2h", to=["ops@example.org"])
    place.clock = NOON
    apply(place.installation(), actor="test")
    assert at(place, 12) == []
    place.run(NOON)
    assert at(place, 21) == []
    assert smtp.received == []


def test_an_alarm_that_nothing_stands_behind_any_more_ends_in_silence(place, http):
    place.tenant(**PROMISED)
    policy(place, hook())
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    at(place, 6)
    place.tenant(exportOption="disable export")
    apply(place.installation(), actor="test", allow_mass_deactivation=True)
    assert at(place, 7) == []
    assert types(http) == ["breach"]
    with place.installation().ledger.read() as connection:
        assert notices.raised(connection) == []


@pytest.mark.parametrize("damage", ["no json", "[]", "{}"])
@pytest.mark.parametrize("damaged", ["alarm.detail", "notice.channel", "notice.created_at"])
def test_what_the_ledger_cannot_read_of_one_tenant_silences_no_other(place, http, damaged, damage):
    place.write("catalog.yaml", catalog(user=USER))
    for tenant in ("acme", "globex"):
        place.tenant(tenant, entityList=["user"], **PROMISED)
    policy(place, hook())
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    table, column = damaged.split(".")
    place.clock = MIDNIGHT + (5 if table == "alarm" else 6) * HOUR
    installation = place.installation()
    notifying.watch(installation)
    with installation.ledger.begin() as connection:
        connection.execute(text(f"update {table} set {column} = :damage where tenant = 'acme'"), {"damage": damage})
    at(place, 6)
    assert ("globex", "breach") in heard(http)


def heard(http: HttpServer) -> list[tuple[str, str]]:
    return [(message.json["tenant"], message.json["type"]) for message in http.received]


def verified(call: Any, key: bytes = b"a secret of the consumer") -> bool:
    """As a consumer does it, by the words of the Standard Webhooks specification."""
    content = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return hmac.compare_digest(call.headers["webhook-signature"], f"v1,{expected}")


def test_a_delivery_is_told_on_commit_signed_and_with_its_manifest(place, http):
    place.tenant(notify=[hook(events=["delivered"])])
    place.user(1, "Ada", MIDNIGHT - DAY)
    place.clock = NOON
    place.run(NOON)
    assert http.received == [], "committed, and nothing sent yet: as after a crash"
    sending.send_owed(place.installation(), "acme")
    assert len(http.received) == 2
    manifests = {str(path.relative_to(place.out)): manifest for path, manifest in place.manifests()}
    for call in http.received:
        assert (call.path, call.json["type"], call.json["tenant"]) == ("/waybill", "delivered", "acme")
        assert call.json["data"]["manifest"] == manifests[call.json["data"]["manifest_path"].lstrip("/")]
        assert verified(call)
        assert not verified(call, b"another")
        assert abs(int(call.headers["webhook-timestamp"]) - NOON.timestamp()) < 1
        assert call.json["id"] == call.headers["webhook-id"]
    sending.send_owed(place.installation(), "acme")
    place.run(NOON)
    assert len(http.received) == 2, "once each"


def test_a_plain_secret_is_the_key_itself_and_none_is_refused(place, http):
    place.tenant(notify=[hook(events=["delivered"])], entityList=["user"])
    place.connections["acme_hook"] = Connection("acme_hook", "http", http.url)
    place.clock = NOON
    place.run(NOON)
    _, (problem,) = sending.send_owed(place.installation(), "acme")
    assert problem.code == "webhook_secret"
    place.connections["acme_hook"] = Connection("acme_hook", "http", http.url, password="plain")
    place.clock += HOUR
    assert sending.send_owed(place.installation(), "acme") == ([], [])
    assert verified(http.received[0], b"plain")


def test_a_secret_that_is_empty_after_its_prefix_signs_nothing(http) -> None:
    with pytest.raises(PermanentError, match="is empty after whsec_"):
        webhooks.signed_headers(Connection("acme_hook", "http", http.url, password="whsec_"), "msg_1", 1, b"{}")


def test_a_login_in_the_address_is_sent_as_one_and_not_as_part_of_the_host(http) -> None:
    webhooks.post(f"http://waybill:word@hooks.example.org:{http.port}/in", b"{}", {}, where="acme_hook", address="127.0.0.1")
    (call,) = http.received
    login = "Basic " + base64.b64encode(b"waybill:word").decode()
    assert (call.headers["host"], call.headers["authorization"]) == (f"hooks.example.org:{http.port}", login)


def test_a_name_beyond_ascii_is_called_as_the_network_spells_it(http) -> None:
    webhooks.post(f"http://bücher.example:{http.port}/in", b"{}", {}, where="acme_hook", address="127.0.0.1")
    (call,) = http.received
    assert call.headers["host"] == f"xn--bcher-kva.example:{http.port}"


@pytest.mark.parametrize(
    "url", ["https://[half/in", "https://127.0.0.1:99999/in", "https://127.0.0.1:port/in", "https://\u2603.example/in"]
)
def test_an_address_that_is_none_holds_up_its_own_channel_alone(place, http, url):
    installation = place.installation()
    dead = {"kind": "webhook", "connection": "dead", "events": ["delivered"], "own": False, "guarded": False, "after": 0}
    place.connections["dead"] = Connection("dead", "http", url, password="plain")
    place.connections["acme_hook"] = Connection("acme_hook", "http", http.url, password="plain")
    place.clock = NOON
    with installation.ledger.begin() as connection:
        for channel in (dead, {**dead, "guarded": True}, {**dead, "connection": "acme_hook"}):
            notices.owe(connection, "acme", "recovered", [channel], {"was": "breach", "since": "x"}, NOON)
    problems = sending.send_due(place.installation())
    assert {problem.code for problem in problems} <= {"webhook", "webhook_url", "unreachable"}
    assert types(http) == ["recovered"]
    assert url not in str(problems)


def test_a_message_that_can_never_be_sent_holds_up_no_other_of_its_channel(place, http):
    place.connections["acme_hook"] = Connection("acme_hook", "http", http.url, password="plain")
    place.run(NOON)
    installation, channel = place.installation(), hook() | {"own": False, "guarded": False, "after": 0}
    place.clock = NOON
    with installation.ledger.begin() as connection:
        notices.owe(connection, "acme", "delivered", [channel], {}, NOON, delivery="0" * 32)
        notices.owe(connection, "acme", "recovered", [channel], {"was": "breach", "since": "x"}, NOON)
    assert [problem.code for problem in sending.send_due(place.installation())] == ["unknown_delivery"]
    assert types(http) == ["recovered"]
    assert sending.send_due(place.installation()) == []


def test_a_message_that_cannot_be_made_is_logged_and_holds_up_no_other_of_its_channel(place, http, caplog):
    place.connections["acme_hook"] = Connection("acme_hook", "http", http.url, password="plain")
    place.run(NOON)
    installation, channel = place.installation(), hook() | {"own": True, "guarded": False, "after": 0}
    place.clock = NOON
    with installation.ledger.begin() as connection:
        for kind, detail in (("breach", {"deliveries": [17]}), ("recovered", {"was": "breach", "since": "x"})):
            notices.owe(connection, "acme", kind, [channel], detail, NOON)
    assert [problem.code for problem in sending.send_due(place.installation())] == ["unexpected"]
    assert types(http) == ["recovered"]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [TypeError]


@pytest.mark.parametrize("body", ["json_set(body, '$.timezone', 'No/Where')", "'[]'"])
def test_a_registration_that_cannot_be_read_holds_up_no_message(place, smtp, body):
    place.run(NOON)
    installation, channel = place.installation(), {"kind": "mail", "to": ["a@b.example"], "own": False, "guarded": False, "after": 0}
    place.clock = NOON
    with installation.ledger.begin() as connection:
        connection.execute(text(f"update registration set body = {body}"))
        for tenant in ("acme", "nobody"):
            notices.owe(connection, tenant, "recovered", [channel], {"was": "breach", "since": "2026-06-01T00:00:00Z"}, NOON)
    assert sending.send_due(place.installation()) == []
    assert len(smtp.received) == 2


@pytest.mark.parametrize("words", ["entities: 1\n", "entities: [\n", "sources: {}\nentities: {user: {}}\n"])
def test_while_the_catalog_is_broken_people_hear_of_what_is_late_and_read_what_was_delivered(place, smtp, words):
    place.run(NOON)
    installation, channel = place.installation(), {"kind": "mail", "to": ["a@b.example"], "own": False, "guarded": False, "after": 0}
    place.clock = NOON
    with installation.ledger.begin() as connection:
        notices.owe(connection, "acme", "recovered", [channel], {"was": "breach", "since": "2026-06-01T00:00:00Z"}, NOON)
    (place.root / "config/catalog.yaml").write_text(words)
    assert sending.send_due(place.installation()) == []
    assert len(smtp.received) == 1
    assert {delivery["entity"] for delivery in listed(place.installation(), "acme")} == {"user", "theme"}


def test_a_webhook_that_does_not_answer_well_is_tried_again_after_longer_waits_under_the_same_id(place, http):
    place.tenant(notify=[hook(events=["delivered"])], entityList=["user"])
    http.answers += [500, 302, 404]
    http.location = f"{http.url}/elsewhere"
    place.clock = NOON
    place.run(NOON)
    waits = [
        (timedelta(0), 1),
        (timedelta(seconds=59), 1),
        (timedelta(seconds=1), 2),
        (5 * timedelta(minutes=1), 3),
        (timedelta(minutes=15), 4),
    ]
    for wait, calls in waits:
        place.clock += wait
        sending.send_due(place.installation())
        assert len(http.received) == calls, f"after {wait}"
    assert {message.path for message in http.received} == {"/waybill"}, "nobody is redirected"
    assert len({message.headers["webhook-id"] for message in http.received}) == 1
    assert all(verified(message) for message in http.received), "each try is signed with its own time"
    assert len({message.headers["webhook-timestamp"] for message in http.received}) == 4
    place.clock += DAY
    sending.send_due(place.installation())
    assert len(http.received) == 4


def test_a_channel_that_never_answers_is_given_up_after_days(place, http):
    place.tenant(notify=[hook(events=["delivered"])], entityList=["user"])
    place.connections["acme_hook"] = Connection("acme_hook", "http", "http://127.0.0.1:1", password="x")
    place.clock = NOON
    place.run(NOON)
    rounds = 0
    while sending.send_due(place.installation()):
        rounds += 1
        place.clock += 3 * HOUR
    assert 20 < rounds < 40
    installation = place.installation()
    place.clock += 100 * DAY
    housekeeping(installation)
    with installation.ledger.read() as connection:
        assert connection.exec_driver_sql("select count(*) from notice").scalar_one() == 0


def test_a_mail_that_was_not_taken_is_sent_later_and_fails_nothing(place, smtp):
    policy(place, late_after="2h", to=["ops@example.org"])
    place.clock = NOON - DAY
    apply(place.installation(), actor="test")
    place.clock = NOON
    good = place.connections["smtp_default"]
    place.connections["smtp_default"] = Connection("smtp_default", "smtp", "127.0.0.1", 1, extra=MAIL)
    installation = place.installation()
    notifying.watch(installation)
    (problem,) = sending.send_due(installation)
    assert "message breach of acme" in str(problem)
    place.connections["smtp_default"] = good
    place.clock += HOUR
    assert sending.send_due(place.installation()) == []
    assert [message.message["Subject"] for message in smtp.received] == ["Waybill: acme is late"]


def test_one_address_that_is_refused_keeps_no_message_from_the_others(place, smtp, caplog):
    policy(place, late_after="2h", to=["gone@example.org", "ops@example.org"])
    smtp.answers["gone@example.org"] = "550 no such user"
    place.clock = NOON - DAY
    apply(place.installation(), actor="test")
    place.clock = NOON
    at(place, 12)
    assert [message.recipients for message in smtp.received] == [("ops@example.org",)]
    assert "refused 1 of the people a message is for (550)" in caplog.text
    at(place, 14)
    assert len(smtp.received) == 1


@pytest.mark.parametrize(("answer", "sent"), [("554 not this one", ["globex"]), ("451 not now", [])])
def test_a_mail_that_is_refused_for_good_holds_up_no_other_of_its_channel(place, smtp, answer, sent):
    place.tenant("globex")
    policy(place, late_after="2h", to=["ops@example.org"])
    smtp.answers["Waybill: acme is late"] = answer
    place.clock = NOON - DAY
    apply(place.installation(), actor="test")
    place.clock = NOON
    installation = place.installation()
    notifying.watch(installation)
    (problem,) = sending.send_due(installation)
    assert "message breach of acme" in str(problem)
    assert smtp.refused == ["Waybill: acme is late"]
    assert [message.message["Subject"] for message in smtp.received] == [f"Waybill: {tenant} is late" for tenant in sent]


def test_an_alarm_escalates_to_those_who_hear_of_it_only_when_it_lasts(place, http, smtp):
    place.tenant(**PROMISED)
    policy(
        place,
        hook(events=["breach", "recovered"]),
        {"kind": "mail", "to": ["boss@example.org"], "events": ["breach", "recovered"], "after": "2h"},
    )
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    at(place, 6)
    at(place, 7.9)
    assert (types(http), smtp.received) == (["breach"], [])
    at(place, 8)
    assert [message.message["Subject"] for message in smtp.received] == ["Waybill: acme is late"]
    place.run(place.clock)
    at(place, 9)
    assert len(smtp.received) == 2, "who was told of the breach is told of its end"
    at(place, 6, days=1)
    place.run(place.clock)
    at(place, 6.5, days=1)
    at(place, 9, days=1)
    assert len(smtp.received) == 2, "one that was over in time is nobody's business there"
    assert types(http) == ["breach", "recovered", "breach", "recovered"]


def test_slack_reads_a_sentence(place, http):
    place.tenant(**PROMISED)
    policy(place, {"kind": "slack", "connection": "ops_slack"})
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    at(place, 6)
    (call,) = http.received
    assert call.path == "/services/T0/B0/token"
    assert call.json["text"] == (
        "*Waybill: acme is late*\nThe data up to 2026-05-31 00:00 (UTC) was due by 2026-05-31 06:00 (UTC). These entities are not "
        "delivered yet:\ntheme\nuser\n\nFor the causes and what to do, run: waybill status acme\n"
    )


def test_a_tenant_s_own_people_read_their_times_and_no_command_of_the_house(place, smtp):
    """Every event, in a zone of half hours: what was due, what failed, what arrived, and what was delivered."""
    place.tenant(
        **PROMISED, timezone="Asia/Kolkata", notify=[{"kind": "mail", "to": ["data@acme.example"], "events": list(map(str, Event))}]
    )
    place.clock = MIDNIGHT - 12 * HOUR
    apply(place.installation(), actor="test")
    break_source(place)
    at(place, 0)
    at(place, 0.6)
    place.run(place.clock)
    assert fail(place)
    mend_source(place)
    place.run(place.clock)
    at(place, 1)
    letters = {message.message["Subject"]: " ".join(message.message.get_content().split()) for message in smtp.received}
    midnight, six = "2026-05-31 00:00 (Asia/Kolkata)", "2026-05-31 06:00 (Asia/Kolkata)"
    assert letters["Waybill: acme may be late"].startswith(f"The data up to {midnight} is promised by {six}. These entities are not")
    assert letters["Waybill: acme is late"].startswith(f"The data up to {midnight} was due by {six}. These entities are not delivered yet:")
    assert letters["Waybill: 1 delivery of acme failed"].endswith("The next run delivers them. You need not do anything.")
    assert f"Everything up to {midnight} is delivered." in letters["Waybill: acme has its data again"]
    assert "SHA-256" in letters["Waybill: user of acme is delivered"]
    assert not any("waybill run" in text or "waybill status" in text or "nome" in text for text in letters.values())


def test_the_house_s_channels_of_one_tenant_stand_in_its_policy(place, http):
    place.write("policy.yaml", {"notify": {"late_after": "2h"}, "tenants": {"globex": {"notify": {"channels": [hook()]}}}})
    place.tenant("globex")
    place.clock = NOON - DAY
    apply(place.installation(), actor="test")
    assert sorted(at(place, 12)) == [("acme", "breach"), ("globex", "breach")]
    assert [message.json["tenant"] for message in http.received] == ["globex"]


def test_a_tenant_s_own_channel_reads_nothing_of_the_house(place, http):
    place.tenant(notify=[hook(events=["failed"])])
    policy(place, hook(events=["failed"], url=f"{http.url}/house"))
    place.clock = NOON
    break_source(place)
    place.run(NOON)
    fail(place)
    said = {message.path: message.json["data"]["deliveries"][0]["error"] for message in http.received}
    assert "nome" in said["/house"]
    assert said["/waybill"] == "The delivery did not succeed. The operator's log holds the cause."


def test_a_tenant_s_own_channel_reaches_no_inner_address(place, http):
    (place.root / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"api_destinations": "any"})
    place.clock = NOON - DAY
    body = {"entityList": ["user"], **PROMISED, "destination": {"kind": "folder", "root": "out"}, "notify": [hook(url=f"{http.url}/inner")]}
    replace(place.installation(), "acme", body, actor="api:someone")
    place.clock = NOON
    notifying.watch(place.installation())
    (problem,) = sending.send_due(place.installation())
    assert problem.code == "private_address"
    place.write("policy.yaml", {"api_destinations": "any", "private_networks": ["127.0.0.0/8"]})
    place.clock += HOUR
    assert sending.send_due(place.installation()) == []
    assert [message.path for message in http.received] == ["/inner"]
    assert http.received[0].headers["host"] == http.url.removeprefix("http://"), "the name, though a checked address is connected to"


@pytest.mark.parametrize("operator", [False, True])
def test_a_tenant_names_only_connections_it_is_allowed(place, operator):
    (place.root / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"tenant_connections": ["{tenant}_*"], "destination": {"kind": "folder", "root": "out"}})
    place.clock = NOON
    allowed = {"entityList": ["user"], "notify": [hook(), {"kind": "mail", "to": ["it@acme.example"]}]}
    replace(place.installation(), "acme", allowed, actor="api:someone", operator=operator)
    wrong = {"entityList": ["user"], "notify": [{"kind": "slack", "connection": "ops_slack"}]}
    if operator:
        assert replace(place.installation(), "acme", wrong, actor="api:op", operator=True).changed
        return
    with pytest.raises(InvalidInput) as refused:
        replace(place.installation(), "acme", wrong, actor="api:someone")
    assert [(finding.path, finding.code) for finding in refused.value.findings] == [("notify.0.connection", "not_allowed")]


def test_a_message_a_dead_process_took_is_sent_by_another_and_two_at_once_send_it_once(place, http):
    place.tenant(notify=[hook(events=["delivered"])], entityList=["user"])
    place.clock = NOON
    place.run(NOON)
    installation = place.installation()
    with installation.ledger.begin() as connection:
        (delivery,) = notices.due(connection, NOON)
        assert notices.claim(connection, delivery, NOON)
    assert sending.send_due(place.installation()) == []
    assert http.received == []
    place.clock += notices.LEASE
    several = [place.installation() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(sending.send_due, several)) == [[], [], [], []]
    assert len(http.received) == 1


def test_no_secret_stands_in_ledger_or_problem(place, http):
    place.tenant(notify=[hook(events=["delivered"])], entityList=["user"])
    policy(place, {"kind": "slack", "connection": "ops_slack", "events": ["delivered"]})
    http.answers += [500, 500]
    place.clock = NOON
    place.run(NOON)
    _, problems = sending.send_owed(place.installation(), "acme")
    kept = "".join(map(str, problems)).encode() + b"".join(path.read_bytes() for path in (place.root / ".waybill").rglob("*ledger*"))
    assert len(problems) == 2
    assert SECRET.encode() not in kept
    assert b"B0/token" not in kept


@pytest.mark.parametrize(
    ("channel", "wrong"),
    [
        ({"kind": "pager"}, "0.kind: unknown kind 'pager' (allowed: mail, slack, webhook)"),
        ({"kind": "mail", "to": []}, "0.to: is too short (allowed: at least 1 entry)"),
        ({"kind": "mail", "to": ["ops@example.org\nBcc: all@example.org"]}, "0.to.0: 'ops@example.org\\nBcc: all"),
        ({"kind": "webhook"}, "0.connection: is required"),
        (
            {"kind": "webhook", "connection": "x", "url": "https://user:word@example.org"},
            "0.url: an address, not shown,: not an address of",
        ),
        ({"kind": "webhook", "connection": "x", "url": "file:///etc/passwd"}, "0.url: an address, not shown,: not an address of"),
        ({"kind": "webhook", "connection": "x", "url": "https://[::1"}, "0.url: an address, not shown,: not an address of"),
        (
            {"kind": "webhook", "connection": "x", "events": ["delivery"]},
            "0.events.0: unknown value 'delivery' (allowed: failed, late_warning",
        ),
        ({"kind": "webhook", "connection": "x", "events": []}, "0.events: is too short"),
        ({"kind": "slack", "connection": "x", "after": "soon"}, "0.after: 'soon'"),
        (
            {"kind": "slack", "connection": "x", "evnts": []},
            "0.evnts: unknown key (allowed: events, after, kind, connection; did you mean events?)",
        ),
    ],
)
def test_a_wrong_channel_is_found_when_files_are_checked(place, channel, wrong):
    place.tenant(notify=[channel])
    place.write("policy.yaml", {"notify": {"channels": [channel]}})
    found = [str(finding) for finding in place.installation().configuration.findings]
    assert any(text.startswith(f"config/tenants/acme.yaml: notify.{wrong}") for text in found), found
    assert any(text.startswith(f"config/policy.yaml: notify.channels.{wrong}") for text in found), found


def test_channels_go_through_the_ledger_as_they_came(place):
    body = {"entityList": ["user"], "notify": [hook(events=["delivered"], after="90m"), {"kind": "mail", "to": ["a@b.example"]}]}
    (place.root / "config/tenants/acme.yaml").unlink()
    place.write("policy.yaml", {"api_destinations": "any", "destination": {"kind": "folder", "root": "out"}})
    place.clock = NOON
    first = replace(place.installation(), "acme", body, actor="test").standing.registered
    again = replace(place.installation(), "acme", first.body, actor="test")
    assert not again.changed
    assert yaml.safe_load(yaml.safe_dump(again.standing.registered.body["notify"])) == first.body["notify"]


def test_the_tasks_tell_and_never_fail_for_it(place, http, caplog):
    place.tenant(notify=[hook()], entityList=["user"])
    place.clock = NOON
    http.answers += [500]
    break_source(place)
    place.run(NOON)
    failing = listed(place.installation(), "acme", status="open")
    notifying.failed(place.installation(), "acme", failing)
    tasks.tell_of_run(place.installation(), "acme", ())
    assert "HTTP 500" in caplog.text
    mend_source(place)
    place.clock = NOON + HOUR
    place.run(NOON)
    tasks.tell_of_run(place.installation(), "acme", ())
    assert types(http) == ["failed", "failed", "delivered", "recovered"], "in the order in which it happened"


@pytest.mark.parametrize("answers", [[500], [500, 500], [500, 204, 500]], ids=len)
def test_what_is_over_is_not_told_after_it_was_told_to_be_well_again(place, http, answers):
    place.tenant(notify=[hook(events=["breach", "recovered"])], **PROMISED)
    place.clock = MIDNIGHT - HOUR
    apply(place.installation(), actor="test")
    place.clock = MIDNIGHT + 7 * HOUR
    notifying.watch(place.installation())
    http.answers += answers
    assert len(sending.send_due(place.installation())) == 1
    place.run(place.clock)
    sending.send_owed(place.installation(), "acme")
    at(place, 12)
    assert types(http) == ["breach", "breach", "recovered", *(["recovered"] if len(answers) == 3 else [])]


def test_one_channel_that_is_down_starves_no_other_however_much_it_is_owed(place, http, smtp):
    place.connections["down"] = Connection("down", "http", "http://127.0.0.1:1", password="x")
    installation = place.installation()
    dead = {"kind": "webhook", "connection": "down", "events": ["delivered"], "own": False, "guarded": False, "after": 0}
    place.clock = NOON
    with installation.ledger.begin() as connection:
        for _ in range(3):
            notices.owe(connection, "acme", "recovered", [dead] * 400, {"was": "breach", "since": "x"}, NOON)
        notices.owe(connection, "acme", "recovered", [{**dead, "connection": "acme_hook"}], {"was": "breach", "since": "x"}, NOON)
    assert len(sending.send_due(installation)) == 1, "the dead channel is tried once"
    assert types(http) == ["recovered"]


@pytest.mark.parametrize("answer", ["headers without end", "a body without end"])
def test_a_webhook_that_never_ends_its_answer_holds_nobody_up(answer):
    with endless(answer) as url:
        if answer == "a body without end":
            webhooks.post(url, b"{}", {}, where="here")
        else:
            with pytest.raises(TransientError, match="was not taken"):
                webhooks.post(url, b"{}", {}, where="here", seconds=1)


@contextmanager
def endless(answer: str) -> Iterator[str]:
    """A server that goes on answering for as long as somebody listens."""
    body = answer == "a body without end"
    begun = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n" + (b"\r\n" if body else b"x-long: ")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            taken, _ = server.accept()
            with taken, suppress(OSError):
                taken.sendall(begun)
                while True:
                    taken.sendall(b"a" * (1 << 16) if body else b"a")
                    threading.Event().wait(0 if body else 0.05)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join(300)
        assert not thread.is_alive(), "the caller hung up"
