"""Reads the configuration folder: YAML into values, and every problem of every file into one list."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from waybill.access import TENANT_ID
from waybill.configuration import catalog as catalogs
from waybill.configuration import column_lock
from waybill.configuration.catalog import Catalog, Entity, closest
from waybill.configuration.column_lock import Unfrozen
from waybill.configuration.findings import kind_of, validated
from waybill.configuration.policy import ExportPolicy, Policy, Preset, knobs_of
from waybill.configuration.policy import problems as policy_problems
from waybill.configuration.registration import Registration, listed_entities
from waybill.configuration.rules.sharing import reader, sharing_problems
from waybill.configuration.yaml_files import read_yaml
from waybill.errors import ConfigError, Finding
from waybill.language import plain


@dataclass(frozen=True)
class Settings:
    """Where things are, by the environment. Relative paths are resolved against `base`."""

    config_dir: Path
    base: Path
    ledger_url: str = field(repr=False)
    spool_dir: Path
    archive_url: str
    public_url: str = ""
    link_keys: tuple[str, ...] = field(default=(), repr=False)
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose `X-Forwarded-*` headers `waybill serve` believes. Without any, it believes nobody's."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Raises ConfigError for values that would name another place than they are meant to."""
        given = {name: value.strip() for name, value in environment.items() if name.startswith("WAYBILL_")}  # files may end lines with CR
        if found := [*filter(None, (_misplaced(name, given[name]) for name in _PLACES if given.get(name)))]:
            raise ConfigError(found)
        config_dir = Path(given.get("WAYBILL_CONFIG_DIR") or "config").absolute()
        base = config_dir.parent
        return cls(
            config_dir=config_dir,
            base=base,
            ledger_url=_ledger_url(given.get("WAYBILL_LEDGER_URL") or "sqlite:///.waybill/ledger.db", base),
            spool_dir=base / (given.get("WAYBILL_SPOOL_DIR") or ".waybill/spool"),
            archive_url=given.get("WAYBILL_ARCHIVE_URL") or str(base / ".waybill" / "archive"),
            public_url=given.get("WAYBILL_PUBLIC_URL", "").rstrip("/"),
            link_keys=_listed(given.get("WAYBILL_LINK_KEYS")),
            trusted_proxies=_listed(given.get("WAYBILL_TRUSTED_PROXIES")),
        )

    @property
    def own_folders(self) -> tuple[Path, ...]:
        """Return the local folders that hold tenants' rows and nothing of anybody else's: spool and archive."""
        archive = self.archive_url.removeprefix("file://")
        return (self.spool_dir, *(() if "://" in archive else (self.base / archive,)))


_PLACES = {
    "WAYBILL_CONFIG_DIR": "a folder",
    "WAYBILL_LEDGER_URL": "sqlite:///path/to/ledger.db or postgresql+psycopg://user:password@host:port/database",
    "WAYBILL_SPOOL_DIR": "a folder",
    "WAYBILL_ARCHIVE_URL": "a folder, file:///folder or s3://CONNECTION@BUCKET/PREFIX",
}


def _misplaced(name: str, value: str) -> Finding | None:
    """Return what is wrong with a place that some folder would be made for, though nobody means it."""
    scheme, has_scheme, path = value.partition("://")
    if not value.isprintable():
        reason = "holds a line end or another character that cannot be printed"
    elif value[0] in "'\"" and value[-1] == value[0]:
        reason = "holds its quotes, as files given to docker --env-file do"
    elif (path.removeprefix("/") if has_scheme else value).startswith("~"):
        reason = "begins with ~, which only a shell resolves: write the whole path"
    elif (has_scheme and scheme not in ("file", "s3") and name == "WAYBILL_ARCHIVE_URL") or (has_scheme and name.endswith("_DIR")):
        reason = f"has a scheme that is not known here: {scheme}://"
    else:
        return None
    return Finding(name, "", reason, _PLACES[name])


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(word for part in (text or "").split(",") if (word := part.strip()))


def _ledger_url(url: str, base: Path) -> str:
    scheme, slashes, path = url.partition(":///")
    relative = scheme.startswith("sqlite") and slashes and path and not path.startswith(("/", ":memory:"))
    return f"{scheme}:///{base / path}" if relative else url


@dataclass(frozen=True)
class TenantFile:
    """One valid `config/tenants/<tenant>.yaml`. `file` is its path below the configuration folder's parent."""

    tenant: str
    file: str
    registration: Registration
    entities: tuple[str, ...]


