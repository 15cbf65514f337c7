"""The rooms: each is small, and its `__init__` is a page that leads a newcomer to every module of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

REPOSITORY = Path(__file__).resolve().parent.parent
PRODUCTS = [REPOSITORY / "include/waybill", REPOSITORY / "include/waybill_demo", REPOSITORY / "consumer/src/waybill_consumer"]
ROOMS = [path.parent for product in PRODUCTS for path in sorted(product.rglob("__init__.py")) if "migrations" not in path.parts]
MOST_FILES = 13
"""With the `__init__`. The ground of the product stands in its own folder beside the rooms, and is a room of small modules."""
MOST_NAMES = 10


def named(room: Path) -> str:
    return str(room.relative_to(REPOSITORY))


def parts(room: Path) -> list[str]:
    """The modules and rooms within a room, as its page should name them."""
    modules = [path.stem for path in room.glob("*.py") if path.stem not in ("__init__", "__main__")]
    return modules + [path.parent.name for path in room.glob("*/__init__.py")]


@pytest.mark.parametrize("room", ROOMS, ids=named)
def test_the_page_of_a_room_names_all_that_is_in_it(room: Path) -> None:
    tree = ast.parse((room / "__init__.py").read_text())
    page = ast.get_docstring(tree) or ""
    words = set(re.findall(r"`([\w.]+)/?`", page)) | {word.partition(".")[0] for word in re.findall(r"`([\w.]+)", page)}
    assert sorted(set(parts(room)) - words) == []
    assert sorted(word for word in re.findall(r"`(\w+)/`", page) if not (room / word).is_dir()) == []


@pytest.mark.parametrize("room", ROOMS, ids=named)
def test_a_room_offers_few_names_and_says_which(room: Path) -> None:
    """Modules that others begin with, or names that the page itself holds. A room that nobody imports from has no list."""
    tree = ast.parse((room / "__init__.py").read_text())
    lists = [node for node in tree.body if "__all__" in ast.unparse(node).partition("=")[0]]
    assert len(lists) <= 1
    names = [name for node in lists for name in ast.literal_eval(node.value)]  # type: ignore[attr-defined]
    held = {*parts(room), *re.findall(r"\w+", "\n".join(ast.unparse(node) for node in tree.body[1:] if node not in lists))}
    assert sorted(set(names) - held) == []
    assert bool(lists) <= (0 < len(names) <= MOST_NAMES)


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in PRODUCTS[:1]], ids=named)
def test_a_room_is_seen_at_a_glance(room: Path) -> None:
    assert len(list(room.glob("*.py"))) <= MOST_FILES


def test_the_page_of_the_architecture_names_places_that_exist() -> None:
    page = (REPOSITORY / "docs/architecture.md").read_text()
    named_there = {word for word in re.findall(r"`([a-z_]+/[\w/.]*)`", page) if not word.endswith("*")}
    assert len(named_there) > 50
    bases = [REPOSITORY, REPOSITORY / "docs", *PRODUCTS, *(product.parent for product in PRODUCTS)]
    missing = [word for word in named_there if not any((base / word).exists() or (base / f"{word}.py").exists() for base in bases)]
    assert sorted(missing) == []
