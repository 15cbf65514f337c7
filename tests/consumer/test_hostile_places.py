"""A place that wants to harm who pulls from it: it fills no memory, leaves no file outside DIR, and says nothing to the terminal."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import asyncssh
import pytest
import zstandard

from tests.consumer.copies import Said, consumer
from tests.consumer.sender import SUFFIX, Sender
from tests.servers.http import handled_by
from tests.servers.s3 import S3Server
from waybill.cli.options import complain, dump, write
from waybill.cli.tables import table
from waybill_consumer.errors import Damaged, Refused
from waybill_consumer.manifest import Csv
from waybill_consumer.places import LARGEST_READ
from waybill_consumer.progress import seen
from waybill_consumer.records import LARGEST_RECORD, MOST_FIELDS, records
from waybill_consumer.shapes import ndjson_lines
from waybill_demo.sftp_server import TenantFolder, new_accounts, serve

ESCAPE = "\x1b]0;pwned\x07\x1b[2J"
MANIFEST = "2026/06/01/user/user.manifest.json"


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    sender = Sender(tmp_path / "accounts/acme/exports/acme")
    sender.deliver([("1", "Ada")], kind="full")
    return sender


class Endless(TenantFolder):
    """A list of names without end."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:  # type: ignore[override]
        folder = asyncssh.SFTPAttrs(type=asyncssh.FILEXFER_TYPE_REGULAR, permissions=0o100644, size=1, mtime=1)
        for number in itertools.count():
            yield asyncssh.SFTPName(f"{number}.csv".encode(), attrs=folder)


