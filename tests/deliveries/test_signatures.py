"""Detached signatures of manifests: made for every kind of delivery at every kind of place, and checked by OpenSSH's own `ssh-keygen`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.consumer.copies import consumer
from tests.deliveries.test_main_path_sftp import WRITE_ONLY, connection_to
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place
from tests.servers.proftpd import serve_proftpd
from tests.servers.s3 import S3Server
from tests.servers.sshd import SftpAccess, new_key
from waybill.connection import Connection
from waybill.deliveries import repairs
from waybill.deliveries.publishing import signing
from waybill.deliveries.recovery import reconciling
from waybill.doctor import examine
from waybill.errors import ConflictError, PermanentError
from waybill.files.places import verify
from waybill.housekeeping import housekeeping
from waybill.ledger import destinations
from waybill.registrations.applying import apply
from waybill.registrations.login_keys import login_keys
from waybill_consumer.errors import Refused
from waybill_consumer.signatures import read_signers
from waybill_consumer.verification import Report
from waybill_demo.sftp_server import TenantFolder, new_accounts, serve

MIDNIGHT = NOON.replace(hour=0)
KEYED: dict[str, Any] = {**USER, "name": "keyed", "relation": "keyed", "deletes": "compare"}
del KEYED["deleted_column"]


def new_signer(place: Place, name: str) -> Path:
    """A key pair; returns the private half's file."""
    path = place.root / name
    new_key(path)
    return path


def connection(*keys: Path) -> Connection:
    return Connection("house_key", "generic", extra={"private_keys": [key.read_text() for key in keys]})


def public(key: Path) -> str:
    return key.with_name(f"{key.name}.pub").read_text().strip()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place")) as place:
        place.write("catalog.yaml", catalog(user=USER, theme=THEME, keyed=KEYED))
        place.sql("create table keyed as select * from user")
        place.write("policy.yaml", {"signing": "house_key", "landing": {"status": True, "sha256sums": True}})
        place.connections["house_key"] = connection(new_signer(place, "key"))
        place.user(1, "Ada", MIDNIGHT - DAY)
        yield place


@pytest.fixture
def key(place: Place) -> Path:
    return place.root / "key"


def documents(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.json") if path.name.endswith(".manifest.json") or path.name.startswith("_MANIFEST"))


def ssh_keygen_accepts(document: Path, signers: Path) -> bool:
    """What a consumer without any of our code runs."""
    with document.open("rb") as data:
        command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "waybill", "-n", "waybill", "-s", f"{document}.sig"]
        return subprocess.run(command, stdin=data, capture_output=True, check=False).returncode == 0


def sign_by_hand(key: Path, document: Path, purpose: str = "waybill") -> None:
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", purpose, document], check=True, capture_output=True)


def signers_file(place: Place) -> Path:
    """The lines that `waybill keys` prints for allowed_signers."""
    path = place.root / "allowed_signers"
    keys = login_keys(place.installation(), "acme")
    path.write_text("".join(f"{key['allowed_signers']}\n" for key in keys if key["use"] == "signing"))
    return path


def checked(folder: Path, *signers: Path | str) -> Report:
    return verify(str(folder), pytest.fail, signers=[str(signer) for signer in signers])


def well_delivered(place: Place, until: Any, **options: Any) -> None:
    assert not [str(result.error) for result in place.run(until, **options) if result.error]


