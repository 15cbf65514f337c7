"""The sentences of the pages as HTML: those of `waybill.language`, their values escaped, what stands in backticks as code."""

from __future__ import annotations

import re
from functools import cache

from markupsafe import Markup, escape

from waybill.language import sentence

_CODE = re.compile(r"`([^`]*)`")


@cache
def _template(text: str) -> Markup:
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 (escaped)


def say(key: str, /, count: int | None = None, **values: object) -> Markup:
    """The sentence of a key as HTML, its values escaped. Raises KeyError for a key or a value that is not there."""
    if count is not None:
        values["count"] = f"{count:,}"
    return _template(sentence(key, count)).format(**values)
