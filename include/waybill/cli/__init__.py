"""The command line: the use cases without a scheduler, one command each.

In: words, options and the environment (`WAYBILL_...`, `AIRFLOW_CONN_...`). Out: lines for people, JSON for programs with `--json`, and an
exit code. 0 means done (also if nothing was due), 1 refused with a message, and 2 a mistake in the words or options. `project` holds init
and discover, `app` the deliveries, `operations` their repairs, `status` and `doctor` what only looks, and `serve` the API. They share
`options` and print with `tables`. `main` is the console script.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that was asked for."""
    from waybill.cli.app import main as run

    run()
