"""Finds in the code what every error says: the sentences at `raise`, and those that callers pass."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from texts import DEEPEST, Code, Module, Place, sentences, telling, whole_names

_TAKEN = ("what", "next_step", "reason")
"""The attributes of a caught error that another error may take over."""


@dataclass(frozen=True, order=True)
class Raised:
    """An error that the code may raise. `kind` is the full name of its class."""

    kind: str
    code: str
    what: str
    next_step: str
    reason: str = ""


@dataclass(frozen=True)
class Kind:
    """A class of errors: its own code, and what its arguments without a name are."""

    code: str
    positional: tuple[str, ...] = ("what",)
    sentences: str = ""
    """The section of the language that has the sentence of each code, for errors that are raised without one."""


class Errors(Code):
    """The errors that some code may raise. `kinds` are their classes by their full names."""

    def __init__(self, roots: list[Path], kinds: Mapping[str, Kind]) -> None:
        super().__init__(roots)
        self.kinds = kinds

    def raised(self) -> Iterator[Raised]:
        for module in self.modules.values():
            for node in module.parents:
                if isinstance(node, ast.Call) and (named := self.called(module, node.func)) in self.kinds:
                    yield from self._raised(module, node, named, self.kinds[named])

    def _raised(self, module: Module, call: ast.Call, named: str, kind: Kind) -> Iterator[Raised]:
        given = dict(zip(kind.positional, call.args, strict=False)) | {one.arg: one.value for one in call.keywords if one.arg}
        code = given.get("code", ast.Constant(kind.code))
        own_sentence = not kind.sentences or "what" in given
        parts = [code, *(given.get(name, ast.Constant("")) for name in ("what", "allowed", "next_step", "reason"))]
        for caught in self._caught(module, call, parts):
            for place in self.bindings(Place(module, call), {name for part in caught for name in whole_names(part)}):
                for code_text, what, allowed, step, reason in product(*(telling(self.texts(part, place)) for part in caught)):
                    what = what if own_sentence else "".join(sentences(f"{kind.sentences}.{code_text}", False))  # noqa: PLW2901
                    if re.fullmatch(r"[a-z_0-9]+", code_text) and (what or reason):
                        yield Raised(named, code_text, what + (f" (allowed: {allowed})" if allowed else ""), step, reason)

    def _caught(self, module: Module, call: ast.Call, parts: list[ast.expr]) -> Iterator[list[ast.expr]]:
        """Yield the parts of an error, with those that it takes over from a caught one as every function inside the `try` says them."""
        handler = module.around(call, ast.ExceptHandler)
        taken: dict[int, str] = {}
        found: set[Raised] = set()
        if isinstance(handler, ast.ExceptHandler) and handler.type is not None:
            taken = {
                number: part.attr
                for number, part in enumerate(parts)
                if isinstance(part, ast.Attribute)
                and isinstance(part.value, ast.Name)
                and part.value.id == handler.name
                and part.attr in _TAKEN
            }
            wanted = {self.called(module, one) for one in getattr(handler.type, "elts", [handler.type])}
            block = module.parents[handler].body if taken else []  # type: ignore[attr-defined]
            found = {one for one in self._raised_inside(module, block, 0, set()) if one.kind in wanted}
        for one in sorted(found):
            yield [ast.Constant(getattr(one, taken[number])) if number in taken else part for number, part in enumerate(parts)]
        if not found:
            yield parts

    def _raised_inside(self, module: Module, block: list[ast.stmt], depth: int, seen: set[str]) -> Iterator[Raised]:
        for node in (node for statement in block for node in ast.walk(statement)):
            if not isinstance(node, ast.Call):
                continue
            if (name := self.called(module, node.func)) in self.kinds:
                yield from self._raised(module, node, name, self.kinds[name])
            elif (
                (found := self.function_of(module, node.func))
                and (named := f"{found[0].name}.{found[1].name}") not in seen
                and depth < DEEPEST
            ):
                yield from self._raised_inside(found[0], found[1].body, depth + 1, seen | {named})
