"""Killed before any system call that changes something, a run that is started again loses and repeats nothing."""

import pytest

from tests.faults import FULL, SEED, scenes
from tests.faults.sweep import sweep
from tests.servers.sshd import serve_sshd

SHORT = {
    "first": 5,
    "delta": 6,
    "parts": 5,
    "vanished": 6,
    "later": 4,
    "resumed": 4,
    "sftp": 4,
    "feed": 6,
    "signed": 6,
    "parquet": 4,
    "ndjson": 4,
}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        pytest.param("first", scenes.first, id="first"),
        pytest.param("delta", scenes.delta, id="delta"),
        pytest.param("parts", scenes.parts, id="parts"),
        pytest.param("vanished", scenes.vanished, id="vanished"),
        pytest.param("later", scenes.compared_later, id="later", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_any_change_is_made_good_by_the_next(launcher, tmp_path, name, build):
    swept = sweep(launcher, build(tmp_path / name), tmp_path / "points", some=None if FULL else SHORT[name], seed=SEED)
    print(swept)
    assert not swept.violations


def test_a_run_killed_at_any_change_leaves_a_feed_that_names_what_is_there(launcher, tmp_path):
    scene = scenes.delta(tmp_path / "feed", landing={"status": True})
    swept = sweep(launcher, scene, tmp_path / "points", some=None if FULL else SHORT["feed"], seed=SEED)
    print(swept)
    assert not swept.violations


@pytest.mark.slow
def test_a_run_killed_at_any_change_shows_no_manifest_without_its_signature(launcher, tmp_path):
    swept = sweep(launcher, scenes.signed(tmp_path / "signed"), tmp_path / "points", some=None if FULL else SHORT["signed"], seed=SEED)
    print(swept)
    assert not swept.violations


@pytest.mark.parametrize("format", ["parquet", "ndjson"])
def test_a_run_that_delivers_other_shapes_killed_at_any_change_is_made_good_by_the_next(launcher, tmp_path, format):
    scene = scenes.delta(tmp_path / format, files={"format": format}, csv={"compression": "gzip", "max_rows_per_file": 2})
    swept = sweep(launcher, scene, tmp_path / "points", some=None if FULL else SHORT[format], seed=SEED)
    print(swept)
    assert not swept.violations


def test_a_run_killed_while_it_makes_good_an_earlier_crash_is_made_good_as_well(launcher, tmp_path):
    some = 150 if FULL else SHORT["resumed"]
    swept = sweep(launcher, scenes.delta(tmp_path / "resumed"), tmp_path / "points", some=some, twice=True, seed=SEED)
    print(swept)
    assert not swept.violations


def test_a_run_over_sftp_killed_at_any_change_is_made_good_by_the_next(launcher, tmp_path):
    with serve_sshd() as server:
        scene = scenes.over_sftp(tmp_path / "sftp", server)
        swept = sweep(launcher, scene, tmp_path / "points", some=None if FULL else SHORT["sftp"], seed=SEED)
    print(swept)
    assert not swept.violations
