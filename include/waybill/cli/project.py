"""Commands to begin with: `init` makes a project folder, and `discover` writes its catalog from what a source holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from waybill.airflow import connect_db, lookup
from waybill.cli.options import AsJson, complain, counted, dump, write

app = typer.Typer()


@app.command()
def discover(
    source: Annotated[
        str,
        typer.Argument(
            help="A source of the catalog, a DuckDB file, a folder of Parquet files, or the id of an Airflow database connection."
        ),
    ],
    tenant_column: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of the columns that tell the tenant; may be repeated, the first one a table has counts. Default: usual names."
        ),
    ] = None,
    schema: Annotated[str, typer.Option(help="Only this schema; default: all that are not the database's own.")] = "",
    write_it: Annotated[bool, typer.Option("--write", help="Add the entities to catalog.yaml instead of printing them.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Compare with the catalog instead: new, dropped and retyped tables and columns.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at a source and propose a catalog: keys, tenants, how changes are found, and what cannot be exported, with the reason.

    Only reads. With --diff exit 1 means that a dropped or retyped column would stop a delivery.
    """
    from waybill.discovery import projects

    if diff and write_it:
        raise typer.BadParameter("--diff changes nothing; leave --write out")
    look = projects.look(source, tuple(tenant_column or ()), schema, lookup, connect_db, beside=write_it)
    if diff:
        _tell_differences(look.differences(), as_json)
        return
    if as_json:
        dump(look.as_json())
    elif not write_it:
        write(look.text().rstrip("\n"))
    if write_it:
        path = look.write()
        complain(f"wrote {counted(len(look.found.entities), 'entity')} to {path}")
    elif not as_json:
        complain(look.summary())
    for skipped in look.found.skipped if write_it else ():
        complain(f"not exported: {skipped.relation}: {skipped.why}")
    if not look.found.entities and not look.known:
        raise typer.Exit(1)


def _tell_differences(found: list[Any], as_json: bool) -> None:
    if as_json:
        dump(
            [
                {"kind": difference.kind, "place": difference.place, "what": difference.what, "breaks": difference.breaks}
                for difference in found
            ]
        )
    else:
        for difference in found:
            write(str(difference))
        write(counted(len(found), "difference") if found else "the catalog says what the source holds")
    if any(difference.breaks for difference in found):
        raise typer.Exit(1)


@app.command()
def copy(
    tenant: Annotated[str, typer.Argument(help="The tenant whose data goes to a second place, too.")],
    name: Annotated[str, typer.Argument(metavar="NEW", help="Id of the copy: a tenant of its own, such as acme-warehouse.")],
    to: Annotated[
        str,
        typer.Option(metavar="DESTINATION", help="Where to, as in a tenant's file: '{kind: sftp, connection: acme_dwh, root: /in}'."),
    ],
) -> None:
    """Deliver a tenant's data to a second place, too: write the file of a copy with a destination and a chain of its own."""
    from waybill.configuration.loading import Settings
    from waybill.configuration.yaml_files import read_mapping
    from waybill.errors import ConfigError
    from waybill.registrations import copying

    findings: list[Any] = []
    destination = read_mapping(to, "--to", findings)
    if destination is None:
        raise ConfigError(findings)
    done = copying.copy(Settings.from_environment(), tenant, name, destination)
    write(f"made {done.path}")
    if done.policy:
        write(f"added {name} to {done.policy}, with the words of {tenant}")
    write(f"next: waybill check --connect && waybill apply && waybill probe {name}")


@app.command()
def init(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="The project folder; made when it is not there. Nothing in it is overwritten.")
    ],
    source: Annotated[
        str, typer.Option(help="An Airflow database connection, a DuckDB file or a folder of Parquet files to discover.")
    ] = "",
    example: Annotated[str, typer.Option(help="A sample estate with data instead: flights.")] = "",
    tenant_column: Annotated[list[str] | None, typer.Option(help="As for `waybill discover`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a project folder that runs: configuration, DAG and plugin files for an Airflow, a CI workflow that checks it."""
    from waybill.discovery import projects

    if not folder.strip():
        raise typer.BadParameter("name a folder; `.` is the current one")
    if source and example:
        raise typer.BadParameter("give either --source or --example")
    if not source and not example and not as_json and sys.stdin.isatty():
        source = typer.prompt("Airflow connection, DuckDB file or Parquet folder (empty: decide later)", default="", show_default=False)
        if source and not tenant_column:
            names = typer.prompt("Column that tells your tenants apart (empty: look for usual names)", default="", show_default=False)
            tenant_column = names.replace(",", " ").split()
    named = tuple(tenant_column or ())
    made = projects.init(Path(folder), source=source, example=example, names=named, connections=lookup, connect=connect_db)
    if as_json:
        dump({"folder": str(folder), "files": [str(path) for path in made.files], "discovered": made.discovered})
        return
    for path in made.files:
        write(f"made {path}")
    for line in made.next_steps:
        write(line)
