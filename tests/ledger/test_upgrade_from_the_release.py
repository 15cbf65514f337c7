"""The released version delivers, today's code goes on, and back and forth once more, by the release's own code from the history."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import duckdb
import pytest
import yaml

from tests.consumer.copies import rows, well
from tests.ledger.test_upgrades import RELEASED, move
from waybill.files import places
from waybill.ledger import Ledger

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
COMMANDS = """
import sys, yaml
import waybill
from waybill.cli import main
include, *commands = yaml.safe_load(sys.argv[1])
assert waybill.__file__.startswith(include)
for words in commands:
    sys.argv = ["waybill", *words]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""
ENTITY = {
    "source": "shop", "relation": "orders", "tenant_column": "tenant_id", "key": ["id"], "deleted_column": "deleted_at",
    "changes": {"mode": "lookback", "column": "updated_at", "lookback": "24h"},
    "columns": {"id": {"type": "integer"}, "note": {"type": "string", "export": "anonymize"}, "updated_at": {"type": "timestamp"},
        "deleted_at": {"type": "timestamp"}},
}  # fmt: skip


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(REPOSITORY), *words], capture_output=True, timeout=60, check=False).stdout


def release() -> str:
    """The last commit of the day the changelog gives for 0.1.0; empty in a clone that does not reach back to it."""
    found = re.search(r"^## 0\.1\.0 \((\S+)\)$", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert found
    commit = git("rev-list", "-1", f"--before={found[1]}T23:59:59Z", "HEAD").decode().strip()
    return commit if commit and b'"0.1.0"' in git("show", f"{commit}:include/waybill/__init__.py") else ""


class Estate:
    """A database, its configuration, and one ledger that both versions use in turn."""

    def __init__(self, root: Path, ledger: str) -> None:
        self.root, self.ledger = root, ledger
        self.settings = {"WAYBILL_CONFIG_DIR": str(root / "config"), "WAYBILL_LEDGER_URL": ledger}
        self.sql("CREATE TABLE orders (tenant_id VARCHAR, id INTEGER, note VARCHAR, updated_at TIMESTAMPTZ, deleted_at TIMESTAMPTZ)")
        (root / "config/tenants").mkdir(parents=True)
        catalog = {"sources": {"shop": {"kind": "duckdb", "path": "shop.duckdb"}}, "entities": {"orders": ENTITY}}
        (root / "config/catalog.yaml").write_text(yaml.safe_dump(catalog))
        for tenant in ("acme", "globex"):
            words = {"exportOption": "export all", "destination": {"kind": "folder", "root": "out"}}
            (root / f"config/tenants/{tenant}.yaml").write_text(yaml.safe_dump(words))

    def sql(self, statement: str) -> None:
        with duckdb.connect(str(self.root / "shop.duckdb")) as connection:
            connection.execute(statement)

    def order(self, number: int, day: int, tenant: str = "acme") -> None:
        self.sql(f"INSERT INTO orders VALUES ('{tenant}', {number}, 'note', '2026-06-{day:02} 12:00+00', NULL)")

    def by(self, include: Path, *commands: list[str]) -> None:
        """Run commands with the code that lies there, in one process."""
        settings = {"PYTHONPATH": str(include), "PATH": "/usr/bin:/bin", "HOME": str(self.root), **self.settings}
        argv = [sys.executable, "-W", "ignore", "-c", COMMANDS, yaml.safe_dump([str(include), *commands])]
        done = subprocess.run(argv, cwd=self.root, env=settings, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def delivered(self) -> list[tuple[int, int]]:
        """Number and rows of acme's deliveries, once everything that is there is whole and a consumer's copy equals the source."""
        assert places.verify(str(self.root / "out"), pytest.fail).is_whole
        copy, database = self.root / "copy", f"sqlite:{self.root}/copy.db"
        well("pull", self.root / "out/exports/acme", copy)
        well("load", copy, "--to", database)
        assert well("verify", copy)["whole"]
        with duckdb.connect(str(self.root / "shop.duckdb")) as connection:
            asked = "SELECT id, deleted_at IS NOT NULL FROM orders WHERE tenant_id = 'acme' ORDER BY id"
            source = connection.execute(asked).fetchall()
        assert rows(database, "orders", "id, deleted_at is not null") == [(number, int(is_gone)) for number, is_gone in source]
        manifests = [yaml.safe_load(path.read_text()) for path in (self.root / "out/exports/acme").rglob("orders*.manifest.json")]
        return sorted((manifest["sequence"], manifest["rows"]) for manifest in manifests if manifest["kind"] != "backfill")


def run(tenant: str, day: int) -> list[str]:
    return ["run", tenant, "--until", f"2026-06-{day:02}T00:00:00Z"]


if release():  # a clone without history has nothing to rehearse with

    @pytest.mark.parametrize("kind", ["sqlite", "postgres"])
    def test_deliveries_go_on_from_the_release_and_back_and_forth(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
        released = tmp_path / "release/include"
        with tarfile.open(fileobj=BytesIO(git("archive", release(), "include"))) as packed:
            packed.extractall(released.parent, filter="data")
        ledger = request.getfixturevalue("postgres").url if kind == "postgres" else f"sqlite:///{tmp_path}/ledger.db"
        estate = Estate(tmp_path, ledger)
        estate.order(1, 1)
        estate.order(2, 1)
        estate.order(3, 1, tenant="globex")
        backfill = ["backfill", "acme", "orders", "--from", "2026-06-01T00:00:00Z", "--to", "2026-06-02T00:00:00Z"]
        estate.by(released, run("acme", 2), run("globex", 2), backfill)
        first = yaml.safe_load(next((tmp_path / "out/exports/acme").rglob("orders.manifest.json")).read_text())
        estate.by(released, ["redeliver", first["delivery_id"]])
        assert [path.name for path in (tmp_path / "out").rglob("orders.g1.1.r*.csv")] == ["orders.g1.1.r2.csv"]
        assert estate.delivered() == [(1, 2), (1, 2)]
        estate.order(4, 2)
        estate.by(REPOSITORY / "include", ["ledger", "upgrade"], run("acme", 3), run("globex", 3), ["status"])
        assert estate.delivered() == [(1, 2), (1, 2), (2, 1)]
        now = Ledger(ledger)
        move(now, RELEASED)
        now.close()
        estate.order(5, 3)
        estate.by(released, run("acme", 4))
        assert estate.delivered() == [(1, 2), (1, 2), (2, 1), (3, 1)]
        estate.sql("UPDATE orders SET deleted_at = '2026-06-04 12:00+00' WHERE id = 1")
        estate.by(REPOSITORY / "include", ["ledger", "upgrade"], run("acme", 5), ["check"])
        assert estate.delivered() == [(1, 2), (1, 2), (2, 1), (3, 1), (4, 1)]
