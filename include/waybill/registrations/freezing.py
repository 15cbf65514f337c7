"""Freezing `columns: all except [..]`: what a source holds today becomes the list of columns that may leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waybill.canonical import ColumnType
from waybill.configuration import frozen
from waybill.configuration.catalog import DbApiSource, PostgresSource, SourceSpec, closest, is_credential
from waybill.configuration.frozen import Unfrozen
from waybill.configuration.loading import parse_yaml
from waybill.configuration.values.columns import Column
from waybill.errors import PermanentError
from waybill.installation import Installation
from waybill.sources.sql import Flavour


def freeze(installation: Installation, *, dry_run: bool = False) -> list[str]:
    """Write what open lists of columns stand for, and say what they are; nothing where all is frozen.

    Raises what a source raises, and PermanentError for a column that is left out and is not there, with nothing written.
    """
    waiting = installation.configuration.unfrozen
    if not waiting:
        return []
    found, told = {}, []
    for source in dict.fromkeys(entity.entity.source for entity in waiting.values()):
        entities = {name: entity for name, entity in waiting.items() if entity.entity.source == source}
        with installation.source(source).snapshot([entity.entity for entity in entities.values()]) as snapshot:
            for name, entity in entities.items():
                natives = snapshot.columns(entity.entity)
                flavour = _flavour(installation.catalog.sources[source], snapshot)
                found[name], left_out = _columns(name, entity, natives, flavour)
                also = "".join(f"; {column} is left out: {why}" for column, why in left_out.items())
                told.append(f"columns of {name} {'would be' if dry_run else 'are'} frozen: {', '.join(found[name])}{also}")
    if not dry_run:
        _write(installation, found)
    return told


def _flavour(spec: SourceSpec, snapshot: Any) -> Flavour:
    if isinstance(spec, PostgresSource):
        from waybill.sources.postgres.spelling import PostgresFlavour

        return PostgresFlavour()
    if isinstance(spec, DbApiSource):
        found: Flavour = snapshot.flavour
        return found
    from waybill.sources.duckdb.engine import DuckDBFlavour

    return DuckDBFlavour()


def _columns(entity: str, unfrozen: Unfrozen, natives: Mapping[str, str], flavour: Flavour) -> tuple[dict[str, Any], dict[str, str]]:
    """The columns that may leave, and which of the others are left out without being named, with the reason."""
    for name in unfrozen.without:
        if name not in natives:
            meant = closest(name, natives)
            raise PermanentError(
                f"config: entities.{entity}.columns leaves out {name!r}, which {unfrozen.entity.read_from} does not have",
                allowed=", ".join(natives) + (f"; did you mean {meant}?" if meant else ""),
                next_step="Nothing was frozen. Correct the name: the column you mean would leave",
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
    return columns, left_out


def _write(installation: Installation, found: Mapping[str, Any]) -> None:
    path = frozen.beside(installation.settings.config_dir / "catalog.yaml")
    before = parse_yaml(path.read_text(encoding="utf-8")) if path.exists() else {}
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(frozen.text({**(before or {}), **found}), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise PermanentError(
            f"{path} cannot be written: {error.strerror}",
            next_step="Run `waybill apply` where the configuration is kept, and bring the file here with it",
            code="columns_not_frozen",
        ) from error
    installation.__dict__.pop("configuration", None)  # the catalog has more entities now
