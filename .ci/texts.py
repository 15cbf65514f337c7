"""Finds in the code every text that an expression may be.

An expression is read in the place where it stands. A name in it is followed to the assignments that reach this place, and a parameter to
the arguments of every caller. What only a run knows becomes `<...>`, named as the code names it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

DEEPEST = 6
"""How many callers, assignments and functions are followed one behind the other."""
MOST = 60
"""How many ways of saying one thing are told apart."""
_MOST_INSIDE = 3
"""How many ways of saying a part of a sentence are told apart."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False)
class Module:
    name: str
    tree: ast.Module

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """Every node below the module, with the node that it belongs to."""
        found: dict[ast.AST, ast.AST] = {}
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop()
            children = list(ast.iter_child_nodes(node))
            found.update(dict.fromkeys(children, node))
            waiting += reversed(children)
        return found

    @cached_property
    def imports(self) -> dict[str, str]:
        """What each imported name stands for, as `module.name`."""
        found = {}
        for node in self.parents:
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        return found

    @cached_property
    def top(self) -> dict[str, ast.expr]:
        """The constants of the module."""
        found: dict[str, ast.expr] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    found |= dict(_pairs(target, node.value))
        return found

    @cached_property
    def functions(self) -> dict[str, Function]:
        return {node.name: node for node in self.parents if isinstance(node, Function)}

    def around(self, node: ast.AST, *kinds: type[ast.AST]) -> ast.AST | None:
        while (node := self.parents.get(node)) is not None:  # type: ignore[assignment]
            if isinstance(node, kinds):
                return node
        return None


@dataclass(frozen=True, eq=False)
class Place:
    """Where an expression stands, and what the names in it were found to be."""

    module: Module
    node: ast.AST
    bound: Mapping[str, Meaning] = field(default_factory=dict)
    depth: int = 0


@dataclass(frozen=True, eq=False)
class Meaning:
    value: ast.expr
    place: Place


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, part in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, part)