@dataclass(frozen=True)
class TenantFiles:
    """Every readable tenant file by tenant, the tenants whose file exists but cannot be used, and why."""

    tenants: Mapping[str, TenantFile]
    broken: frozenset[str]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Configuration:
    """All that is valid, and a list of all that is not.

    Catalog, policy and presets are read at once. A tenant's file is read when somebody asks for it by name, and all files only when
    somebody asks for all. The cost of one tenant must not grow with the number of tenants.
    """

    catalog: Catalog
    readable_policy: Policy
    shared_findings: tuple[Finding, ...]
    """Findings of the files that all tenants share. While there is one, nothing is applied."""
    presets: Mapping[str, Preset] = field(default_factory=dict)
    policy_findings: tuple[Finding, ...] = ()
    _folder: _TenantFolder | None = field(default=None, repr=False)
    unfrozen: Mapping[str, Unfrozen] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """Return what policy.yaml says.

        Raises ConfigError while it or a preset has a mistake. What they forbid must not become allowed because nobody can read it.
        """
        if self.policy_findings:
            raise ConfigError(list(self.policy_findings))
        return self.readable_policy

    def export_policy(self, tenant: str) -> ExportPolicy:
        """Return what policy, its preset and the tenant's own entry say about its on-demand exports. Raises ConfigError as `policy`
        does.
        """
        of = tenant if tenant in self.policy.tenants else ""
        if of not in self._knobs:
            self._knobs[of] = knobs_of(self.policy, self.presets, of)
        return self._knobs[of]

    @cached_property
    def _knobs(self) -> dict[str, ExportPolicy]:
        """Merge once for all tenants that the policy does not name, because thousands are asked about at a time."""
        return {}

    def files_of(self, tenant: str) -> TenantFiles:
        """Return the same as for all tenants, but about this one alone. No other tenant's file is opened."""
        return self._folder.read(tenant) if self._folder else TenantFiles({}, frozenset(), ())

    def file_of(self, tenant: str) -> TenantFile | None:
        """Return the tenant's file, or None if there is none that can be used."""
        return self.files_of(tenant).tenants.get(tenant)

    def has_file(self, tenant: str) -> bool:
        """Return whether there is a file of the tenant's name, usable or not. None is opened."""
        return self._folder is not None and bool(self._folder.paths(tenant))

    @cached_property
    def file_names(self) -> frozenset[str]:
        """Return the tenants that have a file, usable or not. None is opened."""
        return frozenset(path.stem for path in self._folder.paths()) if self._folder else frozenset()

    def again(self) -> Configuration:
        """Return the same for a long-lived process. If somebody asks for all tenants, files that were written since are read again."""
        return replace(self)

    @cached_property
    def files(self) -> TenantFiles:
        """Return every tenant's file."""
        return self._folder.read() if self._folder else TenantFiles({}, frozenset(), ())

    @property
    def tenants(self) -> Mapping[str, TenantFile]:
        return self.files.tenants

    @property
    def broken(self) -> frozenset[str]:
        """Tenants whose file exists but cannot be used."""
        return self.files.broken

    @property
    def tenants_findings(self) -> tuple[Finding, ...]:
        """Findings of the tenants' own files. Each keeps its own file from being applied."""
        return self.files.findings

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (*self.shared_findings, *self.tenants_findings)

    def require_catalog(self) -> Catalog:
        """Return the catalog. Raises ConfigError if the catalog or the policy has problems."""
        if bad := self.shared_findings:
            raise ConfigError(list(bad))
        return self.catalog


def load(config_dir: Path, locked: Mapping[str, Any] = MappingProxyType({})) -> Configuration:
    """Read what all tenants share. Tenant files follow when somebody asks for them. This never raises for bad content: the findings say it
    all, in plain words, because they are kept for everybody. `locked` columns of entities count beside those of the lock file.
    """
    with plain():
        return _load(config_dir, locked)


