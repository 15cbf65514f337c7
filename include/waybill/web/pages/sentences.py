"""The sentences of the pages as HTML: those of `waybill.language`, with escaped values, and text in backticks as code."""

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
    """Return the sentence of a key as HTML with escaped values. Raises KeyError for an unknown key or value."""
    if count is not None:
        values["count"] = f"{count:,}"
    return _template(sentence(key, count)).format(**values)