class Code:
    """The modules below some folders, and who calls whom in them."""

    def __init__(self, roots: list[Path]) -> None:
        self.modules: dict[str, Module] = {}
        for root in roots:
            for path in sorted(root.rglob("*.py")):
                name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
                self.modules[name] = Module(name, ast.parse(path.read_text(encoding="utf-8")))

    @cached_property
    def calls(self) -> dict[str, list[tuple[Module, ast.Call]]]:
        """Every call by the last name of what is called."""
        found: dict[str, list[tuple[Module, ast.Call]]] = {}
        for module in self.modules.values():
            for node in module.parents:
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                    found.setdefault(node.func.id if isinstance(node.func, ast.Name) else node.func.attr, []).append((module, node))
        return found

    @cached_property
    def methods(self) -> dict[str, list[tuple[Module, Function]]]:
        found: dict[str, list[tuple[Module, Function]]] = {}
        for module in self.modules.values():
            for node in module.parents:
                if isinstance(node, Function) and isinstance(module.parents[node], ast.ClassDef):
                    found.setdefault(node.name, []).append((module, node))
        return found

    def texts(self, node: ast.expr, place: Place) -> list[str]:
        """Return every text that an expression may be."""
        if place.depth > DEEPEST:
            return [_unknown(node)]
        match node:
            case ast.Constant():
                return [str(node.value)]
            case ast.JoinedStr():
                return self._joined([self.texts(one, place) for one in node.values])
            case ast.FormattedValue():
                return self._inside(node.value, place)
            case ast.BinOp(op=ast.Add()):
                return self._joined([self.texts(node.left, place), self.texts(node.right, place)])
            case ast.IfExp():
                return _distinct([*self.texts(node.body, place), *self.texts(node.orelse, place)])
            case ast.BoolOp(op=ast.Or()):
                return _distinct(text for one in node.values for text in self.texts(one, place))
            case ast.Name(id=name) if name in place.bound:
                found = self.texts(place.bound[name].value, place.bound[name].place)
                return [_unknown(node) if _is_unknown(text) and not text.endswith(" says\x02") else text for text in found]
        return self._found_elsewhere(node, place) or [_unknown(node)]

    def _found_elsewhere(self, node: ast.expr, place: Place) -> list[str]:
        """Return what a constant, the language or a function of ours says in the place of an expression."""
        if constant := self._constant(place.module, node):
            return self.texts(constant.value, constant.place)
        match node:
            case ast.Call(func=ast.Name(id="tell"), args=[key, *_]):
                counts = any(one.arg == "count" for one in node.keywords)
                return _distinct(found for text in self.texts(key, place) for found in sentences(text, counts))
            case ast.Call(func=ast.Name(id="counted"), args=[number, ast.Constant(value=str(word))]):
                return [f"{_unknown(number)} {word}s"]
            case ast.Call(func=ast.Attribute(attr="rstrip" | "strip", value=value), args=[]):
                return [text.rstrip() for text in self.texts(value, place)]
            case ast.Call():
                return self._returned(node, place)
            case ast.Attribute(attr=name) if place.depth == 0:
                return self._fields(name)
        return []

    def _inside(self, value: ast.expr, place: Place) -> list[str]:
        """Return what stands in braces within a text: the words of a constant, a sentence that was put together before, or `<name>`."""
        found: list[Meaning] = []
        match value:
            case ast.IfExp() if all(isinstance(one, ast.Constant | ast.JoinedStr) for one in (value.body, value.orelse)):
                return [max((text for arm in (value.body, value.orelse) for text in self.texts(arm, place)), key=len)]
            case ast.Call(func=ast.Name(id="counted")):
                return self.texts(value, place)
            case ast.Name(id=name):
                found = [one.bound[name] for one in self.bindings(place, {name}, callers=False) if name in one.bound]
        found = [one for one in found if not (isinstance(one.value, ast.Constant) and not isinstance(one.value.value, str))]
        if not found and isinstance(value, ast.Name | ast.Attribute) and (constant := self._constant(place.module, value)):
            found = [constant]
        texts = [text for text in _distinct(text for one in found for text in self.texts(one.value, one.place)) if text]
        are_whole = all(re.search(r"\w \w|^[^\x01]*$", text) for text in texts)
        return texts if texts and len(texts) <= _MOST_INSIDE and are_whole else [_unknown(value)]

    def _joined(self, parts: list[list[str]]) -> list[str]:
        return ["".join(texts) for texts, _ in zip(product(*parts), range(MOST), strict=False)]

    def bindings(self, place: Place, wanted: set[str], callers: bool = True) -> list[Place]:
        """Return the place once for each way in which the wanted names got their values there."""
        missing = {name for name in wanted if name not in place.bound}
        module, node = place.module, place.node
        function = module.around(node, *Function.__args__)
        if not missing or function is None or place.depth > DEEPEST:
            return [place]
        ways = [{**place.bound, **way} for way in self._reaching(module, node, function, missing, place.depth)]
        found: list[Place] = []
        for way in ways:
            reached = Place(module, node, way, place.depth)
            parameters = [one.arg for one in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]]
            if callers and any(name in parameters and name not in way for name in missing):
                found += [
                    Place(module, node, {**arguments, **way}, place.depth) for arguments in self._arguments(module, function, place.depth)
                ] or [reached]
            else:
                found.append(reached)
        resolved = []
        for one in found[:MOST]:  # what a name stands for may be made of names itself
            further = {name: meaning for name, meaning in one.bound.items() if name in missing}
            ways_on: list[list[tuple[str, Meaning]]] = []
            for name, meaning in further.items():
                there = self.bindings(
                    Place(meaning.place.module, meaning.place.node, meaning.place.bound, place.depth + 1),
                    whole_names(meaning.value),
                    callers,
                )
                ways_on.append([(name, Meaning(meaning.value, other)) for other in there])
            resolved += [Place(module, node, {**one.bound, **dict(way)}, place.depth) for way in product(*ways_on)]
        return resolved[:MOST]

    def _reaching(self, module: Module, node: ast.AST, function: ast.AST, wanted: set[str], depth: int) -> list[dict[str, Meaning]]:
        """Return the assignments to the wanted names that reach a node, one mapping for each way through the statements before it."""
        ways: list[dict[str, Meaning]] = [{}]
        wanted = wanted - {
            name
            for one in ast.walk(function)
            if isinstance(one, ast.AugAssign) and not isinstance(one.op, ast.Add)
            for name in _names(one.target)
        }
        while node is not function:
            parent = module.parents[node]
            for block in (getattr(parent, name, None) for name in ("body", "orelse", "finalbody", "handlers")):
                if isinstance(block, list) and node in block and not isinstance(node, ast.ExceptHandler):
                    ways = self._through(module, block[: block.index(node)], ways, wanted, depth)
            if isinstance(parent, ast.If):
                for one in (one for one in ast.walk(parent.test) if isinstance(one, ast.NamedExpr)):
                    ways = self._through(module, [ast.Assign([one.target], one.value)], ways, wanted, depth, parent)
            node = parent
        return ways

    def _through(
        self, module: Module, block: list[ast.stmt], ways: list[dict[str, Meaning]], wanted: set[str], depth: int, at: ast.AST | None = None
    ) -> list[dict[str, Meaning]]:
        """Go through the statements of a block from its end, and take the assignments to names that have no value yet."""
        for statement in reversed(block):
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                given = {
                    name: Meaning(value, Place(module, at or statement, {}, depth))
                    for target in targets
                    for name, value in _pairs(target, statement.value)
                }
                ways = [{**{name: meaning for name, meaning in given.items() if name in wanted}, **way} for way in ways]
            elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
                name, longer = statement.target.id, ast.BinOp(statement.target, ast.Add(), statement.value)
                ways = [{name: Meaning(longer, Place(module, statement, {}, depth)), **way} if name in wanted else way for way in ways]
            elif isinstance(statement, ast.If | ast.With | ast.Try | ast.For):
                ways = self._after(module, statement, ways, wanted, depth)
        return ways

    def _after(
        self, module: Module, statement: ast.stmt, ways: list[dict[str, Meaning]], wanted: set[str], depth: int
    ) -> list[dict[str, Meaning]]:
        if not any(isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in wanted for node in ast.walk(statement)):
            return ways
        blocks: list[list[ast.stmt]] = [statement.body, getattr(statement, "orelse", [])]  # type: ignore[attr-defined]
        leaving = (ast.Return, ast.Raise, ast.Continue, ast.Break)
        staying = [block for block in blocks if not (block and isinstance(block[-1], leaving))]
        return [way for block in staying for way in self._through(module, block, ways, wanted, depth)] or ways

    def _arguments(self, module: Module, function: Function, depth: int) -> Iterator[dict[str, Meaning]]:
        """Yield what each caller passes to a function."""
        positional = [one.arg for one in [*function.args.posonlyargs, *function.args.args]]
        is_method = isinstance(module.parents[function], ast.ClassDef)
        if is_method:
            positional = positional[1:]
        defaults = dict(zip(reversed(positional), reversed(function.args.defaults), strict=False))
        for caller, call in self.calls.get(function.name, []):
            if self.called(caller, call.func) != f"{module.name}.{function.name}" and not (
                is_method and isinstance(call.func, ast.Attribute)
            ):
                continue
            given = {
                **defaults,
                **dict(zip(positional, call.args, strict=False)),
                **{one.arg: one.value for one in call.keywords if one.arg},
            }
            yield {name: Meaning(value, Place(caller, call, {}, depth + 1)) for name, value in given.items()}

    def called(self, module: Module, func: ast.expr) -> str:
        """Return the full name of what is called, or an empty text if that cannot be seen."""
        if isinstance(func, ast.Name):
            return module.imports.get(func.id, f"{module.name}.{func.id}")
        if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
            return f"{module.imports.get(func.value.id, '')}.{func.attr}"
        return ""

    def function_of(self, module: Module, func: ast.expr) -> tuple[Module, Function] | None:
        where, _, name = self.called(module, func).rpartition(".")
        there = self.modules.get(where)
        while there and name not in there.functions and name in there.imports:  # a room hands on what its modules define
            where, _, name = there.imports[name].rpartition(".")
            there = self.modules.get(where)
        return (there, there.functions[name]) if there and name in there.functions else None

    def _constant(self, module: Module, node: ast.expr) -> Meaning | None:
        where, _, name = self.called(module, node).rpartition(".")
        there = self.modules.get(where)
        return Meaning(there.top[name], Place(there, there.tree)) if there and name in there.top else None

    def _returned(self, call: ast.Call, place: Place) -> list[str]:
        """Return what a function or method of ours returns, where that is a sentence."""
        if found := self.function_of(place.module, call.func):
            return self._of_returns([found], place.depth + 1)
        is_method = isinstance(call.func, ast.Attribute) and place.depth <= 1
        return self._of_returns(self.methods.get(call.func.attr, []), 1) if is_method else []  # type: ignore[attr-defined]

    def _of_returns(self, functions: list[tuple[Module, Function]], depth: int) -> list[str]:
        texts = []
        for module, function in functions:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    for one in self.bindings(Place(module, node, {}, depth), whole_names(node.value), callers=False):
                        texts += self.texts(node.value, one)
        return [text for text in _distinct(texts) if _is_sentence(text)]

    def _fields(self, name: str) -> list[str]:
        """Return what a field of a value is made with, or a property returns, where that is a sentence."""
        given = [
            Meaning(one.value, Place(module, call, {}, 1))
            for calls in self.calls.values()
            for module, call in calls
            for one in call.keywords
            if one.arg == name
        ]
        texts = [
            text
            for one in given
            for place in self.bindings(one.place, whole_names(one.value), callers=False)
            for text in self.texts(one.value, place)
        ]
        return [text for text in _distinct([*texts, *self._of_returns(self.methods.get(name, []), 1)]) if _is_sentence(text)]


