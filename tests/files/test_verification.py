"""A consumer's check finds every way a delivery can be wrong, and accepts every way it may look."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import zstandard

from waybill.canonical import csv_line, timestamp_text
from waybill.destinations.folder import Folder
from waybill.files.verification import verify
from waybill_consumer.manifest import Csv
from waybill_consumer.verification import Report
from waybill_consumer.verification.recount import recount

pytestmark = pytest.mark.fast

START = datetime(2026, 6, 1, tzinfo=UTC)
PLAIN: dict[str, Any] = {"delimiter": ",", "line_ending": "\n", "bom": False, "compression": "none"}
ROWS: list[list[str | None]] = [["1", "Ada"], ["2", None], ["3", ""], ["4", 'two\nlines, "quoted"\r\nand a lone\rreturn']]


@dataclass
class Installation:
    """Deliveries written by hand, as the contract says, without Waybill's own code for it."""

    root: Path
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def folder(self, day: int) -> Path:
        return self.root / "exports" / "acme" / "2026" / "06" / f"{day:02d}" / "user"

    def deliver(self, rows: list[list[str | None]] = ROWS, name: str = "", **changed: Any) -> Path:
        """Write the next delivery of the chain; returns its manifest's path."""
        sequence = len(self.manifests) + 1
        dialect = {**PLAIN, **changed.pop("csv", {})}
        folder = self.folder(sequence)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = {"none": "", "gzip": ".gz", "zstd": ".zst"}[dialect["compression"]]
        stem = name or "user"
        data = packed(rows, dialect)
        (folder / f"{stem}.csv{suffix}").write_bytes(data)
        last = self.manifests[-1] if self.manifests else None
        file = {"path": f"{stem}.csv{suffix}", "rows": len(rows), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest = {
            "format_version": 1,
            "delivery_id": f"{sequence:032x}",
            "tenant": "acme",
            "entity": "user",
            "entity_name": "user",
            "generation": 1,
            "sequence": sequence,
            "previous": last and {"sequence": last["sequence"], "sha256": last["sha256"]},
            "kind": "delta" if last else "full",
            "window": {"from": last and last["window"]["to"], "to": at(sequence), "mode": "lookback"},
            "position": {"from": None, "to": at(sequence)},
            "snapshot_time": at(sequence),
            "rows": len(rows),
            "bytes": len(data),
            "sha256": file["sha256"],
            "files": [file],
            "columns": [{"name": "id", "type": "integer", "description": ""}, {"name": "name", "type": "string", "description": ""}],
            "key": ["id"],
            "schema_version": 1,
            "csv": {**dialect, "quote": '"', "escape": '"', "null": "", "header": True, "encoding": "utf-8"},
            "possible_duplicate": False,
            "tombstone_column": None,
            "produced_by": "a test",
            **changed,
        }
        self.manifests.append(manifest)
        path = folder / f"{stem}.manifest.json"
        path.write_text(json.dumps(manifest))
        return path

    def close_day(self, sequence: int, **changed: Any) -> Path:
        item = self.manifests[sequence - 1]
        files = [{**file, "path": f"user/{file['path']}"} for file in item["files"]]
        entry = {name: item[name] for name in ("entity", "delivery_id", "kind", "generation", "sequence", "rows", "bytes", "sha256")}
        entry |= {"manifest": "user/user.manifest.json", "files": files, **changed}
        day = {"format_version": 1, "tenant": "acme", "date": f"2026-06-{sequence:02d}", "number": 1, "deliveries": [entry]}
        path = self.folder(sequence).parent / "_MANIFEST.json"
        path.write_text(json.dumps(day | {"rows": entry["rows"], "bytes": entry["bytes"]}))
        return path

    def verify(self, below: str = ".") -> Report:
        root = (self.root / below).resolve()
        with Folder(root).connect() as session:
            return verify(session, str(root))


def at(day: int) -> str:
    return timestamp_text(START + timedelta(days=day))


def packed(rows: list[list[str | None]], dialect: dict[str, Any]) -> bytes:
    lines = [csv_line(row, dialect["delimiter"], dialect["line_ending"]) for row in [["id", "name"], *rows]]
    data = (b"\xef\xbb\xbf" if dialect["bom"] else b"") + "".join(lines).encode()
    if dialect["compression"] == "gzip":
        return gzip.compress(data)
    return zstandard.compress(data) if dialect["compression"] == "zstd" else data


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def problems(report: Report) -> list[str]:
    return [f"{problem.path.rpartition('/')[2]}: {problem.what}" for problem in report.problems]


def test_whole_deliveries_pass_with_their_numbers(installation: Installation) -> None:
    for _ in range(3):
        installation.deliver()
    installation.close_day(1)
    report = installation.verify()
    assert (report.problems, report.notes) == ([], [])
    assert (report.manifests, report.files, report.rows, report.streams) == (3, 3, 12, 1)
    assert report.as_json()["whole"] is True


@pytest.mark.parametrize(
    "dialect",
    [
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"line_ending": "\r\n"},
        {"bom": True},
        {"compression": "gzip"},
        {"compression": "zstd"},
        {"delimiter": "|", "line_ending": "\r\n", "bom": True, "compression": "gzip"},
    ],
    ids=str,
)
def test_every_dialect_is_read_as_its_manifest_says(installation: Installation, dialect: dict[str, Any]) -> None:
    installation.deliver(csv=dialect)
    report = installation.verify()
    assert report.problems == []
    assert report.rows == 4