def _load(config_dir: Path, locked: Mapping[str, Any]) -> Configuration:
    findings: list[Finding] = []
    root = config_dir.name
    if not config_dir.is_dir():
        findings.append(
            Finding(root, "", "the configuration folder does not exist", "a folder with catalog.yaml and tenants/; set WAYBILL_CONFIG_DIR")
        )
    catalog, known_names, unfrozen = _load_catalog(config_dir / "catalog.yaml", f"{root}/catalog.yaml", locked, findings)
    unruly: list[Finding] = []
    policy = _load_policy(config_dir / "policy.yaml", f"{root}/policy.yaml", unruly)
    presets = _load_presets(config_dir / "presets", f"{root}/presets", unruly)
    findings.extend(unruly)
    across = policy_problems(policy, presets, catalog, f"{root}/policy.yaml")
    findings.extend(finding for finding in across if known_names is not None or finding.code != "unknown_entity")
    folder = _TenantFolder(config_dir / "tenants", f"{root}/tenants", catalog, known_names)
    return Configuration(catalog, policy, tuple(findings), presets, tuple(unruly), folder, unfrozen)


_Written = tuple[int, int, int]


def _written(path: Path) -> _Written | None:
    """Return a value that differs after every write."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


@dataclass(frozen=True)
class _TenantFolder:
    """Where tenant files are, and the catalog that they are checked against."""

    folder: Path
    shown: str
    catalog: Catalog
    known_names: frozenset[str] | None
    _kept: dict[str, tuple[_Written, TenantFile | None, tuple[Finding, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What each file said when it was last read."""

    def read(self, only: str | None = None) -> TenantFiles:
        tenants: dict[str, TenantFile] = {}
        broken: set[str] = set()
        findings: list[Finding] = []
        for path in self.paths(only):
            shown = f"{self.shown}/{path.name}"
            tenant, own = self._read_one(path, shown)
            if path.stem in tenants or path.stem in broken:
                own.append(Finding(shown, "", f"the tenant {path.stem} has two files", "one file per tenant"))
            if own or tenant is None:
                broken.add(path.stem)
                tenants.pop(path.stem, None)
            else:
                tenants[path.stem] = tenant
            findings.extend(own)
        with plain():
            shared = _reading_the_same(tenants, broken) if only is None else []
        findings += shared
        broken |= {Path(finding.file).stem for finding in shared}
        sound = {name: tenant for name, tenant in tenants.items() if name not in broken}
        return TenantFiles(sound, frozenset(broken), tuple(findings))

    def _read_one(self, path: Path, shown: str) -> tuple[TenantFile | None, list[Finding]]:
        written = _written(path)
        known = self._kept.get(path.name)
        if known is None or written is None or known[0] != written:
            own: list[Finding] = []
            with plain():  # kept for everybody who asks
                tenant = _load_tenant(path, shown, self.catalog, self.known_names, own)
            known = (written or (0, 0, 0), tenant, tuple(own))
            self._kept[path.name] = known
        return known[1], list(known[2])

    def paths(self, only: str | None = None) -> list[Path]:
        if only is None:
            paths = self.folder.iterdir() if self.folder.is_dir() else ()
            return sorted(path for path in paths if path.name.casefold().endswith((".yaml", ".yml")))
        return tenant_files(self.folder, only) if Path(only).name == only else []  # a name must not lead out of the folder


def tenant_files(folder: Path, tenant: str) -> list[Path]:
    """Return the files below `folder` that are named after a tenant. There is one, unless somebody made a mistake.

    A link that leads nowhere is a file that cannot be read, and not one that was removed. Neither is one whose name ends in capitals.
    """
    return _existing(folder, tenant, "yaml", "yml") or _existing(folder, tenant, "YAML", "YML", "Yaml", "Yml")


def _existing(folder: Path, tenant: str, *suffixes: str) -> list[Path]:
    paths = (folder / f"{tenant}.{suffix}" for suffix in suffixes)
    return [path for path in paths if path.exists() or path.is_symlink()]


def _reading_the_same(tenants: Mapping[str, TenantFile], broken: Set[str]) -> list[Finding]:
    readers = {name: reader(name, file.registration, file.entities) for name, file in tenants.items()}
    return sharing_problems(readers, {name: file.file for name, file in tenants.items()}, broken)


def _load_policy(path: Path, shown: str, findings: list[Finding]) -> Policy:
    raw = read_yaml(path, shown, findings) if path.exists() or path.is_symlink() else {}
    return validated(Policy, raw or {}, shown, findings) or Policy()


def _load_presets(folder: Path, shown: str, findings: list[Finding]) -> dict[str, Preset]:
    presets = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        raw = read_yaml(path, f"{shown}/{path.name}", findings)
        preset = None if raw is None else validated(Preset, raw, f"{shown}/{path.name}", findings)
        if preset is not None:
            presets[path.stem] = preset
    return presets


