"""The package installs alone, small, and works with nothing of Waybill's around it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.consumer.sender import Sender

MEGABYTE = 1 << 20
SSH = {"asyncssh", "cryptography", "cffi", "pycparser", "typing_extensions"}
"""An SFTP library, and what it brings."""


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_it_installs_alone_and_small_and_keeps_a_copy(repository: Path, tmp_path: Path) -> None:
    subprocess.run(["make", "consumer", f"TO={tmp_path}"], check=True, cwd=repository, timeout=300, capture_output=True)
    (wheel,) = tmp_path.glob("waybill_consumer-*-py3-none-any.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
    subprocess.run(install, check=True, cwd=tmp_path, timeout=300)

    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    own = [path for path in packages.iterdir() if not path.name.startswith(("pip", "setuptools", "distutils", *SSH, "_cffi"))]
    assert sum(size(path) if path.is_dir() else path.stat().st_size for path in own) < 15 * MEGABYTE
    assert not [name for name in ("airflow", "duckdb", "pyarrow", "psycopg", "pydantic") if (packages / name).exists()]

    Sender(tmp_path / "in").deliver([("1", "Ada"), ("2", "")], kind="full", csv={"compression": "zstd"})

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        argv = [tmp_path / "venv" / "bin" / "waybill-consumer", *map(str, arguments)]
        return subprocess.run(argv, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)

    for command in ("pull in copy", "verify copy", "load copy --to sqlite:copy.db", "status copy"):
        done = run(*command.split(), "--json")
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert json.loads(done.stdout)
    parquet = tmp_path / "shaped" / "2026/06/01/user/user.parquet"
    made = Sender(tmp_path / "shaped").deliver([("1", "Ada")], kind="full", format="parquet")
    duckdb.sql(f"copy (select 1::bigint as id, 'Ada' as name) to '{parquet}' (format parquet)")
    facts = {"path": parquet.name, "rows": 1, "bytes": parquet.stat().st_size, "sha256": hashlib.sha256(parquet.read_bytes()).hexdigest()}
    made |= {"files": [facts], **{name: facts[name] for name in ("rows", "bytes", "sha256")}}
    parquet.with_name("user.csv").unlink()
    parquet.with_name("user.manifest.json").write_text(json.dumps(made))
    for command in ("pull shaped held", "verify held", "status held"):
        done = run(*command.split(), "--json")
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "to count its records as well: pip install" in run("verify", "held").stdout
    refused = run("load", "held", "--to", "sqlite:held.db")
    assert (refused.returncode, "is Parquet, and reading that needs DuckDB" in refused.stderr) == (1, True), refused.stderr
    refused = run("load", "copy", "--to", "duckdb:x")
    assert (refused.returncode, "pip install" in refused.stderr) == (1, True)
