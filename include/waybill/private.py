"""Makes Waybill's own files private to its account: 0600 for files and 0700 for folders, whatever the umask is.

Files that are delivered to a `folder` destination belong to the consumer and follow the umask (docs/security.md).
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import IO

from waybill.errors import PermanentError, TransientError

FILE, FOLDER = 0o600, 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
RIGHTS = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLDER = {errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}

log = logging.getLogger(__name__)


def not_written(error: OSError, what: str, where: str, setting: str, code: str) -> PermanentError | TransientError:
    """Return the error for a disk of this machine that did not take what Waybill wrote. `setting` is the variable that names its folder."""
    if error.errno in RIGHTS | _NO_FOLDER:
        step = f"Let {setting} name a folder that this account may write to"
        return PermanentError(f"{what}: {error.strerror}", where=where, next_step=step, code=code)
    step = f"Free disk space or set {setting} to a larger disk" if error.errno in FULL else f"Check {setting} and the disk behind it"
    return TransientError(f"{what}: {error.strerror}", where=where, next_step=step, code=code)


def opener(path: str, flags: int) -> int:
    """An opener for `open`. The file is 0600 from its first moment, even if the umask would allow more or less."""
    descriptor = os.open(path, flags, FILE)
    if flags & os.O_CREAT and stat.S_IMODE(os.fstat(descriptor).st_mode) != FILE:
        os.fchmod(descriptor, FILE)
    return descriptor


def create(path: Path, *, buffering: int = -1) -> IO[bytes]:
    """Open a new file to write bytes to. Raises FileExistsError if there is one."""
    return open(path, "xb", buffering=buffering, opener=opener)


def write_text(path: Path, text: str) -> None:
    """Write a whole small file. An existing file gets the same mode as a new one."""
    with open(path, "w", opener=opener, encoding="utf-8") as file:
        file.write(text)


def make_folder(path: Path) -> None:
    """Make the folder and its missing parents, each 0700. Existing folders keep their mode; `narrow` is for those.

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
    """Take other accounts' rights away from these paths. Returns the sentences that were logged.

    An open folder is closed first and then walked, so that nothing below it stays open either. A closed folder costs one look. Links are
    left alone. The mode of another account's file cannot be changed, so it is only logged.
    """
    sentences = [sentence for path in paths for sentence in _narrowed(path)]
    for sentence in sentences:
        log.warning("%s", sentence)
    return sentences


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
    """Return the permission bits, or None if there is nothing, a link, or something that is neither file nor folder."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return stat.S_IMODE(facts.st_mode) if stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode) else None
