"""The words of the pages stand in one file a language, and every template reads like a page: no sentence, no long line, no dead word."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment

from waybill import language
from waybill.language import LANGUAGE, misworded, replaceable, table, tell, wording, words_of
from waybill.web.pages.sentences import say

pytestmark = pytest.mark.fast

PAGES = Path(__file__).parents[2] / "include/waybill/web/pages"
TEMPLATES = sorted((PAGES / "templates").rglob("*.html"))
SCRIPTS = sorted(path for path in (PAGES / "static").rglob("*.js") if ".min." not in path.name)
SPOKEN = ("title", "placeholder", "aria-label", "data-label", "alt")
"""Attributes people read or hear."""
EXAMPLES = {"acme", "export selected", "sftp s3", "sftp s3 folder", "GET"}
"""Values of the product, which no language changes: an id as an example, an option, kinds of destinations."""
LONGEST = 120
INCLUDE = Path(__file__).parents[2] / "include/waybill"
CONFIGURATION = INCLUDE / "configuration"
REFUSING = [*sorted(CONFIGURATION.rglob("*.py")), INCLUDE / "registrations/replacing.py"]
"""Modules that refuse what a tenant's people put into the form of a registration, and what operators put into files."""
SPEAKING = [
    *(CONFIGURATION / f"{name}.py" for name in ("channels", "rules/entity_choices", "rules/sharing", "values/durations")),
    *sorted(PAGES.rglob("*.py")),
    *sorted((INCLUDE / "requests").rglob("*.py")),
    *sorted((INCLUDE / "deliveries/reports").glob("*.py")),
    *(INCLUDE / f"deliveries/publishing/{name}.py" for name in ("feed", "rehearsing")),
    *(INCLUDE / f"registrations/{name}.py" for name in ("filling", "login_keys", "redefining")),
    *(INCLUDE / f"web/{name}.py" for name in ("bodies", "oauth")),
]
"""Modules that put together what people read."""
ANSWERING = [
    *sorted((INCLUDE / "web/api").glob("*.py")),
    *(INCLUDE / f"{name}.py" for name in ("access", "airflow/users", "pgp", "web/problems", "kits/making", "kits/tables")),
    *(INCLUDE / f"registrations/{name}.py" for name in ("applying", "encryption_keys", "estimating")),
    *(INCLUDE / f"deliveries/{name}.py" for name in ("extraction/extracting", "full_load_requests", "planning", "repairs")),
]
"""Modules that refuse calls in sentences of the language file, beside words of their own for logs, documents and operators."""
HEADER = re.compile(r"[A-Z]\w*(-[A-Z]\w*)+$")
TECHNICAL = {
    "mail about export",
    "Client",
    "Bearer",
    "Subject",
    "From",
    "To",
    "Date",
    "Waybill",
    "project apps",
    "project study",
    "project study participant",
    "in the archive",
    "the spool cannot be read:",
    ", export",
    ", feed",
    "WAYBILL_ARCHIVE_URL or WAYBILL_SPOOL_DIR",
    "Cc",
    "Zl",
    "Zp",
}
"""Where an error in the log comes from and what housekeeping reports there, names of settings for operators, of a class, a scheme, of
headers of a mail, the application, fields of a scope, and Unicode's names of kinds of letters."""


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
    said = texts + attributes + [string for string in strings if not name.match(string.strip()) or string[:1].isupper()]
    stripped = [text.replace("\x00", " ").strip() for text in said]
    return [item for item in stripped if re.search(r"[^\W\d_]{2,}", item) and item not in EXAMPLES]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_template_holds_a_sentence_of_its_own(template: Path) -> None:
    assert spoken(template.read_text()) == []


@pytest.mark.parametrize("planted", ["<p>Nothing here.</p>", '<input placeholder="Search tenants">', '{{ "No organization yet" }}'])
def test_a_sentence_in_a_template_is_found(planted: str) -> None:
    assert spoken(planted)


def _body(node: ast.AST) -> list[ast.stmt]:
    return node.body if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else []


def sentences_of(module: str) -> list[str]:
    """Texts of a module for people: with a space between words, or with a capital. Docstrings, markup, log lines and patterns are none."""
    tree = ast.parse(module)
    silent = {id(each.value) for node in ast.walk(tree) for each in _body(node) if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("log.", "exporting.log.", "re.")):
            silent |= {id(each) for each in node.args}
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):  # docs/reference/errors.md reads these there
            silent |= {id(each) for each in ast.walk(node)}
        if isinstance(node, ast.keyword) and node.arg == "description":  # of a field, in the document of the API
            silent |= {id(each) for each in ast.walk(node)}
        if isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(node).startswith(("HEADERS", "_SCOPE", "_EXAMPLE", "__all__")):
            silent |= {id(each) for each in ast.walk(node)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in silent)
    texts = [node.value.strip() for node in constants if isinstance(node.value, str) and "<" not in node.value]
    speaks = re.compile(r"[^\W\d_]{2,} |^[A-Z][a-z]| [^\W\d_]{2,}")
    return [text for text in texts if speaks.search(text) and not HEADER.match(text) and text not in TECHNICAL]


@pytest.mark.parametrize("module", SPEAKING, ids=lambda path: path.stem)
def test_no_module_of_pages_and_mails_holds_a_sentence_of_its_own(module: Path) -> None:
    assert sentences_of(module.read_text()) == []