@pytest.mark.parametrize(
    "below", [".", "exports", "exports/acme", "exports/acme/2026/06", "exports/acme/2026/06/02", "exports/acme/2026/06/02/user"]
)
def test_any_depth_can_be_checked(installation: Installation, below: str) -> None:
    installation.deliver()
    installation.deliver()
    assert installation.verify(below).problems == []


def test_a_header_only_file_is_whole(installation: Installation) -> None:
    installation.deliver(rows=[])
    assert installation.verify().problems == []


def test_an_empty_place_is_not_taken_for_a_good_one(installation: Installation) -> None:
    assert problems(installation.verify()) == [": there is no manifest here: nothing was delivered to this place"]


def append(path: Path, more: bytes) -> None:
    path.write_bytes(path.read_bytes() + more)


def edit(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def unlink(path: Path) -> None:
    path.unlink()


DAMAGES: dict[str, tuple[Callable[[Installation, Path], Any], str]] = {
    "a flipped byte": (lambda installation, path: path.write_bytes(path.read_bytes().replace(b"Ada", b"Abe")), "user.csv: has SHA-256"),
    "a lost tail": (lambda installation, path: path.write_bytes(path.read_bytes()[:-3]), "user.csv: has .* bytes, its manifest says"),
    "a record too many": (lambda installation, path: append(path, b"5,Eve\n"), "user.csv: has 5 records, its manifest says 4"),
    "a record cut in a quoted field": (
        lambda installation, path: path.write_bytes(path.read_bytes()[:-8]),
        "ends inside a record",
    ),
    "a field too many": (lambda installation, path: append(path, b"5,Eve,x\n"), "1 records do not have 2 fields"),
    "another header": (lambda installation, path: path.write_bytes(path.read_bytes().replace(b"id,", b"ID,")), "has the header ID, name"),
    "bytes that are not UTF-8": (lambda installation, path: append(path, b"5,\xff\n"), "is not UTF-8"),
    "a missing file": (lambda installation, path: path.unlink(), "user.csv: is listed in its manifest and missing"),
    "an empty file": (lambda installation, path: path.write_bytes(b""), "is empty: not even a header"),
    "a missing manifest": (
        lambda installation, path: path.with_name("user.manifest.json").unlink(),
        "user.csv: no manifest lists it: not delivered",
    ),
    "a manifest that is not JSON": (
        lambda installation, path: path.with_name("user.manifest.json").write_text("{"),
        "user.manifest.json: is not a Waybill manifest",
    ),
    "a manifest without a field of the contract": (
        lambda installation, path: path.with_name("user.manifest.json").write_text('{"format_version": 1}'),
        "user.manifest.json: is not a Waybill manifest: window is missing",
    ),
    "a manifest whose sums are wrong": (
        lambda installation, path: edit(path.with_name("user.manifest.json"), rows=5),
        "says 5 rows and .* bytes, its files add up to 4",
    ),
    "another tenant's manifest": (
        lambda installation, path: edit(path.with_name("user.manifest.json"), tenant="globex"),
        "is of tenant globex, entity user, and does not belong here",
    ),
    "a file name that leads elsewhere": (
        lambda installation, path: edit(
            path.with_name("user.manifest.json"), files=[{"path": "../x.csv", "rows": 0, "bytes": 0, "sha256": "0" * 64}]
        ),
        "not a Waybill manifest: files.0.path",
    ),
}


@pytest.mark.parametrize(("damage", "found"), DAMAGES.values(), ids=DAMAGES)
def test_every_damage_is_found(installation: Installation, damage: Callable[[Installation, Path], Any], found: str) -> None:
    installation.deliver()
    damage(installation, installation.folder(1) / "user.csv")
    report = installation.verify()
    assert not report.is_whole
    assert any(re.search(found, problem) for problem in problems(report)), problems(report)


def test_a_symlink_in_the_place_of_a_file_is_not_followed(installation: Installation, tmp_path: Path) -> None:
    installation.deliver()
    path = installation.folder(1) / "user.csv"
    path.rename(tmp_path / "elsewhere.csv")
    path.symlink_to(tmp_path / "elsewhere.csv")
    assert any("user.csv: is listed in its manifest and missing" in problem for problem in problems(installation.verify()))


def test_a_truncated_gzip_file_is_not_whole(installation: Installation) -> None:
    installation.deliver(csv={"compression": "gzip"})
    path = installation.folder(1) / "user.csv.gz"
    path.write_bytes(path.read_bytes()[:-6])
    assert any("is not whole gzip data" in problem for problem in problems(installation.verify()))


def test_the_first_deliveries_may_have_been_collected(installation: Installation) -> None:
    for _ in range(3):
        installation.deliver()
    unlink(installation.folder(1) / "user.manifest.json")
    unlink(installation.folder(1) / "user.csv")
    report = installation.verify()
    assert report.problems == []
    assert ["the chain begins with sequence 2" in note.what for note in report.notes] == [True]


def test_a_hole_in_the_chain_is_a_problem(installation: Installation) -> None:
    for _ in range(4):
        installation.deliver()
    for sequence in (2, 3):
        unlink(installation.folder(sequence) / "user.manifest.json")
        unlink(installation.folder(sequence) / "user.csv")
    assert problems(installation.verify()) == ["user.manifest.json: sequence 2 to 3 of acme/user generation 1 is missing before it"]


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"window": {"from": at(9), "to": at(10), "mode": "lookback"}}, "its window begins at"),
        ({"previous": {"sequence": 1, "sha256": "0" * 64}}, "names another previous file"),
        ({"previous": None}, "does not name sequence 1 as its previous"),
        ({"window": {"from": at(1), "to": at(1), "mode": "lookback"}}, "is empty or reversed"),
        ({"sequence": 1}, "was delivered twice"),
    ],
    ids=["gap", "other previous", "no previous", "empty window", "same sequence"],
)
def test_a_broken_chain_is_a_problem(installation: Installation, changed: dict[str, Any], found: str) -> None:
    installation.deliver()
    installation.deliver(**changed)
    assert any(found in problem for problem in problems(installation.verify()))


