"""One tenant's data at two places: a copy with a chain of its own, and what is refused as one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.installations import DAY, NOON, USER, Place, catalog, make_place
from waybill.configuration import loading
from waybill.deliveries.running import run
from waybill.errors import InvalidInput
from waybill.files import places
from waybill.registrations import applying, replacing

MIDNIGHT = NOON.replace(hour=0)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place", clock=NOON)) as place:
        place.write("catalog.yaml", catalog(user=USER))
        place.tenant(entityList=["user"])
        place.user(1, "Ada", MIDNIGHT - 2 * DAY)
        place.user(2, "Grace", MIDNIGHT - 2 * DAY, tenant="globex")
        yield place


def manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.rglob("*.manifest.json")):
        yield path, json.loads(path.read_text())


def file_of(place: Place, tenant: str) -> Path:
    return place.root / "config" / f"tenants/{tenant}.yaml"


def test_one_command_delivers_to_a_second_place_with_a_chain_of_its_own(place: Place, run_waybill: Callable[..., str]) -> None:
    home = {"WAYBILL_CONFIG_DIR": str(place.root / "config")}
    printed = run_waybill("copy", "acme", "acme-warehouse", "--to", "{kind: folder, root: warehouse}", **home)
    assert "next: waybill check --connect && waybill apply && waybill probe acme-warehouse" in printed
    words = yaml.safe_load(file_of(place, "acme-warehouse").read_text())
    assert words == {
        **yaml.safe_load(file_of(place, "acme").read_text()), "copyOf": "acme", "destination": {"kind": "folder", "root": "warehouse"},
    }  # fmt: skip
    assert "2 tenant files: valid" in run_waybill("check", **home)
    installation = place.installation()
    applying.apply(installation, actor="test")
    place.run(NOON)
    place.user(3, "Joan", NOON)
    place.clock = NOON + DAY
    place.run(NOON + DAY)
    place.run(NOON + DAY, tenant="acme-warehouse")
    first, second = (places.verify(str(place.root / root), pytest.fail) for root in ("out", "warehouse"))
    assert first.is_whole
    assert second.is_whole
    assert (first.rows, second.rows) == (2, 2)
    assert (first.manifests, second.manifests) == (2, 1)


def test_the_copy_gets_what_the_policy_says_of_its_original(place: Place, run_waybill: Callable[..., str]) -> None:
    policy, home = place.root / "config/policy.yaml", {"WAYBILL_CONFIG_DIR": str(place.root / "config")}
    words = ("copy", "acme", "second", "--to", "{kind: folder, root: second}")
    head = "# ours\nsigning: house\ntenants:   # who differs\n\n    # the first\n"
    policy.write_text(f"{head}    acme: {{signing: acme_key}}\n    globex:\n        signing: none\n")
    printed = run_waybill(*words, **home)
    assert f"added second to {policy}, with the words of acme" in printed
    found = yaml.safe_load(policy.read_text())["tenants"]
    assert found == {"second": {"signing": "acme_key"}, "acme": {"signing": "acme_key"}, "globex": {"signing": "none"}}
    assert policy.read_text().startswith(head)
    assert place.installation().configuration.export_policy("second").signing == "acme_key"
    file_of(place, "second").unlink()
    policy.write_text("tenants: {acme: {signing: acme_key}}\n")
    said = run_waybill(*words, status=1, **home)
    assert "Add `second: {signing: acme_key}` to tenants there" in said
    assert not file_of(place, "second").exists()
    policy.write_text("tenants: {acme: {signing: acme_key}, second: {signing: none}}\n")
    assert "added" not in run_waybill(*words, **home)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("policy.yaml", b"tenants:\n  acme: {signing: acme_key\n", "policy.yaml: line 3, column 1: not valid YAML"),
        ("policy.yaml", b"support_contact: \xe9\n", "policy.yaml: is not UTF-8 at byte 17"),
        ("tenants/acme.yaml", b"entityList: [user]  # \xe9\n", "tenants/acme.yaml: is not UTF-8 at byte 22"),
    ],
)
def test_nothing_is_copied_of_a_file_that_cannot_be_read(
    place: Place, run_waybill: Callable[..., str], file: str, content: bytes, said: str
) -> None:
    (place.root / "config" / file).write_bytes(content)
    home = {"WAYBILL_CONFIG_DIR": str(place.root / "config")}
    assert said in run_waybill("copy", "acme", "second", "--to", "{kind: folder, root: second}", status=1, **home)
    assert not file_of(place, "second").exists()


@pytest.mark.parametrize(
    ("words", "of_acme", "said"),
    [
        ({"sourceTenant": "acme"}, {}, "sourceTenant: this id is another tenant's too, and both would receive user"),
        ({"copyOf": "acmee"}, {}, "copyOf: there is no other tenant 'acmee' here (allowed: a tenant with a registration of its own;"
            " did you mean acme?)"),
        ({"copyOf": "second"}, {}, "copyOf: there is no other tenant 'second' here"),
        ({"copyOf": "acme"}, {"sourceTenant": 7}, "sourceTenant: the data calls acme '7', and its copy reads 'acme' (allowed: 7)"),
        ({"copyOf": "acme", "sourceTenant": "globex"}, {}, "sourceTenant: the data calls acme 'acme', and its copy reads 'globex'"),
        ({"copyOf": "third"}, {}, "copyOf: third is itself a copy (allowed: acme)"),
        ({"copyOf": "Not Legal"}, {}, "copyOf: "),
    ],
)  # fmt: skip
def test_what_is_no_copy_is_told(place: Place, words: dict[str, Any], of_acme: dict[str, Any], said: str) -> None:
    place.tenant(entityList=["user"], **of_acme)
    place.tenant("third", entityList=["user"], copyOf="acme", **of_acme)
    place.tenant("second", entityList=["user"], **words)
    found = [str(finding) for finding in loading.load(place.root / "config").findings if "second" in finding.file]
    assert len(found) == 1
    assert f"tenants/second.yaml: {said}" in found[0]


def test_two_copies_of_one_tenant_may_share_and_a_stranger_may_not(place: Place) -> None:
    for name in ("second", "third"):
        place.tenant(name, entityList=["user"], copyOf="acme")
    assert not loading.load(place.root / "config").findings
    place.tenant("stranger", entityList=["user"], sourceTenant="acme")
    found = {finding.file: finding.code for finding in loading.load(place.root / "config").findings}
    assert set(found.values()) == {"source_tenant_taken"}
    assert "config/tenants/stranger.yaml" in found


def test_a_tenant_that_names_another_s_id_is_refused_also_when_its_file_alone_is_applied(
    place: Place, run_waybill: Callable[..., str]
) -> None:
    place.tenant("second", entityList=["user"], copyOf="acme", destination={"kind": "folder", "root": "second"})
    home = {"WAYBILL_CONFIG_DIR": str(place.root / "config")}
    for tenant in ("acme", "second"):
        run_waybill("run", tenant, "--until", NOON.isoformat(), **home)
    place.tenant("stranger", entityList=["user"], sourceTenant="acme", destination={"kind": "folder", "root": "strange"})
    said = run_waybill("run", "stranger", status=1, **home)
    assert "tenants/stranger.yaml: sourceTenant: this id is another tenant's too, and both would receive user" in said
    assert [(place.root / name).exists() for name in ("out", "second", "strange")] == [True, True, False]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["acme", "acme"], "acme.yaml is there already"),
        (["nobody", "second"], "the tenant nobody has no file"),
        (["../policy", "second"], "'../policy' is not a tenant id"),
        (["acme", "Second Place"], "Second Place"),
        (["acme", "second", "{kind: ftp}"], "config/tenants/second.yaml: destination"),
        (["acme", "second", "{kind: folder"], "--to: line 1"),
    ],
)
def test_a_copy_that_cannot_be_made_leaves_no_file(place: Place, run_waybill: Callable[..., str], argv: list[str], said: str) -> None:
    before = sorted(path.name for path in (place.root / "config" / "tenants").iterdir())
    words = [*argv[:2], "--to", *(argv[2:] or ["{kind: folder, root: second}"])]
    assert said in run_waybill("copy", *words, status=1, WAYBILL_CONFIG_DIR=str(place.root / "config"))
    assert sorted(path.name for path in (place.root / "config" / "tenants").iterdir()) == before


def test_through_the_api_only_an_operator_makes_a_copy(place: Place) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    installation = place.installation()
    applying.apply(installation, actor="test")
    body = {"entityList": ["user"], "destination": {"kind": "folder", "root": "second"}, "copyOf": "acme"}
    with pytest.raises(InvalidInput, match="copyOf: the id in the data is set by the operator"):
        replacing.replace(installation, "second", body, actor="tenant")
    with pytest.raises(InvalidInput, match="there is no other tenant 'acmee' here"):
        replacing.replace(installation, "second", {**body, "copyOf": "acmee"}, actor="operator", operator=True)
    replacing.replace(installation, "second", body, actor="operator", operator=True)
    replacing.replace(installation, "second", {**body, "frequency": "weekly"}, actor="tenant")


def test_copies_that_the_api_manages_follow_their_original_to_another_id(place: Place) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    file_of(place, "acme").unlink()
    installation = place.installation()
    first = {"entityList": ["user"], "destination": {"kind": "folder", "root": "out"}, "sourceTenant": "acme"}
    second = {**first, "destination": {"kind": "folder", "root": "second"}, "copyOf": "customer-1"}
    replacing.replace(installation, "customer-1", first, actor="operator", operator=True)
    replacing.replace(installation, "customer-1-dwh", second, actor="operator", operator=True)
    run(installation, "customer-1-dwh", NOON)
    replacing.replace(installation, "customer-1", {**first, "sourceTenant": "globex"}, actor="operator", operator=True)
    copy = installation.registered("customer-1-dwh")
    assert (copy.registration.source_tenant, copy.version, copy.origin) == ("globex", 2, "api")
    run(installation, "customer-1-dwh", NOON)
    newest = max((value for _, value in manifests(place.root / "second")), key=lambda delivery: delivery["generation"])
    assert (newest["generation"], newest["kind"], newest["rows"]) == (2, "full", 1)
    assert "Grace" in next((place.root / "second").rglob("user.g2.*.csv")).read_text()
    replacing.replace(installation, "customer-1", {**first, "frequency": "weekly"}, actor="operator", operator=True)
    assert installation.registered("customer-1-dwh").registration.source_tenant == "acme"


def test_a_file_is_compared_with_tenants_that_only_the_api_manages(place: Place) -> None:
    place.write("policy.yaml", {"api_destinations": "any"})
    installation = place.installation()
    body = {"entityList": ["user"], "destination": {"kind": "folder", "root": "second"}, "sourceTenant": "globex"}
    replacing.replace(installation, "second", body, actor="operator", operator=True)
    place.tenant("globex", entityList=["user"])
    place.tenant("third", entityList=["user"], sourceTenant="globex-2")
    applied = applying.apply(place.installation(), actor="test")
    assert [(finding.file, finding.path, finding.code) for finding in applied.findings] == [
        ("config/tenants/globex.yaml", "sourceTenant", "source_tenant_taken")
    ]
    assert [item.tenant for item in applied.changed] == ["acme", "third"]
