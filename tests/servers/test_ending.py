"""A test run leaves no server behind, however it ends."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.process import spawn

SECONDS = 120

SERVER = """
import subprocess, sys
import pytest
from pathlib import Path
from tests.servers.process import running, scratch

CHILD = '''
import subprocess, sys, time
subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(900)"], start_new_session={apart})
time.sleep(900)
'''

TITLED = "import setproctitle, time; setproctitle.setproctitle('a title ' + 'x' * 10_000); time.sleep(900)"
LEADER = f'''
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {{TITLED!r}}])
subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(900)"])
'''

UNTOLD = []

@pytest.fixture
def server():
    with scratch("ended") as folder, running([sys.executable, "-S", "-c", CHILD], ready=lambda: True, log=folder / "log", cwd=folder):
        UNTOLD.append(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(900)"], cwd=folder, start_new_session=True))
        UNTOLD.append(subprocess.Popen([sys.executable, "-c", LEADER], cwd=folder, start_new_session=True))
        yield folder

def test_that_waits(server):
    Path({here!r}).write_text(str(server))
    import time
    time.sleep(900)
"""


def wait_for(what: str, done: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.02)


def working_in(folder: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str((entry / "cwd").readlink()).removesuffix(" (deleted)") == folder:
                    found.append(entry.name)
            except OSError:
                continue
    return found


def complete(folder: str) -> bool:
    """Whether all five processes are there and one of them has its title."""
    there = working_in(folder)
    return len(there) == 5 and any(Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"a title") for pid in there)


# An orderly end reaches the session of a server, the guardian what it started elsewhere, too, and what the test itself started: even what
# has lost its mark by giving itself a title, and its parent.
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["one process", "workers"])
def test_servers_and_what_they_started_end_with_the_run(tmp_path: Path, repository: Path, workers: list[str], how: signal.Signals) -> None:
    here = tmp_path / "here"
    (tmp_path / "test_waiting.py").write_text(SERVER.format(here=str(here), apart=how is signal.SIGKILL))
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(repository / "pyproject.toml")]
    argv += ["--rootdir", str(tmp_path), *workers, str(tmp_path / "test_waiting.py")]
    environment = {**os.environ, "PYTHONPATH": f"{repository}{os.pathsep}{repository / 'include'}"}
    run = spawn(argv, log=tmp_path / "log", env=environment, cwd=repository)
    wait_for("the server", lambda: run.poll() is not None or (here.exists() and complete(here.read_text())))
    assert run.poll() is None, (tmp_path / "log").read_text()
    folder = here.read_text()
    os.kill(run.pid, how)
    status = run.wait(SECONDS)
    wait_for("the end of the servers", lambda: not working_in(folder))
    wait_for("the folder to go", lambda: not Path(folder).exists())
    assert status == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 2}[how]
