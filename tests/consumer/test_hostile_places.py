"""A place that wants to harm who pulls from it: it fills no memory, leaves no file outside DIR, and says nothing to the terminal."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.consumer.copies import Said, consumer
from tests.consumer.sender import Sender
from waybill.cli.options import complain, dump, write
from waybill.cli.tables import table
from waybill_consumer.places import LARGEST_READ
from waybill_consumer.progress import seen
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


@pytest.mark.fast
def test_a_manifest_or_list_that_fills_the_memory_is_refused_in_a_folder_too(sender: Sender, tmp_path: Path) -> None:
    with (sender.root / MANIFEST).open("r+b") as file:
        file.truncate(LARGEST_READ + 1)  # sparse
    said = consumer("pull", sender.root, tmp_path / "copy")
    assert (said.code, "has more than 64 MiB" in said.err) == (1, True), said.err


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
