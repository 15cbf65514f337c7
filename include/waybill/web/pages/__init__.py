"""The pages for people below `/page`. They are rendered here, htmx changes them in place, and they run inside Airflow's frame or on their
own.

In: what a browser sends, a session's cookie or Airflow's. Out: HTML from `templates/`, with one style sheet and one script of `static/`.

The pages are `overview` (`verdicts` writes its first sentence), `tenant` with `registration`, and `requests/`. Around them, `app` mounts
them and makes error pages, `context` knows the chosen organization and tenant, `signing_in/` knows who looks, `render` turns values into
HTML, `sentences` and `words` hold what people read, and `redaction` leaves out what tenants must not see.
"""

__all__ = ["app"]
