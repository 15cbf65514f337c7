"""Errors, grouped by what recovers from them.

Every error carries its parts as attributes and builds one sentence from them: where, what, what is allowed, what to do next. A message
never contains a secret or a tenant's row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self


def counted(number: int, what: str) -> str:
    """Return a number with its word: `1 file`, `2 files`, `2 entities`, `2 deliveries`."""
    many = what if number == 1 else f"{what[:-1]}ies" if re.search(r"[^aeiou]y$", what) else f"{what}s"
    return f"{number:,} {many}"


class WaybillError(Exception):
    """The base of all errors that Waybill raises on purpose. Raise one of its subclasses.

    `code` is the stable, machine-readable name in the ledger and in problem+json answers.
    """

    code = "error"

    def __init__(self, what: str, *, where: str = "", allowed: str = "", next_step: str = "", code: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.allowed = allowed
        self.next_step = next_step
        if code:
            self.code = code

    def located(self, where: str) -> Self:
        """Return the same error, which now also says where it happened (outermost place first)."""
        self.where = f"{where}: {self.where}" if self.where else where
        return self

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        allowed = f" (allowed: {self.allowed})" if self.allowed else ""
        end = "" if f"{head}{allowed}".endswith("?") else "."
        step = f"{end} {self.next_step}" if self.next_step else ""
        return f"{head}{allowed}{step}"


@contextmanager
def located_at(place: str) -> Iterator[None]:
    """Add this place to every error that is raised inside the block and does not name it itself."""
    try:
        yield
    except WaybillError as error:
        if place not in str(error).replace("'", ""):  # which quote what somebody wrote
            error.located(place)
        raise


class PermanentError(WaybillError):
    """Trying again changes nothing, because somebody has to correct the input. Airflow fails the task, and the API answers 4xx."""

    code = "permanent"


class TransientError(WaybillError):
    """Trying again later may succeed by itself, so Airflow retries."""

    code = "transient"


class ConflictError(WaybillError):
    """Two facts contradict each other (a foreign file, a changed manifest). Nothing was touched, and a person must look."""

    code = "conflict"


UNEXPECTED = "unexpected"


def unexpected(error: BaseException) -> TransientError:
    """Return what a loop that must go on says of a driver's surprise or a mistake of ours. Log the error itself beside it."""
    return TransientError(f"an unexpected {type(error).__name__}", next_step="The log shows where it came from", code=UNEXPECTED)


@dataclass(frozen=True)
class Finding:
    """One problem of one configuration file or request body. `code` is stable and for programs; the rest is for people."""

    file: str
    path: str
    reason: str
    allowed: str = ""
    meant: str = ""
    code: str = "invalid"

    def __str__(self) -> str:
        hints = [f"allowed: {self.allowed}"] if self.allowed else []
        if self.meant:
            hints.append(f"did you mean {self.meant}?")
        said = ": ".join(part for part in (self.file, self.path, self.reason) if part)
        return said + (f" ({'; '.join(hints)})" if hints else "")

    def below(self, prefix: str) -> Finding:
        """Return the same finding with `prefix` in front of its key path."""
        return replace(self, path=f"{prefix}.{self.path}" if self.path else prefix)


class InvalidInput(PermanentError):
    """Something that somebody sent has problems. `findings` lists all of them, and their `path` is the field."""

    code = "validation"

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__("\n".join(str(finding) for finding in findings))


class ConfigError(PermanentError):
    """The configuration has problems. `findings` lists all of them, of all files."""

    code = "config"

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__("\n".join(str(finding) for finding in findings))