def test_a_redelivery_stands_beside_its_original_or_in_its_place(installation: Installation) -> None:
    installation.deliver()
    first = installation.manifests[0]
    installation.deliver()
    again = {name: first[name] for name in ("sequence", "previous", "window", "kind")}
    installation.deliver(name="user.g1.1.r2", possible_duplicate=True, redelivers=first["delivery_id"], **again)
    assert installation.verify().problems == []
    unlink(installation.folder(1) / "user.manifest.json")
    unlink(installation.folder(1) / "user.csv")
    assert installation.verify().problems == []


def test_a_redelivery_of_other_bytes_is_a_problem(installation: Installation) -> None:
    installation.deliver()
    again = {name: installation.manifests[0][name] for name in ("sequence", "previous", "window", "kind")}
    installation.deliver(rows=[["9", "other"]], name="user.g1.1.r2", possible_duplicate=True, redelivers="x", **again)
    assert any("holds other bytes" in problem for problem in problems(installation.verify()))


def test_a_backfill_stands_apart_from_the_chain(installation: Installation) -> None:
    installation.deliver()
    installation.deliver(kind="backfill", sequence=0, previous=None)
    assert installation.verify().problems == []


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"rows": 3}, "says other rows than user/user.manifest.json"),
        ({"sha256": "0" * 64}, "says other sha256"),
        ({"files": []}, "says other files"),
        ({"manifest": "site/site.manifest.json"}, "lists site/site.manifest.json, which is missing"),
    ],
    ids=["rows", "sha256", "files", "manifest"],
)
def test_a_day_manifest_must_agree_with_the_manifests(installation: Installation, changed: dict[str, Any], found: str) -> None:
    installation.deliver()
    installation.close_day(1, **changed)
    assert any(found in problem for problem in problems(installation.verify()))