@pytest.mark.parametrize("planted", ['say = "Nothing here."', 'title = "Exports"', 'said = f"Rows: {count} of"'])
def test_a_sentence_in_a_module_is_found(planted: str) -> None:
    assert sentences_of(planted)


def test_a_product_has_sentences_of_its_own() -> None:
    own = {"exports.empty": "Nothing <yet>.", "mail.expires": "Gone on {at}."}
    assert misworded(own) == ""
    with wording(lambda: own):
        assert say("exports.empty") == "Nothing &lt;yet&gt;."
        assert say("exports.refresh") == "Refresh"
        assert tell("mail.expires", at="Monday") == "Gone on Monday."
    assert say("exports.empty") != "Nothing &lt;yet&gt;."


def test_every_sentence_can_be_replaced_each_form_and_each_word_of_a_table() -> None:
    own = {key: f"* {text}" for key, text in replaceable().items()}
    assert misworded(own) == ""
    with wording(lambda: own):
        for key, text in own.items():
            section, _, rest = key.partition(".")
            name, _, form = rest.partition(".")
            said = language.sentence(f"{section}.{name}", 1 if form == "one" else 2)
            assert said == text
            assert form or table(section)[name] == text


@pytest.mark.parametrize(
    ("own", "wrong"),
    [
        ({"exports.emptiness": "?"}, "unknown sentence 'exports.emptiness'; did you mean 'exports.empty'? allowed: exports.cancel, "),
        ({"sections.empty": "?"}, "unknown sentence 'sections.empty'; allowed: advice, allowed, backfill, "),
        ({"exports.rows_of": "{count} rows"}, "unknown sentence 'exports.rows_of'; did you mean 'exports.rows_of.one'?"),
        ({"exports.rows_of.one": "{rows} row"}, "exports.rows_of.one has the unknown value {rows}; allowed: none"),
        ({"exports.until": "until {day}"}, "exports.until has the unknown value {day}; allowed: {at}"),
        ({"exports.until": "until {at.year}"}, "exports.until has the unknown value {at.year}"),
        ({"exports.until": "until {at:%Q{day}}"}, "exports.until has the unknown value {at:%Q{day}}"),
        ({"exports.until": "until {at!x}"}, "exports.until has the unknown value {at!x}"),
        ({"exports.until": "until {"}, "exports.until has a brace that opens or closes nothing"),
        ({"exports.empty": "{}"}, "exports.empty has the unknown value {}; allowed: none"),
    ],
)
def test_a_sentence_nobody_says_or_that_asks_for_an_unknown_value_is_refused(own: dict[str, str], wrong: str) -> None:
    assert misworded(own).startswith(wrong)


@pytest.mark.parametrize("preset", sorted((INCLUDE.parents[1] / "config/presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_speaks_in_its_own_words(preset: Path) -> None:
    words = yaml.safe_load(preset.read_text())["words"]
    assert misworded(words) == ""
    assert words["exports.empty"] != tell("exports.empty")


@pytest.mark.parametrize("page", [*TEMPLATES, *SCRIPTS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_line_of_a_template_or_script_is_longer_than_people_read(page: Path) -> None:
    assert [line for line in page.read_text().splitlines() if len(line) > LONGEST] == []


def test_every_sentence_is_used_and_every_used_one_is_there() -> None:
    """A key put together in a template or in code, such as `recurring.` and a frequency, stands for the keys that begin so."""
    source = "\n".join(path.read_text() for path in [*TEMPLATES, *SPEAKING, *REFUSING, *ANSWERING, INCLUDE / "web/dependencies.py"])
    written = set(re.findall(r'["\']([a-z_]+\.[a-zA-Z_0-9]+)["\']', source))
    beginnings = tuple(set(re.findall(r'"([a-z_]+\.[a-z_]*)" ?~', source)) | set(re.findall(r'f"([a-z_]+\.[a-z_]*){', source)))
    tables = re.findall(r'head\("(\w+)", (.*?)\) }}', source, re.DOTALL)
    heads = {f"{section}.{name}" for section, names in tables for name in re.findall(r'"(\w+)"', names)}
    sets = {f"deliveries.{name}" for name in re.findall(r'"(\w+)"', source.partition("{% set columns = (")[2].partition(")")[0])}
    asked = {f"{key}{end}" for key in re.findall(r'"((?:exports|recurring)\.\w+)"\) }}', source) for end in ("", "_title", "_about")}
    whole = set(re.findall(r'table\("(\w+)"\)', source))
    refusing = re.findall(r'(?:unfit\(|_one_of\(\w+, )"(\w+)"', source)
    asked |= {f"{section}.{key}" for key in refusing for section in ("finding", "allowed")}
    known = {key for key, _ in keys()}
    told = written | heads | sets | asked | {key for key in known if key.partition(".")[0] in whole}
    unused = {key for key in known - told if not key.startswith(beginnings)}
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


def test_colours_and_sizes_that_recur_are_named_values_at_the_head_of_the_styles() -> None:
    head, _, rest = (PAGES / "static/page.css").read_text().partition("\n}\n")
    names = set(re.findall(r"^  (--[\w-]+):", head, re.MULTILINE))
    assert {name for name in names if f"var({name})" not in rest} == set()
    assert set(re.findall(r"var\((--[\w-]+)\)", rest)) <= names
    assert re.findall(r"light-dark\(|#[0-9a-f]{6}\b", rest) == []
    assert re.findall(r"border-radius: [\d.]+(?:px|rem);", rest) == []
