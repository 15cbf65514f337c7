"""Freezes `columns: all except [..]`: the columns that a source has today become the list of columns that may be exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration import column_lock, loading
from waybill.configuration.catalog import closest, is_credential
from waybill.configuration.column_lock import Unfrozen
from waybill.configuration.values.columns import Column
from waybill.configuration.yaml_files import parse_yaml, replace_text
from waybill.errors import Finding, PermanentError, TransientError, WaybillError
from waybill.installation import Installation
from waybill.sources.base import Snapshot


@dataclass(frozen=True)
class FrozenColumns:
    """What was frozen, in words, and why other entities still wait, by entity."""

    sentences: tuple[str, ...] = ()
    waiting: Mapping[str, Finding] = field(default_factory=dict)


def freeze(installation: Installation, *, dry_run: bool = False) -> FrozenColumns:
    """Write what open lists of columns stand for, and say what they are; nothing where all is frozen.

    With `dry_run` nothing is written, and the installation goes on as if it were.

    Never raises for a source: an entity that cannot be looked into waits for the next round, and nobody receives it until then.
    """
    waiting = installation.configuration.unfrozen
    if not waiting:
        return FrozenColumns()
    looks: dict[str, _Look | WaybillError] = {}
    for source in dict.fromkeys(unfrozen.entity.source for unfrozen in waiting.values()):
        looks |= _looks(installation, source, {name: unfrozen for name, unfrozen in waiting.items() if unfrozen.entity.source == source})
    found = {name: look for name, look in looks.items() if isinstance(look, _Look)}
    refused = {name: error for name, error in looks.items() if isinstance(error, WaybillError)}
    columns = {name: look.columns for name, look in found.items()}
    if found and dry_run:
        installation.go_on_with(loading.load(installation.settings.config_dir, columns))
    elif found:
        try:
            _write(installation, columns)
        except PermanentError as error:
            refused |= dict.fromkeys(found, error)
            found = {}
    return FrozenColumns(
        tuple(look.sentence(name, "would be" if dry_run else "are") for name, look in found.items()),
        {name: _finding(installation, name, error) for name, error in refused.items()},
    )


@dataclass(frozen=True)
class _Look:
    """The columns that may leave, and which of the others are left out without being named, with the reason."""

    columns: Mapping[str, Any]
    left_out: Mapping[str, str]

    def sentence(self, entity: str, verb: str) -> str:
        also = "".join(f"; {column} is left out: {why}" for column, why in self.left_out.items())
        return f"columns of {entity} {verb} frozen: {', '.join(self.columns)}{also}"


def _looks(installation: Installation, source: str, entities: Mapping[str, Unfrozen]) -> dict[str, _Look | WaybillError]:
    """Return what a source says about each entity. A refused one does not stop the others."""
    try:
        with installation.source(source).snapshot([unfrozen.entity for unfrozen in entities.values()]) as snapshot:
            return {name: _columns(unfrozen, snapshot) for name, unfrozen in entities.items()}
    except TransientError as error:  # the source is away: each of them would say so
        return dict.fromkeys(entities, error)
    except WaybillError as error:
        if len(entities) == 1:
            return dict.fromkeys(entities, error)
    return {name: look for name, unfrozen in entities.items() for look in _looks(installation, source, {name: unfrozen}).values()}


def _finding(installation: Installation, entity: str, error: WaybillError) -> Finding:
    place = f"{installation.settings.config_dir.name}/catalog.yaml"
    return Finding(place, f"entities.{entity}.columns", f"not frozen yet, so nobody receives the entity: {error}", code=error.code)


def _columns(unfrozen: Unfrozen, snapshot: Snapshot) -> _Look:
    natives, flavour = snapshot.columns(unfrozen.entity), snapshot.flavour_of(unfrozen.entity)
    for name in unfrozen.without:
        if name not in natives:
            meant = closest(name, natives)
            raise PermanentError(
                f"it leaves out {name!r}, which {unfrozen.entity.read_from} does not have",
                allowed=", ".join(natives) + (f"; did you mean {meant}?" if meant else ""),
                next_step="Correct the name: the column you mean would leave",
                code="schema_drift",
            )
    columns: dict[str, Any] = {}
    left_out = {}
    for name, native in natives.items():
        kind = flavour.kind(native) or ColumnType.STRING
        if name in unfrozen.without:
            continue
        if is_credential(name, Column(type=kind)):
            left_out[name] = "its name looks like a credential"
        elif native == "xid8":
            left_out[name] = "it only tells changes"
        elif why := flavour.unfit(native):
            left_out[name] = f"it is {native}, {why[0]}"
        else:
            columns[name] = {"type": kind.value}
    return _Look(columns, left_out)


def _write(installation: Installation, found: Mapping[str, Any]) -> None:
    path = column_lock.beside(installation.settings.config_dir / "catalog.yaml")
    before = parse_yaml(path.read_text(encoding="utf-8")) if path.exists() else {}
    try:
        replace_text(path, column_lock.text({**(before or {}), **found}))
    except OSError as error:
        raise PermanentError(
            f"{path} cannot be written: {error.strerror}",
            next_step="Run `waybill apply` where the configuration is kept, and bring the file here with it",
            code="columns_not_frozen",
        ) from error
    installation.__dict__.pop("configuration", None)  # the catalog has more entities now
