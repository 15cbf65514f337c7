"""The scheduled path over real SFTP servers: what a consumer finds there, read back with OpenSSH's own client."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.installations import DAY, NOON, Place, make_place
from tests.servers.proftpd import serve_proftpd
from tests.servers.sshd import SftpAccess
from waybill.connection import Connection
from waybill.errors import PermanentError, TransientError
from waybill.ledger import destinations
from waybill.registrations.applying import apply

MIDNIGHT = NOON.replace(hour=0)
WRITE_ONLY = "\n".join(f"<Limit {verb}>\n  DenyAll\n</Limit>" for verb in ("READ", "DIRS", "RNFR", "RNTO", "DELE"))


def connection_to(server: SftpAccess, **extra: str) -> Connection:
    key = server.private_key.read_text()
    return Connection(
        "consumer", "sftp", server.host, server.port, server.login, extra={"private_key": key, "host_key": server.host_key, **extra}
    )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(make_place(tmp_path)) as place:
        place.user(1, "Ada", MIDNIGHT - DAY)
        yield place


def consume(server: SftpAccess, into: Path) -> list[str]:
    into.mkdir()
    server.sftp(f"get -r {server.remote_root}/exports {into}/")
    return sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file())


def test_a_consumer_finds_full_loads_then_deltas_over_openssh(place, sshd, tmp_path):
    place.connections["consumer"] = connection_to(sshd)
    place.tenant(destination={"kind": "sftp", "connection": "consumer", "root": sshd.remote_root})
    assert not [result.error for result in place.run(NOON) if result.error]
    place.user(2, "Bob", MIDNIGHT + DAY / 2)
    assert not [result.error for result in place.run(NOON + DAY) if result.error]
    names = consume(sshd, place.out)
    folder = "exports/acme/2026/06/01/"
    assert [name.removeprefix(folder) for name in names if name.startswith(folder)] == [
        "_MANIFEST.json",
        "theme/theme.csv",
        "theme/theme.manifest.json",
        "user/user.csv",
        "user/user.manifest.json",
    ]
    assert [row[1] for row in place.rows()] == ["Ada", "Bob"]
    assert not any(name.endswith(".part") for name in names)


@pytest.mark.parametrize(
    ("change", "kind", "parts"),
    [
        pytest.param(
            {"host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIy3gm7mNNjVWYlO9Q2bqfm2RRBmGqDJCBdKMHQQ2aGA"},
            PermanentError,
            ["SHA256:"],
            id="host key",
        ),
        pytest.param({"port": 1}, TransientError, ["127.0.0.1"], id="unreachable"),
    ],
)
def test_a_destination_in_trouble_is_one_clear_message_and_the_next_run_repairs_it(place, sshd, change, kind, parts):
    good = connection_to(sshd)
    port = change.pop("port", good.port)
    place.connections["consumer"] = Connection("consumer", "sftp", good.host, port, good.login, extra={**good.extra, **change})
    place.tenant(destination={"kind": "sftp", "connection": "consumer", "root": sshd.remote_root})
    results = place.run(NOON)
    assert {type(result.error).__mro__[0] for result in results} <= {kind, *kind.__subclasses__()}
    for part in ["acme", *parts]:
        assert part in str(results[0].error)
    assert "PRIVATE KEY" not in str(results[0].error)
    place.connections["consumer"] = good
    assert {result.outcome.status for result in place.run(NOON) if result.outcome} == {"committed"}


def test_a_missing_connection_stops_that_tenant_only(place, sshd):
    place.tenant("globex", destination={"kind": "sftp", "connection": "nobody_knows"})
    results = place.run(NOON, tenant="globex")
    assert {result.error.code for result in results if result.error} == {"missing_connection"}
    assert "globex" in str(results[0].error)
    assert {result.outcome.status for result in place.run(NOON) if result.outcome} == {"committed"}


def test_a_drop_box_gets_uniquely_named_files_and_the_manifest_last(place, tmp_path):
    with serve_proftpd(directory=WRITE_ONLY) as server:
        for folder in ("user", "theme"):
            (server.root / "exports/acme/2026/05/31" / folder).mkdir(parents=True)
        for path in [server.root / "exports", *(server.root / "exports").rglob("*")]:
            path.chmod(0o777)
        place.connections["consumer"] = connection_to(server)
        place.tenant(destination={"kind": "sftp", "connection": "consumer", "root": server.remote_root})
        installation = place.installation()
        apply(installation, actor="test")
        with installation.ledger.begin() as connection:
            destinations.store_probe(connection, "acme", {"profile": "dropbox"}, NOON)
        results = place.run(NOON)
        assert [str(result.error) for result in results if result.error] == []
        folder = server.root / "exports/acme/2026/05/31/user"
        manifests = list(folder.glob("*.manifest.json"))
        assert len(manifests) == 1
        manifest = json.loads(manifests[0].read_text())
        assert [(folder / file["path"]).stat().st_size for file in manifest["files"]] == [manifest["bytes"]]
        assert (server.root / "exports/acme/2026/05/31/_MANIFEST.json").exists()
