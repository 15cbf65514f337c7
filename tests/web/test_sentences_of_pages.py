"""The words of the pages stand in one file a language, and every template reads like a page: no sentence, no long line, no dead word."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

from waybill.web.pages.sentences import LANGUAGE, say, words_of

pytestmark = pytest.mark.fast

PAGES = Path(__file__).parents[2] / "include/waybill/web/pages"
TEMPLATES = sorted((PAGES / "templates").rglob("*.html"))
SPOKEN = ("title", "placeholder", "aria-label", "data-label", "alt")
"""Attributes people read or hear."""
EXAMPLES = {"acme", "export selected", "sftp s3", "sftp s3 folder", "GET"}
"""Values of the product, which no language changes: an id as an example, an option, kinds of destinations."""
LONGEST = 120


def keys() -> Iterator[tuple[str, Any]]:
    for section, sentences in words_of(LANGUAGE).items():
        for name, sentence in sentences.items():
            yield f"{section}.{name}", sentence


def forms(sentence: str | Mapping[str, str]) -> list[str]:
    return [sentence] if isinstance(sentence, str) else list(sentence.values())


def spoken(template: str) -> list[str]:
    """What a template says itself: text, attributes people read, and strings of its expressions that are no names."""
    tokens = list(Environment(autoescape=True).lex(template))
    markup = "".join(value if kind == "data" else "\x00" for _, kind, value in tokens)
    texts = re.split(r"<[^>]*>", markup)
    attributes = re.findall(rf'(?:{"|".join(SPOKEN)})="([^"]*)"', markup)
    strings = [re.sub(r"<[^>]*>", " ", value[1:-1]) for _, kind, value in tokens if kind == "string"]
    name = re.compile(r"[\w./#=?&:-]*$|hx-")
    said = texts + attributes + [one for one in strings if not name.match(one.strip()) or one[:1].isupper()]
    stripped = [one.replace("\x00", " ").strip() for one in said]
    return [one for one in stripped if re.search(r"[^\W\d_]{2,}", one) and one not in EXAMPLES]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_template_holds_a_sentence_of_its_own(template: Path) -> None:
    assert spoken(template.read_text()) == []


@pytest.mark.parametrize("planted", ["<p>Nothing here.</p>", '<input placeholder="Search tenants">', '{{ "No organization yet" }}'])
def test_a_sentence_in_a_template_is_found(planted: str) -> None:
    assert spoken(planted)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_line_of_a_template_is_longer_than_people_read(template: Path) -> None:
    assert [line for line in template.read_text().splitlines() if len(line) > LONGEST] == []


def test_every_sentence_is_used_and_every_used_one_is_there() -> None:
    """A key put together in a template or in code, such as `recurring.` and a frequency, stands for the keys that begin so."""
    source = "\n".join(path.read_text() for path in [*TEMPLATES, *PAGES.glob("*.py")])
    written = set(re.findall(r'["\']([a-z_]+\.[a-zA-Z_0-9]+)["\']', source))
    beginnings = tuple(set(re.findall(r'"([a-z_]+\.[a-z_]*)" ?~', source)) | set(re.findall(r'f"([a-z_]+\.[a-z_]*){', source)))
    tables = re.findall(r'head\("(\w+)", (.*?)\) }}', source, re.DOTALL)
    heads = {f"{section}.{name}" for section, names in tables for name in re.findall(r'"(\w+)"', names)}
    sets = {f"deliveries.{name}" for name in re.findall(r'"(\w+)"', source.partition("{% set columns = (")[2].partition(")")[0])}
    asked = {f"{key}{end}" for key in re.findall(r'"((?:exports|recurring)\.\w+)"\) }}', source) for end in ("", "_title", "_about")}
    known = {key for key, _ in keys()}
    unused = {key for key in known - written - heads - sets - asked if not key.startswith(beginnings)}
    assert unused == set()
    for template in TEMPLATES:
        for key in re.findall(r'say\("([\w.]+)"[,)]', template.read_text()):
            assert key in known, (template, key)


@pytest.mark.parametrize(("key", "sentence"), list(keys()), ids=[key for key, _ in keys()])
def test_a_sentence_says_its_values_and_escapes_them(key: str, sentence: Any) -> None:
    for form, count in ((0, 1), (-1, 7)):
        names = {name for _, name, _, _ in string.Formatter().parse(forms(sentence)[form]) if name}
        counts = isinstance(sentence, Mapping)
        said = str(say(key, **({"count": count} if counts else {}), **dict.fromkeys(names - {"count"}, "<b>")))
        assert "<b>" not in said
        assert "{" not in said
        assert said.strip() == said
        assert said[:1] != "."


def test_every_number_has_the_form_for_one_and_for_several() -> None:
    assert {key for key, sentence in keys() if isinstance(sentence, Mapping) and set(sentence) != {"one", "other"}} == set()
    assert [key for key, sentence in keys() if not isinstance(sentence, Mapping) and "{count}" in sentence] == []
