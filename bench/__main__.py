"""`make bench`: every leg, side by side with the best tool for it, as a table that also goes to docs/performance.md.

QUICK=1 takes small data; `python -m bench MODULE ...` prints some of the legs. A leg that cannot run here stands in the table as
`not run`, with the reason, and the end is an error then.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.leg import Line, NotRun

MODULES = (
    "extract",
    "streams",
    "rivals",
    "delivery",
    "deletes",
    "parents",
    "lakes",
    "loading",
    "memory",
    "push",
    "writers",
    "asking",
    "airflow_cost",
)
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
HEADING = "## Last run"
COLUMNS = "leg | against | ours | theirs | ratio | goal | met"


def _legs(modules: Sequence[str], quick: bool) -> Iterator[Line]:
    for name in modules:
        try:
            yield from importlib.import_module(f"bench.{name}").legs(quick)
        except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            traceback.print_exc()
            yield NotRun(f"bench.{name}, from here on | ", f"{type(error).__name__}: {error}")


def _machine() -> str:
    cores, load = os.cpu_count(), ", ".join(f"{value:.1f}" for value in os.getloadavg())
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{platform.machine()}, {cores} cores, {gigabytes:.0f} GB, Python {platform.python_version()}; load average {load}"


def _publish(quick: bool, began: str, legs: list[Line]) -> None:
    """Replace the page's last section; what stands before it is written by people."""
    before = PAGE.read_text().partition(HEADING)[0] if PAGE.exists() else "# Performance\n\n"
    size = "small data (`make bench QUICK=1`)" if quick else "full data (`make bench`)"
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    table = "\n".join(f"| {leg} |" for leg in (COLUMNS, " | ".join(["---"] * 7), *legs))
    PAGE.write_text(f"{before}{HEADING}\n\n{when}, {size}. At the start: {began}. At the end: {_machine()}.\n\n{table}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small data")
    parser.add_argument("modules", nargs="*", help=f"only these, and nothing is written: {', '.join(MODULES)}")
    given = parser.parse_args()
    if unknown := set(given.modules) - set(MODULES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    began = _machine()
    legs: list[Line] = []
    print(COLUMNS, flush=True)
    for leg in _legs(given.modules or MODULES, given.quick):
        print(leg, flush=True)
        legs.append(leg)
        if not given.modules:
            _publish(given.quick, began, legs)
    if missing := [leg for leg in legs if isinstance(leg, NotRun)]:
        print(f"{len(missing)} of {len(legs)} legs did not run:", *missing, sep="\n", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
