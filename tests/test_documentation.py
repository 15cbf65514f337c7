"""The documentation is built as a site, and what can be written from the code is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from waybill.cli.app import app


@pytest.fixture(scope="module")
def reference(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", repository / ".ci/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(reference: ModuleType) -> dict[str, str]:
    return dict(reference.pages())


def test_the_reference_says_what_the_code_says(repository: Path, pages: dict[str, str]) -> None:
    """Write it again with `make reference`."""
    assert {path.name for path in (repository / "docs/reference").glob("*.md")} == set(pages)
    different = [name for name, text in pages.items() if (repository / "docs/reference" / name).read_text() != text]
    assert different == []


def test_every_line_of_the_errors_says_the_error(pages: dict[str, str]) -> None:
    """A reader searches for the words that they saw. Only what another program says is not known here, and its line names the program."""
    lines = [line for line in pages["errors.md"].splitlines() if line.startswith("- ")]
    assert len(lines) > 300
    mute = re.compile(r"- *(`<(?![\w ]+ says>)[^>]*>`)? *(\*\*|$)|\*\* *`<(?!error advice>)[^>]*>`\.\*\*")
    assert [line for line in lines if mute.match(line) or mute.search(line)] == []


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("the connection has no login", "Set the login of the Airflow connection"),  # the caller passes it to `unusable`
        ("the trigger that sets `<column>` on `<name>` is switched off", "Switch it on"),  # a local of the function
        ("the registration of `<tenant>` is not the one that If-Match names", "GET it again"),  # of the language, by an else
        ("holds a key that is not Ed25519", "Give a line such as"),  # of an error of the consumer's package
        ("Set tenant_through of entities.`<id>` of the catalog to such a column", ""),  # a table that a loop goes through
        ("S3 is busy or down", ""),  # an error without a code of its own
        ("The token has expired.", ""),  # a sentence whose key a run puts together
        ("host_key in extra is weak: RSA of `<bits>` bits, and 2048 is the least", "Pin another key"),  # a constant within a sentence
    ],
)
def test_an_error_is_found_by_its_words_with_its_next_step(pages: dict[str, str], words: str, step: str) -> None:
    found = [line for line in pages["errors.md"].splitlines() if words in line]
    assert found
    assert all(step in line for line in found)


def test_every_key_of_a_configuration_file_is_described(reference: ModuleType, pages: dict[str, str]) -> None:
    for kind, text in pages.items():
        if kind.removesuffix(".md") in reference.FILES:
            assert [line for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")] == []


def test_every_command_of_the_documentation_is_one(repository: Path) -> None:
    """Its name and its options are those of the command line; what it does is tested with the page that tells it."""
    root = typer.main.get_command(app)
    wrong = []
    for path in [repository / "README.md", *(repository / "docs").rglob("*.md")]:
        for text in re.findall(r"(?:^ *|`)(waybill [a-z][^`\n#|;&]*)", path.read_text(), re.MULTILINE):
            wrong += [f"{path.name}: {text.strip()}: {problem}" for problem in _unknown(root, text.split()[1:])]
    assert wrong == []


def _unknown(command: Any, words: list[str]) -> Iterator[str]:
    """The first word that is no subcommand, and every option that the command does not have."""
    while hasattr(command, "commands") and words:
        name, *words = words
        if name not in command.commands:
            yield f"there is no {name}"
            return
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    yield from (f"there is no {word}" for word in (word.partition("=")[0] for word in words) if word.startswith("--") and word not in known)


def test_decisions_are_numbered_without_holes_and_listed_in_order(repository: Path) -> None:
    pages = sorted(path.name for path in (repository / "docs/decisions").glob("0*.md"))
    assert [page[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    assert re.findall(r"\((0\d{3}-[^)]*)\)", (repository / "docs/decisions/README.md").read_text()) == pages


def test_the_site_is_built_without_a_broken_link(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "docs", tmp_path / "docs")
    (tmp_path / "mkdocs.yml").write_text((repository / "mkdocs.yml").read_text())
    program = Path(sys.executable).with_name("zensical")
    environment = {**os.environ, "NO_COLOR": "1"}
    build = [program, "build", "--strict"]
    done = subprocess.run(build, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/tutorial.html").exists()


def test_each_claim_about_security_names_a_test_that_exists(repository: Path) -> None:
    """A claim is a row of a table; `the same` stands for the row above it."""
    sections = (repository / "docs/security.md").read_text().split("\n## ")[1:]
    for section in sections:
        rows = [line.strip("| ").rsplit(" | ", 1) for line in section.splitlines() if line.startswith("| ")]
        claims = [row for row in rows if row != ["claim", "proved by"]]
        assert claims, f"nothing is proved of: {section.splitlines()[0]}"
        above: list[str] = []
        for claim, proof in claims:
            above = re.findall(r"`(tests/[\w/]+\.py)`", proof) or (above if proof.startswith("the same") else [])
            assert above, f"no test is named of: {claim}"
            assert [name for name in above if "def test_" not in (repository / name).read_text()] == [], claim
