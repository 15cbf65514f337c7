"""Looking after a rename that a server answered OK: some servers do nothing, and some files vanish as they land."""

from __future__ import annotations

from collections.abc import Mapping

from waybill.destinations import Profile, Session
from waybill.errors import PermanentError, TransientError


def require_document(session: Session, part: str, final: str, size: int, beside: str) -> None:
    """As `require_published`, for a document that a consumer may take from then on. `beside`: a file that it tells of, else empty."""
    try:
        require_published(session, {part: final}, {final: size})
    except TransientError as error:
        if error.code != "vanished" or (beside and session.size(beside) is not None):
            raise


def require_published(session: Session, renamed: Mapping[str, str], sizes: Mapping[str, int]) -> None:
    """Look after a rename that was answered OK: each file is there with its size.

    `renamed` maps each hidden file to its final name. Some servers answer OK and do nothing: PermanentError, code `not_published`. A file
    that is gone with its hidden one is looked for once more; only where files vanish as they land is it taken for collected, elsewhere
    nobody may take it before its manifest is there: TransientError, code `vanished`.
    """
    wrong = _wrong(session, sizes)
    hidden = [part for part, final in renamed.items() if final in wrong and session.size(part) is not None]
    if not hidden and all(found is None for found in wrong.values()):
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
            f"the server answered OK to the rename, and {final} {seen}" + (", but the hidden file still is" if hidden else ""),
            where=session.label,
            next_step="Run `waybill probe`, and ask whoever runs the server why it does not rename",
            code="not_published",
        )


def _wrong(session: Session, sizes: Mapping[str, int]) -> dict[str, int | None]:
    """The files that are not there with their size, with the size they have."""
    return {final: found for final, size in sizes.items() if (found := session.size(final)) != size}