def whole_names(node: ast.expr) -> set[str]:
    """Return the names that are a whole text, rather than a part of one."""
    match node:
        case ast.Name(id=name):
            return {name}
        case ast.IfExp():
            return whole_names(node.body) | whole_names(node.orelse)
        case ast.BinOp():
            return whole_names(node.left) | whole_names(node.right)
        case ast.BoolOp():
            return set().union(*(whole_names(one) for one in node.values))
        case ast.JoinedStr() if not re.search(r"\w \w", "".join(str(one.value) for one in node.values if isinstance(one, ast.Constant))):
            return {one.value.id for one in node.values if isinstance(one, ast.FormattedValue) and isinstance(one.value, ast.Name)}
    return set()


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def telling(texts: list[str]) -> list[str]:
    """Return the texts without those that say nothing, where another says more."""
    return [text for text in texts if text and not _is_unknown(text)] or texts


def _is_sentence(text: str) -> bool:
    return bool(re.search(r"\w+ \w+ \w", text))


def _is_unknown(text: str) -> bool:
    return bool(re.fullmatch(r"\x01[^\x02]*\x02", text))


def shown(text: str) -> str:
    """Return a text for Markdown: what only a run knows as `<name>`, in marks of its own unless it stands within some."""
    text, inside = " ".join(text.split()), False
    text = text.replace("\x02\x01", "> <")
    for part in re.findall(r"`|\x01|\x02", text):
        inside = not inside if part == "`" else inside
        text = text.replace(part, {"`": "\x03", "\x01": "<" if inside else "\x03<", "\x02": ">" if inside else ">\x03"}[part], 1)
    return text.replace("\x03", "`").replace("|", "\\|")