class Climbs(TenantFolder):
    """Names that lead elsewhere, and folders that are none."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:  # type: ignore[override]
        folder = asyncssh.SFTPAttrs(type=asyncssh.FILEXFER_TYPE_DIRECTORY, permissions=0o040755, mtime=1)
        for name in ("../../outside", "..", "/tmp", "a/../../..", "2026/../..", f"x{ESCAPE}", "2026\n", "..\\..", ""):
            yield asyncssh.SFTPName(name.encode(), attrs=folder)
        async for entry in super().scandir(path):  # type: ignore[misc]
            yield entry


def pulled(tmp_path: Path, view: type[TenantFolder]) -> Said:
    """What a pull from such a server says."""
    accounts = new_accounts(["acme"])
    with serve(accounts, tmp_path / "accounts", tmp_path / "state", view=view) as server:
        hosts = tmp_path / "known_hosts"
        hosts.write_text(f"[{server.host}]:{server.port} {server.host_key}\n")
        source = f"sftp://acme:{accounts['acme']}@{server.host}:{server.port}/exports/acme"
        return consumer("pull", source, tmp_path / "copy", "--known-hosts", hosts)


class Bottomless(TenantFolder):
    """Manifests without end."""

    def fstat(self, file_obj: Any) -> Any:
        return asyncssh.SFTPAttrs(type=asyncssh.FILEXFER_TYPE_REGULAR, permissions=0o100644, size=1 << 50, mtime=1)

    def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        return b" " * size


@pytest.mark.parametrize(("view", "says"), [(Endless, "lists more than 100,000 names"), (Bottomless, "has more than 64 MiB")])
def test_a_server_that_never_ends_fills_no_memory(sender: Sender, tmp_path: Path, view: type[TenantFolder], says: str) -> None:
    said = pulled(tmp_path, view)
    assert (said.code, says in said.err, "Traceback" in said.err) == (1, True, False), said.err


def test_names_that_lead_elsewhere_are_not_followed(sender: Sender, tmp_path: Path) -> None:
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    assert pulled(tmp_path, Climbs).code == 0
    files = {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith(".")} == {MANIFEST, "2026/06/01/user/user.csv"}
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == before


@pytest.mark.fast
@pytest.mark.parametrize(
    "name", ["../user.csv", "/tmp/user.csv", "a/../../user.csv", "..", ".hidden", "a\\b", "a\nb", f"a{ESCAPE}.csv", ""]
)
@pytest.mark.parametrize("field", ["files", "deletes"])
def test_a_manifest_names_files_of_its_own_folder_only(sender: Sender, tmp_path: Path, field: str, name: str) -> None:
    path = sender.root / MANIFEST
    manifest = json.loads(path.read_text())
    file = {**manifest["files"][0], "path": name}
    path.write_text(json.dumps({**manifest, field: [file] if field == "files" else file}))
    said = consumer("pull", sender.root, tmp_path / "copy")
    assert (said.code, list((tmp_path / "copy").rglob("*.csv"))) == (1, [])
    assert "path is not what it should be" in said.err


class Denies(TenantFolder):
    """A file that the server lists and lets nobody read: `error` is what it answers, at once or when the open file is read."""

    denied = b""
    error: ClassVar[asyncssh.SFTPError] = asyncssh.SFTPPermissionDenied("no")
    when_read = False
    opened: ClassVar[set[int]] = set()

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        is_denied = bool(self.denied) and path.endswith(self.denied)
        if is_denied and not self.when_read:
            raise self.error
        file = super().open(path, pflags, attrs)
        if is_denied:
            self.opened.add(id(file))
        return file

    def read(self, file_obj: Any, offset: int, size: int) -> Any:
        if id(file_obj) in self.opened:
            raise self.error
        return super().read(file_obj, offset, size)

    def close(self, file_obj: Any) -> Any:
        self.opened.discard(id(file_obj))
        return super().close(file_obj)


ANSWERS = {  # what the server answers, and whether only when the open file is read
    "denied": (asyncssh.SFTPPermissionDenied("no"), False),
    "fails": (asyncssh.SFTPFailure(""), False),
    "fails when it is read": (asyncssh.SFTPFailure(""), True),
    "locked": (asyncssh.SFTPLockConflict("in use"), False),
}


def too_large(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(LARGEST_READ + 1)  # sparse


def leads_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


UNREADABLE = {  # the file that nobody can read, whether the entity is there all the same, and what is said
    "manifest": (MANIFEST, False, "nothing of its entity comes after it, until a full load"),
    "data": ("2026/06/01/user/user.csv", False, "acme/user stays as it was before sequence 1"),
    "deletes": ("2026/06/01/user/user.deletes.csv", False, "acme/user stays as it was before sequence 1"),
    "list of the date": ("2026/06/01/_MANIFEST.json", True, ""),
    "checksums of the date": ("2026/06/01/SHA256SUMS", True, ""),
    "feed": ("feed.json", True, "the folders were looked through instead"),
}


@pytest.mark.parametrize("trouble", ["too large", "loop", *ANSWERS])
@pytest.mark.parametrize("what", UNREADABLE)
def test_one_file_that_nobody_can_read_keeps_nobody_from_the_others(sender: Sender, tmp_path: Path, what: str, trouble: str) -> None:
    """A pull goes on with what it can read, and names the file."""
    sender.day = 0
    shutil.rmtree(sender.root)
    sender.last.clear()
    sender.deliver([("1", "Ada")], kind="full", deletes=[])
    sender.deliver([("2", "Bob")], kind="full", entity="city")
    path, is_there, says = UNREADABLE[what]
    unreadable = sender.root / path
    if not unreadable.exists():
        unreadable.write_text("{}")
    if trouble not in ANSWERS:
        (too_large if trouble == "too large" else leads_to_itself)(unreadable)
        said = consumer("pull", sender.root, tmp_path / "copy")
    else:
        error, when_read = ANSWERS[trouble]
        facts = {"denied": path.encode(), "error": error, "when_read": when_read, "opened": set()}
        said = pulled(tmp_path, type("DeniesOne", (Denies,), facts))
    came = {file.name for file in (tmp_path / "copy").rglob("*.manifest.json")}
    assert came == {"city.manifest.json", *(["user.manifest.json"] if is_there else [])}, said.err
    assert (said.code, says in said.out + said.err, "Traceback" in said.err) == (0 if is_there else 1, True, False), said
    assert path in said.out + said.err


def endless(form: str) -> bytes:
    """A file of one small record and one of 4 MiB. None of them has a fault but its size."""
    long = "x" * (4 << 20)
    return {
        "a cell": f"id,name\n1,Ada\n2,{long}\n",
        "a cell in quotes": f'id,name\n1,Ada\n2,"{long}"\n',
        "a cell of many lines": 'id,name\n1,Ada\n2,"' + "xxxxxxx\n" * (1 << 19) + '"\n',
        "no end": f"id,name\n1,Ada\n2,{long}",
        "the header": f"id,{long}\n1,Ada\n",
        "ndjson": f'{{"id":1,"name":"Ada"}}\n{{"id":2,"name":"{long}"}}\n',
    }[form].encode()


@pytest.mark.fast
@pytest.mark.parametrize("packing", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("form", ["a cell", "a cell in quotes", "a cell of many lines", "no end", "the header", "ndjson"])
def test_a_record_that_fills_the_memory_is_refused_and_the_limit_named(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, packing: str
) -> None:
    sender.deliver([("1", "Ada")], kind="full", entity="theme")
    plain = endless(form)
    data = {"none": plain, "gzip": gzip.compress(plain, 1), "zstd": zstandard.compress(plain)}[packing]
    path = sender.root / MANIFEST
    manifest = json.loads(path.read_text())
    name = "user" + (".ndjson" if form == "ndjson" else ".csv") + SUFFIX[packing]
    facts = {"path": name, "rows": 2, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path.parent / "user.csv").unlink()
    (path.parent / name).write_bytes(data)
    form_ = {"format": "ndjson"} if form == "ndjson" else {}
    manifest = {**manifest, **form_, "files": [facts], "rows": 2, "bytes": len(data), "sha256": facts["sha256"]}
    path.write_text(json.dumps({**manifest, "csv": {**manifest["csv"], "compression": packing}}))
    monkeypatch.setenv(LARGEST_RECORD, "2")
    for said in (consumer("verify", sender.root), consumer("load", sender.root, "--to", f"sqlite:///{tmp_path / 'copy.db'}")):
        told = said.out + said.err
        assert (said.code, "holds a record of more than 2 MiB" in told, "Traceback" in told) == (1, True, False), told
    assert "WAYBILL_CONSUMER_LARGEST_RECORD" in told
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("select id, name from theme").fetchall() == [(1, "Ada")]  # the other entity goes on


@pytest.mark.fast
@pytest.mark.parametrize("form", ["csv", "quoted", "ndjson"])
def test_what_never_ends_is_given_up_at_the_usual_limit(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LARGEST_RECORD, raising=False)
    block = {"csv": "x" * (1 << 20), "quoted": '"' + ("x" * 1023 + "\n") * 1024, "ndjson": "x" * (1 << 20)}[form]
    read = 0

    def blocks() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield block if read == 1 else block.replace('"', "x")

    with pytest.raises(Refused, match="holds a record of more than 64 MiB"):
        list(ndjson_lines(blocks()) if form == "ndjson" else records(blocks(), Csv()))
    assert 64 <= read <= 66


@pytest.mark.fast
@pytest.mark.parametrize(
    ("form", "made"),
    [("csv", "," * 200_000), ("empty texts", '"",' * 200_000), ("quoted", '"a""b",' * 200_000), ("ndjson", '"":0,' * 200_000)],
)
def test_a_record_of_fields_without_end_is_not_taken_apart_to_its_end(form: str, made: str) -> None:
    if form == "ndjson":
        with pytest.raises(Damaged, match="is no JSON object"):
            list(ndjson_lines([f'{{{made}"":0}}\n']))
        return
    [record] = records([f"{made}\n"], Csv())
    assert len(record) == MOST_FIELDS + 1


@pytest.mark.fast
@pytest.mark.parametrize("said", ["0", "-1", "64MiB", "1.5", "4097", "99999", "٣"])
def test_a_limit_that_is_no_number_of_mib_is_refused(sender: Sender, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(LARGEST_RECORD, said)
    found = consumer("verify", sender.root)
    assert (found.code, f"{LARGEST_RECORD} is no number of MiB" in found.out + found.err) == (1, True), found


class Tricky(BaseHTTPRequestHandler):
    """A bucket that lists one manifest, or that lists names without end, and sends bytes without end."""

    names: ClassVar[bool] = False

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self._list()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 50))
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" " * (1 << 20))

    def _list(self) -> None:
        page = int(dict(parse_qsl(urlsplit(self.path).query)).get("continuation-token", "0"))
        keys = [f"2026/06/01/user/{page}-{number}.csv" for number in range(25_000)] if self.names else [MANIFEST]
        listed = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{page + 1}</NextContinuationToken>" if self.names else ""
        body = f"<ListBucketResult>{more}{listed}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return None


class EndlessList(Tricky):
    names = True


@pytest.mark.parametrize(("handler", "says"), [(EndlessList, "lists more than 100,000 names"), (Tricky, "has more than 64 MiB")])
def test_a_bucket_that_never_ends_fills_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: type[Tricky], says: str
) -> None:
    with handled_by(handler) as url:
        for name, value in S3Server(url).environment.items():
            monkeypatch.setenv(name, value)
        said = consumer("pull", "s3://deliveries", tmp_path / "copy")
    assert (said.code, says in said.err, "Traceback" in said.err) == (1, True, False), said.err


@pytest.mark.fast
def test_what_the_other_side_says_is_shown_and_not_obeyed_by_a_terminal(sender: Sender, tmp_path: Path) -> None:
    folder = sender.root / "2026/06/01" / f"user{ESCAPE}"
    folder.mkdir()
    (folder / f"x{ESCAPE}\u202e.manifest.json").write_text("{}")
    said = consumer("pull", sender.root, tmp_path / "copy")
    assert said.code == 1
    assert all(letter.isprintable() for letter in said.err.replace("\n", "")), said.err
    assert "\\x1b]0;pwned" in said.err


@pytest.mark.fast
def test_texts_of_every_language_stay_as_they_are() -> None:
    text = "Zürich, 10\u00a0km\u3000東京, क्\u200dषि, سلام\u200c\nzwei\tdrei, 👩\u200d🔬"
    assert seen(text) == text


@pytest.mark.fast
def test_the_senders_commands_write_out_what_a_terminal_would_obey_and_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"a{ESCAPE}\u202e\x9b2J\udc80"
    write(text)
    complain(text)
    table(["name", "rows"], [(text, 1)])
    told = capsys.readouterr()
    assert [found for found in told.out + told.err if not found.isprintable() and found != "\n"] == []
    dump({"name": f"a{ESCAPE}\u202e"})
    assert json.loads(capsys.readouterr().out) == {"name": f"a{ESCAPE}\u202e"}


class DeniesFolder(TenantFolder):
    """A folder that the server lists in the one above and nobody may list: `error` is what it answers, at once or after a name."""

    denied = b""
    error: ClassVar[asyncssh.SFTPError] = asyncssh.SFTPFailure("")
    after = 0

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:  # type: ignore[override]
        number = 0
        async for entry in super().scandir(path):  # type: ignore[misc]
            if path.endswith(self.denied) and number >= self.after:
                raise self.error
            number += 1
            yield entry


UNLISTED = {  # the folder that nobody can list, and what comes all the same
    "an entity's": ("2026/06/02/user", {"06/01/city", "06/01/user", "06/02/city", "06/03/city"}),
    "a date's": ("2026/06/02", {"06/01/city", "06/01/user"}),
    "a month's": ("2026/06", set()),
    "a year's": ("/2026", set()),
}
REFUSALS = {
    "fails": asyncssh.SFTPFailure(""),
    "denied": asyncssh.SFTPPermissionDenied("no"),
    "not there": asyncssh.SFTPNoSuchFile("no"),
    "locked": asyncssh.SFTPLockConflict("in use"),
}


@pytest.mark.parametrize(
    ("which", "answer", "after"),
    [*((which, "fails", 0) for which in UNLISTED), *(("an entity's", answer, 0) for answer in REFUSALS), ("an entity's", "fails", 3)],
)
def test_a_folder_that_nobody_can_list_stops_what_is_in_it_and_is_said_until_it_can(
    sender: Sender, tmp_path: Path, which: str, answer: str, after: int
) -> None:
    shutil.rmtree(sender.root)
    sender.last.clear()
    for day in range(3):
        sender.day = day
        for entity in ("user", "city"):
            sender.deliver([(str(day), "Ada")], kind="delta" if day else "full", entity=entity)
    denied, comes = UNLISTED[which]
    view = type("DeniesOneFolder", (DeniesFolder,), {"denied": denied.encode(), "error": REFUSALS[answer], "after": after})

    def held() -> set[str]:
        return {str(path.relative_to(tmp_path / "copy/2026").parent) for path in (tmp_path / "copy").rglob("*.manifest.json")}

    for _ in range(3):  # what nobody could list is not taken for known
        said = pulled(tmp_path, view)
        assert (said.code, "Traceback" in said.err, denied in said.err, held()) == (1, False, True, comes), said.err
    said = pulled(tmp_path, TenantFolder)
    everything = {f"06/0{day}/{entity}" for day in (1, 2, 3) for entity in ("user", "city")}
    assert (said.code, held()) == (0, everything), said.err


class FailsWhenAskedAgain(TenantFolder):
    """Lists a date once, and of the folders in it says that they are not there."""

    asked: ClassVar[list[bytes]] = []

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:  # type: ignore[override]
        if path.endswith(b"/02/user"):
            raise asyncssh.SFTPNoSuchFile("no")
        if path.endswith(b"/02"):
            self.asked.append(path)
            if len(self.asked) > 1:
                raise asyncssh.SFTPFailure("")
        async for entry in super().scandir(path):  # type: ignore[misc]
            yield entry


def test_a_date_that_cannot_be_listed_once_more_stops_what_is_in_it_only(sender: Sender, tmp_path: Path) -> None:
    for day in (1, 2):
        sender.day = day
        sender.deliver([(str(day), "Ada")], kind="full", entity="city" if day == 2 else "user")
    said = pulled(tmp_path, FailsWhenAskedAgain)
    assert (said.code, len(FailsWhenAskedAgain.asked)) == (1, 2), said.err
    assert "cannot read it: no reason is given. What it holds is fetched once it can be listed" in said.err
    assert (tmp_path / "copy/2026/06/03/city/city.manifest.json").exists()
