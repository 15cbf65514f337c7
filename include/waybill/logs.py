"""Fields of structured logs. Airflow logs through structlog, which puts the bound fields into every line, also into those of libraries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def about(tenant: str, entity: str = "", delivery: str = "") -> Iterator[None]:
    """Every line that is logged inside carries these fields. If structlog is not loaded, nobody reads them."""
    if "structlog" not in sys.modules:
        yield
        return
    import structlog

    fields = {"tenant": tenant, "entity": entity, "delivery": delivery}
    with structlog.contextvars.bound_contextvars(**{name: value for name, value in fields.items() if value}):
        yield