SHAPES: dict[str, dict[str, Any]] = {
    "gzip in parts": {"csv": {"compression": "gzip", "max_rows_per_file": 1}},
    "parquet": {"files": {"format": "parquet"}},
    "ndjson": {"files": {"format": "ndjson"}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_delivery_is_signed_and_ssh_keygen_accepts_it(place: Place, key: Path, shape: str, tmp_path: Path) -> None:
    place.tenant(entityList=["user", "theme", "keyed"], **SHAPES[shape])
    for number in (1, 2):
        place.user(number, "Bob", MIDNIGHT - DAY, table="keyed")
    well_delivered(place, NOON)
    place.user(2, "Eve", MIDNIGHT + timedelta(hours=1))
    place.sql("delete from keyed where id = 2")
    well_delivered(place, NOON + DAY)
    installation = place.installation()
    first = next(delivery for path, delivery in place.manifests() if delivery["entity"] == "user")
    repairs.redeliver(installation, first["delivery_id"], actor="test")
    repairs.backfill(installation, "acme", "user", MIDNIGHT - 2 * DAY, MIDNIGHT, actor="test")
    well_delivered(place, NOON + DAY, full_load=True, entities=["user"])
    found = documents(place.out)
    kinds = {(value["kind"], "redelivers" in value, value.get("deletes") is not None) for _, value in place.manifests()}
    plain = {("full", False, False), ("delta", False, False), ("backfill", False, False)}
    assert kinds == plain | {("delta", False, True), ("full", True, False)}
    signers = signers_file(place)
    assert [path for path in found if not ssh_keygen_accepts(path, signers)] == []
    report = checked(place.out, signers)
    assert (report.problems, report.signed) == ([], len(found))
    copy = tmp_path / "copy"
    assert consumer("pull", place.out / "exports/acme", copy, "--signer", signers).code == 0
    assert consumer("verify", copy, "--signer", public(key)).code == 0
    assert sorted(path.name for path in copy.rglob("*.sig")) == sorted(f"{path.name}.sig" for path in found)


def test_a_signed_manifest_vouches_for_the_manifest_before_it(place: Place, key: Path) -> None:
    place.tenant(entityList=["user"])
    for day in range(3):
        well_delivered(place, NOON + day * DAY)
    first, second, third = (path for path, _ in place.manifests())
    assert "previous_manifest_sha256" not in first.read_text()
    told = json.loads(second.read_text())
    told["entity_name"] = "somebody else's words"
    second.write_text(json.dumps(told))
    # A key that was retired and got out signs the change: the next manifest, signed by the key in use, shows it all the same.
    signature = Path(f"{second}.sig")
    signature.unlink()
    sign_by_hand(key, second)
    assert [
        (problem.path.rpartition("/")[2], "previous_manifest_sha256" in problem.what)
        for problem in checked(place.out, public(key)).problems
    ] == [(third.name, True)]


def edit(path: Path) -> None:
    """Change a file and its hashes consistently, as by hand: only a signature tells."""
    told = json.loads(path.read_text())
    data = path.parent / told["files"][0]["path"]
    data.write_bytes(data.read_bytes().replace(b"Ada", b"Eve"))
    told["files"][0]["sha256"] = told["sha256"] = hashlib.sha256(data.read_bytes()).hexdigest()
    path.write_text(json.dumps(told))


def unsign(path: Path) -> None:
    Path(f"{path}.sig").unlink()


def sign_as_another(path: Path) -> None:
    unsign(path)
    new_key(path.parent / "foreign")
    sign_by_hand(path.parent / "foreign", path)
    for name in ("foreign", "foreign.pub"):
        (path.parent / name).unlink()


def sign_for_another_purpose(path: Path) -> None:
    unsign(path)
    key = next(folder / "key" for folder in path.parents if (folder / "key").exists())
    sign_by_hand(key, path, "git")


def garble(path: Path) -> None:
    Path(f"{path}.sig").write_bytes(b"\x00\xff not a signature")


def cut(path: Path) -> None:
    signature = Path(f"{path}.sig")
    signature.write_bytes(signature.read_bytes()[:150])


WRONGS: dict[str, tuple[Callable[[Path], None], str]] = {
    "edited by hand": (edit, "not of these bytes"),
    "not signed": (unsign, "is not signed"),
    "signed by somebody else": (sign_as_another, "none of the known signers"),
    "signed for another purpose": (sign_for_another_purpose, "another purpose"),
    "garbled": (garble, "cannot be read"),
    "cut": (cut, "cannot be read"),
}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('waybill valid-before="20270101" ssh-ed25519 AAAA', "restricts a key by valid-before"),
        ("waybill cert-authority ssh-ed25519 AAAA", "restricts a key by cert-authority"),
        ("waybill ssh-rsa AAAA", "holds a key that is not Ed25519"),
        ("ssh-ed25519 AAAA", "holds a key that is damaged"),
        ('"waybill ssh-ed25519 AAAA', "holds a line with a quote that nothing closes"),
        ('waybill namespaces="git" ssh-ed25519 AAAA', "holds no key of a signer"),
        ("!waybill,* ssh-ed25519 AAAA", "holds no key of a signer"),
        ("# nothing", "holds no key of a signer"),
    ],
)
def test_a_line_of_allowed_signers_that_names_no_usable_key_is_refused_by_name(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "allowed_signers").write_text(f"{line}\n")
    with pytest.raises(Refused, match=says):
        read_signers([str(tmp_path / "allowed_signers")])


