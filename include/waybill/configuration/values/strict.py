"""The base of everything that is read from YAML or a request body."""

from pydantic import AliasGenerator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

CAMEL_CASE = ConfigDict(populate_by_name=True, alias_generator=AliasGenerator(alias=to_camel))
"""The `model_config` of a body whose keys are written in camelCase."""


class Strict(BaseModel):
    """Unknown keys are refused, and values are frozen. The text below a field describes it, in editors and in the reference."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)
