"""How a file becomes visible: one rename that never overwrites, and a look afterwards.

Some servers answer OK and do nothing, some answers are lost, and some files vanish as they land.

A name may be taken already, because an earlier attempt or another worker was faster. Whether the file under it is ours is decided by what
the file is:

- Data is ours if every file has the SHA-256 that one recorded attempt of the delivery has: `protocol`, `adopt_published`.
- The file of deleted keys is ours if it has the SHA-256 that the adopted attempt recorded. That of an attempt that was given up makes way:
  `publishing.deletes`.
- A document is ours if it has the same bytes: `publish_document`. Another signature of ours makes way: `signing`.
- A hidden file of an attempt that goes on is kept if it has the recorded SHA-256, else it is sent again: `upload`.

Anything else under a final name is a ConflictError, and nothing is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from waybill import layout
from waybill.destinations import Profile, Session
from waybill.errors import ConflictError, PermanentError, TransientError

Found = TypeVar("Found")


def publish(
    session: Session, hidden: str, final: str, *, check_renamed: Callable[[], Found], find_ours: Callable[[], Found | None]
) -> Found | None:
    """Make what was uploaded as `hidden` visible as `final`, by one rename that never overwrites.

    `check_renamed` checks a rename that the server answered OK. `find_ours` looks at the final name if the answer was lost (the rename may
    have happened) or if another worker was faster. It returns None if nothing of ours is there. Returns what the called function found.

    Raises TransientError if the answer was lost and nothing of ours is there.
    """
    try:
        if session.publish(hidden, final):
            return check_renamed()
    except TransientError:
        found = find_ours()
        if found is None:
            raise
        return found
    session.remove(hidden)
    return find_ours()


def publish_document(session: Session, final: str, data: bytes, token: str, beside: str = "") -> None:
    """Publish a small file that may be there already, with the same bytes. Raises ConflictError when it holds others.

    From then on a consumer may collect it, together with the files it lists. If it is gone while `beside`, a listed file, is still there,
    it was never published: TransientError, code `vanished`.
    """
    hidden = layout.hidden(final, token)
    session.upload(hidden, [data])

    def check_renamed() -> bool:
        try:
            require_published(session, {hidden: final}, {final: len(data)})
        except TransientError as error:
            if error.code != "vanished" or (beside and session.size(beside) is not None):
                raise
        return True

    if not publish(session, hidden, final, check_renamed=check_renamed, find_ours=lambda: session.read(final) == data or None):
        raise ConflictError(
            f"{final} exists and holds something else than Waybill wrote",
            where=session.label,
            next_step="Nothing was touched. Move it away and run again",
            code="changed_manifest",
        )


def require_published(session: Session, renamed: Mapping[str, str], sizes: Mapping[str, int]) -> None:
    """Check a rename that the server answered OK: each file must be there with its size.

    `renamed` maps each hidden file to its final name. Some servers answer OK and do nothing: PermanentError, code `not_published`. If a
    file is gone together with its hidden one, it is looked for once more. Where files vanish as they land, it counts as collected.
    Elsewhere nobody may collect it before its manifest is there: TransientError, code `vanished`.
    """
    wrong = _wrong(session, sizes)
    still_hidden = [hidden for hidden, final in renamed.items() if final in wrong and session.size(hidden) is not None]
    if not still_hidden and all(found is None for found in wrong.values()):
        if session.profile is Profile.PICKUP or not (wrong := _wrong(session, {final: sizes[final] for final in wrong})):
            return
        if all(found is None for found in wrong.values()):
            raise TransientError(
                f"the server answered OK to the rename, and {next(iter(wrong))} is gone, and so is the hidden file",
                where=session.label,
                next_step="It is delivered again, and says that it may repeat rows. Consumers must wait for the manifest",
                code="vanished",
            )
    if wrong:
        final, found = next(iter(wrong.items()))
        seen = "is not there" if found is None else f"holds {found} bytes instead of {sizes[final]}"
        raise PermanentError(
            f"the server answered OK to the rename, and {final} {seen}" + (", but the hidden file still is" if still_hidden else ""),
            where=session.label,
            next_step="Run `waybill probe`, and ask whoever runs the server why it does not rename",
            code="not_published",
        )


def _wrong(session: Session, sizes: Mapping[str, int]) -> dict[str, int | None]:
    """Return the files that are not there with the right size, and the size they have."""
    return {final: found for final, size in sizes.items() if (found := session.size(final)) != size}
