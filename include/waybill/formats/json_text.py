"""NDJSON and JSON. Every value is written so that nothing of it is lost (`waybill.formats.lines.json_token`)."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from waybill.canonical import optional_timestamp_text, timestamp_text
from waybill.configuration.values.columns import Column
from waybill.formats import lines
from waybill.formats.base import Target, WriterOptions, Written
from waybill.formats.intake import Intake


class TextWriter:
    """A file that is one expression over the rows: `opening`, one text for each row, `ending`. The first `separator` bytes are left out."""

    ending = b""
    separator = 0

    def __init__(self, output: Target, columns: Mapping[str, Column], options: WriterOptions) -> None:
        self._options = options
        self._intake = Intake(columns, clean_values=options.clean)
        self._engine = lines.Lines()
        self._output = output
        self._empty = True

    @property
    def opening(self) -> bytes:
        return b""

    def values(self, schema: pa.Schema) -> list[str]:
        """Return the values that a row is made of, as v0, v1, ... in `expression`."""
        return [
            lines.json_token(field.name, column.leaves_as, field.type)
            for field, column in zip(schema, self._intake.columns.values(), strict=True)
        ]

    def expression(self) -> str:
        raise NotImplementedError

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in self._intake.take(batch):
            self._put(piece)

    def close(self) -> Written:
        for piece in self._intake.rest():
            self._put(piece)
        return self._finish(tuple(self._intake.columns))

    def discard(self) -> None:
        self._engine.close()
        self._output.discard()

    def _put(self, piece: pa.RecordBatch) -> None:
        for texts in self._engine.texts(piece, self.expression(), self.values(piece.schema)):
            if self._empty:
                self._output.write(self.opening)
            self._output.write(texts[self.separator :] if self._empty else texts)
            self._empty = False
        self._options.heartbeat()

    def _finish(self, header: tuple[str, ...]) -> Written:
        if self._empty:
            self._output.write(self.opening)
        self._output.write(self.ending)
        self._engine.release()
        return self._output.finish(self._intake.rows, header, self._intake.withheld)

    def _object(self) -> list[str]:
        pieces, mark = [], "{"
        for number, name in enumerate(self._intake.columns):
            pieces += [lines.literal(f"{mark}{_compact(name)}:"), f"v{number}"]
            mark = ","
        return [*pieces, "'}'"]


class NdjsonWriter(TextWriter):
    """One object on each line, without loss."""

    def expression(self) -> str:
        return lines.concat([*self._object(), "chr(10)"])


class JsonWriter(TextWriter):
    """One JSON document, with one row on each line.

    `objects`: `{exportedAt, dateRange, scope, data: {entity: [...]}}` with an object for each row. `arrays`: the header row, then an array
    for each row.
    """

    def __init__(self, output: Target, entity_id: str, columns: Mapping[str, Column], options: WriterOptions) -> None:
        super().__init__(output, columns, options)
        self._entity_id = entity_id
        self._arrays = options.json_layout == "arrays"
        self.ending = b"\n]\n" if self._arrays else b"\n]}}\n"
        self.separator = 0 if self._arrays else len(",\n")

    @property
    def opening(self) -> bytes:
        if self._arrays:
            return f"[\n{_compact(list(self._intake.columns))}".encode()
        envelope = _compact(_envelope(self._options)).removesuffix("}")
        return f'{envelope},"data":{{{_compact(self._entity_id)}:[\n'.encode()

    def expression(self) -> str:
        if not self._arrays:
            return lines.concat(["',' || chr(10)", *self._object()])
        pieces, mark = ["',' || chr(10)"], "["
        for number, _ in enumerate(self._intake.columns):
            pieces += [f"'{mark}'", f"v{number}"]
            mark = ","
        return lines.concat([*pieces, "']'"])


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _envelope(options: WriterOptions) -> dict[str, object]:
    start, end = options.date_range
    return {
        "exportedAt": timestamp_text(options.exported_at),
        "dateRange": {"from": optional_timestamp_text(start), "to": optional_timestamp_text(end)},
        "scope": dict(options.scope),
    }
