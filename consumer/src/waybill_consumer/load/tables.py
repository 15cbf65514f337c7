"""What an entity's table must hold for a delivery."""

from __future__ import annotations

from waybill_consumer.manifest import Column, Manifest
from waybill_consumer.targets import Shape, former


def wanted_shape(old: Shape | None, manifest: Manifest, wider: dict[str, Column]) -> Shape:
    """What the table must hold for a delivery: exactly its columns after a full one, otherwise those and what was there."""
    held = old.columns if old is not None else ()
    was = former(held, manifest.columns)
    now = {name: column for column, name in was.items()}
    before = {now.get(column.name, column.name): column for column in held if column.name in now or column.name not in was}
    columns = {column.name: wider.get(column.name) or _widest(before.get(column.name), _own(column)) for column in manifest.columns}
    if manifest.kind != "full":
        columns = {**before, **columns}
    return Shape(tuple(columns.values()), manifest.key if manifest.is_keyed else ())


def _own(column: Column) -> Column:
    """A column as the manifest types it. Only decimals have digits to set: an integer gets them when one does not fit into 64 bits."""
    return column if column.type == "decimal" else column._replace(precision=None, scale=None)


def _widest(old: Column | None, new: Column) -> Column:
    """A column that holds what was there and what comes."""
    if old is None or old.type != new.type:
        return new
    if new.type == "integer":
        return new._replace(precision=old.precision)
    if new.type != "decimal" or None in (old.precision, old.scale):
        return new if new.type != "decimal" else new._replace(precision=None, scale=None)
    if new.precision is None or new.scale is None or old.precision is None or old.scale is None:
        return new._replace(precision=old.precision, scale=old.scale)
    scale = max(old.scale, new.scale)
    return new._replace(precision=max(old.precision - old.scale, new.precision - new.scale) + scale, scale=scale)
