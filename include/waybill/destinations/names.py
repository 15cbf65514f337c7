"""Paths as destinations take them, checked before they reach a disk or a server."""

from __future__ import annotations

from uuid import uuid4

from waybill.destinations.base import Stored
from waybill.errors import ConflictError, PermanentError, TransientError
from waybill.layout import is_part

READ_LIMIT = 64 * 1024 * 1024
"""The most bytes `read` returns; manifests are far smaller."""


def components(path: str) -> tuple[str, ...]:
    """The names of an absolute POSIX path. Raises PermanentError for anything that could lead elsewhere (`..`, empty names, NUL)."""
    names = tuple(path[1:].split("/")) if path != "/" else ()
    if not path.startswith("/") or any(name in ("", ".", "..") or "\0" in name for name in names):
        raise PermanentError(f"{path!r} is not a path below the root", allowed="/name/name without '..' or empty names", code="path")
    return names


def parent_and_name(path: str) -> tuple[str, str]:
    """`/a/b/c` as `/a/b` and `c`, checked like `components`. Raises PermanentError for the root itself."""
    names = components(path)
    if not names:
        raise PermanentError("the root itself is no file", code="path")
    return "/" + "/".join(names[:-1]), names[-1]


def rehearsal(folder: str) -> str:
    """A fresh hidden folder for `probe`, named as one of our own parts so that housekeeping finds a forgotten one."""
    return f"{folder.rstrip('/')}/.waybill-probe.{uuid4().hex}.part"


def only_own_folder(path: str, label: str) -> None:
    """Raises ConflictError unless the folder `path` is a hidden part folder of Waybill's: no other folder is ever removed."""
    if not is_part(parent_and_name(path)[1]):
        what = f"{path} is a folder where a file of ours was expected"
        raise ConflictError(what, where=label, next_step="Waybill removes no folders but its own: move it away")


def no_such_file(path: str, label: str) -> PermanentError:
    return PermanentError(f"there is no file {path}", where=label, code="not_found")


def root_missing(what: str, label: str) -> PermanentError:
    """The folder everything stands below is not there, and Waybill cannot or does not make it."""
    step = "Make it there, or correct the root in the registration (in policy.yaml, where the destination is the house's own)"
    return PermanentError(what, where=label, next_step=step, code="root_missing")


def too_large(path: str, label: str) -> PermanentError:
    return PermanentError(f"{path} is too large to be a manifest", where=label, allowed=f"{READ_LIMIT} bytes", code="too_large")


def part_missing(part: str, label: str) -> TransientError:
    return TransientError(f"{part} is gone", where=label, next_step="Look at the final name before repeating", code="part_missing")


def damaged(part: str, sent: Stored, found: Stored, label: str) -> TransientError:
    """The destination's copy is not what was sent."""
    told = f"sent {sent.bytes} bytes sha256 {sent.sha256}, found {found.bytes} bytes sha256 {found.sha256}"
    return TransientError(
        f"{part} was damaged on the way: {told}", where=label, next_step="The part was removed; the next try writes it again", code="verify"
    )
