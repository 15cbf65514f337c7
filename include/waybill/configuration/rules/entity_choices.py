"""Compares what a registration says of single entities with the catalog: conditions, columns and their names, frequencies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from waybill.configuration.catalog import Catalog, Entity, suggester
from waybill.errors import Finding
from waybill.language import tell, unfit
from waybill_consumer.manifest import NOTICED

if TYPE_CHECKING:
    from waybill.configuration.registration import Registration

LONGEST_NAME = 63
"""The longest column name in bytes. PostgreSQL keeps no more, so a longer name could not be loaded there."""
MOST_NAMES = 40
"""The number of names that a refusal lists. If there are more, it says how many."""


def _column_name(name: str) -> str:
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name.encode()) > LONGEST_NAME:
        raise unfit("column_name", most=LONGEST_NAME)
    return name


DeliveredName = Annotated[str, AfterValidator(_column_name)]
"""The name under which a tenant receives a column."""


def problems(registration: Registration, catalog: Catalog, file: str) -> Iterator[Finding]:
    """Return everything that does not fit the catalog. The catalog is as offered to the tenant."""
    checks: dict[str, Callable[[Entity, Any, Finding], Iterator[Finding]]]
    checks = {"where": _where, "columns": _columns, "rename": partial(_rename, registration), "frequencies": lambda *_: iter(())}
    for field, check in checks.items():
        given: Mapping[str, Any] = getattr(registration, field)
        names = catalog.ids_by_name()
        meant = suggester(names)
        seen: set[str] = set()
        for word, choice in given.items():
            entity = catalog.entity(names.get(word.casefold(), ""))
            if entity is not None and entity.id in seen:  # by its id and by its name: nobody knows which of the two counts
                yield Finding(file, f"{field}.{word}", tell("finding.twice", value=entity.display_name))
            elif entity is None:
                known = shortened(catalog.entities)
                yield Finding(file, f"{field}.{word}", unknown_entity(word), known, meant(word), "unknown_entity")
            else:
                seen.add(entity.id)
                yield from check(entity, choice, Finding(file, f"{field}.{word}", ""))


def _where(entity: Entity, conditions: Any, at: Finding) -> Iterator[Finding]:
    """A condition may only compare columns that are delivered as they are. Whoever may ask for any column could find out what it holds."""
    plain = [name for name, column in entity.columns.items() if column.export == "yes"]
    columns, near = shortened(plain), suggester(plain)
    for number, condition in enumerate(conditions):
        path = f"{at.path}.{number}"
        if condition.column not in plain:
            what = tell("finding.no_plain_column", entity=entity.id, column=repr(condition.column))
            yield Finding(at.file, f"{path}.column", what, columns, near(condition.column), "unknown_column")
        elif wrong := condition.problem(entity.columns[condition.column].type):
            yield Finding(at.file, f"{path}.value", *wrong)


def _columns(entity: Entity, chosen: Any, at: Finding) -> Iterator[Finding]:
    """A choice of columns keeps the key, because without it nobody can tell which row a later version replaces."""
    columns, near = shortened(entity.columns), suggester(entity.columns)
    for number, name in enumerate(chosen):
        if name in chosen[:number]:
            yield Finding(at.file, f"{at.path}.{number}", tell("finding.twice", value=name), tell("allowed.once"))
        if name not in entity.columns:
            yield Finding(at.file, f"{at.path}.{number}", _no_column(entity, name), columns, near(name), "unknown_column")
    if missing := [name for name in entity.delivered_key if name in entity.columns and name not in chosen]:
        what = tell("finding.key_left_out", columns=", ".join(missing))
        yield Finding(at.file, at.path, what, tell("allowed.key_left_out"))


def _rename(registration: Registration, entity: Entity, names: Any, at: Finding) -> Iterator[Finding]:
    """Every delivered column has a name of its own, also for a database that ignores the case of letters."""
    chosen = registration.chosen(entity)
    allowed, near = shortened(chosen), suggester(chosen)
    for name in names:
        if name not in entity.columns:
            yield Finding(at.file, f"{at.path}.{name}", _no_column(entity, name), allowed, near(name), "unknown_column")
        elif name not in chosen:
            yield Finding(at.file, f"{at.path}.{name}", tell("finding.column_not_chosen"), allowed, code="unknown_column")
    taken = Counter(names.get(name, name).casefold() for name in chosen)
    for name, given in names.items():
        if name in chosen and taken[given.casefold()] > 1:
            what = tell("finding.column_name_taken", entity=entity.id, name=repr(given))
            yield Finding(at.file, f"{at.path}.{name}", what, tell("allowed.column_name_taken"), code="column_name_taken")
        elif given == NOTICED and name in entity.delivered_key and entity.compares_keys:
            yield Finding(at.file, f"{at.path}.{name}", tell("finding.name_of_deletes", name=NOTICED), tell("allowed.name_of_deletes"))


def unknown_entity(word: str) -> str:
    return tell("finding.unknown_entity", name=repr(word))


def _no_column(entity: Entity, name: str) -> str:
    return tell("finding.no_column", entity=entity.id, column=repr(name))


def shortened(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:MOST_NAMES])
    return tell("listing.and_more", names=shown, rest=len(names) - MOST_NAMES) if len(names) > MOST_NAMES else shown
