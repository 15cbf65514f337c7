"""Fails on a module past 450 lines or a function past 45: past that, it wants splitting."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 450
FUNCTION_LINES = 45
FOLDERS = ("include", "consumer", "dags", "plugins")


def findings(root: Path) -> Iterator[str]:
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        if "migrations" in path.parts:  # written once by a schema change, and never grows
            continue
        name = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MODULE_LINES:
            yield f"{name}:1: module has {lines} lines (allowed: {MODULE_LINES})"
        for node in ast.walk(ast.parse(text, filename=str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > FUNCTION_LINES:
                    yield f"{name}:{node.lineno}: {node.name} has {length} lines (allowed: {FUNCTION_LINES})"


if __name__ == "__main__":
    found = list(findings(Path(__file__).resolve().parent.parent))
    print("\n".join(found) if found else "Sizes: every module and function is within its limit.")
    sys.exit(1 if found else 0)
