"""Reads YAML as people write it: plain data, with the place of each mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from waybill.configuration.findings import kind_of
from waybill.errors import Finding


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        # A key is its text: YAML 1.1 reads `on` and `no` as booleans, and `2024` as a number.
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else loader.construct_object(key_node, deep=True)
        if isinstance(key, (dict, list)):
            problem = "a key must be plain text; is this a template that nobody filled in?"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands here twice", problem_mark=key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice instead of silently keeping the last."""


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by libyaml, if PyYAML was built with it. It is six times as fast."""


_INT = "tag:yaml.org,2002:int"
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
"""Whole numbers as people write them. `0123`, `0x1F`, `1_000` and `12:30` are text: an id must not become another customer's."""

for _loader in (_Loader, _FastLoader):
    kept = {
        first: [resolver for resolver in known if resolver[0] != _INT] for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _loader.yaml_implicit_resolvers = {
        first: [*known, *([(_INT, _WHOLE)] if first in "-+0123456789" else [])] for first, known in kept.items()
    }


def _time(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    try:
        return loader.construct_yaml_timestamp(node)
    except ValueError as error:  # `2020-13-40` has the form of a date
        problem = f"{node.value} is no date ({str(error).partition(';')[0]}); quote it if it is a text"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _time)
_FastLoader.add_constructor("tag:yaml.org,2002:timestamp", _time)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_FastLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)

_UNALIKE = re.compile(r"[\t\ufeff?]|[|>][+-]?#|(?:[-\[{] *){50}|^ {200}", re.MULTILINE)
"""What the two parsers read differently (tabs, byte order marks, question marks), and nesting that could overflow libyaml's stack."""
_MOST_BRACKETS = 20_000
_MOST_REPEATED = 100_000
"""How many values aliases may repeat in one file. Ten lines of aliases of aliases could otherwise name more than any memory holds."""


def parse_yaml(text: str) -> Any:
    """Return plain data. Raises yaml.YAMLError, and what PyYAML's constructors raise for values that do not fit their tags.

    libyaml reads correct files. What it refuses, PyYAML itself reads again, and people see its words and positions.
    """
    if not _UNALIKE.search(text) and text.count("[") + text.count("{") < _MOST_BRACKETS:
        try:
            return _loaded(text, _FastLoader)
        except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
    return _loaded(text, _Loader)


def _loaded(text: str, kind: type[Any]) -> Any:
    loader = kind(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if "*" in text:
            _require_few_repeats(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _require_few_repeats(root: yaml.Node) -> None:
    """Raises MarkedYAMLError for aliases, or merges of them, that stand for too much. What reads the values later follows every one."""
    sizes: dict[yaml.Node, int] = {}

    def size(node: yaml.Node) -> int:
        if node in sizes:
            if not sizes[node]:
                raise yaml.MarkedYAMLError(problem="an alias (*) stands for what it is in", problem_mark=node.start_mark)
            return sizes[node]
        sizes[node] = 0
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes[node] = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(size(part) for part in inner))
        if sizes[node] - len(sizes) > _MOST_REPEATED:
            problem = f"aliases (*) repeat more than {_MOST_REPEATED:,} values; write them out, or fewer of them"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return sizes[node]

    size(root)


def replace_text(path: Path, text: str) -> None:
    """Write a file of the configuration, so that readers find either all of it or what was there before. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def read_yaml(path: Path, shown: str, findings: list[Finding]) -> dict[str, Any] | None:
    """Return a file's mapping, or None with a finding. An empty file is an empty mapping."""
    try:
        return read_mapping(path.read_text(encoding="utf-8"), shown, findings)
    except OSError as error:
        findings.append(Finding(shown, "", f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        findings.append(Finding(shown, "", f"is not UTF-8 at byte {error.start}", "UTF-8 text"))
    return None


def read_mapping(text: str, shown: str, findings: list[Finding]) -> dict[str, Any] | None:
    """Return the mapping that YAML holds, or None with a finding."""
    try:
        data = parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        findings.append(
            Finding(
                shown,
                f"line {mark.line + 1}, column {mark.column + 1}" if mark else "",
                f"not valid YAML: {error.problem or error.context}",
            )
        )
    except (yaml.YAMLError, ValueError) as error:
        findings.append(Finding(shown, "", f"not valid YAML: {str(error).splitlines()[0].partition(';')[0]}"))
    except (TypeError, KeyError, AttributeError):  # what PyYAML's own constructors raise for `!!bool foo` and the like
        findings.append(Finding(shown, "", "not valid YAML: a value does not fit the type its tag (!!) names", "values without a tag"))
    except RecursionError:
        findings.append(Finding(shown, "", "not valid YAML: nested too deeply"))
    else:
        if data is None or isinstance(data, dict):
            return data or {}
        findings.append(Finding(shown, "", f"holds {kind_of(data)}", "a mapping of keys to values"))
    return None
