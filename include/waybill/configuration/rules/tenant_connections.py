"""The rules of `tenant_connections`: which connections a tenant may name through the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import StringConstraints

from waybill.errors import Finding

ConnectionRule = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_./*-]|\{tenant\}){1,250}$")]
"""The id of a connection, in which `*` stands for any text without a slash and `{tenant}` for the tenant's id."""

_OPEN_END = re.compile(r"\{tenant\}[A-Za-z0-9_-]*\*")
"""What follows the tenant's id could belong to a longer id. Only a dot or a slash ends one for certain."""


def fits(rule: str, tenant: str, connection: str) -> bool:
    """Return whether a connection is what a rule means for a tenant."""
    parts = [re.escape(part) for part in rule.replace("{tenant}", tenant).split("*")]
    return re.fullmatch("[^/]*".join(parts), connection) is not None


def warnings(rules: Mapping[str, tuple[str, ...]] | tuple[str, ...], file: str) -> list[Finding]:
    """Return the rules by which a tenant could name a connection that was made for a tenant with a longer id, before that one is
    registered.
    """
    every = rules if isinstance(rules, tuple) else tuple(rule for own in rules.values() for rule in own)
    return [
        Finding(
            file,
            "tenant_connections",
            f"by {rule!r} the tenant `a` may name connections of a tenant `a_b` until that one is registered",
            "a rule such as '{tenant}.*', or the connections of each tenant by name",
        )
        for rule in dict.fromkeys(every)
        if _OPEN_END.search(rule)
    ]