@pytest.mark.parametrize("by_feed", [True, False], ids=["by the feed", "by a walk"])
def test_what_no_known_signer_signed_is_refused(place: Place, key: Path, by_feed: bool, tmp_path: Path) -> None:
    place.tenant(entityList=["user"], landing={"status": by_feed, "sha256sums": False})
    well_delivered(place, NOON)
    for wrong, (change, says) in WRONGS.items():
        sent, copy = tmp_path / wrong / "sent", tmp_path / wrong / "copy"
        shutil.copytree(place.out, sent)
        (path,) = sent.rglob("user.manifest.json")
        for day in sent.rglob("_MANIFEST*"):
            day.unlink()
        shutil.copy(key, sent.parent / "key")
        change(path)
        assert [says in problem.what for problem in checked(sent, public(key)).problems] == [True], wrong
        said = consumer("pull", sent / "exports/acme", copy, "--signer", public(key))
        assert (said.code, says in said.err, list(copy.rglob("*.csv"))) == (1, True, []), (wrong, said.err)
        assert (consumer("pull", sent / "exports/acme", copy).code, len(list(copy.rglob("*.csv")))) == (0, 1), wrong
        assert consumer("verify", copy, "--signer", public(key)).code == 1, wrong
        database = tmp_path / wrong / "copy.sqlite"
        said = consumer("load", copy, "--to", f"sqlite:{database}", "--signer", public(key))
        assert (said.code, says in said.err, tables(database)) == (1, True, []), (wrong, said.err)
        (copy / ".waybill-consumer.json").unlink()  # what lies here unsigned does not count as fetched either
        said = consumer("pull", sent / "exports/acme", copy, "--signer", public(key))
        assert (said.code, says in said.err) == (1, True), (wrong, said.err)


def tables(database: Path) -> list[str]:
    """The tables of a consumer's rows."""
    with closing(sqlite3.connect(database)) as connection:
        named = "select name from sqlite_master where type = 'table' and name not like '%waybill%'"
        return [name for (name,) in connection.execute(named)]


def test_what_was_loaded_before_signing_began_is_not_asked_about_and_a_lost_position_is_learnt_from_what_is_signed(
    place: Place, key: Path, tmp_path: Path
) -> None:
    place.tenant(entityList=["user"])
    place.write("policy.yaml", {})
    well_delivered(place, NOON)
    copy, to = tmp_path / "copy", f"sqlite:{tmp_path}/copy.sqlite"
    assert (consumer("pull", place.out / "exports/acme", copy).code, consumer("load", copy, "--to", to).code) == (0, 0)
    place.write("policy.yaml", {"signing": "house_key"})
    place.user(2, "Eve", NOON)
    well_delivered(place, NOON + DAY)
    known = ("--signer", public(key))
    assert consumer("pull", place.out / "exports/acme", copy, *known).code == 0
    assert consumer("load", copy, "--to", to, *known).code == 0
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as connection:
        assert connection.execute('select count(*) from "user"').fetchone() == (2,)
    (copy / ".waybill-consumer.json").unlink()
    shutil.rmtree(place.out / "exports/acme/2026/05")  # retention took the unsigned one
    said = consumer("pull", place.out / "exports/acme", copy, *known, "--json")
    assert (said.code, json.loads(said.out)["fetched"]) == (0, []), said


def test_a_day_manifest_that_nobody_known_signed_is_refused(place: Place, key: Path, tmp_path: Path) -> None:
    place.tenant(entityList=["user"])
    well_delivered(place, NOON)
    (day,) = place.out.rglob("_MANIFEST.json")
    unsign(day)
    assert [problem.what for problem in checked(place.out, public(key)).problems] == [
        "is not signed, and only manifests of a known signer count"
    ]
    said = consumer("pull", place.out / "exports/acme", tmp_path / "copy", "--signer", public(key))
    assert (said.code, "_MANIFEST.json: is not signed" in said.err) == (1, True)
    assert not list((tmp_path / "copy").rglob("_MANIFEST.json"))


