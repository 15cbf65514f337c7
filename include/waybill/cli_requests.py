"""Commands around on-demand exports. Exit codes as in `cli`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

app = typer.Typer()


@app.command()
def fulfil(
    due: Annotated[bool, typer.Option("--due", help="Leave requests alone whose time by policy has not come yet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Work through the pending export requests once, then send the mail that is owed."""
    from waybill import bootstrap, service
    from waybill.request import Status

    estate = bootstrap.estate()
    ended = service.fulfil_all(estate, due_only=due)
    shown = [service.describe_request(estate, one) for one in ended]
    if as_json:
        _print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        _tell(shown)
    for problem in service.send_mails(estate):
        sys.stderr.write(f"{problem}\n")
    if any(one.status == Status.FAILED for one in ended):
        raise typer.Exit(1)


def _tell(shown: list[dict[str, Any]]) -> None:
    if not shown:
        _print("no export request is pending")
    for one in shown:
        rows = "-" if one["rows"] is None else one["rows"]
        _print(f"{one['id']}  {one['tenant']:16} {one['status']:10} {rows:>10} rows  {', '.join(one['entities'])}")
        if one["error"]:
            _print(f"    {one['error']['message']} {one['error']['advice']}".rstrip())


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
