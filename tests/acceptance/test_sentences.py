"""The table in sentences.yaml: every sentence of the product documents has tests, and these exist."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from waybill_demo.sample import PRESETS


@dataclass(frozen=True)
class Row:
    """A sentence of a document, what is asserted of it, and the tests that do so."""

    document: str
    says: str
    asserted: str
    tests: tuple[str, ...]


def rows(repository: Path) -> list[Row]:
    table = yaml.safe_load((repository / "tests/acceptance/sentences.yaml").read_text())
    return [Row(document, row["says"], row["asserted"], tuple(row["tests"])) for document, listed in table.items() for row in listed]


def named_tests(folder: Path) -> set[str]:
    found = [node for path in folder.rglob("test_*.py") for node in ast.walk(ast.parse(path.read_text()))]
    return {node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_sentence_names_what_is_asserted_and_tests_that_exist_and_assert(repository: Path) -> None:
    found = rows(repository)
    assert len(found) == 126
    assert {row.document for row in found} == {"000", "001", "002", "003", "004"}
    assert [row.says for row in found if not row.tests or not re.search(r"\w+ \w+.*\.$", row.asserted)] == []
    named = {name for row in found for name in row.tests}
    assert named - named_tests(repository / "tests") == set()
    assert named - _asserting(repository / "tests") == set()


def test_no_sentence_is_kept_partly(repository: Path) -> None:
    partly = re.compile(r"\b(partly|in part|not yet|except)\b", re.IGNORECASE)
    assert [row.says for row in rows(repository) if partly.search(row.asserted)] == []


def _asserting(folder: Path) -> set[str]:
    found = (node for path in folder.rglob("test_*.py") for node in ast.walk(ast.parse(path.read_text())))
    return {node.name for node in found if isinstance(node, ast.FunctionDef) and _asserts(node)}


def _asserts(test: ast.FunctionDef) -> bool:
    """An assertion, an expectation of a browser, an expected error, or a helper of the test's module that is called for it."""
    calls = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(test) if isinstance(node, ast.Call)}
    return any(isinstance(node, ast.Assert) for node in ast.walk(test)) or bool(calls & {"expect", "raises"})


def test_every_test_of_a_preset_stands_for_a_sentence_or_a_rule_of_its_own(repository: Path) -> None:
    named = {name for row in rows(repository) for name in row.tests}
    rules = {
        "test_studies_of_another_tenant_are_not_there",
        "test_realms_mail_says_why_a_request_failed",
        "test_realms_running_request_still_reads_submitted",
        "test_realms_equal_request_is_refused_while_the_first_stands",
        "test_realms_people_see_their_own_requests",
    }
    own = {name for name in named_tests(repository / "tests/acceptance") if name.startswith(tuple(f"test_{preset}_" for preset in PRESETS))}
    own |= {name for name in named_tests(repository / "tests/acceptance") if name.startswith("test_registering_")}
    assert own - named == rules


@pytest.mark.parametrize("preset", PRESETS)
def test_every_sample_describes_all_its_fields(repository: Path, preset: str) -> None:
    catalog = yaml.safe_load((repository / f"examples/{preset}/catalog.yaml").read_text())
    for entity in catalog["entities"].values():
        assert entity["description"]
        assert all(column["description"] for column in entity["columns"].values())