def test_without_a_signer_a_change_is_seen_where_a_signature_stands_and_somebody_is_advised_to_name_one(place: Place) -> None:
    place.tenant(entityList=["user"])
    well_delivered(place, NOON)
    assert [note.what for note in checked(place.out).notes if "--signer" in note.what]
    path, _ = next(place.manifests())
    edit(path)
    assert any("not of these bytes" in problem.what for problem in checked(place.out).problems)


def test_a_key_is_changed_while_deliveries_go_on_and_what_the_old_one_signed_stays_good(place: Place, key: Path, tmp_path: Path) -> None:
    place.tenant(entityList=["user"])
    new, copy = new_signer(place, "new"), tmp_path / "copy"

    def deliver_and_pull(day: int, keys: list[Path], signers: list[Path]) -> int:
        place.connections["house_key"] = connection(*keys)
        well_delivered(place, NOON + day * DAY)
        known = [word for signer in signers for word in ("--signer", public(signer))]
        return consumer("pull", place.out / "exports/acme", copy, *known).code

    assert deliver_and_pull(0, [key], [key]) == 0
    both = [item["allowed_signers"] for item in login_keys(place.installation(), "acme")]
    place.connections["house_key"] = connection(key, new)
    assert len(login_keys(place.installation(), "acme")) == len(both) + 1
    assert deliver_and_pull(1, [key, new], [key, new]) == 0  # the new one is handed over
    assert deliver_and_pull(2, [new, key], [key, new]) == 0  # and in use
    assert deliver_and_pull(3, [new], [key, new]) == 0  # the old one is retired
    assert consumer("verify", copy, "--signer", public(key), "--signer", public(new)).code == 0
    assert consumer("verify", copy, "--signer", public(new)).code == 1  # whoever does not trust the old one any more says so


def test_after_a_crash_between_signature_and_manifest_the_next_run_goes_on_also_with_another_key(place: Place, key: Path) -> None:
    place.tenant(entityList=["user"], landing={"status": False, "sha256sums": False})
    installation = place.installation()
    apply(installation, actor="test")
    blocker = place.out / "exports/acme/2026/05/31/user/user.manifest.json"
    blocker.parent.mkdir(parents=True)
    blocker.write_text("in the way")  # the run ends right between the two
    (failed,) = [result.error for result in place.run(NOON) if result.error]
    assert failed.code == "changed_manifest"
    signature = Path(f"{blocker}.sig")
    before = signature.read_bytes()
    blocker.unlink()
    place.connections["house_key"] = connection(new_signer(place, "new"))
    well_delivered(place, NOON)
    assert signature.read_bytes() == before
    assert checked(place.out, public(key), public(place.root / "new")).problems == []


def test_a_signature_that_an_earlier_attempt_left_is_replaced_and_a_foreign_one_is_not(place: Place, key: Path) -> None:
    place.tenant(entityList=["user"], landing={"status": False, "sha256sums": False})
    folder = place.out / "exports/acme/2026/05/31/user"
    blocker, signature = folder / "user.manifest.json", folder / "user.manifest.json.sig"
    folder.mkdir(parents=True)
    blocker.write_text("in the way")
    place.run(NOON)
    for path in (blocker, folder / "user.csv"):  # somebody took everything but the signature
        path.unlink()
    well_delivered(place, NOON)
    assert checked(place.out, public(key)).problems == []
    shutil.rmtree(place.out)
    folder.mkdir(parents=True)
    place.close()
    shutil.rmtree(place.root / ".waybill")
    blocker.write_text("in the way")
    signature.write_text("somebody's own file")
    (failed,) = [result.error for result in place.run(NOON) if result.error]
    assert isinstance(failed, ConflictError)
    assert signature.read_text() == "somebody's own file"


