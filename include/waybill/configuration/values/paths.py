"""Paths and buckets as people write them, and what none of them may be."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from waybill.language import unfit

STORED_EARLIER = {"kept": True}
"""The context to read an accepted registration with. Rules that came later do not apply to it."""


def _printable(path: str, info: ValidationInfo) -> str:
    if not path.isprintable() and info.context != STORED_EARLIER:
        raise unfit("printable_path")
    return path


def _straight(path: str, info: ValidationInfo) -> str:
    if ".." in path.split("/") and info.context != STORED_EARLIER:
        raise unfit("straight_path")
    return path


def _not_below_a_login(path: str, info: ValidationInfo) -> str:
    if path.startswith("~") and info.context != STORED_EARLIER:
        raise unfit("no_home")
    return path


def _not_below_a_home(path: str, info: ValidationInfo) -> str:
    """No shell expands it: a folder of the name `~` would be made."""
    if path.startswith("~") and info.context != STORED_EARLIER:
        raise unfit("no_home_here")
    return path


def _bucket(name: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[A-Za-z0-9:/._-]{1,2000}", name) and info.context != STORED_EARLIER:
        raise unfit("bucket")
    return name


Root = Annotated[str, AfterValidator(_printable), AfterValidator(_straight)]
ServerRoot = Annotated[Root, AfterValidator(_not_below_a_login)]
LocalPath = Annotated[str, AfterValidator(_not_below_a_home)]
LocalRoot = Annotated[str, Field(min_length=1), AfterValidator(_printable), AfterValidator(_not_below_a_home)]
Bucket = Annotated[str, Field(min_length=3), AfterValidator(_bucket)]
