"""Keeps what stops a pull altogether beside what was pulled, so that `status` can say it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from waybill_consumer.errors import Refused
from waybill_consumer.folder.files import unwritable
from waybill_consumer.folder.lock import alone, is_pulled
from waybill_consumer.folder.position import Position


@contextlib.contextmanager
def keep_failures(root: Path) -> Iterator[None]:
    """Keep what stops a pull altogether for `status`, until a pull gets through."""
    try:
        yield
    except Refused as error:
        with contextlib.suppress(Refused, OSError):
            _keep_failure(root, error)
        raise
    except OSError as error:
        refused = unwritable(error, root)
        with contextlib.suppress(Refused, OSError):
            _keep_failure(root, refused)
        raise refused from error


def _keep_failure(root: Path, error: Refused) -> None:
    if not is_pulled(root):
        return
    with alone(root):
        position = Position(root)
        if position.exists:
            position.problems = [error.as_problem(""), *(known for known in position.problems if known["entity"])]
            position.save()
