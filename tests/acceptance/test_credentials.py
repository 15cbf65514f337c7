"""Planted credentials are in the data of every preset; no byte that leaves Waybill holds one."""

from __future__ import annotations

import json
import logging
import secrets
import string
from pathlib import Path

import pytest
import yaml

from tests.canaries import unpacked
from tests.issuer import TestIssuer
from tests.presets import Shop, opened
from tests.servers.smtp import SmtpServer
from waybill.configuration import loading
from waybill_demo.sample import PRESETS

PLANTED = f"planted{secrets.token_hex(12)}"
KNOWN = "ghp_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(36))
"""A credential that gives itself away, for a column of text."""

EVERY_FORMAT = ["csv", "ndjson", "json", "xlsx", "parquet"]


@pytest.mark.parametrize("preset", PRESETS)
def test_no_byte_that_leaves_holds_a_planted_credential(
    preset: str, tmp_path: Path, issuer: TestIssuer, smtp: SmtpServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with opened(preset, tmp_path, issuer, PLANTED) as shop:
        plant(shop, tmp_path)
        entities = list(shop.installation.catalog.entities)
        body = {"entities": entities, "formats": EVERY_FORMAT, "range": {"from": "2026-04-01", "to": "2026-05-31"}}
        export = shop.done(**body)
        failed = shop.failed(**body | {"range": {"from": "2026-05-01", "to": "2026-05-31"}})
        shop.mails(smtp.host, smtp.port)
        told = [shop("GET"), shop("GET", "/options"), shop("GET", f"/{failed['id']}"), shop("POST", f"/{export['id']}/link")]
        left = dict(unpacked("archive.zip", shop.download(shop.link(export)["url"]).content))
        left |= {f"answer {number}": answer.content + str(answer.headers).encode() for number, answer in enumerate(told)}
        left |= {f"mail {number}": mail.message.as_bytes() for number, mail in enumerate(smtp.received)}
        left |= {str(path): path.read_bytes() for path in (tmp_path / ".waybill").rglob("*") if path.is_file()}
        left["log"] = caplog.text.encode()
    assert len(smtp.received) == 2
    assert {name.rpartition(".")[2] for name in left if name.startswith("archive.zip/")} > {*EVERY_FORMAT, "xml"}
    for name, content in left.items():
        for encoding in ("utf-8", "utf-16-le"):
            assert PLANTED.encode(encoding) not in content, name
            assert KNOWN.encode(encoding) not in content, name
    assert any(any(file["values_withheld"].values()) for file in json.loads(left["archive.zip/manifest.json"])["files"])


def plant(shop: Shop, folder: Path) -> None:
    """Put the telling credential into every text column, offer every format, and mail."""
    catalog = yaml.safe_load((folder / "config/catalog.yaml").read_text())
    with shop.warehouse() as connection:
        for entity in catalog["entities"].values():
            entity.pop("formats", None)
            texts = [name for name, column in entity["columns"].items() if column["type"] == "string" and not name.endswith("_id")]
            for name in texts:
                connection.execute(f"update {entity['relation']} set \"{name}\" = ? where {entity['key'][0]}::varchar like '%7'", [KNOWN])
        assert PLANTED in str(connection.execute(f"select * from {next(iter(catalog['entities']))}").fetchall())
    (folder / "config/catalog.yaml").write_text(yaml.safe_dump(catalog, sort_keys=False))
    shop.policy(formats=EVERY_FORMAT, notify=["ready", "failed"], export_types={})


@pytest.mark.parametrize("name", ["access_token", "refreshToken", "api-key", "WEBHOOK_SECRET", "encryption_key"])
def test_a_catalogue_that_would_export_a_credential_is_refused(name: str, tmp_path: Path, issuer: TestIssuer) -> None:
    with opened("metrics", tmp_path, issuer):
        path = tmp_path / "config/catalog.yaml"
        catalog = yaml.safe_load(path.read_text())
        catalog["entities"]["integration_connections"]["columns"][name] = {"type": "string"}
        path.write_text(yaml.safe_dump(catalog))
        (finding,) = loading.load(tmp_path / "config").findings
    assert (finding.code, finding.path) == ("credential", f"entities.integration_connections.columns.{name}")
