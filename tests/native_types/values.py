"""What a value is delivered as by each catalogued type: one text, whatever source it comes from. A type that is not named is refused."""

from __future__ import annotations

from dataclasses import dataclass

from waybill import canonical
from waybill.configuration.catalog import Entity
from waybill.sources import Source

Texts = dict[str, str]


def whole(text: str) -> Texts:
    return {"integer": text, "decimal": text, "float": canonical.float_text(float(text)), "string": text}


def exact(text: str) -> Texts:
    return {"decimal": text, "string": text}


def real(text: str) -> Texts:
    return {"float": text, "string": text}


def nested(text: str) -> Texts:
    return {"json": text, "string": text}


def same(text: str, *kinds: str) -> Texts:
    return dict.fromkeys([*kinds, "string"], text)


FEBRUARY = "2026-02-01T01:02:03.500000Z"
ID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
VALUES: dict[str, Texts] = {
    "small": whole("-7"),
    "one byte": whole("200"),
    "unsigned 64": whole("18446744073709551615"),
    "39 digits": whole("170141183460469231731687303715884105727"),
    "45 digits": whole("123456789012345678901234567890123456789012345"),
    "true": same("true", "boolean"),
    "decimal": exact("1.50"),
    "decimal fraction": exact("-0.25"),
    "decimal of 40 digits": exact("1234567890123456789012345678901234567.890"),
    "whole decimal": {**exact("12"), "integer": "12"},
    "decimal that is whole": {**exact("12.00"), "integer": "12"},
    "no number": exact("NaN"),
    "double": real("1e+15"),
    "NaN": real("NaN"),
    "infinity": real("Infinity"),
    "single": real("16777216"),
    "date": same("2026-02-01", "date"),
    "date BC": same("0044-03-15 BC", "date"),
    "date far": same("12026-02-01", "date"),
    "timestamp": same(FEBRUARY, "timestamp"),
    "timestamp BC": same("0044-03-15T12:00:00.000000Z BC", "timestamp"),
    "timestamp far": same("12026-02-01T00:00:00.000000Z", "timestamp"),
    "timestamp infinite": same("infinity", "timestamp"),
    "timestamp of seconds": same("2026-02-01T01:02:03.000000Z", "timestamp"),
    "timestamp of microseconds": same("2026-02-01T01:02:03.500006Z", "timestamp"),
    "nanoseconds": same("2026-02-01T01:02:03.500000007Z"),
    "uuid": same(ID, "uuid"),
    "text": same('say "hi"'),
    "id as text": same(ID, "uuid"),
    "NaN as text": {"json": '{"NaN":"NaN","b":["-Infinity",1]}', "string": '{"NaN": NaN, "b": [-Infinity, 1]}'},
    "json as text": {"json": '{"a":[1,2.50]}', "string": '{"a": [1, 2.50]}'},
    "json": nested('{"a":[1,2.50]}'),
    "binary": {"binary": "AP8="},
    "bits": same("101"),
    "time": same("01:02:03.5"),
    "time with zone": same("01:02:03.5+02"),
    "time of nanoseconds": same("01:02:03.000000007"),
    "span of hours": same("-838:59:59"),
    "interval": same("1 year 2 mons -3 days +04:05:06.5"),
    "enum": same("it's"),
    "geometry": same("POINT (1 2)"),
    "list of integers": nested("[1,null,-3]"),
    "empty list": nested("[]"),
    "list of wide integers": nested("[123456789012345678901234567890123456789012345]"),
    "list of booleans": nested("[true,false,null]"),
    "list of fractions": nested("[0.50,null,-0.25]"),
    "list of decimals": nested("[1.50,null,-0.05]"),
    "list of doubles": nested('[1e+15,100,"NaN","Infinity","-Infinity",null,0.1]'),
    "list of singles": nested("[1000000,16777216,0.1]"),
    "list of texts": nested('["a","say \\"hi\\"","\\u001f\\b\\n\\\\","é😀/","",null,"null"]'),
    "list of dates": nested('["2026-02-01","0044-03-15 BC",null]'),
    "list of timestamps": nested(f'["{FEBRUARY}","2026-02-01T00:00:00.000000Z",null]'),
    "list of nanoseconds": nested(f'["{FEBRUARY}","2026-02-01T01:02:03.500000007Z"]'),
    "list of uuids": nested(f'["{ID}"]'),
    "list of binaries": nested('["AP8=",null]'),
    "list of json": nested('[{"a":[1,2.50]},null]'),
    "list of intervals": nested('["1 year 2 mons -3 days +04:05:06.5"]'),
    "list of times": nested('["01:02:03.5"]'),
    "list of bits": nested('["101"]'),
    "list of enums": nested('["it\'s",null]'),
    "list of lists": nested("[[1.50,2.00],[3.25,null]]"),
    "list of lists of timestamps": nested(f'[["{FEBRUARY}",null],["2026-02-01T00:00:00.000000Z","{FEBRUARY}"]]'),
    "record": nested(f'{{"a \\"b\'":1.50,"at":"{FEBRUARY}","list":["{FEBRUARY}"],"ratio":"NaN","none":null}}'),
    "list of records": nested(f'[{{"a \\"b\'":1.50,"at":"{FEBRUARY}","list":["{FEBRUARY}"],"ratio":"NaN","none":null}},null]'),
    "record of nothing": nested('{"a":null}'),
    "map": nested('{"a \\"b":[1.50],"c":null}'),
    "map by decimal": nested('{"1.50":"NaN"}'),
    "union": nested('{"a b":1.50}'),
    "tuple": nested('[1,"x",null]'),
    "range of integers": same("[1,5)"),
    "range of timestamps": same('["2026-02-01 01:02:03.5+00",)'),
    "ranges of integers": same("{[1,5),[7,9)}"),
    "list of ranges": nested('["[1,5)"]'),
    "anything": {},
    "half": real("1.5"),
    "group of a list": nested('{"a":[1.50]}'),
}
UNTYPED = {"39 digits", "no number"}
"""Numbers that no type of Parquet or XLSX holds."""


@dataclass(frozen=True)
class Case:
    native: str
    literal: str
    value: str

    def is_too_large(self, kind: str) -> bool:
        """Whether the value is none of the type that Parquet and XLSX have for such columns."""
        return kind in ("integer", "decimal") and self.value in UNTYPED and self.native.startswith(("HUGEINT", "numeric("))

    @property
    def texts(self) -> Texts:
        return VALUES[self.value]


def cases(*rows: tuple[str, str, str]) -> list[Case]:
    return [Case(*row) for row in rows]


def ddl(cases: list[Case]) -> str:
    return ", ".join(f"v{number} {case.native}" for number, case in enumerate(cases))


class Installation:
    """A source with a relation `sample`: a row with all values, each in a column of its own, and a row of NULLs."""

    def __init__(self, source: Source, cases: list[Case], relation: str = "sample") -> None:
        self.source = source
        self.cases = cases
        self.relation = relation

    def entity(self, numbers: list[int], kind: str) -> Entity:
        columns = {"id": {"type": "integer"}, **{f"v{number}": {"type": kind} for number in numbers}}
        plain = {"source": "any", "tenant_column": "tenant", "key": ["id"], "changes": {"mode": "full"}}
        return Entity.model_validate({"id": "sample", "relation": self.relation, "columns": columns, **plain})
