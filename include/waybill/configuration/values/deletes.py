"""How an entity's removed rows reach the consumer: by comparing keys, how often, or not at all."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt, WithJsonSchema

from waybill.configuration.values.strict import Strict


class Deletes(Strict):
    """How rows that vanish from the source reach the consumer (docs/guarantees.md).

    `compare`: the keys that were delivered are compared with those that are there, in every `every`-th delivery of a stream.
    `compare_rows`: the same with whole rows, so that rows that are not as they were delivered come again, whatever their change time says.
    `never`: rows of the entity are not removed, so nothing is compared, and `waybill check` does not warn.
    """

    mode: Literal["compare", "compare_rows", "never"]
    """`compare`, `compare_rows` or `never`."""
    every: Annotated[StrictInt, Field(ge=1)] = 1
    """Compare keys at every n-th delivery only."""

    @property
    def compares(self) -> bool:
        return self.mode != "never"


_WEEKLY = re.compile(r"^(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day(?: |$))?(?:(?:[01]\d|2[0-3]):[0-5]\d)?\Z")


def _deletes_at(value: Any) -> Any:
    # YAML 1.1 reads an unquoted 02:00 as the number 120.
    words = " ".join(value.lower().split()) if isinstance(value, str) else ""
    if value != "" and (not words or not _WEEKLY.match(words)):  # the default, as a dump writes it
        raise ValueError('not a time of day or of the week; allowed: "02:00", sunday, "sunday 02:00"')
    return words


DeletesAt = Annotated[
    str, BeforeValidator(_deletes_at), WithJsonSchema({"type": "string", "examples": ["02:00", "sunday", "sunday 02:00"]})
]
"""A local time of day, a weekday, or both: `02:00`, `sunday`, `sunday 02:00`."""