def test_retention_takes_the_signature_with_its_manifest_and_leaves_one_that_was_changed(place: Place) -> None:
    place.tenant(entityList=["user"])
    place.write("policy.yaml", {"signing": "house_key", "destination_days": 30, "landing": {"sha256sums": True}})
    place.clock = NOON
    well_delivered(place, NOON)
    place.clock = NOON + DAY
    well_delivered(place, NOON + DAY)
    kept = place.out / "exports/acme/2026/06/01/user/user.manifest.json.sig"
    kept.write_text("changed")
    place.clock = NOON + 40 * DAY
    done = housekeeping(place.installation())
    assert [path for path in place.files() if "2026/05/31" in path] == []
    assert done.foreign == ["/exports/acme/2026/06/01/user/user.manifest.json.sig"]
    assert len([path for path in place.files() if "2026/06/01/user" in path]) == 3


def test_housekeeping_takes_the_signature_of_a_delivery_that_was_abandoned_before_its_manifest(place: Place) -> None:
    plain = {"landing": {"status": False, "sha256sums": False}}
    place.tenant(entityList=["user"], **plain)
    folder = place.out / "exports/acme/2026/05/31/user"
    blocker, signature = folder / "user.manifest.json", folder / "user.manifest.json.sig"
    folder.mkdir(parents=True)
    blocker.write_text("in the way")
    assert [result.error for result in place.run(NOON) if result.error]
    blocker.unlink()
    foreign = folder / "other.manifest.json.sig"
    foreign.write_bytes(signature.read_bytes())
    os.utime(signature, (0, 0))
    os.utime(foreign, (0, 0))
    assert housekeeping(place.installation()).parts == 0  # the next try may publish the manifest
    place.tenant(entityList=["theme"], **plain)
    well_delivered(place, NOON + DAY)
    assert housekeeping(place.installation()).parts == 1
    assert (signature.exists(), foreign.exists()) == (False, True)


def test_a_reconciled_ledger_knows_the_signatures_and_the_chain_goes_on(place: Place, key: Path) -> None:
    place.tenant(entityList=["user"])
    place.clock = NOON
    well_delivered(place, NOON)
    place.close()
    shutil.rmtree(place.root / ".waybill")
    installation = place.installation()
    apply(installation, actor="test")
    assert reconciling.reconcile(installation, "acme", actor="test").problems == []
    well_delivered(place, NOON + DAY)
    assert checked(place.out, public(key)).problems == []
    place.write("policy.yaml", {"signing": "house_key", "destination_days": 30})
    place.clock = NOON + 40 * DAY
    assert housekeeping(place.installation()).foreign == []
    assert not list(place.out.rglob("*.sig"))


@pytest.mark.parametrize("before", [{}, {"signing": "old_key"}], ids=["no key", "another key"])
def test_reconcile_asks_about_no_day_manifest_that_the_ledger_knows_from_before_the_key(place: Place, before: dict[str, Any]) -> None:
    place.connections["old_key"] = connection(new_signer(place, "old"))
    place.tenant(entityList=["user"])
    place.write("policy.yaml", before)
    well_delivered(place, NOON)
    place.write("policy.yaml", {"signing": "house_key"})
    done = reconciling.reconcile(place.installation(), "acme", actor="test")
    assert (done.imported, done.problems) == ([], [])
    well_delivered(place, NOON + DAY)
    assert reconciling.reconcile(place.installation(), "acme", actor="test").problems == []


def test_the_doctor_tries_the_key_that_signs(place: Place) -> None:
    place.tenant(entityList=["user"])
    well_delivered(place, NOON)
    installation = place.installation()

    def signing() -> list[tuple[str, str]]:
        found = examine(installation.settings, installation.connections, installation.now, installation.connect_db)
        return [(item.status, item.found) for item in found if item.name == "signing house_key"]

    [(status, said)] = signing()
    assert (status, said.startswith("signs manifests with SHA256:")) == ("ok", True)
    place.connections["house_key"] = Connection("house_key", "generic")
    assert signing() == [("failed", "signing connection house_key: the connection holds no private key to sign with")]


def test_reconcile_refuses_a_manifest_whose_signature_is_not_of_it(place: Place) -> None:
    place.tenant(entityList=["user"])
    well_delivered(place, NOON)
    path, _ = next(place.manifests())
    edit(path)
    place.close()
    shutil.rmtree(place.root / ".waybill")
    installation = place.installation()
    apply(installation, actor="test")
    done = reconciling.reconcile(installation, "acme", actor="test")
    assert (done.imported, next(problem.what for problem in done.problems)) == (
        [],
        "its signature is not of these bytes: one of the two was changed after it was signed",
    )


