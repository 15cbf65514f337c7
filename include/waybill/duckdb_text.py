"""The canonical texts of `waybill.canonical` as SQL of DuckDB: the same rules, for whole columns at a time.

Only DuckDB runs it: as a source, and where it formats rows of others. PostgreSQL has its own spelling in `sources/postgres/spelling`.

`x` is always a quoted column or an expression. NULL stays NULL.
"""

from __future__ import annotations

JSON_STRING = r'"(?:[^"\\]|\\.)*"'
"""A regular expression for a JSON string with its quotes."""

_WHITE_SPACE_BETWEEN_TOKENS = rf"({JSON_STRING})|[ \t\r\n]+"


def float_text(x: str) -> str:
    """Return the text of a DOUBLE.

    DuckDB writes 1e15 to 1e16 in full, puts `.0` behind whole numbers, and spells `nan` and `inf`. Everything else is spelt as in
    PostgreSQL.
    """
    shown = f"CAST({x} AS VARCHAR)"
    digits = f"rtrim(replace({shown}, '.', ''), '0')"
    scientific = f"regexp_replace({digits}, '^(-?[0-9])([0-9]+)$', '\\1.\\2') || 'e+15'"
    return (
        f"CASE WHEN abs({x}) < 1e15 THEN CASE WHEN {x} = trunc({x}) THEN left({shown}, -2) ELSE {shown} END"
        f" WHEN isnan({x}) THEN 'NaN' WHEN isinf({x}) THEN CASE WHEN {x} > 0 THEN 'Infinity' ELSE '-Infinity' END"
        f" WHEN abs({x}) < 1e16 THEN {scientific} ELSE {shown} END"
    )


def timestamp_text(x: str) -> str:
    """Return the text of a TIMESTAMP in UTC.

    RFC 3339 cannot hold infinite times and times before year 1. They are spelt as in PostgreSQL.
    """
    shown = f"CAST({x} AS VARCHAR)"
    ancient = f"regexp_extract({shown}, '^[0-9]+') || strftime({x}, '-%m-%dT%H:%M:%S.%fZ BC')"
    return (
        f"CASE WHEN {x} >= TIMESTAMP '0001-01-01' THEN strftime({x}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        f" WHEN isinf({x}) THEN {shown} ELSE {ancient} END"
    )


def nanosecond_text(x: str) -> str:
    """Return the text of a TIMESTAMP_NS or TIMESTAMPTZ_NS, with nine digits if six do not say everything. It serves text and nested values.

    DuckDB's strftime and AT TIME ZONE lose digits of such times, so arithmetic cuts them.
    """
    rest = f"((epoch_ns({x}) % 1000 + 1000) % 1000)"
    whole = timestamp_text(f"make_timestamp((epoch_ns({x}) - {rest}) // 1000)")
    return f"CASE WHEN {rest} > 0 THEN replace({whole}, 'Z', format('{{:03d}}Z', {rest})) ELSE {timestamp_text(microseconds(x))} END"


def microseconds(x: str) -> str:
    """Return a TIMESTAMP_NS or TIMESTAMPTZ_NS as a TIMESTAMP in UTC. A finer value is an error. Infinite times have no number."""
    whole = f"WHEN epoch_ns({x}) % 1000 = 0 THEN make_timestamp(epoch_ns({x}) // 1000)"
    return f"CASE {whole} WHEN epoch_ns({x}) % 1000 <> 0 THEN error('finer than a microsecond') ELSE CAST({x} AS TIMESTAMP) END"


def decimal_text(x: str) -> str:
    """Return the text of a DECIMAL. DuckDB leaves out the zero before the point where the type has no place for a digit there."""
    return f"regexp_replace(CAST({x} AS VARCHAR), '^(-?)[.]', '\\10.')"


