"""Says what a server's refusal means for the caller: try again, correct something, or look."""

from __future__ import annotations

from waybill.destinations.sftp.packets import Attributes, Code, Lost, Space, Status
from waybill.errors import ConflictError, PermanentError, TransientError

_LITTLE_SPACE = 1024 * 1024


def refused(label: str, operation: str, path: str, status: Status, space: Space | None = None) -> PermanentError | TransientError:
    """Return the error for a status. OpenSSH says only "failure" for a full disk and for a read-only one, so `space` decides which
    it is.
    """
    what = f"could not {operation} {path}: the server says {status}"
    if status.code in (Code.NO_SPACE, Code.QUOTA) or (space and status.code == Code.FAILURE and _is_full(space)):
        left = f"{space.free_bytes} bytes and {space.free_files} files free" if space else str(status)
        step = "Ask the server's owner for room; the next try starts over"
        return TransientError(
            f"could not {operation} {path}: disk full on the server: {left}", where=label, next_step=step, code="disk_full"
        )
    if space and space.read_only:
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
