"""The base of everything that the API answers."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from waybill.canonical import timestamp_text

Instant = Annotated[
    datetime,
    PlainSerializer(timestamp_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""A time that is answered as RFC 3339 in UTC with six fraction digits."""


class Answer(BaseModel):
    """Base of answers. They are frozen, and their fields are camelCase on the wire."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True)

    def as_json(self) -> dict[str, Any]:
        """Return the body that goes out."""
        return self.model_dump(mode="json")
