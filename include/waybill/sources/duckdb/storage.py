"""The folders of a lake as they are listed: nothing that is there is left out without a word. And what storages raise.

fsspec passes over a folder that cannot be listed, and over a link to a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from waybill import aws
from waybill.errors import PermanentError, TransientError, WaybillError
from waybill.sources.base import AGAIN
from waybill.sources.duckdb import engine

_SERVER_ERROR = 500
Stamp = tuple[str, ...]
"""Size, times and identity of a file, from its storage."""


def stamp(info: dict[str, Any]) -> Stamp:
    return tuple(str(info.get(name)) for name in ("size", "mtime", "ino", "ETag", "LastModified"))


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


@contextmanager
def errors(where: str) -> Iterator[None]:
    """Translate what the storage of a lake raises. s3fs turns S3's answers into Python's own errors."""
    from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound  # a DuckDB file is read without

    try:
        yield
    except WaybillError:
        raise
    except PermissionError as error:
        raise engine.denied(f"{error} {error.__cause__}", where) from error
    except FileNotFoundError as error:
        raise PermanentError(
            "there is no such bucket or folder", where=where, code="relation_missing", next_step="Correct the path of the source"
        ) from error
    except ProfileNotFound as error:
        step = "Correct profile_name in the extra of the connection, or add the profile to AWS's files on this machine"
        raise PermanentError("there is no such profile", where=where, code="login_refused", next_step=step) from error
    except ClientError as error:  # of the role's service: s3fs translates those of S3
        code, status = error.response["Error"].get("Code", "unknown"), error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        if status >= _SERVER_ERROR:
            what = f"the role could not be assumed ({code})"
            raise TransientError(what, where=where, code="source_unreachable", next_step=AGAIN) from error
        step = "Correct role_arn and the credentials in the connection, or let the role trust them"
        raise PermanentError(f"the role cannot be assumed ({code})", where=where, code="login_refused", next_step=step) from error
    except (OSError, BotoCoreError, ValueError, TypeError) as error:
        if fault := aws.fault_of(error):
            step = "Correct endpoint_url, region_name, verify, role_arn or config_kwargs of the source's Airflow connection"
            raise PermanentError(fault, where=where, code="source_refused", next_step=step) from error
        raise TransientError(
            f"the storage does not answer ({type(error).__name__})", where=where, code="source_unreachable", next_step=AGAIN
        ) from error
