"""`waybill serve` and `waybill schema`."""

from __future__ import annotations

from logging import LogRecord
from typing import Annotated, Any

import typer

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
) -> None:
    """Serve the API to tenants with OAuth2 bearer tokens, without Airflow. Put a TLS proxy in front of it."""
    import uvicorn

    from waybill.configuration.loading import Settings
    from waybill.web import server_limits
    from waybill.web.serve import tenant_app

    trusted = Settings.from_environment().trusted_proxies
    uvicorn.run(
        tenant_app(),
        host=host,
        port=port,
        server_header=False,
        http=server_limits.protocol(),
        limit_concurrency=server_limits.CONNECTIONS,
        log_config=_without_secrets(uvicorn.config.LOGGING_CONFIG),
        proxy_headers=bool(trusted),
        forwarded_allow_ips=list(trusted),
    )


def _without_secrets(logging: dict[str, Any]) -> dict[str, Any]:
    """Return uvicorn's logging. Its access log leaves out query strings and tokens of links, because no reader of logs may use either."""
    access = {**logging["handlers"]["access"], "filters": ["paths"]}
    return {**logging, "filters": {"paths": {"()": PathsOnly}}, "handlers": {**logging["handlers"], "access": access}}


_LINE = ("caller", "method", "address", "version", "status")


class PathsOnly:
    """A filter that shortens the address of each line of uvicorn's access log."""

    def filter(self, record: LogRecord) -> bool:
        from waybill.requests.links import DOWNLOADS

        if isinstance(record.args, tuple) and len(record.args) == len(_LINE):
            caller, method, address, version, status = record.args
            path = str(address).partition("?")[0]
            before, download, token = path.partition(DOWNLOADS)
            record.args = (caller, method, f"{before}{download}..." if token else path, version, status)
        return True


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(help="catalog, tenant, policy or preset.", metavar="KIND")],
) -> None:
    """Print the JSON Schema of a configuration file, for editors."""
    import json

    from waybill.configuration.schemas import KINDS, json_schema

    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}")
    typer.echo(json.dumps(json_schema(kind), indent=2))
