"""Rules for connections that a tenant may name: one that reaches into other tenants' is warned of."""

from typing import Any

import pytest

from waybill.configuration.policy import Policy
from waybill.configuration.rules.tenant_connections import fits, warnings

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("rules", "warned"),
    [
        ("{tenant}_*", ["{tenant}_*"]),
        (["shared", "{tenant}*", "{tenant}-x*", "{tenant}_*"], ["{tenant}*", "{tenant}-x*", "{tenant}_*"]),
        ({"acme": ["sftp_{tenant}_*"], "globex": ["globex_sftp"]}, ["sftp_{tenant}_*"]),
        (["{tenant}.*", "{tenant}/*", "{tenant}.sftp", "drops/{tenant}", "acme_*"], []),
        ({"acme": ["acme_sftp"]}, []),
    ],
    ids=["underscore", "several", "by tenant", "nothing follows that an id may hold", "by name"],
)
def test_a_rule_that_reaches_into_longer_ids_is_warned_of(rules: Any, warned: list[str]) -> None:
    found = warnings(Policy.model_validate({"tenant_connections": rules}).tenant_connections, "policy.yaml")
    assert [rule for rule, finding in zip(warned, found, strict=True) if repr(rule) not in finding.reason] == []


@pytest.mark.parametrize("rule", ["{tenant}.*", "{tenant}/*"])
def test_what_is_not_warned_of_is_nobody_elses(rule: str) -> None:
    made_for_the_longer = [rule.replace("{tenant}", "a_b").replace("*", name) for name in ("sftp", "x.y", "a_b")]
    assert [name for name in made_for_the_longer if fits(rule, "a", name)] == []
