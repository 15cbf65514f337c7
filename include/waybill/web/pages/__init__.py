"""The pages for people below `/page`: rendered here, changed in place by htmx, inside Airflow's frame or on their own.

In: what a browser sends, a session's cookie or Airflow's. Out: HTML from `templates/`, with one style sheet and one script of `static/`.

A module a page: `overview`, `tenant` with `registration`, `requests` with `recurring`. Around them: `context` (which organization and
tenant), `session` (who looks, and where forms may come from), `render` (values to HTML), `words` (labels and refusals for people),
`request_rows` (an export as its list shows it), `app` (mounting, signing in, error pages).
"""

__all__: list[str] = []
