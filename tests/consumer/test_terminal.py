"""What a person at a terminal sees while a command works, and what a program never sees."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

from tests.consumer.copies import PROGRAM, SOURCE, process
from tests.consumer.sender import Sender


def seen(*arguments: object) -> str:
    """What a command writes to the terminal that its stderr is."""
    master, slave = pty.openpty()
    argv = [*PROGRAM, *map(str, arguments)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=slave, env={**os.environ, "PYTHONPATH": str(SOURCE)}) as running:
        os.close(slave)
        text = b""
        try:
            while block := os.read(master, 65536):
                text += block
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(master)
        assert running.wait(120) == 0, text
    return text.decode()


def test_a_terminal_is_told_how_far_a_command_is_and_a_program_is_not(sender: Sender, tmp_path: Path) -> None:
    copy, target = tmp_path / "copy", f"sqlite:{tmp_path}/copy.db"
    sender.deliver([(str(number), "x" * 150) for number in range(100_000)], kind="full")
    assert re.search(r"\[ *\] +0% 2026/06/01", seen("pull", sender.root, copy))
    assert re.search(r"\[#+ *\] +[1-9]\d*% user", seen("load", copy, "--to", target))
    assert "1: /2026/06/01/user/user.csv" in seen("verify", copy)
    assert process("verify", copy).err == ""