def interval_text(x: str) -> str:
    """Return the text of an INTERVAL as in PostgreSQL: `1 year 2 mons -3 days +04:05:06.5`.

    A part that follows a negative part shows its own sign. A time of day of zero is left out if there is another part.
    """
    year, month, day = (f"datepart('{unit}', {x})" for unit in ("year", "month", "day"))
    hour, minute, micro = (f"datepart('{unit}', {x})" for unit in ("hour", "minute", "microsecond"))
    before_month = f"{year} < 0"
    before_day = f"CASE WHEN {month} <> 0 THEN {month} < 0 ELSE {before_month} END"
    before_time = f"CASE WHEN {day} <> 0 THEN {day} < 0 ELSE {before_day} END"

    def part(value: str, unit: str, behind_negative: str) -> str:
        sign = f"CASE WHEN {value} > 0 AND ({behind_negative}) THEN '+' ELSE '' END"
        return f"CASE WHEN {value} <> 0 THEN {sign} || {value} || ' {unit}' || CASE WHEN {value} = 1 THEN '' ELSE 's' END END"

    is_negative = f"{hour} < 0 OR {minute} < 0 OR {micro} < 0"
    sign = f"CASE WHEN {is_negative} THEN '-' WHEN {before_time} THEN '+' ELSE '' END"
    clock = f"format('{{:02d}}:{{:02d}}:{{:02d}}', abs({hour}), abs({minute}), abs({micro}) // 1000000)"
    fraction = f"CASE WHEN {micro} % 1000000 <> 0 THEN '.' || rtrim(format('{{:06d}}', abs({micro}) % 1000000), '0') ELSE '' END"
    is_zero = f"{year} = 0 AND {month} = 0 AND {day} = 0"
    time = f"CASE WHEN ({is_zero}) OR {hour} <> 0 OR {minute} <> 0 OR {micro} <> 0 THEN {sign} || {clock} || {fraction} END"
    pieces = [part(year, "year", "false"), part(month, "mon", before_month), part(day, "day", before_day), time]
    return f"CASE WHEN {x} IS NOT NULL THEN concat_ws(' ', {', '.join(pieces)}) END"


def date_text(x: str) -> str:
    """Return the text of a DATE."""
    return f"replace(CAST({x} AS VARCHAR), ' (BC)', ' BC')"


def json_text(x: str) -> str:
    """Return JSON text without the white space between tokens. NaN and infinities, which JSON does not have, become strings.

    Text that is still no JSON is an error.
    """
    shown = f"CAST({x} AS VARCHAR)"
    marked = f"regexp_replace({shown}, '({JSON_STRING})|(NaN|-?Infinity)', '\\1' || chr(1) || '\\2' || chr(2), 'g')"
    quoted = f"replace(replace(replace({marked}, chr(1) || chr(2), ''), chr(1), '\"'), chr(2), '\"')"
    valid = f"CASE WHEN contains({shown}, 'NaN') OR contains({shown}, 'Infinity') THEN {quoted} ELSE {shown} END"
    compact = f"regexp_replace({valid}, '{_WHITE_SPACE_BETWEEN_TOKENS}', '\\1', 'g')"
    return f"CASE WHEN {is_json(f'({valid})')} THEN {compact} WHEN {x} IS NOT NULL THEN error('no JSON') END"


def is_json(x: str) -> str:
    """Return whether a text is JSON. DuckDB's own check accepts NaN, Infinity and trailing commas."""
    doubtful = "'(?i)nan|inf|,[ \\t\\r\\n]*[\\]}]'"
    bare = f"regexp_replace({x}, '{JSON_STRING}', '\"\"', 'g')"
    closer = f"CASE WHEN regexp_matches({x}, {doubtful}) THEN NOT regexp_matches({bare}, {doubtful}) ELSE true END"
    return f"CASE WHEN json_valid({x}) THEN {closer} ELSE false END"


def csv_field(x: str, *separators: str) -> str:
    """Return a field of text, quoted if it contains one of the separators (SQL literals), a quote or a line end."""
    marks = " OR ".join(f"contains({x}, {mark})" for mark in (*separators, "chr(10)", "chr(13)"))
    doubled = f"""'"' || replace({x}, '"', '""') || '"'"""
    return f"""CASE WHEN contains({x}, '"') THEN {doubled} WHEN {x} = '' OR {marks} THEN '"' || {x} || '"' ELSE {x} END"""
