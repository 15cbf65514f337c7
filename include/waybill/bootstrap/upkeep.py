"""What the DAGs `apply_config` and `housekeeping` do."""

from __future__ import annotations

import logging
from typing import Any

from waybill import bootstrap
from waybill.bootstrap.names import APPLY_DAG
from waybill.errors import ConfigError, TransientError

log = logging.getLogger(__name__)


def apply(*, allow_mass_deactivation: bool = False) -> dict[str, Any]:
    """Apply every good file; returns the diff by tenant as JSON, empty when nothing changed.

    Raises ConfigError for a broken catalog or policy, PermanentError for a mass deactivation that is not allowed; nothing is changed then.
    """
    from waybill import service

    applied = service.apply(bootstrap.estate(), actor=f"airflow:{APPLY_DAG}", allow_mass_deactivation=allow_mass_deactivation)
    for line in applied.lines(dry_run=False):
        log.info("%s", line)
    return {
        change.tenant: {
            "action": change.action,
            "file": change.file,
            "version": change.version,
            "fields": {key: list(values) for key, values in change.fields.items()},
            "activated": list(change.difference.activated),
            "deactivated": list(change.difference.deactivated),
        }
        for change in applied.changed
    }


def check() -> None:
    """Tell about tenants whose day is late. Raises ConfigError with the findings of all configuration files, if there are any."""
    from waybill import config, service

    for tenant in service.tell_late(bootstrap.estate()):
        log.warning("%s is late; mail was sent", tenant)
    findings = config.load(config.Settings.from_environment().config_dir).findings
    if findings:
        raise ConfigError(list(findings))


def housekeeping() -> None:
    """One round, its counts in the log. Raises TransientError naming the tenants whose destination could not be reached."""
    from waybill import service

    done = service.housekeeping(bootstrap.estate())
    for name, found in done.as_json().items():
        log.info("%s: %s", name, found)
    if done.failed:
        raise TransientError("\n".join(done.failed.values()), code="housekeeping")
