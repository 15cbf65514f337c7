"""Planted secrets are looked for wherever Waybill and Airflow write: after success, and after each kind of failure."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import secrets
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.canaries import Canaries, files, metadata, of_key, tables, watched_processes
from tests.installations import DAY, NOON, make_place
from tests.servers.postgres import Database
from tests.servers.process import free_port
from tests.servers.s3 import S3Server
from tests.servers.sshd import SftpAccess, new_key, serve_sshd
from waybill_demo.sftp_server import serve

PASSPHRASE, PASSWORD, LEDGER, STORE, SOURCE, LINKS = (f"canary-{name}-{secrets.token_hex(12)}" for name in ("a", "b", "c", "d", "e", "f"))
LARGE = 12_000_000
"""Bytes that make a file go through OpenSSH's own client."""


def sftp(server: Any, login: str, *, password: str = "", **extra: Any) -> str:
    return json.dumps({"conn_type": "sftp", "host": server.host, "port": server.port, "login": login, "password": password, "extra": extra})


def encrypted(path: Path, passphrase: str) -> str:
    """With one round: dozens of tasks open the key, and OpenSSH's usual number takes a tenth of a second of the processor each time."""
    new_key(path)
    subprocess.run(["ssh-keygen", "-q", "-a", "1", "-p", "-N", passphrase, "-f", path], check=True, stdout=subprocess.DEVNULL)
    return path.read_text()


def scenes_of(by_key: SftpAccess, by_password: Any, tmp_path: Path, s3: S3Server, bucket: str) -> list[dict[str, Any]]:
    """Good and bad settings, each an environment on top of the ones before."""
    good = tmp_path / "good"
    stranger = encrypted(tmp_path / "stranger", PASSPHRASE)
    texts = [stranger, good.read_text()]
    host_key, login = {"host_key": by_key.host_key}, by_key.login
    store = {"aws_secret_access_key": STORE, "endpoint_url": s3.endpoint, "region_name": "us-east-1"}
    dead_store = json.dumps({"conn_type": "aws", "login": "a", "extra": {**store, "endpoint_url": f"http://127.0.0.1:{free_port()}"}})
    good_key = sftp(by_key, login, private_keys=texts, private_key_passphrase=PASSPHRASE, **host_key)
    good_source = json.dumps(
        {"conn_type": "postgres", "password": SOURCE, "host": "127.0.0.1", "port": free_port(), "login": "x", "schema": "x"}
    )
    base = {
        "AIRFLOW_CONN_CONSUMER": good_key,
        "AIRFLOW_CONN_HOUSE_KEY": json.dumps({"conn_type": "generic", "extra": {"private_key": (tmp_path / "signing").read_text()}}),
        "AIRFLOW_CONN_STORE": json.dumps({"conn_type": "aws", "login": "testing", "extra": store}),
        "AIRFLOW_CONN_ELSEWHERE": good_source,
        "WAYBILL_LINK_KEYS": LINKS,
        "WAYBILL_ARCHIVE_URL": f"s3://store@{bucket}/archive",
    }
    bad = {
        "wrong host key": {
            "AIRFLOW_CONN_CONSUMER": sftp(by_key, login, private_keys=texts, passphrase=PASSPHRASE, host_key=by_password.host_key)
        },
        "refused key": {
            "AIRFLOW_CONN_CONSUMER": sftp(by_key, login, private_keys=[stranger], passphrase=PASSPHRASE, password=PASSWORD, **host_key)
        },
        "broken key": {"AIRFLOW_CONN_CONSUMER": sftp(by_key, login, private_key=stranger[:-80], passphrase=PASSPHRASE, **host_key)},
        "wrong passphrase": {"AIRFLOW_CONN_CONSUMER": sftp(by_key, login, private_key=stranger, passphrase=PASSWORD, **host_key)},
        "wrong password": {"AIRFLOW_CONN_CONSUMER": sftp(by_password, "acme", password=PASSWORD + "x", host_key=by_password.host_key)},
        "server is down": {"AIRFLOW_CONN_CONSUMER": good_key.replace(f'"port": {by_key.port}', f'"port": {free_port()}')},
        "no connection at all": {"AIRFLOW_CONN_CONSUMER": f"{PASSWORD}://{PASSPHRASE}@:x"},
        "archive is down": {"AIRFLOW_CONN_CONSUMER": good_key, "AIRFLOW_CONN_STORE": dead_store},
        "by password": {**base, "AIRFLOW_CONN_CONSUMER": sftp(by_password, "acme", password=PASSWORD, host_key=by_password.host_key)},
    }
    day = [NOON + number * DAY for number in range(len(bad) + 1)]
    made = [{"name": "success", "environment": base, "dag": "export__acme", "conf": {"until": day[0].isoformat()}}]
    made += [
        {"name": name, "environment": {**base, **change}, "dag": "export__acme", "conf": {"until": at.isoformat()}}
        for (name, change), at in zip(bad.items(), day[1:], strict=True)
    ]
    made += [{"name": "housekeeping", "environment": base, "dag": "housekeeping", "conf": {}}]
    for name, change in (("an export", {}), ("an export while its archive is down", {"AIRFLOW_CONN_STORE": dead_store})):
        made += [{"name": f"{name} is asked for", "environment": base, "ask": "acme"}]
        made += [{"name": name, "environment": {**base, **change}, "words": ["fulfil"]}]
    commands = [{"name": words, "environment": base, "words": words.split()} for words in ("probe acme", "keys acme", "reconcile acme")]
    return [{"name": "apply", "environment": base, "words": ["apply"]}, *made, *commands]


