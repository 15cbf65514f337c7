"""The table of docs/requests.md: every sentence of the product documents has tests, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from waybill_demo.sample import PRESETS


def rows(repository: Path) -> list[tuple[str, list[str]]]:
    """Sentence and tests of every row."""
    table = (repository / "docs/requests.md").read_text().partition("## Sentence by sentence")[2]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ") and not line.startswith("| sentence")]
    return [(sentence.strip(), re.findall(r"`(test_\w+)`", named)) for sentence, named in cells]


def named_tests(folder: Path) -> set[str]:
    found = [node for path in folder.rglob("test_*.py") for node in ast.walk(ast.parse(path.read_text()))]
    return {node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_sentence_names_tests_and_every_named_test_exists(repository: Path) -> None:
    existing = named_tests(repository / "tests")
    found = rows(repository)
    assert len(found) > 70
    assert [sentence for sentence, named in found if not named] == []
    assert {name for _, named in found for name in named} - existing == set()


def test_no_sentence_is_kept_partly_and_every_named_test_asserts_something(repository: Path) -> None:
    found = rows(repository)
    assert [sentence for sentence, named in found if not named or re.search(r"\b(partly|missing|not yet)\b", sentence, re.IGNORECASE)] == []
    asserting = set()
    for path in (repository / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and _asserts(node):
                asserting.add(node.name)
    assert {name for _, named in found for name in named} - asserting == set()


def _asserts(test: ast.FunctionDef) -> bool:
    """An assertion, an expectation of a browser, an expected error, or a helper of the test's module that is called for it."""
    calls = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(test) if isinstance(node, ast.Call)}
    return any(isinstance(node, ast.Assert) for node in ast.walk(test)) or bool(calls & {"expect", "raises"})


def test_every_test_of_a_preset_stands_for_a_sentence_or_a_rule_of_its_own(repository: Path) -> None:
    named = {name for _, tests in rows(repository) for name in tests}
    rules = {
        "test_studies_of_another_tenant_are_not_there",
        "test_realms_mail_says_why_a_request_failed",
        "test_realms_running_request_still_reads_submitted",
        "test_realms_equal_request_is_refused_while_the_first_stands",
        "test_realms_people_see_their_own_requests",
    }
    own = {name for name in named_tests(repository / "tests/acceptance") if name.startswith(tuple(f"test_{preset}_" for preset in PRESETS))}
    assert own - named == rules


@pytest.mark.parametrize("preset", PRESETS)
def test_every_sample_describes_all_its_fields(repository: Path, preset: str) -> None:
    catalog = yaml.safe_load((repository / f"examples/{preset}/catalog.yaml").read_text())
    for entity in catalog["entities"].values():
        assert entity["description"]
        assert all(column["description"] for column in entity["columns"].values())
