"""Waybill over HTTP: an API for programs and pages for people, one application in two shells.

In: HTTP requests, from Airflow's API server that mounts the application below `/waybill`, or from `waybill serve`. Out: JSON, HTML,
archives and `application/problem+json`. `app.create_app` puts both halves together: `api` speaks JSON, `pages` HTML, and neither knows
the other. What they share stands beside them: `dependencies` (caller, installation, rights), `bodies` (strict JSON), `problems` (every
error in one shape), `oauth` (whose tokens count), `serve` (the application that tenants reach). Rules are not made here: every route
calls a use case of `registrations`, `deliveries` or `requests`.

Nothing is imported here, so that a command that serves nothing pays for nothing.
"""

__all__: list[str] = []