NOT_AN_ENTRY: list[dict[str, Any]] = [{"files": ["user.csv"]}, {"manifest": 5}, {"delivery_id": []}, {"entity": {}}, {"sha256": None}]


@pytest.mark.parametrize("changed", NOT_AN_ENTRY, ids=repr)
def test_a_day_manifest_with_an_entry_that_is_none_is_told_as_that(installation: Installation, changed: dict[str, Any]) -> None:
    installation.deliver()
    installation.close_day(1, **changed)
    assert any("is not a day manifest" in problem for problem in problems(installation.verify()))


def test_a_delivery_that_was_collected_whole_is_only_noted_by_the_day_manifest_that_lists_it(installation: Installation) -> None:
    for number in (1, 2):
        installation.deliver()
        installation.close_day(number)
    unlink(installation.folder(1) / "user.csv")
    assert problems(installation.verify()) != [], "half of it is there"
    unlink(installation.folder(1) / "user.manifest.json")
    report = installation.verify()
    assert problems(report) == []
    assert any("lists user/user.manifest.json, which was taken away" in str(note) for note in report.notes)


def test_the_newest_delivery_that_a_day_manifest_lists_must_be_there(installation: Installation) -> None:
    for number in (1, 2):
        installation.deliver()
        installation.close_day(number)
    for name in ("user.csv", "user.manifest.json"):
        unlink(installation.folder(2) / name)
    assert any("lists user/user.manifest.json, which is missing" in problem for problem in problems(installation.verify()))


def test_hidden_parts_and_foreign_files_are_only_noted(installation: Installation) -> None:
    installation.deliver()
    folder = installation.folder(1)
    (folder / f".user.csv.{'a' * 32}.part").write_bytes(b"half")
    hidden = folder.parent / f".site.{'b' * 32}.part"
    hidden.mkdir()
    (hidden / "site-0001.csv").write_bytes(b"half")
    (folder / "README.txt").write_text("mine")
    (folder / "my notes.csv").write_text("mine")
    report = installation.verify()
    assert report.problems == []
    assert sorted(note.what for note in report.notes) == ["is an unfinished part, ignored"] * 2 + ["is not Waybill's, ignored"] * 2


def test_memory_stays_flat_over_a_long_file() -> None:
    peaks = []
    for size in (200, 800):
        blocks = chain([b"id,name\n"], repeat(b"1,x\n" * 1000, size))
        tracemalloc.start()
        found = recount(blocks, Csv(**PLAIN), 2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (found.rows, found.bytes, found.faults) == (size * 1000, 8 + size * 4000, ())
    assert peaks[1] < 1.2 * peaks[0]


def test_small_blocks_change_nothing() -> None:
    data = packed(ROWS, {**PLAIN, "bom": True})
    whole = recount([data], Csv(**{**PLAIN, "bom": True}), 2)
    assert recount((data[at : at + 1] for at in range(len(data))), Csv(**{**PLAIN, "bom": True}), 2) == whole
    assert (whole.rows, whole.faults, whole.header) == (4, (), ("id", "name"))
