"""What may be asked for, and what is said of it: pure rules at fixed instants."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybill.configuration import loading
from waybill.configuration.catalog import Catalog, Entity, problems
from waybill.configuration.policy import ExportPolicy, Policy, Preset, RangeRule, TenantPolicy, knobs_of
from waybill.errors import InvalidInput
from waybill.ledger.on_demand.request_records import Status
from waybill.requests.creating import due_at
from waybill.requests.lifecycle import label, packed_progress, written_progress
from waybill.requests.links import Ticket, checked_keys, mint, read
from waybill.requests.ranges import frozen, previous_period, resolve, span_problems
from waybill.requests.submission import Submission, check

pytestmark = pytest.mark.fast

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
NOW = datetime(2026, 6, 1, 22, 30, tzinfo=UTC)
"""Already 2 June in Berlin."""

YEAR = RangeRule(required=True, max_days=366, not_in_future=True)


def codes(rule: RangeRule, first: str | None, last: str | None, zone: ZoneInfo = UTC_ZONE, now: datetime = NOW) -> list[str]:
    return [problem.code for problem in span_problems(resolve({"from": first, "to": last}, zone), rule, zone, now)]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2025-01-01", "2025-12-31", []),
        ("2025-01-01", "2026-01-01", []),
        ("2025-01-01", "2026-01-02", ["range_too_long"]),
        ("2024-02-29", "2025-02-27", []),
        ("2024-02-29", "2025-02-28", []),
        ("2024-02-29", "2025-03-01", ["range_too_long"]),
    ],
    ids=["365 days", "366 days", "367 days", "365 from a leap day", "366 from a leap day", "367 from a leap day"],
)
def test_a_year_is_at_most_366_days_counting_both_ends(first: str, last: str, expected: list[str]) -> None:
    assert codes(YEAR, first, last) == expected


def test_a_range_that_is_too_long_is_told_in_the_documents_words() -> None:
    (problem,) = span_problems(resolve({"from": "2020-01-01", "to": "2026-01-01"}, UTC_ZONE), YEAR, UTC_ZONE, NOW)
    assert problem.reason == "Date range must not exceed one year"


def test_today_ends_where_the_tenant_lives() -> None:
    assert codes(YEAR, "2026-06-01", "2026-06-02", BERLIN) == []
    assert codes(YEAR, "2026-06-01", "2026-06-02", UTC_ZONE) == ["date_in_future"]
    assert codes(YEAR, "2026-06-03", "2026-06-03", BERLIN) == ["date_in_future", "date_in_future"]


def test_both_dates_are_required_where_policy_says_so_and_open_ends_are_fine_elsewhere() -> None:
    assert codes(YEAR, None, None) == ["range_required", "range_required"]
    assert codes(YEAR, "2026-01-01", None) == ["range_required"]
    assert codes(RangeRule(), None, "2026-01-01") == []


def test_a_start_after_the_end_is_refused_and_one_day_is_a_range() -> None:
    assert codes(RangeRule(), "2026-01-02", "2026-01-01") == ["start_after_end"]
    assert codes(RangeRule(), "2026-01-02", "2026-01-02") == []


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "2026-01-01T00:00:00", "20260101", 5])
def test_what_is_no_date_is_told_by_its_field(text: Any) -> None:
    with pytest.raises(ValueError, match=r"range\.to"):
        resolve({"to": text}, UTC_ZONE)


@pytest.mark.parametrize("zone", [BERLIN, UTC_ZONE, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("America/Los_Angeles")])
@pytest.mark.parametrize(
    "text", ["0001-01-01", "9999-12-31", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:00:00-11:00"]
)
def test_the_calendars_ends_are_open_ends_to_which_a_range_reaches_and_hold_nothing_beyond(text: str, zone: ZoneInfo) -> None:
    rule, is_late = RangeRule(not_in_future=True), text.startswith("9")
    reaching, beyond = ("to", "from") if is_late else ("from", "to")
    span = resolve({reaching: text}, zone)
    assert (span.start, span.end) == (None, None)
    assert list(span_problems(span, rule, zone, NOW)) == []
    span = resolve({beyond: text}, zone)
    assert (span.start, span.end) == ((datetime(9999, 12, 30, tzinfo=UTC), None) if is_late else (None, datetime(1, 1, 2, tzinfo=UTC)))
    assert [problem.code for problem in span_problems(span, rule, zone, NOW)] == (["date_in_future"] if is_late else [])
    both = resolve({"from": text, "to": text}, zone)
    assert [problem.code for problem in span_problems(both, YEAR, zone, NOW)] == ["date_in_future" if is_late else "range_too_long"]


@pytest.mark.parametrize("field", ["exportType", "scope", "entities", "range", "formats"])
def test_a_field_that_is_null_is_a_field_left_out(field: str) -> None:
    body: dict[str, Any] = {"entities": ["user"], "formats": ["csv"], "range": {"from": None, "to": None, "preset": None}}
    body |= {"scope": {"level": None, "project": None, "apps": None}, "exportType": None}
    left_out = {name: value for name, value in body.items() if name != field}
    assert Submission.model_validate(body | {field: None}) == Submission.model_validate(left_out)
    assert Submission.model_validate(body | {field: None}).digest() == Submission.model_validate(left_out).digest()


@pytest.mark.parametrize("name", ["con", "prn", "aux", "nul", "com1", "lpt9", "console"])
def test_an_entity_that_windows_could_not_unpack_is_refused(name: str) -> None:
    fields = {"id": name, "source": "w", "relation": "r", "tenant_column": "t", "key": "id", "changes": {"mode": "full"}}
    entity = Entity.model_validate(fields | {"columns": {"id": {"type": "integer"}}})
    sources = {"w": {"kind": "duckdb", "path": "w.duckdb"}}
    catalog = Catalog.model_validate({"sources": sources, "entities": {name: entity}})
    assert ("reserved_name" in {problem.code for problem in problems(catalog, "catalog.yaml")}) == (name != "console")


@given(st.dates(date(1971, 1, 1), date(2400, 1, 1)), st.dates(date(1971, 1, 1), date(2400, 1, 1)), st.sampled_from([BERLIN, UTC_ZONE]))
def test_adjacent_ranges_tile_time(first: date, last: date, zone: ZoneInfo) -> None:
    first, last = sorted((first, last))
    span = resolve({"from": first.isoformat(), "to": last.isoformat()}, zone)
    following = resolve({"from": (last + timedelta(days=1)).isoformat()}, zone)
    assert span.start is not None
    assert span.end is not None
    assert span.start < span.end == following.start


@pytest.mark.parametrize(
    ("preset", "today", "first"),
    [
        ("last_7_days", date(2026, 3, 3), "2026-02-25"),
        ("last_30_days", date(2026, 3, 3), "2026-02-02"),
        ("last_90_days", date(2026, 3, 3), "2025-12-04"),
        ("last_year", date(2026, 3, 3), "2025-03-04"),
        ("last_year", date(2024, 2, 29), "2023-03-01"),
        ("all_time", date(2026, 3, 3), None),
    ],
)
def test_a_named_range_is_frozen_to_dates_that_end_today(preset: str, today: date, first: str | None) -> None:
    assert frozen(preset, today)["from"] == first
    assert frozen(preset, today)["to"] == (today.isoformat() if first else None)


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "America/Santiago", "Australia/Lord_Howe"])
@pytest.mark.parametrize("at", ["00:00", "01:30"])
def test_a_daily_request_starts_within_24_hours_and_else_at_its_time_of_the_day(zone: str, at: str) -> None:
    rules, hour, day = ExportPolicy(fulfilment="daily", fulfil_at=at), timedelta(hours=1), timedelta(days=1)
    for start in (datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)):
        for now in (start + number * timedelta(minutes=29) for number in range(1_400)):
            due = due_at(rules, ZoneInfo(zone), now)
            assert now < due <= now + day
            before, after = ((now + delay).astimezone(ZoneInfo(zone)) for delay in (-hour, day + hour))
            assert due.astimezone(ZoneInfo(zone)).time() == time.fromisoformat(at) or before.utcoffset() != after.utcoffset()


def test_a_recurring_request_covers_the_whole_period_before_its_boundary() -> None:
    monday = datetime(2026, 6, 8, tzinfo=BERLIN).astimezone(UTC)
    assert previous_period("weekly", monday, BERLIN) == {"preset": "previous_period", "from": "2026-06-01", "to": "2026-06-07"}
    march = datetime(2028, 3, 1, tzinfo=BERLIN).astimezone(UTC)
    assert previous_period("monthly", march, BERLIN) == {"preset": "previous_period", "from": "2028-02-01", "to": "2028-02-29"}


def entity(name: str, **more: Any) -> Entity:
    base = {"id": name, "source": "s", "relation": name, "tenant_column": "t", "key": "id", "changes": {"mode": "full"}}
    return Entity.model_validate({**base, "columns": {"id": {"type": "integer"}}, **more})


CATALOG = Catalog(
    entities={
        "reading": entity("reading", scopes={"project": "p", "study": "s", "participant": "q"}),
        "site": entity("site", formats=["csv"]),
    }
)


def checked(export_policy: ExportPolicy | None = None, **body: Any) -> Any:
    asked = Submission.model_validate({"entities": ["reading"], "formats": ["csv"], **body})
    return check(asked, CATALOG, export_policy or ExportPolicy(), UTC_ZONE, NOW)


def problem_codes(export_policy: ExportPolicy | None = None, **body: Any) -> set[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        checked(export_policy, **body)
    return {(finding.path, finding.code) for finding in caught.value.findings}


def test_an_export_type_decides_about_entities_and_formats() -> None:
    export_policy = ExportPolicy.model_validate({"export_types": {"sheets": {"entities": ["reading"], "formats": ["xlsx"]}}})
    assert checked(export_policy, exportType="sheets", formats=["XLSX"]).formats == ("xlsx",)
    assert problem_codes(export_policy) == {("exportType", "export_type_required")}
    assert problem_codes(export_policy, exportType="sheet") >= {("exportType", "unknown_export_type")}
    assert problem_codes(export_policy, exportType="sheets", entities=["site"], formats=["csv"]) == {
        ("entities", "unknown_entity"),
        ("formats", "format_not_supported"),
    }


def test_leaving_entities_out_means_all_that_fit_the_scope_where_policy_says_so() -> None:
    every = ExportPolicy(all_entities_by_default=True)
    assert checked(every, entities=None).entities == ("reading", "site")
    assert checked(every, entities=None, scope={"level": "study", "study": "x"}).entities == ("reading",)
    assert problem_codes(every, entities=[]) == {("entities", "no_entities")}


def test_scopes_need_what_they_are_about_and_take_nothing_else() -> None:
    assert problem_codes(scope={"level": "app"}) == {("scope.project", "scope_incomplete"), ("scope.apps", "scope_incomplete")}
    assert problem_codes(scope={"level": "tenant", "project": "x"}) == {
        ("scope.project", "scope_not_supported"),
    }
    assert problem_codes(ExportPolicy(scopes=("tenant",)), scope={"level": "study", "study": "x"}) == {
        ("scope.level", "scope_not_supported")
    }


def test_a_tenant_wide_request_and_one_of_a_project_do_not_share_a_slot() -> None:
    assert checked().slot == checked(scope={"level": "study", "study": "x"}).slot == "tenant"
    assert checked(scope={"level": "project", "project": "p1"}).slot == "project:p1"


def test_equal_requests_have_equal_fingerprints_whatever_the_order_of_their_formats() -> None:
    same = [checked(formats=formats).fingerprint("ada") for formats in (["csv", "json"], ["json", "csv"])]
    assert same[0] == same[1] != checked(formats=["csv"]).fingerprint("ada")
    assert same[0] != checked(formats=["csv", "json"]).fingerprint("bob")


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_progress_rises_with_rows_and_never_reaches_a_hundred(rows: int, more: int, expected: int) -> None:
    assert 0 <= written_progress(rows, expected) <= written_progress(rows + more, expected) <= packed_progress(0, 10) <= 99
    assert packed_progress(rows, expected) <= packed_progress(rows + more, expected) <= 99


PRESETS = loading.load(Path(__file__).parents[2] / "config").presets


def test_four_presets_ship_and_each_has_words_for_every_state() -> None:
    assert sorted(PRESETS) == ["metrics", "realms", "studies", "types"]
    for preset in PRESETS.values():
        assert preset.labels.model_fields_set == {status.value for status in Status}


def test_labels_are_the_documents_own() -> None:
    def words(name: str) -> list[str]:
        export_policy = knobs_of(Policy(preset=name), PRESETS, "acme")
        return [label(export_policy, status, 42) for status in (Status.PENDING, Status.RUNNING, Status.DONE, Status.FAILED, Status.EXPIRED)]

    assert words("studies")[:4] == ["Pending", "Running (42 %)", "Done", "Failed"]
    assert words("realms") == ["Submitted", "Submitted", "Available", "Failed", "Expired"]
    assert words("metrics")[:4] == ["queued", "processing", "completed", "failed"]
    assert words("types")[:4] == ["pending", "processing", "completed", "failed"]


def test_explicit_knobs_win_over_presets_and_a_tenants_over_all() -> None:
    policy = Policy.model_validate(
        {
            "preset": "metrics",
            "archive_life": "2d",
            "range": {"required": True},
            "tenants": {"acme": {"preset": "realms", "link_life": "5m"}, "globex": {"archive_life": "3d", "labels": {"done": "fertig"}}},
        }
    )
    acme, globex, other = (knobs_of(policy, PRESETS, tenant) for tenant in ("acme", "globex", "other"))
    assert (acme.visibility, acme.archive_life, acme.link_life) == ("own", timedelta(days=2), timedelta(minutes=5))
    assert (acme.range.max_days, acme.range.required) == (366, True)
    assert (globex.archive_life, globex.labels.done, globex.labels.failed) == (timedelta(days=3), "fertig", "failed")
    assert other.range.required
    assert other.range.presets == PRESETS["metrics"].range.presets


def test_a_tenant_without_an_entry_has_the_defaults() -> None:
    assert knobs_of(Policy(), {}, "acme") == ExportPolicy()
    assert TenantPolicy().preset is None
    assert Preset().max_active_per_project == 1


TICKET = Ticket("a" * 32, 1, "api:ada", ("reader",), datetime(2026, 6, 1, tzinfo=UTC))
OLD, NEW = (b"o" * 32, b"n" * 32)


def test_a_token_of_an_older_key_is_good_until_that_key_is_taken_out() -> None:
    token = mint([OLD], TICKET)
    assert read([NEW, OLD], token) == TICKET
    assert read([NEW], token) is None
    assert read([OLD], mint([NEW, OLD], TICKET)) is None


@given(st.text(max_size=200))
def test_no_text_is_a_token(text: str) -> None:
    assert read([NEW], text) is None


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_token_with_one_character_changed_is_none(position: int, change: int) -> None:
    token = mint([NEW], TICKET)
    position %= len(token)
    changed = token[:position] + chr(ord(token[position]) ^ change) + token[position + 1 :]
    assert read([NEW], changed) is None


def test_a_short_key_is_refused() -> None:
    with pytest.raises(Exception, match="fewer than 32"):
        checked_keys(["short"])