def _load_catalog(
    path: Path, shown: str, locked: Mapping[str, Any], findings: list[Finding]
) -> tuple[Catalog, frozenset[str] | None, dict[str, Unfrozen]]:
    """Return the catalog's valid part, every entity spelling in the file, valid or not (None if no entity can be read), and the entities
    whose columns are not locked yet. Those are not part of the catalog.
    """
    raw = read_yaml(path, shown, findings)
    if raw is None:
        return Catalog(), None, {}
    found: list[Finding] = []
    sections = ["sources", "entities"]
    for key in (str(key) for key in raw if key not in sections):
        found.append(Finding(shown, key, "unknown key", ", ".join(sections), closest(key, sections)))
    sources = _section(raw, "sources", shown, found)
    shell = validated(Catalog, {"sources": sources}, shown, found)
    bodies = _section(raw, "entities", shown, found)
    if not bodies and not found:
        found.append(Finding(shown, "entities", "no entity is defined", "at least one entity"))
    entities, unfrozen = {}, {}
    lock_file = column_lock.beside(path)
    written = read_yaml(lock_file, f"{lock_file.parent.name}/{lock_file.name}", found) if lock_file.exists() else None
    lock = {**(written or {}), **locked}
    for entity_id, body in bodies.items():
        if not isinstance(body, dict):
            found.append(Finding(shown, f"entities.{entity_id}", f"holds {kind_of(body)}", "a mapping of keys to values"))
            continue
        words, without = column_lock.listed(body, lock.get(entity_id))
        entity = validated(Entity, {**words, "id": entity_id}, shown, found, f"entities.{entity_id}")
        if entity is not None and without is not None:
            unfrozen[str(entity_id)] = Unfrozen(entity, without)
        elif entity is not None:
            entities[str(entity_id)] = entity.in_source_names()
        elif isinstance(body.get("source"), str) and body["source"] not in sources:
            found.append(catalogs.unknown_source(str(entity_id), body["source"], [str(name) for name in sources], shown))
    catalog = Catalog(sources=shell.sources if shell else {}, entities=entities)
    known_sources = frozenset(str(name) for name in sources)
    found.extend(finding for finding in catalogs.problems(catalog, shown) if not _follows_from(finding, known_sources, catalog))
    findings.extend(found)
    names = {str(body["name"]).casefold() for body in bodies.values() if isinstance(body, dict) and "name" in body}
    return catalog, frozenset(names | {str(entity_id).casefold() for entity_id in bodies}) if bodies else None, unfrozen


def _follows_from(finding: Finding, known_sources: frozenset[str], catalog: Catalog) -> bool:
    """Return True for `unknown source` if the source is there but was reported as broken itself."""
    if not finding.path.endswith(".source"):
        return False
    entity = catalog.entity(finding.path.split(".")[1])
    return entity is not None and entity.source in known_sources


def _section(raw: Mapping[str, Any], key: str, shown: str, findings: list[Finding]) -> dict[Any, Any]:
    value = raw.get(key) or {}
    if isinstance(value, dict):
        return value
    findings.append(Finding(shown, key, f"holds {kind_of(value)}", "a mapping of names to definitions"))
    return {}


def _load_tenant(
    path: Path, shown: str, catalog: Catalog, known_names: frozenset[str] | None, findings: list[Finding]
) -> TenantFile | None:
    if not TENANT_ID.match(path.stem):
        findings.append(
            Finding(
                shown, "", f"the file name {path.stem!r} is not a tenant id", "1 to 63 of a-z 0-9 _ -, beginning with a letter or digit"
            )
        )
    if path.suffix != path.suffix.lower():
        findings.append(Finding(shown, "", f"the file name ends in {path.suffix}", "a name that ends in .yaml or .yml, in small letters"))
    raw = read_yaml(path, shown, findings)
    if raw is None:
        return None
    registration = validated(Registration, raw, shown, findings)
    if registration is None:
        return None
    if known_names is None:
        return None
    found = list(findings)
    entities = listed_entities(registration, raw, catalog.offered_to(path.stem), shown, found)
    # An entity whose own definition is broken is reported once, in the catalog.
    broken = known_names - catalog.ids_by_name().keys()
    spelled = {
        f"unknown entity {word!r}"
        for word in (*registration.entity_list, *registration.where, *registration.columns, *registration.rename, *registration.frequencies)
        if word.casefold() in broken
    }
    findings.extend(finding for finding in found[len(findings) :] if finding.reason not in spelled)
    return TenantFile(path.stem, shown, registration, entities)