@pytest.mark.parametrize(
    ("change", "says"), [(unsign, "is not signed, while"), (sign_as_another, "does not hold, while")], ids=["unsigned", "by another key"]
)
def test_a_person_decides_whether_reconcile_takes_back_what_the_tenants_key_did_not_sign(
    place: Place, change: Callable[[Path], None], says: str
) -> None:
    place.tenant(entityList=["user"])
    well_delivered(place, NOON)
    for path in documents(place.out):
        change(path)
    place.close()
    shutil.rmtree(place.root / ".waybill")
    installation = place.installation()
    apply(installation, actor="test")
    done = reconciling.reconcile(installation, "acme", actor="test")
    assert (done.imported, [says in problem.what and "--unsigned" in problem.what for problem in done.problems]) == ([], [True, True])
    [failed] = [result.error for result in place.run(NOON + DAY) if result.error]
    assert (type(failed), failed.code) == (ConflictError, "ledger_behind")
    done = reconciling.reconcile(installation, "acme", actor="test", unsigned=True)
    assert (len(done.imported), done.problems) == (1, [])
    assert len([note for note in done.notes if says.removesuffix(", while") in note.what]) == 2
    well_delivered(place, NOON + DAY)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({}, "holds no private key to sign with"),
        ({"private_key": "-----BEGIN nothing"}, "cannot be used"),
        ({"rsa": True}, "signed with Ed25519 keys only"),
    ],
    ids=["none", "broken", "another kind"],
)
def test_a_key_that_cannot_sign_stops_a_delivery_before_anything_is_published(place: Place, extra: dict[str, Any], says: str) -> None:
    if extra.pop("rsa", False):
        path = place.root / "rsa"
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", path], check=True)
        extra = {"key_file": str(path)}
    place.connections["house_key"] = Connection("house_key", "generic", extra=extra)
    place.tenant(entityList=["user"], landing={"status": False})
    (failed,) = [result.error for result in place.run(NOON) if result.error]
    assert isinstance(failed, PermanentError)
    assert says in str(failed)
    assert "house_key" in str(failed)
    assert place.files() == []


def test_a_tenant_may_have_a_key_of_its_own_or_none(place: Place, key: Path) -> None:
    own = new_signer(place, "own")
    place.connections["acme_key"] = connection(own)
    place.tenant(entityList=["user"])
    place.tenant("globex", entityList=["user"])
    place.write("policy.yaml", {"signing": "house_key", "tenants": {"acme": {"signing": "acme_key"}, "globex": {"signing": "none"}}})
    place.user(1, "Bob", MIDNIGHT - DAY, tenant="globex")
    for tenant in ("acme", "globex"):
        well_delivered(place, NOON, tenant=tenant)
    assert checked(place.out / "exports/acme", public(own)).problems == []
    assert not list((place.out / "exports/globex").rglob("*.sig"))


def test_waybill_prints_the_lines_for_allowed_signers_and_verifies_with_them(
    place: Place, key: Path, run_waybill: Callable[..., str], tmp_path: Path
) -> None:
    place.tenant(entityList=["user"])
    held = json.dumps({"conn_type": "generic", "extra": {"private_key": key.read_text()}})
    environment = {"WAYBILL_CONFIG_DIR": str(place.root / "config"), "AIRFLOW_CONN_HOUSE_KEY": held}
    run_waybill("apply", **environment)
    run_waybill("run", "acme", "--until", "2026-05-31T12:00:00Z", **environment)
    printed = run_waybill("keys", "acme", **environment)
    assert "# house_key, signing key 1 of 1: SHA256:" in printed
    signers = tmp_path / "allowed_signers"
    signers.write_text(printed)  # comments and all
    (path,) = place.out.rglob("user.manifest.json")
    assert ssh_keygen_accepts(path, signers)
    assert "all as delivered" in run_waybill("verify", str(place.out), "--signer", str(signers), **environment)
    unsign(path)
    assert "is not signed" in run_waybill("verify", str(place.out), "--signer", public(key), status=1, **environment)
    said = run_waybill("verify", str(place.out), "--signer", "no such file", status=1, **environment)
    assert "is neither a key nor a file" in said
    assert "PRIVATE" not in printed


