"""Delivered files encrypted to the consumer's OpenPGP key by gpg itself, and read back with gpg by whoever holds the secret half."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.consumer.copies import consumer
from tests.installations import DAY, NOON, THEME, USER, Place, catalog, make_place
from waybill import kits, pgp
from waybill.deliveries import repairs
from waybill.deliveries.publishing.upload import SpoolFile
from waybill.deliveries.recovery import reconciling
from waybill.deliveries.running import run
from waybill.doctor import examine
from waybill.errors import InvalidInput, PermanentError, TransientError
from waybill.files.places import verify
from waybill.housekeeping import housekeeping
from waybill.language import replaceable, wording
from waybill.ledger.registrations import Provenance
from waybill.registrations import replacing
from waybill.registrations.applying import apply, record
from waybill.web import problems
from waybill_consumer.errors import Refused
from waybill_consumer.load.decrypting import Plain
from waybill_consumer.manifest import parse

MIDNIGHT = NOON.replace(hour=0)
KEYED: dict[str, Any] = {**USER, "name": "keyed", "relation": "keyed", "deletes": "compare"}
del KEYED["deleted_column"]


@dataclass(frozen=True)
class Ring:
    """A keyring of somebody's own, in a short path: gpg's agent listens below it."""

    home: Path

    def gpg(self, *words: str, data: bytes = b"") -> bytes:
        command = ["gpg", "--batch", "--quiet", "--homedir", str(self.home), "--pinentry-mode", "loopback", "--passphrase", "", *words]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    def new(self, name: str, *how: str) -> str:
        """Make a key; returns the armored public half."""
        self.gpg("--quick-generate-key", f"{name} <{name}@example.org>", *how)
        return self.public(name)

    def public(self, name: str) -> str:
        return self.gpg("--armor", "--export", f"{name}@example.org").decode()

    def fingerprint(self, name: str) -> str:
        shown = self.gpg("--with-colons", "--list-keys", f"{name}@example.org").decode()
        return re.findall(r"^fpr:+([0-9A-F]{40}):", shown, re.MULTILINE)[0]


@pytest.fixture(scope="module")
def ring() -> Iterator[Ring]:
    with tempfile.TemporaryDirectory(prefix="gpg-", ignore_cleanup_errors=True) as folder:
        ring = Ring(Path(folder))
        ring.new("consumer", "future-default", "default", "never")
        yield ring
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=True)


@pytest.fixture(scope="module")
def unusable(ring: Ring) -> dict[str, tuple[str, str]]:
    """Keys that nothing may be encrypted to, each with what is said of it."""
    good = ring.public("consumer")
    ring.gpg("--faked-system-time", "20240101T000000", "--quick-generate-key", "expired <expired@example.org>", "ed25519", "cert", "1d")
    ring.gpg("--faked-system-time", "20240101T000000", "--quick-add-key", ring.fingerprint("expired"), "cv25519", "encr", "1d")
    ring.new("revoked", "future-default", "default", "never")
    fingerprint = ring.fingerprint("revoked")
    revocation = (ring.home / f"openpgp-revocs.d/{fingerprint}.rev").read_text().replace(":-----BEGIN", "-----BEGIN")
    ring.gpg("--import", data=revocation.encode())
    signs = ring.new("signs", "ed25519", "sign", "never")
    weak = ring.new("weak", "rsa1024", "default", "never")
    ring.gpg("--quick-add-key", ring.fingerprint("weak"), "rsa1024", "encr", "never")
    return {
        "signing only": (signs, "is for signatures only"),
        "revoked": (ring.public("revoked"), "is revoked"),
        "weak": (ring.public("weak") or weak, "is weak: RSA of 1024 bits"),
        "two": (ring.gpg("--armor", "--export", "consumer@example.org", "signs@example.org").decode(), "2 keys instead of one"),
        "damaged": (good[:200] + "AAAA" + good[220:], "no public key that gpg can read"),
        "expired": (ring.public("expired"), "has expired"),
    }


def encrypted_to(key: str) -> dict[str, Any]:
    return {"encryption": {"kind": "pgp", "public_key": key}}


@pytest.fixture
def place(tmp_path: Path, ring: Ring) -> Iterator[Place]:
    with closing(make_place(tmp_path / "place")) as place:
        place.write("catalog.yaml", catalog(user=USER, theme=THEME, keyed=KEYED))
        place.sql("create table keyed as select * from user")
        place.tenant(entityList=["user"], **encrypted_to(ring.public("consumer")))
        for number in range(1, 5):
            place.user(number, f"Ada {number}", MIDNIGHT - DAY)
        yield place


def well_delivered(place: Place, until: Any, **options: Any) -> None:
    assert not [str(result.error) for result in place.run(until, **options) if result.error]


SHAPES: dict[str, dict[str, Any]] = {
    "csv": {},
    "gzip": {"csv": {"compression": "gzip"}},
    "zstd in parts": {"csv": {"compression": "zstd", "max_rows_per_file": 2}},
    "parquet": {"files": {"format": "parquet"}},
    "ndjson": {"files": {"format": "ndjson"}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_delivery_is_read_by_the_consumer_alone(
    place: Place, ring: Ring, shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.tenant(entityList=["user", "keyed"], **SHAPES[shape], **encrypted_to(ring.public("consumer")))
    for number in (1, 2):
        place.user(number, "Bob", MIDNIGHT - DAY, table="keyed")
    well_delivered(place, NOON)
    place.user(9, "Eve", MIDNIGHT + timedelta(hours=1))
    place.sql("delete from keyed where id = 2")
    well_delivered(place, NOON + DAY)
    first = next(delivery for _, delivery in place.manifests() if delivery["entity"] == "user")
    repairs.redeliver(place.installation(), first["delivery_id"], actor="test")
    repairs.backfill(place.installation(), "acme", "user", MIDNIGHT - 2 * DAY, MIDNIGHT, actor="test")
    seen = 0
    for path, value in place.manifests():
        assert value["encryption"] == {"kind": "pgp", "fingerprint": ring.fingerprint("consumer")}
        for file in [*value["files"], *([value["deletes"]] if value.get("deletes") else [])]:
            data = (path.parent / file["path"]).read_bytes()
            assert file["path"].endswith(".pgp")
            assert b"Ada" not in data
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
            plain = ring.gpg("--decrypt", data=data)
            assert (len(plain), hashlib.sha256(plain).hexdigest()) == (file["plain_bytes"], file["plain_sha256"])
            seen += 1
    assert seen >= 7
    report = verify(str(place.out), pytest.fail)
    assert (report.problems, report.encrypted) == ([], report.files)
    assert not [path for path in place.root.rglob("*") if path.is_file() and "waybill/archive" in str(path) and b"Ada" in path.read_bytes()]
    copy, database = tmp_path / "copy", tmp_path / "copy.duckdb"
    assert consumer("pull", place.out / "exports/acme", copy).code == 0
    refused = consumer("load", copy, "--to", f"duckdb:{database}")
    assert (refused.code, "Load with --gpg" in refused.err, ring.fingerprint("consumer") in refused.err) == (1, True, True)
    monkeypatch.setenv("GNUPGHOME", str(ring.home))
    loaded = consumer("load", copy, "--to", f"duckdb:{database}", "--gpg")
    assert loaded.code == 0, loaded.err
    with duckdb.connect(str(database)) as connection:
        assert connection.sql('select id, name from "user" order by id').fetchall() == [*((n, f"Ada {n}") for n in range(1, 5)), (9, "Eve")]
        assert connection.sql("select id from keyed").fetchall() == [(1,)]


def test_without_the_secret_key_or_with_other_bytes_nothing_is_loaded(
    place: Place, ring: Ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    well_delivered(place, NOON)
    database = f"sqlite:{tmp_path}/copy.sqlite"
    with tempfile.TemporaryDirectory(prefix="gpg-") as empty:
        monkeypatch.setenv("GNUPGHOME", empty)
        said = consumer("load", place.out / "exports/acme", "--to", database, "--gpg")
    assert (said.code, "does not decrypt" in said.err) == (1, True)
    monkeypatch.setenv("GNUPGHOME", str(ring.home))
    path, _ = next(place.manifests())
    other = ring.gpg("--trust-model", "always", "--recipient", "consumer@example.org", "--encrypt", data=b"somebody else's rows")
    (path.parent / "user.csv.pgp").write_bytes(other)
    said = consumer("load", place.out / "exports/acme", "--to", database, "--gpg")
    assert (said.code, "something else than its manifest says" in said.err) == (1, True)


@contextmanager
def spooled(path: Path) -> Iterator[SpoolFile]:
    file = SpoolFile(path)
    try:
        yield file
    finally:
        file.abort()


def silent_gpg(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program gpg that answers nothing, as one does that waits for a passphrase, an agent or a card."""
    folder.mkdir()
    program = folder / "gpg"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_gpg_that_does_not_answer_ends_a_load_in_time(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    well_delivered(place, NOON)
    path, _ = next(place.manifests())
    manifest = parse(path.read_bytes())
    silent_gpg(tmp_path / "bin", monkeypatch)
    plain = Plain(tmp_path, gpg=True, seconds=0.2)
    with pytest.raises(Refused, match="did not decrypt it within 0 seconds") as refused:
        plain.file(path.with_name("user.csv.pgp"), manifest.files[0], manifest)
    assert "passphrase" in refused.value.next_step


def test_a_gpg_that_stops_reading_ends_a_delivery_in_time(
    place: Place, ring: Ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = pgp.rehearse(ring.public("consumer"))
    silent_gpg(tmp_path / "bin", monkeypatch)

    def send(blocks: int) -> None:
        with spooled(tmp_path / str(blocks)) as file, pgp.Encryption(to, seconds=0.2) as encryption:
            sink = encryption.sink(1, file)
            for _ in range(blocks):
                sink.write(bytes(1 << 16))
            sink.finish()

    for blocks in (1, 100):
        with pytest.raises(TransientError, match="gpg took nothing"):
            send(blocks)


def test_a_run_looks_at_the_key_once(place: Place, ring: Ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.tenant(entityList=["user", "theme", "keyed"], **encrypted_to(ring.new("once", "future-default", "default", "never")))
    apply(place.installation(), actor="test")
    program = tmp_path / "bin/gpg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\nexec {shutil.which("gpg")} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    well_delivered(place, NOON)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ([("show-only" in call) for call in calls].count(True), ["--encrypt" in call for call in calls].count(True)) == (1, 3)


def test_a_message_of_gpg_names_no_folder_of_ours(ring: Ring, unusable: dict[str, tuple[str, str]]) -> None:
    to = pgp.Recipient(unusable["expired"][0], "any")
    ended = pytest.raises(TransientError, match="gpg ended while it encrypted")
    with spooled(ring.home / "spool") as file, pgp.Encryption(to) as encryption, ended as refused:
        encryption.sink(1, file).finish()
    assert ("waybill-gpg" in str(refused.value), tempfile.gettempdir() in str(refused.value)) == (False, False)


def test_keys_that_nothing_may_be_encrypted_to_are_refused_by_name(place: Place, unusable: dict[str, tuple[str, str]]) -> None:
    installation = place.installation()
    apply(installation, actor="test")
    (place.root / "config/tenants/acme.yaml").unlink()
    apply(place.installation(), actor="test", allow_mass_deactivation=True)
    for name, (key, says) in unusable.items():
        body = {"exportOption": "export all", "destination": {"kind": "folder", "root": "out"}, **encrypted_to(key)}
        for call in (replacing.replace, replacing.rehearse):
            with pytest.raises(InvalidInput) as refused:
                call(place.installation(), "acme", body, operator=True, **({"actor": "test"} if call is replacing.replace else {}))
            (finding,) = refused.value.findings
            assert (finding.path, finding.code, says in finding.reason) == ("encryption.public_key", "pgp_key", True), (name, finding)


def test_what_is_wrong_with_a_key_is_in_the_products_words(place: Place, ring: Ring, unusable: dict[str, tuple[str, str]]) -> None:
    (place.root / "config/tenants/acme.yaml").unlink()
    good = ring.gpg("--export", "consumer@example.org")
    keys = [*(key for key, _ in unusable.values()), armored(good + b"\xcb\x02b\x00"), armored(b"\x00")]
    with wording(lambda: {key: f"§ {text}" for key, text in replaceable().items()}):
        for key in keys:
            body = {"exportOption": "export all", "destination": {"kind": "folder", "root": "out"}, **encrypted_to(key)}
            with pytest.raises(InvalidInput) as refused:
                replacing.rehearse(place.installation(), "acme", body, operator=True)
            (finding,) = refused.value.findings
            assert (finding.code, finding.reason[:2], finding.allowed[:2]) == ("pgp_key", "§ ", "§ "), finding


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("ssh-ed25519 AAAA", "not an OpenPGP public key"),
        ("", "not an OpenPGP public key"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n-----END PGP PRIVATE KEY BLOCK-----", "a private key"),
    ],
    ids=["another kind", "nothing", "private"],
)
def test_what_is_no_public_key_is_refused_before_gpg_sees_it(place: Place, key: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        replacing.read({"exportOption": "export all", **encrypted_to(key)}, place.installation(), "acme")


def armored(data: bytes) -> str:
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{base64.b64encode(data).decode()}\n-----END PGP PUBLIC KEY BLOCK-----\n"


def packed(data: bytes) -> bytes:
    """An OpenPGP packet of compressed data."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"\x01" + deflate.compress(data) + deflate.flush()
    return b"\xc8\xff" + len(body).to_bytes(4, "big") + body


def test_packets_that_keep_gpg_busy_for_hours_are_refused_before_gpg_sees_them(ring: Ring) -> None:
    key = ring.gpg("--export", "consumer@example.org")
    bomb = packed(packed(packed(bytes(50_000_000)) * 100) * 100)
    in_pieces = b"\xcd\xe1aa\x01a"  # a name in two pieces: its length would only show at its end
    besides, unread = "something besides a public key", "no public key that gpg can read"
    texts = [(bomb, besides), (key + bomb, besides), (key + b"\xa3\x00", unread), (key + in_pieces, unread), (key[:-1], unread)]
    for data, says in [*texts, (key + b"\xcb\x02b\x00", besides), (b"", unread), (b"\x00", unread), (b"\xff", unread)]:
        with pytest.raises(pgp.UnusableKey, match=says):
            pgp.rehearse(armored(data))
    assert pgp.rehearse(armored(key)).fingerprint == ring.fingerprint("consumer")
    assert pgp.rehearse(ring.public("consumer").replace("\n", "\r\n")).fingerprint == ring.fingerprint("consumer")


def test_a_private_key_that_was_pasted_is_not_repeated(place: Place) -> None:
    key = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYSECRET\n-----END PGP PRIVATE KEY BLOCK-----"
    for body in (encrypted_to(key), {"destination": {"kind": "sftp", "connection": key}}):
        with pytest.raises(InvalidInput) as refused:
            replacing.read({"exportOption": "export all", **body}, place.installation(), "acme")
        assert "SECRET" not in str(refused.value), body


def test_a_file_with_an_unusable_key_leaves_its_tenant_as_it_was_and_hurts_nobody_else(
    place: Place, ring: Ring, unusable: dict[str, tuple[str, str]]
) -> None:
    well_delivered(place, NOON)
    place.tenant("globex", entityList=["user"])
    place.tenant(entityList=["user", "theme"], **encrypted_to(unusable["revoked"][0]))
    applied = apply(place.installation(), actor="test")
    assert [(finding.path, finding.code) for finding in applied.findings] == [("encryption.public_key", "pgp_key")]
    assert [(change.tenant, change.action) for change in applied.changes] == [("globex", "create")]
    key = ring.public("consumer").replace("\n", '\nComment: User-ID: "Globex" C:\\keys\n', 1)
    place.tenant("globex", entityList=["user"], **encrypted_to(key))
    (line,) = [item for item in apply(place.installation(), actor="test").lines(dry_run=False) if "encryption" in item]
    assert ("BEGIN" in line, 'null -> {"kind": "pgp", "public_key": "key with SHA-256 ' in line) == (False, True)
    assert place.installation().registered("acme").registration.entity_list == ("user",)


def test_a_key_that_expires_stops_deliveries_by_name_and_a_new_one_goes_on_with_the_open_delivery(
    place: Place, ring: Ring, unusable: dict[str, tuple[str, str]]
) -> None:
    installation = place.installation()
    apply(installation, actor="test")
    body = {**installation.registered("acme").body, **encrypted_to(unusable["expired"][0])}
    wanted, entities = replacing.read(body, installation, "acme")
    record(installation, "acme", wanted, entities, by=Provenance("api", "test"))  # it was good when it was registered
    (failed,) = [result.error for result in run(installation, "acme", NOON) if result.error]
    assert (failed.code, "has expired" in str(failed), place.files()) == ("pgp_key", True, [])
    checks = examine(installation.settings, installation.connections, installation.now, installation.connect_db)
    [told] = [check for check in checks if check.name == "encryption acme"]
    assert (told.status, "has expired" in told.found, "current public key" in told.next_step) == ("failed", True, True)
    place.tenant(entityList=["user"], **encrypted_to(ring.public("consumer")))
    well_delivered(place, NOON)
    assert next(value for _, value in place.manifests())["encryption"]["fingerprint"] == ring.fingerprint("consumer")


def test_encryption_switched_on_and_off_begins_with_the_next_planned_delivery(place: Place, ring: Ring) -> None:
    place.tenant(entityList=["user"])
    well_delivered(place, NOON)
    place.tenant(entityList=["user"], **encrypted_to(ring.public("consumer")))
    well_delivered(place, NOON + DAY)
    place.tenant(entityList=["user"])
    well_delivered(place, NOON + 2 * DAY)
    assert [value["files"][0]["path"] for _, value in place.manifests()] == ["user.csv", "user.csv.pgp", "user.csv"]
    assert verify(str(place.out), pytest.fail).problems == []


def test_reconcile_and_retention_work_on_encrypted_files_without_a_key(place: Place) -> None:
    place.clock = NOON
    well_delivered(place, NOON)
    place.close()
    for path in (place.root / ".waybill").glob("ledger*"):
        path.unlink()
    installation = place.installation()
    apply(installation, actor="test")
    done = reconciling.reconcile(installation, "acme", actor="test")
    assert (len(done.imported), done.problems, done.differences) == (1, [], [])
    well_delivered(place, NOON + DAY)
    first = next(value for _, value in place.manifests())
    repairs.redeliver(place.installation(), first["delivery_id"], actor="test")
    assert verify(str(place.out), pytest.fail).problems == []
    place.write("policy.yaml", {"destination_days": 30})
    place.clock = NOON + 40 * DAY
    assert housekeeping(place.installation()).foreign == []
    assert place.files() == []


def test_nothing_is_left_behind_and_a_full_disk_is_told_as_one(ring: Ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Roomy:
        sha256, bytes = "", 0

        def write(self, block: bytes | memoryview) -> None:
            pass

        def finish(self) -> None:
            raise AssertionError

    class Full(Roomy):
        def write(self, block: bytes | memoryview) -> None:
            raise TransientError("cannot write the spool file: No space left on device", code="spool")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    to = pgp.rehearse(ring.public("consumer"))

    def send(blocks: int, file: Roomy) -> None:
        with pgp.Encryption(to) as encryption:
            sink = encryption.sink(1, file)
            for _ in range(blocks):
                sink.write(bytes(1 << 16))
            if blocks < 2:
                raise RuntimeError("the source broke off")
            sink.finish()

    with pytest.raises(TransientError, match="No space left"):
        send(1000, Full())
    with pytest.raises(RuntimeError, match="the source broke off"):
        send(1, Roomy())
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_gpg_the_tenant_is_told_and_nobody_else_is_hurt(
    place: Place, ring: Ring, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = {"exportOption": "export all", **encrypted_to(ring.public("consumer"))}
    place.tenant("globex", entityList=["user"])
    monkeypatch.setenv("PATH", str(tmp_path))
    applied = apply(place.installation(), actor="test")
    assert [(finding.code, finding.file) for finding in applied.findings] == [("gpg_missing", "config/tenants/acme.yaml")]
    assert [change.tenant for change in applied.changes] == ["globex"]
    assert "apt-get install gnupg" in str(applied.findings[0])
    with pytest.raises(PermanentError, match="no program gpg") as refused:  # nothing that the caller of the API could correct
        replacing.rehearse(place.installation(), "initech", body)
    assert (type(refused.value), problems.status_of(refused.value)) == (PermanentError, 503)


def test_a_large_file_takes_no_more_memory_than_a_small_one(ring: Ring) -> None:
    program = (
        "import hashlib, resource, sys; from waybill import pgp\n"
        "class Sink:\n"
        "    sha256, bytes = '', 0\n"
        "    def write(self, block): self.bytes += len(block)\n"
        "    def finish(self): pass\n"
        "to, sink = pgp.recipient(sys.stdin.read()), Sink()\n"
        "with pgp.Encryption(to) as one:\n"
        "    file = one.sink(1, sink); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    for _ in range(1600): file.write(bytes(1 << 16))\n"
        "    file.finish()\n"
        "print(sink.bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["include", "consumer/src"])}
    said = subprocess.run(
        [sys.executable, "-c", program],
        input=ring.public("consumer"),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    sent, grown = map(int, said.stdout.split())
    assert sent > 100 << 20
    assert grown < 20_000, "in KiB"


def test_a_kit_is_refused_for_encrypted_files(place: Place) -> None:
    apply(place.installation(), actor="test")
    with pytest.raises(PermanentError, match="are encrypted"):
        kits.kit_of(place.installation(), "acme", "postgres")


def test_the_command_line_registers_and_delivers_with_it(place: Place, run_waybill: Callable[..., str]) -> None:
    environment = {"WAYBILL_CONFIG_DIR": str(place.root / "config")}
    run_waybill("apply", **environment)
    run_waybill("run", "acme", "--until", "2026-05-31T12:00:00Z", **environment)
    report = json.loads(run_waybill("verify", str(place.out), "--json", **environment))
    assert (report["whole"], report["encrypted"]) == (True, 1)
