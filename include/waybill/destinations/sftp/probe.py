"""Rehearses on an SFTP server what a delivery will do, to learn which profile it needs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from waybill.destinations.base import Probe, Profile, components, rehearsal
from waybill.destinations.sftp.errors import not_done
from waybill.destinations.sftp.packets import CREATE, EXCLUSIVE, READ, WRITE, Code, Kind, Status
from waybill.destinations.sftp.wire import Wire

T = TypeVar("T")


class _Rehearsal:
    """The steps that were tried, and the server's answer to each."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    async def attempt(self, step: str, work: Coroutine[Any, Any, T]) -> tuple[bool, T | None]:
        """Return whether the server did it, and its answer."""
        try:
            answer = await work
        except Status as status:
            self.steps.append((step, str(status)))
            return False, None
        self.steps.append((step, "ok"))
        return True, answer


async def rehearse(wire: Wire, at: Callable[[str], str], folder: str, label: str) -> Probe:
    """Try everything in a hidden folder below `folder`, and remove it again. `at` tells where a path is on the server.

    Raises Status if not even a folder can be made or a file written, PermanentError if the server says OK and does something else, and
    Lost.
    """
    trial = _Rehearsal()
    own = rehearsal(folder)
    made = await _make(wire, at, own)
    trial.steps.append(("make a folder", "ok"))
    space = None
    try:
        profile = await _try_all(wire, at(own), trial, label)
        with suppress(Status):
            space = await wire.space(at(own))
    finally:
        left = await _clear(wire, at, own, made)
    trial.steps.append(("remove", f"left behind: {own}" if left else "ok"))
    return Probe(profile, tuple(trial.steps), tuple(sorted(wire.extensions)), space.free_bytes if space else None)


async def _make(wire: Wire, at: Callable[[str], str], own: str) -> list[str]:
    """Make the folder and its parents. Returns those that were not there before. A parent that cannot be made counts as existing."""
    names = components(own)
    made = []
    for depth in range(1, len(names) + 1):
        path = "/" + "/".join(names[:depth])
        try:
            await wire.make_folder(at(path))
            made.append(path)
        except Status:
            if path == own:
                raise
    return made


async def _try_all(wire: Wire, own: str, trial: _Rehearsal, label: str) -> Profile:
    first, second, final = f"{own}/.first.part", f"{own}/.second.part", f"{own}/final"
    try:
        await _write(wire, first, b"first")
    except Status as status:
        if status.code == Code.NO_SUCH_FILE and await wire.attributes(Kind.LSTAT, own) is None:
            raise not_done(label, f"the making of the folder {own}", "it is not there") from status
        raise
    trial.steps.append(("write", "ok"))
    looked, facts = await trial.attempt("look at it", wire.attributes(Kind.LSTAT, first))
    if looked and facts is None:
        trial.steps.append(("find it again", "gone at once"))
        return Profile.PICKUP
    read, back = await trial.attempt("read back", _read(wire, first))
    if read and back != b"first":
        raise not_done(label, f"the writes to {first}", "it gives other bytes back")
    renamed, _ = await trial.attempt("rename onto nothing", wire.rename(first, final))
    if not (looked and read and renamed):
        return Profile.DROPBOX
    if await wire.attributes(Kind.LSTAT, final) is None:
        if await wire.attributes(Kind.LSTAT, first) is not None:
            raise not_done(label, f"the rename onto {final}", "the hidden file is still there")
        trial.steps.append(("find it again", "gone at once"))
        return Profile.PICKUP
    await _write(wire, second, b"second")
    overwrote, _ = await trial.attempt("rename onto an existing file", wire.rename(second, final))
    return Profile.NO_CAS if overwrote or await _read(wire, final) != b"first" else Profile.FULL


async def _write(wire: Wire, path: str, data: bytes) -> None:
    handle = await wire.open(path, WRITE | CREATE | EXCLUSIVE)
    await wire.done(wire.write(handle, 0, data))
    await wire.synced(wire.sync(handle))
    await wire.close(handle)


async def _read(wire: Wire, path: str) -> bytes:
    handle = await wire.open(path, READ)
    try:
        return bytes(await wire.data(wire.read(handle, 0, 100)))
    finally:
        await wire.close(handle)


async def _clear(wire: Wire, at: Callable[[str], str], own: str, made: list[str]) -> bool:
    """Remove the rehearsal and the folders made for it. Returns True if something of it may be left."""
    for name in (".first.part", ".second.part", "final"):
        with suppress(Status):
            await wire.remove(f"{at(own)}/{name}")
    left = False
    for path in reversed(made):
        try:
            await wire.remove_folder(at(path))
        except Status:
            left = left or path == own
    with suppress(Status):  # some say OK and remove nothing, and some show nothing
        left = left or await wire.attributes(Kind.LSTAT, at(own)) is not None
    return left
