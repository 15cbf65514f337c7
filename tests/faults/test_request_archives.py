"""An archive that is full or read-only while an export is made for somebody: it fails as what it is, at once, and others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exports import make_office
from tests.faults.processes import Launcher
from waybill.destinations.archives import archive_name
from waybill.ledger.on_demand import requests
from waybill.requests import following

CALLS = {
    "folder": "mkdir",
    "file": "openat",
    "bytes": "write",
    "rename": "rename",
}
ERRORS = {
    "ENOSPC": ("storage_full", "There was no space left for the archive.", "the archive is full"),
    "EDQUOT": ("storage_full", "There was no space left for the archive.", "the archive is full"),
    "EROFS": ("internal", "The archive could not be stored.", "the archive refuses this account"),
    "EACCES": ("internal", "The archive could not be stored.", "the archive refuses this account"),
    "EIO": ("internal", "The archive could not be stored.", "the archive cannot be reached"),
}
CASES = [("folder", "ENOSPC"), ("folder", "EROFS"), ("file", "EDQUOT"), ("bytes", "ENOSPC"), ("rename", "EACCES")]


@pytest.mark.parametrize(("call", "error"), CASES, ids=["-".join(case) for case in CASES])
def test_an_archive_that_takes_nothing_fails_the_export_as_what_it_is(launcher: Launcher, tmp_path: Path, call: str, error: str) -> None:
    office = make_office(tmp_path / "office")
    office.measure(1)
    export = office.ask()
    office.place.close()
    root = tmp_path / "archive"
    final = root / "requests" / archive_name("acme", export.id, 1)
    part = final.with_name(f".{final.name}.part")
    only = {"folder": root / "requests", "file": part, "bytes": part, "rename": part}[call]
    env = {"WAYBILL_ARCHIVE_URL": str(root)}
    done = launcher.start(office.place.root, "fulfil", "--json", env=env, inject=f"{CALLS[call]}:error={error}", only=str(only)).wait()
    code, message, told = ERRORS[error]
    logged = told if call in ("folder", "rename") else f"cannot write {part.name}"
    assert done.status == 1, done.said
    assert "Traceback" not in done.said
    assert logged in done.said
    installation = office.installation()
    with installation.ledger.read() as connection:
        found = requests.get(connection, export.id)
    assert found is not None
    failed = following.describe_request(installation, found)
    assert (failed.status, failed.error and failed.error.code, failed.error and failed.error.message) == ("failed", code, message)
    assert "WAYBILL_ARCHIVE_URL" not in str(failed), "what the house has to do is for its log"
    assert not [path for path in root.rglob("*") if path.is_file()]
    again = office.ask()
    assert launcher.run(office.place.root, "fulfil", env=env).status == 0
    assert (root / "requests" / archive_name("acme", again.id, 1)).exists()
    office.place.close()


def test_a_spool_that_is_no_folder_fails_the_export_and_says_what_to_set(launcher: Launcher, tmp_path: Path) -> None:
    office = make_office(tmp_path / "office")
    office.measure(1)
    export = office.ask()
    office.place.close()
    (tmp_path / "spool").touch()
    done = launcher.run(office.place.root, "fulfil", env={"WAYBILL_SPOOL_DIR": str(tmp_path / "spool")})
    assert "Let WAYBILL_SPOOL_DIR name a folder that this account may write to" in done.said
    with office.installation().ledger.read() as connection:
        found = requests.get(connection, export.id)
    assert found is not None
    assert (found.status, found.error_code, found.error_message) == ("failed", "internal", "The archive could not be stored.")
    office.place.close()


def test_a_disk_that_neither_takes_nor_gives_back_a_file_fails_the_export_as_what_it_is(launcher: Launcher, tmp_path: Path) -> None:
    office = make_office(tmp_path / "office")
    office.measure(1)
    export = office.ask()
    office.place.close()
    only = tmp_path / f"spool/requests/{export.id}.1/measurement.ndjson"
    running = launcher.start(
        office.place.root, "fulfil", env={"WAYBILL_SPOOL_DIR": str(tmp_path / "spool")}, inject="write,unlink:error=EROFS", only=str(only)
    )
    done = running.wait()
    assert ("Traceback" in done.said, "cannot write measurement.ndjson: Read-only file system" in done.said) == (False, True), done.said
    with office.installation().ledger.read() as connection:
        found = requests.get(connection, export.id)
    assert found is not None
    assert (found.status, found.error_message) == ("failed", "The archive could not be stored.")
    office.place.close()