@pytest.mark.slow
def test_no_planted_secret_is_found_anywhere_after_success_and_after_each_failure(
    tmp_path: Path, postgres: Database, s3: S3Server, repository: Path
) -> None:
    place = make_place(tmp_path / "house", ledger_url=postgres.url.replace(f"{postgres.user}@", f"{postgres.user}:{LEDGER}@"))
    bucket = f"canary-{secrets.token_hex(6)}"
    s3.client().create_bucket(Bucket=bucket)
    good = encrypted(tmp_path / "good", PASSPHRASE)
    key_texts = [*of_key(good)]
    new_key(tmp_path / "signing")
    home = tmp_path / "airflow"
    home.mkdir()
    demo = tmp_path / "demo"
    with closing(place), serve_sshd() as by_key, serve({"acme": PASSWORD}, demo / "tenants", demo / "state") as by_password:
        (by_key.private_key.parent / "authorized_keys").write_text((tmp_path / "good.pub").read_text())
        place.write("policy.yaml", {"signing": "house_key"})
        place.tenant(entityList=["user"], destination={"kind": "sftp", "connection": "consumer", "root": "exports"})
        place.sql("insert into \"user\" select 'acme', i, repeat(md5(i::varchar), 40), '2026-05-30T00:00:00Z', null from range(9300) t(i)")
        (tmp_path / "scenes.json").write_text(json.dumps(scenes_of(by_key, by_password, tmp_path, s3, bucket)))
        for server_root in (by_key.root, demo / "tenants/acme"):
            (server_root / "exports").mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",  # at DEBUG `dags test` itself prints what it is asked to mask
            "WAYBILL_CONFIG_DIR": str(place.root / "config"),
            "WAYBILL_LEDGER_URL": place.ledger_url,
            **json.loads((tmp_path / "scenes.json").read_text())[0]["environment"],
        }
        said = tmp_path / "said"
        said.mkdir()
        with watched_processes() as seen:

            def call(name: str, *argv: str) -> str:
                done = subprocess.run(
                    argv,
                    env=environment,
                    cwd=place.root,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=1800,
                    check=False,
                )
                (said / name).write_text(done.stdout + done.stderr)
                return done.stdout + done.stderr

            call("upgrade", sys.executable, "-m", "waybill", "ledger", "upgrade")
            runs = str(Path(__file__).with_name("canary_runs.py"))
            ran = call("runs", sys.executable, runs, str(repository), str(tmp_path / "scenes.json"))
        states = {
            item["scene"]: item["state"] for item in map(json.loads, filter(lambda line: line.startswith('{"scene"'), ran.splitlines()))
        }
        fails = {name: state for name, state in states.items() if state != "success"}
        assert fails.keys() == {
            "wrong host key", "refused key", "broken key", "wrong passphrase", "wrong password", "server is down", "no connection at all",
            "an export while its archive is down",
        }, ran[-5000:]  # fmt: skip
        assert any(b"ssh" in line and b"sftp" in line and b"IdentityFile" in line for line in seen.values()), "OpenSSH's client was used"
        objects = [
            (stored["Key"], s3.client().get_object(Bucket=bucket, Key=stored["Key"])["Body"].read())
            for stored in s3.client().list_objects_v2(Bucket=bucket)["Contents"]
        ]
        stranger = of_key((tmp_path / "stranger").read_text())
        canaries = Canaries(
            {
                **{
                    name: [text]
                    for name, text in zip(
                        ["PASSPHRASE", "PASSWORD", "LEDGER", "STORE", "SOURCE", "LINKS"],
                        (PASSPHRASE, PASSWORD, LEDGER, STORE, SOURCE, LINKS),
                        strict=True,
                    )
                },
                "login key": key_texts,
                "signing key": of_key((tmp_path / "signing").read_text()),
                "refused key": stranger,
            }
        )
        everywhere = [
            *files(home, place.root, said, by_key.root, demo / "tenants"),
            *metadata(home / "airflow.db"),
            *tables(postgres.dsn),
            *objects,
            *seen.items(),
        ]
        assert canaries.found(everywhere) == []
        assert list(by_key.root.rglob("*.manifest.json.sig")), "the signing key was used"
        assert [key for key, _ in objects if key.endswith(".zip")], "an export was made"
        searched = {name.split(" ")[0] for name, _ in everywhere}
        assert {"metadata", "ledger", "command"} <= searched
        assert canaries.found([("a planted file", base64.b64encode(b"ab" + PASSWORD.encode()))]), "the search itself finds what is there"


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_the_search_finds_a_secret_in_every_form(shift: int) -> None:
    canaries = Canaries({"password": [PASSWORD]})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.txt", f"x {PASSWORD}")
    for content in (
        PASSWORD.encode(),
        base64.b64encode(b"\n" * shift + PASSWORD.encode() + b"tail"),
        PASSWORD.encode("utf-16-le"),
        gzip.compress(PASSWORD.encode()),
        packed.getvalue(),
    ):
        assert canaries.found([("somewhere", content)])
    assert not canaries.found([("somewhere", b"nothing here")])