class PicksUp(TenantFolder):
    """Files vanish when they land under a visible name."""

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        super().rename(oldpath, newpath)
        Path(os.fsdecode(self.map_path(newpath))).unlink()


@pytest.fixture(scope="module")
def write_only() -> Iterator[SftpAccess]:
    with serve_proftpd(directory=WRITE_ONLY) as server:
        yield server


def rehearsed_as(place: Place, profile: str) -> None:
    installation = place.installation()
    apply(installation, actor="test")
    with installation.ledger.begin() as connection:
        destinations.store_probe(connection, "acme", {"profile": profile}, NOON)


@pytest.mark.parametrize("profile", ["full", "no_cas"])
def test_over_sftp_the_signatures_stand_beside_their_manifests(place: Place, key: Path, sshd: SftpAccess, profile: str) -> None:
    place.connections["consumer"] = connection_to(sshd)
    case = uuid4().hex
    (sshd.root / case).mkdir()
    destination = {"kind": "sftp", "connection": "consumer", "root": f"{sshd.remote_root}/{case}"}
    place.tenant(entityList=["user"], destination=destination, landing={"status": profile == "full"})
    rehearsed_as(place, profile)
    for day in range(2):
        well_delivered(place, NOON + day * DAY)
    found = documents(sshd.root / case)
    assert (len(found), checked(sshd.root / case, public(key)).problems) == (4, [])
    assert [path for path in found if not ssh_keygen_accepts(path, signers_file(place))] == []


def test_a_drop_box_gets_each_signature_before_its_manifest(place: Place, key: Path, write_only: SftpAccess) -> None:
    place.connections["consumer"] = connection_to(write_only)
    destination = {"kind": "sftp", "connection": "consumer", "root": write_only.remote_root}
    place.tenant(entityList=["user"], destination=destination, landing={"status": False, "sha256sums": False})
    (write_only.root / "exports/acme/2026/05/31/user").mkdir(parents=True)
    for path in [write_only.root / "exports", *(write_only.root / "exports").rglob("*")]:
        path.chmod(0o777)
    rehearsed_as(place, "dropbox")
    well_delivered(place, NOON)
    found = documents(write_only.root)
    assert len(found) == 2
    assert all(Path(f"{path}.sig").stat().st_mtime_ns <= path.stat().st_mtime_ns for path in found)
    assert checked(write_only.root, public(key)).problems == []


def test_a_server_whose_files_vanish_as_they_land_takes_signatures_too(place: Place, tmp_path: Path) -> None:
    with serve(new_accounts(["acme"]), tmp_path / "tenants", tmp_path / "state", view=PicksUp) as server:
        extra = {"host_key": server.host_key}
        place.connections["consumer"] = Connection(
            "consumer", "sftp", server.host, server.port, "acme", password=server.accounts["acme"], extra=extra
        )
        destination = {"kind": "sftp", "connection": "consumer", "root": "/"}
        place.tenant(entityList=["user"], destination=destination, landing={"status": False, "sha256sums": False})
        rehearsed_as(place, "pickup")
        for day in range(2):
            well_delivered(place, NOON + day * DAY)


