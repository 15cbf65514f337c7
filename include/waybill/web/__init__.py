"""Waybill over HTTP: an API for programs and pages for people, one application in two shells.

In: HTTP requests, from Airflow's API server, which mounts the application below `/waybill`, or from `waybill serve`. Out: JSON, HTML,
archives and `application/problem+json`. `app.create_app` puts both halves together: `api` speaks JSON, `pages` HTML, and neither knows the
other. They share `dependencies` (caller, installation, rights), `bodies` (strict JSON), `problems` (every error in one shape), `headers`
and `wording` (the caller's words). `serve` is the application that tenants reach, with `oauth` and `jwks` (whose tokens count) and
`server_limits` (slow clients), and `guide` shows the documentation. No rules are made here: every route calls a use case of
`registrations`, `deliveries` or `requests`.

Nothing is imported here, so a command that serves nothing pays for nothing.
"""

__all__ = ["serve", "server_limits"]
