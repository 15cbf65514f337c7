"""Credentials never leave: by name when the catalogue is loaded, by key and by value in what is written."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.format_rows import COLUMNS, written
from waybill.canonical import ColumnType
from waybill.configuration.catalog import FORMATS, Catalog, problems
from waybill.configuration.values.columns import Column
from waybill.configuration.values.credentials import looks_secret, secret_value
from waybill.formats import clean

pytestmark = pytest.mark.fast


def cleaned_column(array: pa.Array, column: Column) -> tuple[pa.Array, int]:
    [found] = clean.columns([array], [column])
    return found


def _names(text: str) -> list[str]:
    return text.split()


SECRET_NAMES = _names(
    "password passwd pwd user_password passwordHash passphrase secret client_secret clientSecret client-secret CLIENTSECRET secretKeyBase"
    " webhook_secret webhookSecret webhook_signing_key token access_token accessToken refresh_token OAuth2RefreshToken id_token authtoken"
    " bearer_token session_token tokens api_key apiKey API-KEY apikey APIKey2 x-api-key api_keys private_key sshPrivateKeyPem signing-key"
    " encryption_key encryptionKey encryptionkey aws_secret_access_key access_key master_key credentials db_credentials authorization"
    " jwt cvv connectionString recovery_codes mfa_seed bcrypt_digest pinCode set-cookie secret_key_production token_hash"
    " accessTokenEncrypted githubToken kms_key authHeader bearer"
    " kennwort contraseña motDePasse senha_hash wachtwoord hasło şifre mật_khẩu пароль 密码 パスワード كلمة_المرور"
)
HARMLESS_NAMES = _names(
    "token_count key access_level password_changed_at has_password prompt_tokens completionTokens max_tokens total_tokens public_key"
    " primary_key foreign_key session_id session_key keyboard monkey secretary secretion_rate tokenized passenger compass passport author"
    " authorized_at access password_policy token_type expires_in key_id is_secret keys bypass cookie_consent connection_status"
    " token_expires_at credential_type api_key_id secret_rotated_at account_key service_key storage_key description id"
)
SECRET_VALUES = [
    "-----BEGIN RSA PRIVATE KEY-----\nMIIB",
    "AKIA" + "A" * 16,
    "ghp_" + "a1" * 18,
    "glpat-" + "a" * 20,
    "xoxb-" + "1" * 12,
    "sk_live_" + "a" * 24,
    "whsec_" + "a" * 32,
    "AIza" + "a" * 35,
    "ya29." + "a" * 30,
    "sk-proj-" + "a" * 40,
    "hvs." + "a" * 24,
    "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "Authorization: Bearer " + "a" * 24,
    "postgres://app:hunter2@db.example.com/prod",
    "DefaultEndpointsProtocol=https;AccountKey=" + "a" * 44,
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_of_a_credential_is_recognised(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_a_harmless_name_is_let_through(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize("escaped", [False, True])
def test_a_member_of_json_is_judged_by_the_same_names_as_a_column(name: str, escaped: bool) -> None:
    texts = pa.array([json.dumps({name: "hunter2", "size": 1}, ensure_ascii=escaped)])
    cleaned, withheld = cleaned_column(texts, Column(type=ColumnType.JSON))
    assert (json.loads(cleaned[0].as_py()), withheld) == ({"size": 1}, 1)


@pytest.mark.parametrize("value", SECRET_VALUES, ids=lambda value: value[:12])
def test_a_credential_gives_itself_away(value: str) -> None:
    assert secret_value(value)
    assert secret_value(f"see {value} there")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "the secret of success",
        "task-management-for-everybody-everywhere",
        "https://example.com/a:b@c",
        "12:30",
        "a@b.c",
        "sk-SK",
        "Bearer of news",
    ],
)
def test_ordinary_text_is_no_credential(value: str) -> None:
    assert not secret_value(value)


@given(st.sampled_from(SECRET_NAMES) | st.lists(st.sampled_from(SECRET_NAMES + HARMLESS_NAMES), min_size=1, max_size=3).map("_".join))
def test_the_quick_look_misses_no_secret_name(name: str) -> None:
    assert not looks_secret(name) or re.search(clean.MENTIONS, json.dumps({name: 1}))


PLANTED = "planted-Zq8"
leaf = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
tree = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SECRET_NAMES, *HARMLESS_NAMES]), inner, max_size=4),
    max_leaves=10,
)


def plant(value: Any, draw: Any) -> Any:
    """Put the planted text below every secret key."""
    if isinstance(value, dict):
        return {key: draw(PLANTED) if looks_secret(key) else plant(inner, draw) for key, inner in value.items()}
    return [plant(inner, draw) for inner in value] if isinstance(value, list) else value


def without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without(inner) for key, inner in value.items() if not looks_secret(key)}
    return [without(inner) for inner in value] if isinstance(value, list) else value


@given(tree, st.sampled_from([lambda x: x, lambda x: {"deep": [x]}, lambda x: [x, 1]]), st.booleans())
def test_cleaning_takes_out_every_secret_member_and_nothing_else(value: Any, wrap: Any, ascii: bool) -> None:
    planted = plant(value, wrap)
    cleaned = clean.text(json.dumps(planted, ensure_ascii=ascii))
    assert cleaned is not None
    assert PLANTED not in cleaned
    assert json.loads(cleaned) == without(planted)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a":1.50,"a":2,"token":"x","z":1E5}', '{"a":1.50,"a":2,"z":1E5}'),
        ('{"\\u0061pi_key":"x","é":"é"}', '{"é":"é"}'),
        ('[{"name":"X-Api-Key","value":"x"},{"name":"Accept","value":"y"}]', '[{"name":"X-Api-Key"},{"name":"Accept","value":"y"}]'),
        ('{"config":"{\\"webhook_secret\\":\\"x\\",\\"u\\":1}"}', '{"config":"{\\"u\\":1}"}'),
        ('"{\\"webhook_secret\\":\\"x\\",\\"u\\":1}"', '"{\\"u\\":1}"'),
        ('{"note":"sk_live_' + "a" * 24 + '","n":1}', '{"n":1}'),
        ('["sk_live_' + "a" * 24 + '",1]', "[null,1]"),
        ('{"sk_live_' + "a" * 24 + '":1,"n":1}', '{"n":1}'),
        ('{"url":"postgres:\\/\\/app:hunter2@db","n":1}', '{"n":1}'),
        ('{"token":NaN,"b":NaN}', '{"b":NaN}'),
        ('{"token":{"nested":"x"},"credentials":[1]}', "{}"),
        ('{"api_key":"x", broken', None),
        ('"', '"'),
        ('"quoted, and not to the end', '"quoted, and not to the end'),
        ('"a" and "b"', '"a" and "b"'),
        ('["\\""]', '["\\""]'),
        ('"api_key": "x"', None),
        ('"sk_live_' + "a" * 24, None),
        ("{'api_key': 'x'}", None),
        ("[" * 100_000 + '{"secret":"x"}', None),
        ("sk_live_" + "a" * 24, None),
    ],
)  # fmt: skip
def test_hiding_places_are_searched(before: str, after: str | None) -> None:
    assert clean.text(before) == after


@pytest.mark.parametrize(
    "value",
    ['{"tokens":812,"token_count":3}', '{"password":true,"secret":null}', '{"key":"primary","a":1.50}', "the key to success", '"key"',
     "{broken", "[1,]", "", "{ \"key\" : 1 }"],
)  # fmt: skip
def test_what_holds_no_credential_stays_as_it_is_spelt(value: str) -> None:
    assert clean.text(value) is value


def test_a_written_reason_lets_values_pass_but_no_secret_key() -> None:
    column = Column(type=ColumnType.JSON, reason="Test keys of our documentation.")
    array = pa.array(['{"example":"sk_test_0123456789ab","api_key":"x"}'])
    cleaned, withheld = cleaned_column(array, column)
    assert cleaned.to_pylist() == ['{"example":"sk_test_0123456789ab"}']
    assert withheld == 1


def test_text_columns_are_searched_for_credentials_and_for_json(tmp_path: Path) -> None:
    values = ["hello", "see sk_live_" + "a" * 24, '{"api_key":"x","n":1}', None, "api_key: ask Anna"]
    cleaned, withheld = cleaned_column(pa.array(values), COLUMNS["string"])
    assert cleaned.to_pylist() == ["hello", None, '{"n":1}', None, "api_key: ask Anna"]
    assert withheld == 2


def test_columns_that_are_searched_at_once_are_judged_each_by_its_own_texts_type_and_reason() -> None:
    key, text, body = "sk_live_" + "a" * 24, Column(type=ColumnType.STRING), Column(type=ColumnType.JSON)
    allowed = Column(type=ColumnType.STRING, reason="Test keys of our documentation.")
    hidden = Column(type=ColumnType.STRING, export="anonymize")
    given = [
        (pa.array([None, "a", key]), text, [None, "a", None], 1),
        (pa.array([1, 2, 3]), Column(type=ColumnType.INTEGER), [1, 2, 3], 0),
        (pa.array([key, "b", key]), text, [None, "b", None], 2),
        (pa.array(["c", "d", "e"]), text, ["c", "d", "e"], 0),
        (pa.array([key, None, "f"], pa.large_string()), text, [None, None, "f"], 1),
        (pa.array([key, key, '{"api_key":"x","n":1}']), allowed, [key, key, '{"n":1}'], 1),
        (pa.array([key, key, key]), hidden, [key, key, key], 0),
        (pa.array(['{"n":1}', '{"api_key":"x","n":1}', None]), body, ['{"n":1}', '{"n":1}', None], 1),
        (pa.array([None, None, '{"pin_code":4}'], pa.string()), body, [None, None, "{}"], 1),
    ]
    found = [(array.to_pylist(), count) for array, count in clean.columns([item[0] for item in given], [item[1] for item in given])]
    assert found == [(texts, count) for _, _, texts, count in given]


@pytest.mark.parametrize("format", FORMATS)
def test_no_format_holds_a_planted_credential_and_each_tells_how_many_it_withheld(tmp_path: Path, format: str) -> None:
    columns = {"note": COLUMNS["string"], "json": COLUMNS["json"]}
    nested = json.dumps({"keep": "kept-Zq8", "oauth": {"accessToken": PLANTED, "list": [{"refresh_token": PLANTED}]}, "api-key": PLANTED})
    given = pa.RecordBatch.from_arrays(
        [pa.array(["kept-Zq8", f"postgres://app:{PLANTED}@db/prod", None]), pa.array([nested, nested, None])], names=list(columns)
    )
    path, result = written(tmp_path, format, [given], columns)
    found = everything(path)
    assert PLANTED.encode() not in found
    assert b"kept-Zq8" in found
    assert result.withheld == {"note": 1, "json": 2}
    assert result.rows == 3


def everything(path: Path) -> bytes:
    """All bytes of a file, unpacked where it is packed."""
    if path.suffix == ".xlsx":
        with zipfile.ZipFile(path) as package:
            return b"".join(package.read(name) for name in package.namelist())
    return repr(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else path.read_bytes()


@given(st.lists(st.sampled_from(SECRET_NAMES), min_size=1, unique=True))
@settings(max_examples=20)
def test_a_catalogued_credential_is_refused_unless_a_reason_is_written(names: list[str]) -> None:
    refused = problems(catalog({name: {"type": "string"} for name in names}), "catalog.yaml")
    assert [finding.path for finding in refused] == [f"entities.e.columns.{name}" for name in names]
    assert {finding.code for finding in refused} == {"credential"}
    assert not problems(catalog({name: {"type": "string", "reason": "A public sample."} for name in names}), "catalog.yaml")


def test_harmless_columns_are_catalogued_without_a_reason() -> None:
    columns: dict[str, Any] = {name: {"type": "string"} for name in HARMLESS_NAMES}
    columns |= {"tokens": {"type": "integer"}, "password_set": {"type": "boolean"}, "token": {"type": "timestamp"}}
    assert not problems(catalog(columns), "catalog.yaml")


def test_a_blank_reason_is_none() -> None:
    assert problems(catalog({"api_key": {"type": "string", "reason": " "}}), "catalog.yaml")


def test_a_credential_written_into_the_catalogue_is_reported_without_repeating_it() -> None:
    value = "sk_live_" + "a" * 24
    [finding] = problems(catalog({"note": {"type": "string", "description": f"like {value}"}}), "catalog.yaml")
    assert finding.path == "entities.e.columns.note.description"
    assert value not in str(finding)


def catalog(columns: dict[str, Any]) -> Catalog:
    entity = {
        "id": "e",
        "source": "w",
        "relation": "e",
        "tenant_column": "t",
        "key": ["id"],
        "changes": {"mode": "full"},
        "columns": columns,
    }
    return Catalog.model_validate({"sources": {"w": {"kind": "duckdb", "path": "x"}}, "entities": {"e": entity}})


@pytest.mark.parametrize(
    "planted",
    [
        {"api": {"key": PLANTED}},
        {"encryption": {"key": PLANTED, "algorithm": "aes"}},
        {"oauth": {"access": PLANTED, "refresh": PLANTED}},
        {"settings": [{"api": [{"key": PLANTED}]}]},
        {"kms_key": PLANTED},
        {"authHeader": PLANTED},
        {"auth": PLANTED},
        {"bearer": PLANTED},
        {"cookie": PLANTED},
        {"field": "api_key", "val": PLANTED},
        {"label": "API key", "value": PLANTED},
        {"name": "Webhook secret", "data": PLANTED},
        {"type": "password", "content": PLANTED},
        [["api_key", PLANTED], ["color", "red"]],
        {"pass\u200bword": PLANTED},
        {"callback": f"https://x.example/cb?access_token={PLANTED}"},
        {"header": f"x-api-key: {PLANTED}"},
    ],
    ids=json.dumps,
)
def test_credentials_named_by_what_stands_around_them_go(planted: Any) -> None:
    array = pa.array([json.dumps(planted)])
    cleaned, withheld = cleaned_column(array, Column(type=ColumnType.JSON))
    assert withheld == 1
    assert PLANTED not in str(cleaned[0].as_py())


@pytest.mark.parametrize(
    "harmless",
    [
        {"author": "Ada", "key": "a"},
        {"site": {"key": "home"}},
        ["theme", "dark"],
        {"type": "text", "content": "hello"},
        {"link": "https://x.example/?page=2"},
    ],
    ids=json.dumps,
)
def test_what_only_resembles_them_stays(harmless: Any) -> None:
    array = pa.array([json.dumps(harmless)])
    assert cleaned_column(array, Column(type=ColumnType.JSON))[1] == 0
