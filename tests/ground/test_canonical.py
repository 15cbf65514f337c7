"""The laws of canonical text: it reads back, it is unique, and it is quoted exactly when it must be."""

import base64
import csv
import hashlib
import hmac
import io
import json
import math
import struct
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybill import canonical
from waybill.canonical import ColumnType, parse_timestamp

pytestmark = pytest.mark.fast


@given(st.floats())
def test_a_float_reads_back_as_the_very_same_double(value: float) -> None:
    assert struct.pack("d", float(canonical.float_text(value))) == struct.pack("d", value) or math.isnan(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (100.0, "100"),
        (-0.0, "-0"),
        (1e15, "1e+15"),
        (999999999999999.0, "999999999999999"),
        (1234567890123456.5, "1.2345678901234565e+15"),
        (-1e15, "-1e+15"),
        (1e16, "1e+16"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (0.1 + 0.2, "0.30000000000000004"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
    ids=str,
)
def test_floats_are_spelt_as_postgres_spells_them(value: float, text: str) -> None:
    assert canonical.float_text(value) == text


@given(
    st.datetimes(
        timezones=st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu"), timezone(timedelta(hours=-11, minutes=-30))])
    )
)
def test_a_timestamp_reads_back_as_the_same_instant(value: datetime) -> None:
    try:
        text = canonical.timestamp_text(value)
    except OverflowError:
        return  # its UTC form lies before year 1 or after 9999
    assert canonical.parse_timestamp(text) == value.astimezone(UTC)
    assert len(text) == 27
    assert text.endswith("Z")


def test_the_two_hours_of_an_autumn_night_stay_apart() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    early, late = (datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    assert canonical.timestamp_text(early) == "2026-10-25T00:30:00.000000Z"
    assert canonical.timestamp_text(late) == "2026-10-25T01:30:00.000000Z"


def test_a_naive_text_is_no_position() -> None:
    with pytest.raises(ValueError, match="has no offset"):
        canonical.parse_timestamp("2026-06-01T00:00:00")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON, st.sampled_from([None, 2, "\t"]))
def test_making_json_compact_changes_nothing_but_white_space(value: object, indent: object) -> None:
    pretty = json.dumps(value, indent=indent, ensure_ascii=False)  # type: ignore[arg-type]
    assert canonical.json_text(pretty) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_json_keeps_the_spelling_of_numbers_and_repeated_keys() -> None:
    assert canonical.json_text('{"a" : 1.50, "a" : 1E+05,\n"b\\" ": " x  "}') == '{"a":1.50,"a":1E+05,"b\\" ":" x  "}'


@given(
    st.lists(st.none() | st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2),
    st.sampled_from(",;\t|"),
)
def test_a_record_reads_back_with_nulls_apart_from_empty_strings(fields: list[str | None], delimiter: str) -> None:
    line = canonical.csv_line(fields, delimiter, "\r\n")
    [read] = csv.reader(io.StringIO(line, newline=""), delimiter=delimiter, strict=True)
    assert read == [field or "" for field in fields]
    bare = [field for field, text in zip(fields, _raw_fields(line.removesuffix("\r\n"), delimiter), strict=True) if text == ""]
    assert all(field is None for field in bare)


def _raw_fields(line: str, delimiter: str) -> list[str]:
    """The fields with their quotes still on."""
    fields, field, inside = [], "", False
    for character in line:
        inside ^= character == '"'
        if character == delimiter and not inside:
            fields.append(field)
            field = ""
        else:
            field += character
    return [*fields, field]


@pytest.mark.parametrize("value", ["#x", " edge ", "\\.", "\\N", "NULL", "=1+1", "a b", "😀"], ids=repr)
def test_only_what_would_break_a_record_is_quoted(value: str) -> None:
    assert canonical.csv_field(value, ",") == value


@pytest.mark.parametrize(("value", "text"), [("", '""'), ("a,b", '"a,b"'), ('"', '""""'), ("\r", '"\r"'), ("\n", '"\n"')], ids=repr)
def test_what_would_break_a_record_is_quoted(value: str, text: str) -> None:
    assert canonical.csv_field(value, ",") == text


@given(st.binary())
def test_binary_reads_back(value: bytes) -> None:
    assert base64.b64decode(canonical.text(value, ColumnType.BINARY) or "", validate=True) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_keeps_its_scale(value: Decimal) -> None:
    text = canonical.text(value, ColumnType.DECIMAL) or ""
    assert "E" not in text
    assert Decimal(text) == value


@given(st.text(), st.binary(max_size=200))
def test_a_pseudonym_is_the_hmac_of_the_text(value: str, salt: bytes) -> None:
    value = value.encode(errors="replace").decode()
    assert canonical.anonymize(value, salt) == hmac.new(salt, value.encode(), hashlib.sha256).hexdigest()


def test_null_has_no_text_in_any_type_and_no_pseudonym() -> None:
    assert {canonical.text(None, kind) for kind in ColumnType} == {None}
    assert canonical.anonymize(None, b"salt") is None


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (True, ColumnType.BOOLEAN, "true"),
        (0, ColumnType.BOOLEAN, "false"),
        (date(1969, 12, 31), ColumnType.DATE, "1969-12-31"),
        ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", ColumnType.UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (UUID(int=1), ColumnType.UUID, "00000000-0000-0000-0000-000000000001"),
        (Decimal("1E+3"), ColumnType.DECIMAL, "1000"),
        (datetime.fromisoformat("1960-01-01T00:00:00.000005"), ColumnType.TIMESTAMP, "1960-01-01T00:00:00.000005Z"),
    ],
    ids=str,
)
def test_each_type_has_its_text(value: object, kind: ColumnType, text: str) -> None:
    assert canonical.text(value, kind) == text


def test_a_version_digest_tells_every_part_of_the_version() -> None:
    digest = canonical.row_digest(["1"], "2026-01-01T00:00:00.000000Z", ["a", None])
    others = [
        canonical.row_digest(["2"], "2026-01-01T00:00:00.000000Z", ["a", None]),
        canonical.row_digest(["1"], "2026-01-01T00:00:00.000001Z", ["a", None]),
        canonical.row_digest(["1"], "2026-01-01T00:00:00.000000Z", ["a", ""]),
        canonical.row_digest(["1"], None, ["a", None]),
    ]
    assert len(digest) == 16
    assert len({digest, *others}) == 5


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"])
def test_a_time_that_utc_has_no_date_for_is_refused_as_any_other_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="beyond the calendar"):
        parse_timestamp(text)
