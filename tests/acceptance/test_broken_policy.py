"""A policy that nobody can read forbids everything it may have forbidden before."""

from __future__ import annotations

import pytest

from tests.presets import Shop, code

PRESET = "types"


@pytest.mark.parametrize(
    "broken", ["\na: [\n", "\narchive_lif: 3d\n", "\nroles: {exporter: [exports.viev]}\n"], ids=["syntax", "knob", "roles"]
)
def test_while_policy_has_a_mistake_nothing_is_handed_out(shop: Shop, broken: str) -> None:
    export = shop.done()
    link = shop.link(export)
    path = shop.sample.config_dir / "policy.yaml"
    right = path.read_text()
    path.write_text(right.replace("\nroles:", "\nold_roles:") + broken if "roles:" in broken else right + broken)
    for who in ("ada", "nora"):
        for method, where in [("GET", ""), ("GET", f"/{export['id']}"), ("POST", f"/{export['id']}/link"), ("DELETE", f"/{export['id']}")]:
            assert code(shop(method, where, who=who)) == (503, "config"), (who, method, where)
        assert code(shop("GET", "/../export-templates", who=who)) == (503, "config")
    assert code(shop.download(link["url"])) == (503, "config")
    path.write_text(right)
    assert shop.download(link["url"]).status_code == 200
    assert code(shop("GET", who="nora")) == (403, "view_denied")