def test_in_a_bucket_the_signatures_are_pulled_and_checked(
    place: Place, key: Path, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"bucket-{uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket)
    extra = {"endpoint_url": s3.endpoint, "region_name": s3.region}
    place.connections["lake"] = Connection("lake", "aws", login=s3.access_key, password=s3.secret_key, extra=extra)
    place.tenant(entityList=["user"], destination={"kind": "s3", "bucket": bucket, "connection": "lake"})
    for day in range(2):
        well_delivered(place, NOON + day * DAY)
    for name, value in {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_DEFAULT_REGION": s3.region,
    }.items():
        monkeypatch.setenv(name, value)
    copy = tmp_path / "copy"
    said = consumer("pull", f"s3://{bucket}/exports/acme", copy, "--signer", public(key))
    assert said.code == 0, said.err
    assert consumer("verify", copy, "--signer", public(key)).code == 0
    assert len(list(copy.rglob("*.sig"))) == 4


def test_a_document_has_one_signature_whoever_comes_second(place: Place) -> None:
    place.tenant(entityList=["user"])
    installation = place.installation()
    apply(installation, actor="test")
    signer = installation.signer("acme")
    place.connections["house_key"] = connection(new_signer(place, "other"))
    other = place.installation().signer("acme")
    assert signer is not None
    assert other is not None
    first = signing.signature_of(installation.ledger, signer, "acme", b"a document", NOON)
    assert signing.signature_of(installation.ledger, other, "acme", b"a document", NOON) == first


def test_a_signature_that_the_consumer_lost_is_told_by_load_and_comes_back_with_the_next_pull(
    place: Place, key: Path, tmp_path: Path
) -> None:
    place.run(NOON)
    copy, known = tmp_path / "copy", ("--signer", public(key))
    source, load = place.out / "exports/acme", ("load", copy, "--to", f"sqlite:{tmp_path}/copy.db", *known)
    assert consumer("pull", source, copy, *known).code == 0
    document = min(copy.rglob("*.manifest.json"))
    for damage in (unsign, garble, cut):
        damage(document)
        said = consumer(*load)
        assert (said.code, "Pull once more with --signer" in said.err) == (1, True)
        assert consumer("pull", source, copy, *known).code == 0
    assert consumer(*load).code == 0


@pytest.mark.parametrize("damage", [unsign, garble, cut, sign_as_another])
@pytest.mark.parametrize("repair", ["redelivery", "full load"])
def test_a_signature_that_the_sender_lost_is_made_up_for_by_what_is_signed(
    place: Place, key: Path, tmp_path: Path, damage: Callable[[Path], None], repair: str
) -> None:
    place.tenant(entityList=["user"])
    well_delivered(place, NOON)
    source, copy, known = place.out / "exports/acme", tmp_path / "copy", ("--signer", public(key))
    (document,) = source.rglob("*.manifest.json")
    damage(document)
    said = consumer("pull", source, copy, *known)
    assert (said.code, str(document) in said.err) == (1, True), said
    if repair == "redelivery":
        repairs.redeliver(place.installation(), json.loads(document.read_text())["delivery_id"], actor="test")
    else:
        well_delivered(place, NOON, full_load=True)
    for _ in range(2):
        said = consumer("pull", source, copy, *known)
        assert (said.code, "made up for it" in said.out) == (0, True), said
    assert consumer("status", copy, "--json").json["missing"] == []
    for command in (("verify", copy, *known), ("load", copy, "--to", f"sqlite:{tmp_path}/copy.db", *known)):
        assert consumer(*command).code == 0
    assert list((copy / document.relative_to(source)).parent.glob("user.csv")) == []


def forge(document: Path, **facts: Any) -> Path:
    """An unsigned manifest beside a signed one that says something else of the same delivery, and sorts before it."""
    forged = document.with_name("a.manifest.json")
    forged.write_text(json.dumps({**json.loads(document.read_text()), **facts}))
    return forged


@pytest.mark.parametrize(
    "facts",
    [
        {"generation": 0},  # as if a newer full load had replaced it
        {"kind": "full", "sequence": 9, "previous": None},
        {"delivery_id": "forged", "redelivers": None, "sequence": 9, "snapshot_time": "2020-01-01T00:00:00.000000Z"},
        {},
    ],
    ids=["superseded", "full", "another", "the same"],
)
def test_what_lies_unsigned_beside_what_is_signed_keeps_no_row_out(place: Place, key: Path, tmp_path: Path, facts: dict[str, Any]) -> None:
    place.tenant(entityList=["user"])
    well_delivered(place, NOON)
    copy, database, known = tmp_path / "copy", tmp_path / "copy.sqlite", ("--signer", public(key))
    assert consumer("pull", place.out / "exports/acme", copy, *known).code == 0
    assert consumer("load", copy, "--to", f"sqlite:{database}", *known).code == 0
    place.user(2, "Eve", NOON)
    well_delivered(place, NOON + DAY)
    assert consumer("pull", place.out / "exports/acme", copy, *known).code == 0
    newest = max(copy.rglob("user.manifest.json"))
    content = json.loads(newest.read_text())["delivery_id"]
    forge(newest, **{"redelivers": content, **facts})
    consumer("load", copy, "--to", f"sqlite:{database}", *known)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute('select count(*) from "user"').fetchone() == (2,)
        assert connection.execute("select result from _waybill_deliveries where content = ?", [content]).fetchall() == [("applied",)]
