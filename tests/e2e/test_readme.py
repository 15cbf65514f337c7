"""Every command of the README is run, as it stands there, in a copy of the repository."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BLOCK = re.compile(r"^```(?:sh|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "make demo ONCE=1": "tests/e2e/test_demo.py",
    "make demo PRESET=studies": "tests/e2e/test_curl_session.py",
    "make test": "this suite",
    "make setup": "this suite runs in the environment it made",
}


def commands(text: str) -> list[str]:
    return [line for block in BLOCK.findall(text) for line in block.splitlines() if line.strip()]


def copy_of(repository: Path, place: Path) -> Path:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, (os.fsdecode(item) for item in tracked)):
        if (repository / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / name, place / name)  # times too: make must not see an environment older than its lock
    (place / ".venv").symlink_to(repository / ".venv")
    return place


def test_the_readmes_commands_run_as_they_stand(repository, tmp_path):
    lines = commands((repository / "README.md").read_text())
    assert set(ELSEWHERE) <= set(lines)
    script = "\n".join(line for line in lines if line not in ELSEWHERE)
    place = copy_of(repository, tmp_path / "waybill")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYBILL_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(place.glob("examples/flights/.waybill/delivered/exports/ha/2013/01/*/_MANIFEST.json"))


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs", "examples"])
def test_links_between_documents_lead_somewhere(repository, name):
    root = repository / name
    for path in [root] if root.is_file() else root.rglob("*.md"):
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.relative_to(repository)} links to {target}"
