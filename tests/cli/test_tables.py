"""Lists on a real terminal of any width, and where the output goes elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

LISTS = """
from waybill.cli.tables import table
table(["TENANT", "STATE", "DATA UNTIL (UTC)", "LAST DELIVERY", "ROWS"], [["acme", "failing", "2026-05-31 00:00", None, 1200]], {0: "why"})
table(["CHECK", "STATUS", "FOUND"], [["source shop", "ok", "six entities can be read by the user of this connection"]])
"""


def shown(width: int, **environment: str) -> str:
    """What a terminal of this width is sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")} | {"TERM": "xterm"} | environment
    with subprocess.Popen([sys.executable, "-c", LISTS], stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        sent = b""
        try:
            while block := os.read(ours, 65536):
                sent += block
        except OSError:  # what Linux says once the other side is closed
            pass
        os.close(ours)
        assert process.wait(60) == 0, sent.decode()
    return sent.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_wide_terminal_shows_a_table_with_colours() -> None:
    sent = shown(120)
    assert "\x1b[31mfailing\x1b[0m" in sent
    assert plain(sent).split("\n")[0].split() == ["TENANT", "STATE", "DATA", "UNTIL", "(UTC)", "LAST", "DELIVERY", "ROWS"]


@pytest.mark.parametrize("width", [30, 50])
def test_a_narrow_terminal_shows_records_and_breaks_no_word(width: int) -> None:
    lines = plain(shown(width)).split("\n")
    assert lines[:5] == [
        "acme",
        "  STATE             failing",
        "  DATA UNTIL (UTC)  2026-05-31 00:00",
        "  ROWS              1,200",
        "  why",
    ]


def test_only_the_last_column_is_folded() -> None:
    lines = plain(shown(60)).split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("CHECK"))
    assert lines[at + 1].startswith("source shop  ok      six entities can be read")
    assert lines[at + 2].startswith(" " * 21)


def test_no_color_is_respected() -> None:
    assert "\x1b[31m" not in shown(120, NO_COLOR="1")
