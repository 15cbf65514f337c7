"""Reads through a hook of Airflow's that opens no connection and only gives data frames."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any


class FrameConnection:
    """PEP 249 as far as the dbapi source uses it, over `DbApiHook.get_df_by_chunks`."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self.paramstyle = "qmark" if getattr(hook, "placeholder", "%s") == "?" else "format"

    def cursor(self) -> FrameCursor:
        return FrameCursor(self._hook)

    def close(self) -> None:
        """A hook closes what it opens itself."""


class FrameCursor:
    """Rows of one query, frame by frame."""

    arraysize = 20_000

    def __init__(self, hook: Any) -> None:
        self.description: list[tuple[str]] = []
        self._hook = hook
        self._frames: Iterator[Any] = iter(())

    def execute(self, statement: str, parameters: Any = None, /) -> None:
        """Ask for the first frame, which names the columns also where there is no row."""
        frames = iter(self._hook.get_df_by_chunks(statement, parameters=parameters, chunksize=self.arraysize))
        first = list(islice(frames, 1))
        self.description = [(name,) for frame in first for name in frame.columns]
        self._frames = chain(first, frames)

    def fetchmany(self, size: int = 0, /) -> list[Any]:
        """Return the rows of the next frame, however many. Missing values become None."""
        for frame in self._frames:
            if len(frame):
                values = frame.astype(object)
                return list(values.where(frame.notna(), None).itertuples(index=False, name=None))
        return []

    def fetchone(self) -> Any:
        rows = self.fetchmany()
        return rows[0] if rows else None

    def fetchall(self) -> list[Any]:
        found = []
        while rows := self.fetchmany():
            found += rows
        return found

    def close(self) -> None:
        self._frames = iter(())
