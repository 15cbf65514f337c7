"""Every sentence people read on pages and in mails, from one file a language (`en.yaml`). Templates and modules hold none of their own.

A key names the page and the place, such as `exports.empty`. `{name}` in a sentence is a value; what stands in backticks is shown as code.
A sentence that counts has two forms, `one` and `other`, and `{count}` is the number. The words of a preset (`words` in policy) win. The
names of a request's states and of the fields of its form are no sentences: `Labels` in `configuration/policy.py` holds them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

LANGUAGE = "en"
OWN = ("exports", "export_form", "recurring", "mail")
"""The sections in which a product may have sentences of its own."""

Sentence = str | Mapping[str, str]
"""A text, or the texts for one and for any other number."""


@cache
def words_of(language: str) -> Mapping[str, Mapping[str, Sentence]]:
    """The file of a language: sections of sentences."""
    words: dict[str, Any] = yaml.safe_load((files("waybill.language") / f"{language}.yaml").read_text("utf-8"))
    return words


def table(section: str) -> dict[str, str]:
    """A section whose keys are values of the product, such as the levels of a scope."""
    words: Any = words_of(LANGUAGE)[section]
    return dict(words)


def sentence(key: str, count: int | None = None, own: Mapping[str, str] | None = None) -> str:
    """The sentence of a key without its values, in the words of `own` where these have it. Raises KeyError for a key that is not there."""
    if own and key in own:
        return own[key]
    section, _, name = key.partition(".")
    found = words_of(LANGUAGE)[section][name]
    return found if isinstance(found, str) else found["one" if count == 1 else "other"]


def tell(key: str, /, own: Mapping[str, str] | None = None, count: int | None = None, **values: object) -> str:
    """The sentence of a key as plain text, for mails and messages. Raises KeyError for a key or a value that is not there."""
    if count is not None:
        values["count"] = f"{count:,}"
    return sentence(key, count, own).format(**values)


def names_in(text: str) -> frozenset[str]:
    """The values a sentence asks for, with how it would have them spelt. Raises ValueError for a brace that opens or closes nothing."""
    asked = ((name, form, how) for _, name, form, how in string.Formatter().parse(text) if name is not None)
    return frozenset(name + (f"!{how}" if how else "") + (f":{form}" if form else "") for name, form, how in asked)


def misworded(own: Mapping[str, str]) -> str:
    """What is wrong with a product's own sentences, empty where nothing is. They may replace texts of the sections `OWN`."""
    allowed = {f"{section}.{name}": text for section in OWN for name, text in words_of(LANGUAGE)[section].items() if isinstance(text, str)}
    for key, text in own.items():
        if key not in allowed:
            return f"unknown sentence {key!r}; allowed: {', '.join(sorted(allowed))}"
        try:
            unknown = names_in(text) - names_in(allowed[key])
        except ValueError:
            return f"{key} has a brace that opens or closes nothing"
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in sorted(names_in(allowed[key]))) or "none"
            return f"{key} has the unknown value {{{min(unknown)}}}; allowed: {known}"
    return ""
