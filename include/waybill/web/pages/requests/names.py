"""Several names in one field of a form: commas separate them, and quotes surround a name that holds a comma itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)(?:"|$)\s*|([^,]*))(,|$)')


def names_in(text: str) -> list[str]:
    """Return the names of a field. Spaces around a name do not count, unless the name is in quotes."""
    return [name for _, name in _parts(text) if name]


def joined(names: Iterable[str]) -> str:
    """Return the text of a field that means these names. `names_in` reads it."""
    return ", ".join(_spelt(name) for name in names)


def last_of(text: str) -> tuple[str, str]:
    """Return what comes before the last name of a field, and what is typed of that name."""
    *_, (begin, name) = _parts(text)
    before = text[:begin].rstrip()
    return f"{before} " if before else "", name


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yield each name with the place where it begins. The last one may be empty."""
    at = 0
    while found := _NAME.match(text, at):
        quoted, plain, more = found.groups()
        yield at, plain.strip() if quoted is None else quoted.replace('""', '"')
        at = found.end()
        if not more:
            return


def _spelt(name: str) -> str:
    needs_quotes = "," in name or name.startswith('"') or name != name.strip()
    return '"' + name.replace('"', '""') + '"' if needs_quotes else name
