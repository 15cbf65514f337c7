"""Finds out who looks at a page.

`session` reads it from Airflow's session or a cookie, and `identity` asks the house's identity provider.
"""

__all__ = ["identity", "session"]