def sentences(key: str, plural: bool) -> list[str]:
    """Return the sentences whose keys fit: one, or several if a part of the key is known to a run only."""
    from waybill.language import replaceable, sentence

    known = {key.removesuffix(".one").removesuffix(".other") for key in replaceable()}
    pattern = re.compile(re.sub(r"\x01[^\x02]*\x02", r"\\w+", re.escape(key).replace("\\\x01", "\x01").replace("\\\x02", "\x02")))
    return [re.sub(r"{(\w+)[^}]*}", "\x01\\1\x02", sentence(one, 2 if plural else None)) for one in sorted(known) if pattern.fullmatch(one)]


_OF_ITS_ARGUMENT = ("len", "max", "min", "round", "sorted", "str", "join", "repr", "timestamp_text")
_OF_ITSELF = ("isoformat", "rstrip", "strip", "removeprefix", "partition", "splitlines", "upper", "lower", "values")


def _unknown(node: ast.expr) -> str:
    """Return a short name of what only a run knows."""
    return f"\x01{_name(node).strip('_').replace('_', ' ')}\x02"


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr="__name__", value=ast.Call(func=ast.Name(id="type"))):
            return "kind_of_error"
        case ast.Attribute(attr="strerror"):
            return "what_the_system_says"
        case ast.Attribute(attr=name):
            return name
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[argument, *_]) if name in _OF_ITS_ARGUMENT:
            return ("number_of_" if name == "len" else "") + _name(argument)
        case ast.Call(func=ast.Attribute(attr=name, value=value)) if name in _OF_ITSELF:
            return _name(value)
        case (
            ast.IfExp(body=value)
            | ast.Subscript(value=value)
            | ast.Call(func=value)
            | ast.BoolOp(values=[value, *_])
            | ast.BinOp(left=value)
            | ast.Starred(value=value)
        ):
            return _name(value)
    return "..."
