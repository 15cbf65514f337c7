"""A second place for a tenant's data: a tenant of its own that reads the same rows, as a file beside the first one's."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from waybill.access import tenant_id
from waybill.configuration import loading
from waybill.configuration.loading import Settings, tenant_files
from waybill.configuration.yaml_files import read_yaml, replace_text
from waybill.errors import ConfigError, Finding, PermanentError

_NOT_COPIED = ("destination", "notify")
"""The place is another one, and people who hear of the first should not hear of everything twice."""


@dataclass(frozen=True)
class Copied:
    """The new file, and the policy where the original's entry was repeated for the copy."""

    path: Path
    policy: Path | None = None


def copy(settings: Settings, tenant: str, name: str, destination: Any) -> Copied:
    """Write `config/tenants/<name>.yaml`, and the copy's entry in policy.yaml where the original has one (its signing key, for example).

    Raises PermanentError or ConfigError, with nothing written, where it would not be valid.
    """
    folder = settings.config_dir / "tenants"
    originals, taken = tenant_files(folder, tenant_id(tenant)), tenant_files(folder, tenant_id(name))
    if not originals:
        step = "Give the tenant a file, or register the copy through the API as an operator, with copyOf"
        raise PermanentError(f"the tenant {tenant} has no file in {folder}", next_step=step, code="not_found")
    if taken:
        raise PermanentError(f"{taken[0]} is there already", next_step="Nothing was written. Choose another id", code="exists")
    findings: list[Finding] = []
    original = originals[0]
    words = read_yaml(original, f"tenants/{original.name}", findings)
    if words is None:
        raise ConfigError(findings)
    body = {"copyOf": tenant, **{key: value for key, value in words.items() if key not in _NOT_COPIED}, "destination": destination}
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    path, policy = folder / f"{name}.yaml", settings.config_dir / "policy.yaml"
    texts = {f"tenants/{path.name}": text, **({"policy.yaml": entry} if (entry := _with_entry(policy, tenant, name, findings)) else {})}
    _require_valid(settings.config_dir, texts)
    for place, content in reversed(texts.items()):  # the policy first: the copy must not be delivered without it
        replace_text(settings.config_dir / place, content)
    return Copied(path, policy if "policy.yaml" in texts else None)


_TENANTS = re.compile(r"^tenants:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*(?P<indent>[ \t]+)", re.MULTILINE)


def _with_entry(policy: Path, tenant: str, name: str, findings: list[Finding]) -> str:
    """Return the text of the policy with the original's entry repeated for the copy. The text is empty if nothing has to be added.

    Raises ConfigError for a policy that cannot be read: nobody knows what the copy needs of it.
    """
    entries = (read_yaml(policy, policy.name, findings) or {}).get("tenants") if policy.exists() else None
    if findings:
        raise ConfigError(findings)
    if not isinstance(entries, dict) or not entries.get(tenant) or name in entries:
        return ""
    text = policy.read_text(encoding="utf-8")
    words = yaml.safe_dump(entries[tenant], default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False).strip()
    line = f"{name}: {words}"
    begin = _TENANTS.search(text)
    if begin is None:
        raise PermanentError(
            f"{policy} has an entry for {tenant} that the copy needs, too, and its tenants are not written one a line",
            next_step=f"Nothing was written. Add `{line}` to tenants there, and run the command again",
            code="policy_form",
        )
    at = begin.start("indent")
    return f"{text[:at]}{begin['indent']}{line}\n{text[at:]}"


def _require_valid(config_dir: Path, texts: Mapping[str, str]) -> None:
    """Raise ConfigError where the files would bring findings of their own. Tried on a copy of the configuration."""
    before = loading.load(config_dir).findings
    with tempfile.TemporaryDirectory(prefix="waybill-") as folder:
        tried = Path(folder) / config_dir.name
        shutil.copytree(config_dir, tried)
        for place, text in texts.items():
            (tried / place).write_text(text, encoding="utf-8")
        if found := [finding for finding in loading.load(tried).findings if finding not in before]:
            raise ConfigError(found)
