"""Says what a server's refusal means for the caller: try again, correct something, or look."""

from __future__ import annotations

from waybill.destinations.sftp.packets import Attributes, Code, Lost, Space, Status
from waybill.errors import ConflictError, PermanentError, TransientError

_LITTLE_SPACE = 1024 * 1024


def refused(label: str, operation: str, path: str, status: Status, space: Space | None = None) -> PermanentError | TransientError:
    """Return the error for a status. OpenSSH says only "failure" for a full disk and for a read-only one, so `space` decides which
    it is. Other servers say it in words.
    """
    said = str(status).casefold()
    what = f"could not {operation} {path}: the server says {status}"
    is_full = space and status.code == Code.FAILURE and _is_full(space)
    if is_full or status.code in (Code.NO_SPACE, Code.QUOTA) or any(word in said for word in ("quota", "no space", "disk full")):
        left = f"{space.free_bytes} bytes and {space.free_files} files free" if space and is_full else str(status)
        step = "Ask the server's owner for room; the next try starts over"
        return TransientError(
            f"could not {operation} {path}: disk full on the server: {left}", where=label, next_step=step, code="disk_full"
        )
    if "file too large" in said:
        step = "Let csv.max_rows_per_file of the registration keep files small, or ask the server's owner for a higher limit"
        return PermanentError(what, where=label, next_step=step, code="refused")
    if "name too long" in said:
        step = "Shorten the root, or ask the server's owner to allow longer names"
        return PermanentError(what, where=label, next_step=step, code="refused")
    if (space and space.read_only) or "read-only" in said:
        step = "Ask the server's owner for a writable folder"
        return PermanentError(
            f"could not {operation} {path}: read-only file system on the server", where=label, next_step=step, code="refused"
        )
    if status.code in (Code.PERMISSION_DENIED, Code.WRITE_PROTECTED, Code.UNSUPPORTED, Code.BAD_MESSAGE):
        step = "Ask the server's owner for the right to do this, or run `waybill probe` to see what the server allows"
        return PermanentError(what, where=label, next_step=step, code="refused")
    if status.code == Code.NO_SUCH_FILE:
        return TransientError(what, where=label, next_step="The folder, or a part of its path, is missing there", code="not_found")
    return TransientError(what, where=label, next_step="Servers say so also for a spent quota; look at the server's log if it goes on")


def _is_full(space: Space) -> bool:
    return space.free_bytes < _LITTLE_SPACE or space.free_files == 0


def lost(label: str, operation: str, path: str, error: Lost) -> TransientError:
    """The connection is gone, so nobody knows whether the last request was carried out."""
    return TransientError(f"could not {operation} {path}: {error}", where=label, next_step="Look again before repeating", code="lost")


def in_the_way(label: str, path: str, facts: Attributes) -> ConflictError:
    kind = "symlink" if facts.is_link else "folder" if facts.is_folder else "file" if facts.is_file else "special file"
    return ConflictError(f"{path} is a {kind}", where=label, next_step="Move it away; nothing was touched")


def misstated(label: str, path: str, sent: int, told: int | None) -> TransientError:
    """The server gives back what was sent, and tells another size of it or none. Consumers go by what it tells."""
    tells = "says that there is no such file" if told is None else f"says that it has {told}"
    what = f"the server gives all {sent} bytes of {path} back, and {tells}"
    step = "The part was removed; it is tried again. If it goes on, ask the server's owner, and run `waybill probe`"
    return TransientError(what, where=label, next_step=step, code="verify")


def not_done(label: str, asked: str, seen: str) -> PermanentError:
    """The server says that it did what was asked, and a look says that it did not."""
    step = "Ask whoever runs the server why it does not do what it says"
    return PermanentError(f"the server answered OK to {asked}, and {seen}", where=label, next_step=step, code="refused")
