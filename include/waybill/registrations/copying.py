"""A second place for a tenant's data: a tenant of its own that reads the same rows, as a file beside the first one's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from waybill.access import tenant_id
from waybill.configuration import loading
from waybill.configuration.loading import Settings, read_mapping, tenant_files
from waybill.errors import ConfigError, Finding, PermanentError

_NOT_COPIED = ("destination", "notify")
"""The place is another one, and whoever is told of the first is not told of everything twice."""


def copy(settings: Settings, tenant: str, name: str, destination: Any) -> Path:
    """Write `config/tenants/<name>.yaml`. Raises PermanentError or ConfigError, with nothing written, where it would not be valid."""
    folder = settings.config_dir / "tenants"
    originals, taken = tenant_files(folder, tenant_id(tenant)), tenant_files(folder, tenant_id(name))
    if not originals:
        step = "Give the tenant a file, or register the copy through the API as an operator, with copyOf"
        raise PermanentError(f"the tenant {tenant} has no file in {folder}", next_step=step, code="not_found")
    if taken:
        raise PermanentError(f"{taken[0]} is there already", next_step="Nothing was written. Choose another id", code="exists")
    findings: list[Finding] = []
    original = originals[0]
    words = read_mapping(original.read_text(encoding="utf-8"), f"tenants/{original.name}", findings)
    if words is None:
        raise ConfigError(findings)
    body = {"copyOf": tenant, **{key: value for key, value in words.items() if key not in _NOT_COPIED}, "destination": destination}
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    path = folder / f"{name}.yaml"
    _require_valid(settings.config_dir, path.name, text)
    path.write_text(text, encoding="utf-8")
    return path


def _require_valid(config_dir: Path, name: str, text: str) -> None:
    """Raise ConfigError where the file would bring a finding of its own. Tried on a copy of the configuration."""
    before = loading.load(config_dir).findings
    with tempfile.TemporaryDirectory(prefix="waybill-") as folder:
        tried = Path(folder) / config_dir.name
        shutil.copytree(config_dir, tried)
        (tried / "tenants" / name).write_text(text, encoding="utf-8")
        if found := [finding for finding in loading.load(tried).findings if finding not in before]:
            raise ConfigError(found)
