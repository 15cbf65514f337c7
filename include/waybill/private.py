"""What Waybill writes for itself is its own account's: files 0600 and folders 0700, whatever the umask is.

Files delivered to a `folder` destination are the consumer's and follow the umask (docs/security.md).
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import IO

FILE, FOLDER = 0o600, 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

log = logging.getLogger(__name__)


def opener(path: str, flags: int) -> int:
    """For `open`: what it makes is 0600 from its first moment, also where the umask would allow more or less."""
    descriptor = os.open(path, flags, FILE)
    if flags & os.O_CREAT and stat.S_IMODE(os.fstat(descriptor).st_mode) != FILE:
        os.fchmod(descriptor, FILE)
    return descriptor


def create(path: Path, *, buffering: int = -1) -> IO[bytes]:
    """A new file to write bytes to. Raises FileExistsError when there is one."""
    return open(path, "xb", buffering=buffering, opener=opener)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole; one that was there gets the same rights as a new one."""
    with open(path, "w", opener=opener, encoding="utf-8") as file:
        file.write(text)


def make_folder(path: Path) -> None:
    """Make the folder and the parents it lacks, each 0700. Folders that are there keep their mode: `narrow` is for those.

    Raises OSError as `Path.mkdir` does.
    """
    missing = list(takewhile(lambda folder: not folder.is_dir(), (path, *path.parents)))
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=FOLDER)
        except FileExistsError:  # another process was faster, or it is a file
            if not folder.is_dir():
                raise


def narrow(paths: Iterable[Path]) -> list[str]:
    """Take other accounts' rights from what stands at these paths, and tell it. Returns the sentences that were logged.

    A folder found open is closed first and then walked, so that nothing below it stays open either. One that is closed costs one look.
    Links are left alone. What belongs to another account cannot be narrowed and is told as well.
    """
    told = [sentence for path in paths for sentence in _narrowed(path)]
    for sentence in told:
        log.warning("%s", sentence)
    return told


def _narrowed(path: Path) -> list[str]:
    found = _mode(path)
    if found is None or not found & _OTHERS:
        return []
    wanted = FOLDER if path.is_dir() else FILE
    try:
        path.chmod(wanted)
    except OSError as error:
        return [f"{path} is open to other accounts (mode {found:04o}) and cannot be narrowed: {error.strerror}. Make it {wanted:04o}"]
    if wanted == FOLDER:
        _narrow_below(path)
    return [f"{path} was open to other accounts (mode {found:04o}) and is {wanted:04o} now"]


def _narrow_below(folder: Path) -> None:
    for place, folders, files in os.walk(folder):
        for name, wanted in [*((name, FOLDER) for name in folders), *((name, FILE) for name in files)]:
            below = Path(place, name)
            if (_mode(below) or 0) & _OTHERS:
                try:
                    below.chmod(wanted)
                except OSError:  # removed meanwhile, or another account's: the folder above is closed
                    continue


def _mode(path: Path) -> int | None:
    """The permission bits; None for what is not there, is a link, or is neither file nor folder."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return stat.S_IMODE(facts.st_mode) if stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode) else None
