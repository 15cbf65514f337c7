"""Prints lists for people: a table with a header, in colours on a terminal, and in plain aligned columns elsewhere.

The columns of `waybill plan` and `waybill deliveries` are here. Those of `waybill status` are in `status`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from waybill.cli.options import write
from waybill.states import Purpose
from waybill_consumer.progress import seen

if TYPE_CHECKING:
    from waybill.deliveries.reports.describing import Described

_COLOURS = {
    "ok": "green", "delivered": "green", "committed": "green", "verified": "green",
    "due": "yellow", "held": "yellow", "warning": "yellow", "open": "yellow", "abandoned": "yellow",
    "failing": "red", "late": "red", "failed": "red",
}  # fmt: skip


_FOLDED = 24
"""The last column may be folded to so many characters, because it often holds a sentence or a path."""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], notes: Mapping[int, str] | None = None) -> None:
    """Print rows under a header. `notes` are lines below a row, by its number. Numbers are on the right. Nothing is cut."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = {place for place in range(len(columns)) if any(isinstance(row[place], int) for row in rows)}
    if sys.stdout.isatty():
        _rich(columns, cells, right, notes or {})
    else:
        _plain(columns, cells, right, notes or {})


def table_of_plan(due: Sequence[Described]) -> None:
    """Print what `waybill plan` shows: the deliveries that are open or due."""
    columns = ["KIND", "ENTITY", "SEQUENCE", "FROM", "TO", "PATH"]
    shown = [
        [
            _kind(delivery), delivery["entity"], delivery["sequence"], delivery["window"]["from"] or "beginning", delivery["window"]["to"],
            delivery["path"],
        ]
        for delivery in due
    ]  # fmt: skip
    table(columns, shown)


def table_of_deliveries(found: Sequence[Described]) -> None:
    """Print what `waybill deliveries` shows, with the error below each delivery that has one."""
    columns = ["DELIVERY", "TENANT", "ENTITY", "KIND", "SEQUENCE", "STATUS", "ROWS", "BYTES", "DATE", "COMMITTED (UTC)"]
    shown = [
        [
            delivery["delivery_id"], delivery["tenant"], delivery["entity"], _kind(delivery),
            f"g{delivery['generation']} #{delivery['sequence']}", delivery["status"],
            delivery["rows"], delivery["bytes"], delivery["export_date"], (delivery["committed_at"] or "")[:19].replace("T", " "),
        ]
        for delivery in found
    ]  # fmt: skip
    table(columns, shown, {number: delivery["error"] for number, delivery in enumerate(found) if delivery["error"]})


def _kind(delivery: Described) -> str:
    """full, delta, backfill or redelivery."""
    return delivery["kind"] if delivery["purpose"] == Purpose.SCHEDULE else delivery["purpose"]


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else seen(str(value))


def _plain(columns: Sequence[str], cells: list[list[str]], right: set[int], notes: Mapping[int, str]) -> None:
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    for number, row in enumerate([list(columns), *cells], -1):
        parts = [text.rjust(widths[at]) if at in right else text.ljust(widths[at]) for at, text in enumerate(row)]
        write("  ".join(parts).rstrip())
        if number in notes:
            write(f"    {notes[number]}")


def _rich(columns: Sequence[str], cells: list[list[str]], right: set[int], notes: Mapping[int, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    if sum(widths[:-1]) + min(widths[-1], _FOLDED) + 2 * len(widths) > console.width:
        _records(console, columns, cells, notes)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        shown.add_column(name, justify="right" if place in right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*(Text(text, _COLOURS.get(text, "")) for text in row))
    console.print(shown)
    for number, note in notes.items():
        console.print(Text(seen(f"{cells[number][0]}: {note}")))


def _records(console: Any, columns: Sequence[str], cells: list[list[str]], notes: Mapping[int, str]) -> None:
    """Print rows that are wider than the terminal one below another, with their columns' names. A table would break words apart."""
    from rich.text import Text

    name_width = max(map(len, columns))
    for number, row in enumerate(cells):
        console.print(Text(row[0], "bold"), soft_wrap=True)
        for name, text in zip(columns[1:], row[1:], strict=True):
            if text != "-":
                console.print(Text(f"  {name:{name_width}}  ").append(text, _COLOURS.get(text, "")), soft_wrap=True)
        if number in notes:
            console.print(Text(seen(f"  {notes[number]}")), soft_wrap=True)
