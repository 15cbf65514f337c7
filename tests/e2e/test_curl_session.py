"""The session with `curl` of docs/api.md, as it stands there, on the demo of each preset."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process import end, free_port, program, spawn, tail
from waybill_demo.sample import PRESETS

READY_SECONDS = 600


@pytest.fixture(scope="module")
def demos(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """All four at once; the folder of each."""
    folders = {preset: tmp_path_factory.mktemp(preset) for preset in PRESETS}
    running = {}
    try:
        for preset, folder in folders.items():
            command = [sys.executable, "-m", "waybill", "demo", "--preset", preset, "--folder", str(folder), "--port", str(free_port())]
            running[preset] = spawn(command, log=folder.with_suffix(".out"), cwd=repository)
        deadline = time.monotonic() + READY_SECONDS
        for preset, folder in folders.items():
            while "Ctrl-C" not in folder.with_suffix(".out").read_text():
                assert running[preset].poll() is None, tail(folder.with_suffix(".out"))
                assert time.monotonic() < deadline, tail(folder.with_suffix(".out"))
                time.sleep(0.2)
        yield folders
    finally:
        for process in running.values():
            process.terminate()
        statuses = [process.wait(180) for process in running.values()]
        for process in running.values():
            end(process)
        assert statuses == [0] * len(running)


def session(repository: Path) -> str:
    text = (repository / "docs/api.md").read_text().partition("## An export with curl")[2]
    found = re.search(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_the_curl_session_of_the_docs_works_under_every_preset(repository: Path, demos: dict[str, Path], preset: str) -> None:
    assert program("curl")
    script = session(repository) + '\ncurl -s -o gone.json -w \'%{http_code}\' -H "$AUTH" "$EXPORT"\n'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=demos[preset], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"done"' in done.stdout
    assert "export.zip: OK" in done.stdout
    assert done.stdout.endswith("404")
    assert (demos[preset] / "export" / "manifest.json").exists()
