"""Every sentence of the pages, from one file a language (`language/en.yaml`). Templates hold none of their own.

A key names the page and the place, such as `exports.empty`. `{name}` in a sentence is a value; what stands in backticks is shown as code.
A sentence that counts has two forms, `one` and `other`, and `{count}` is the number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from markupsafe import Markup, escape

LANGUAGE = "en"
_CODE = re.compile(r"`([^`]*)`")


@cache
def words_of(language: str) -> Mapping[str, Any]:
    """The file of a language: sections of sentences."""
    words: dict[str, Any] = yaml.safe_load((files("waybill.web.pages") / f"language/{language}.yaml").read_text("utf-8"))
    return words


def table(section: str) -> Mapping[str, str]:
    """A section whose keys are values of the product, such as the levels of a scope."""
    words: dict[str, str] = words_of(LANGUAGE)[section]
    return words


@cache
def _template(key: str, form: str) -> Markup:
    section, _, name = key.partition(".")
    sentence = words_of(LANGUAGE)[section][name]
    if isinstance(sentence, Mapping):
        sentence = sentence[form]
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 (a file of ours, escaped)


def say(key: str, /, count: int | None = None, **values: object) -> Markup:
    """The sentence of a key as HTML, its values escaped. Raises KeyError for a key or a value that is not there."""
    template = _template(key, "one" if count == 1 else "other")
    if count is not None:
        values["count"] = f"{count:,}"
    return template.format(**values) if values else template
