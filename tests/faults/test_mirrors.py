"""A copy kept by `waybill-consumer` holds exactly the source's rows after every delivery, whatever happens to source and registration."""

import pytest

from tests.faults import FULL, SEED
from tests.faults.mirror import Mirror
from tests.faults.mirror_sources import books
from tests.servers.pgbouncer import serve_pgbouncer


@pytest.fixture
def pooled(postgres):
    with serve_pgbouncer(postgres) as pool:
        yield pool


def live_through(mirror, kind, days=3):
    for _ in mirror.steps(40 if FULL else days):
        assert mirror.trouble == [], "\n".join(mirror.done[-40:])
    print(f"mirror {kind} {mirror.seed}: {mirror.compared} comparisons")
    assert mirror.compared


@pytest.mark.parametrize("seed", range(SEED, SEED + (20 if FULL else 1)))
@pytest.mark.parametrize("kind", ["postgres", "pgbouncer", "duckdb", "lake", "sqlite", "mariadb"])
def test_a_copy_equals_the_source_after_every_delivery(launcher, tmp_path, request, kind, seed):
    live_through(Mirror(tmp_path, launcher, books(kind, tmp_path, request.getfixturevalue), seed, small=not FULL), kind)


@pytest.mark.parametrize("seed", range(SEED, SEED + (20 if FULL else 1)))
def test_so_does_a_copy_of_what_lies_on_an_sftp_server(launcher, tmp_path, request, sshd, seed):
    source = books("duckdb", tmp_path, request.getfixturevalue)
    live_through(Mirror(tmp_path, launcher, source, seed, sshd, small=not FULL), "duckdb to sshd", days=2)
