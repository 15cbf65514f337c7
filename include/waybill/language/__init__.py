"""Every sentence that people read on pages and in mails, from one file for each language (`en.yaml`). No other file holds one.

A key names the page and the place, such as `exports.empty`. The section `mail` is about exports on demand, `notice` about scheduled
deliveries. `{name}` in a sentence is a value, and text in backticks is shown as code. A sentence that counts has two forms, `one` and
`other`, and `{count}` is the number.

A product may replace every sentence. The policy's `words` name a sentence by its key, and a form by its name behind the key, such as
`exports.rows_of.one`. Code that speaks to a tenant's people opens `wording` around it: the web does so for each call, a worker for each
request. The names of a request's states and of the fields of its form are no sentences: `Labels` in `configuration/policy.py` holds them.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

__all__ = ["ALLOWED", "misworded", "names_in", "plain", "replaceable", "sentence", "table", "tell", "unfit", "wording"]

LANGUAGE = "en"
ALLOWED = "; allowed: "
"""What parts a refusal of a value from what is allowed, where both are one text: in the error of a validator."""
Sentence = str | Mapping[str, str]
"""A text, or one text for one and another for any other number."""


@cache
def words_of(language: str) -> Mapping[str, Mapping[str, Sentence]]:
    """Return the file of a language: sections of sentences."""
    words: dict[str, Any] = yaml.safe_load((files("waybill.language") / f"{language}.yaml").read_text("utf-8"))
    return words


def _none() -> Mapping[str, str]:
    return {}


_own: ContextVar[Callable[[], Mapping[str, str]]] = ContextVar("own words", default=_none)


def plain() -> AbstractContextManager[None]:
    """Leave every sentence inside the block as it is in the file.

    This is for what is kept, and read by other people than those it was made for.
    """
    return wording(_none)


@contextmanager
def wording(own: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Put each sentence inside the block into the words of a product if `own` has it. `own` is called when a sentence is needed."""
    token = _own.set(own)
    try:
        yield
    finally:
        _own.reset(token)


class Table(Mapping[str, str]):
    """A section whose keys are values of the product, such as the levels of a scope. Its sentences are looked up when they are needed."""

    def __init__(self, section: str) -> None:
        self._section = section

    def __getitem__(self, name: str) -> str:
        return sentence(f"{self._section}.{name}")

    def __iter__(self) -> Iterator[str]:
        return iter(words_of(LANGUAGE)[self._section])

    def __len__(self) -> int:
        return len(words_of(LANGUAGE)[self._section])

    def __or__(self, other: Mapping[str, str]) -> dict[str, str]:
        return {**self, **other}


def table(section: str) -> Table:
    """Return a section whose keys are values of the product."""
    return Table(section)


def sentence(key: str, count: int | None = None) -> str:
    """Return the sentence of a key without its values. Raises KeyError for an unknown key."""
    section, _, name = key.partition(".")
    found, own = words_of(LANGUAGE)[section][name], _own.get()()
    if isinstance(found, str):
        return own.get(key, found)
    form = "one" if count == 1 else "other"
    return own.get(f"{key}.{form}", found[form])


def tell(key: str, /, count: int | None = None, **values: object) -> str:
    """Return the sentence of a key as plain text, for mails and messages. Raises KeyError for an unknown key or value."""
    if count is not None:
        values["count"] = f"{count:,}"
    return sentence(key, count).format(**values)


def unfit(key: str, /, **values: object) -> ValueError:
    """Return the error that refuses a value, for a validator: the sentences of `finding` and of `allowed` by this key.

    `configuration.findings` takes the two apart.
    """
    reason, allowed = sentence(f"finding.{key}").format(**values), sentence(f"allowed.{key}").format(**values)
    return ValueError(f"{reason}{ALLOWED}{allowed}")


def names_in(text: str) -> frozenset[str]:
    """Return the values that a sentence asks for, each with its format. Raises ValueError for a brace that opens or closes nothing."""
    asked = ((name, form, how) for _, name, form, how in string.Formatter().parse(text) if name is not None)
    return frozenset(name + (f"!{how}" if how else "") + (f":{form}" if form else "") for name, form, how in asked)


def replaceable() -> dict[str, str]:
    """Return every sentence by the key that a product replaces it by. Each form of a sentence that counts has a key of its own."""
    found: dict[str, str] = {}
    for section, sentences in words_of(LANGUAGE).items():
        for name, text in sentences.items():
            key = f"{section}.{name}"
            found |= {key: text} if isinstance(text, str) else {f"{key}.{form}": spelt for form, spelt in text.items()}
    return found


def misworded(own: Mapping[str, str]) -> str:
    """Return what is wrong with a product's own sentences. The text is empty if nothing is."""
    allowed = replaceable()
    for key, text in own.items():
        if key not in allowed:
            section = key.partition(".")[0]
            near = get_close_matches(key, allowed, 1, 0.75)
            known = sorted(name for name in allowed if name.startswith(f"{section}.")) or sorted(words_of(LANGUAGE))
            return f"unknown sentence {key!r}; {f'did you mean {near[0]!r}? ' if near else ''}allowed: {', '.join(known)}"
        try:
            unknown = names_in(text) - names_in(allowed[key])
        except ValueError:
            return f"{key} has a brace that opens or closes nothing"
        if unknown:
            values = ", ".join(f"{{{name}}}" for name in sorted(names_in(allowed[key]))) or "none"
            return f"{key} has the unknown value {{{min(unknown)}}}; allowed: {values}"
    return ""
