"""The folders of a lake as they are listed: nothing that is there is left out without a word.

fsspec passes over a folder that cannot be listed, and over a link to a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from waybill.errors import PermanentError


def raise_unless_removed(error: OSError) -> None:
    """Raise what kept a folder from being listed, unless it was removed meanwhile."""
    if not isinstance(error, FileNotFoundError):
        raise error


class LocalFiles(LocalFileSystem):  # type: ignore[misc]
    """This machine's folders. A link stands for the file or the folder that it leads to."""

    cachable = False

    def walk(
        self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = raise_unless_removed, **options: Any
    ) -> Iterator[Any]:
        yield from super().walk(path, maxdepth, topdown, on_error, **options)

    def info(self, path: Any, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().info(path, **options)
        link = Path(found["name"])
        if not found["islink"] or not link.exists():
            return found
        target: dict[str, Any] = super().info(found["name"])
        if target["type"] == "directory" and any(above.samefile(link) for above in link.parents):
            raise PermanentError(
                f"the link {link} leads to a folder that it lies in",
                where="lake",
                code="source_unreadable",
                next_step="Remove it, or name the files by a narrower pattern",
            )
        return target
