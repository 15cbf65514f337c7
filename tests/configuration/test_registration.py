"""Replace semantics, and one model for file, API and ledger."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from waybill.configuration.catalog import Catalog, DuckDBSource, LakeSource
from waybill.configuration.registration import Registration, difference, entity_words, resolve_entities
from waybill.configuration.values.paths import STORED_EARLIER
from waybill.window import Frequency

pytestmark = pytest.mark.fast

ENTITIES = {"user": "user", "user_login_events": "user logins", "content_must_read_marked": "must reads"}


DESTINATIONS = [
    {"kind": "sftp", "connection": "c"},
    {"kind": "folder", "root": "out"},
    {"kind": "s3", "bucket": "bbb", "connection": "a"},
]


def catalog() -> Catalog:
    body = {"source": "w", "relation": "r", "tenant_column": "t", "key": ["id"], "changes": {"mode": "full"}}
    body |= {"columns": {"id": {"type": "string"}}}
    return Catalog.model_validate(
        {
            "sources": {"w": {"kind": "duckdb", "path": "w"}},
            "entities": {entity: {**body, "id": entity, "name": name} for entity, name in ENTITIES.items()},
        }
    )


@pytest.mark.parametrize(
    "given_list",
    [
        pytest.param(["user", "user logins"], id="display names"),
        pytest.param("user, user logins", id="comma-separated"),
        pytest.param(["user", "user_login_events"], id="ids"),
        pytest.param(["User", " USER LOGINS "], id="any case, edge blanks"),
        pytest.param("user,user,,user logins,", id="repeated and empty entries"),
    ],
)
def test_entities_are_understood_however_they_are_written(given_list):
    found, findings = resolve_entities(Registration.model_validate({"entityList": given_list}), catalog(), "f")
    assert (found, findings) == (("user", "user_login_events"), [])


@pytest.mark.parametrize("root", ["..", "../in", "/a/../b", "a/.."])
@pytest.mark.parametrize("kind", [DESTINATIONS[0], DESTINATIONS[2]], ids=["sftp", "s3"])
def test_a_root_leads_nowhere_else(kind, root):
    with pytest.raises(ValidationError, match="allowed: a path without"):
        Registration.model_validate({"destination": kind | {"root": root}})
    kept = Registration.model_validate(
        {"destination": kind | {"root": root}}, context=STORED_EARLIER
    )  # as the ledger may hold it since earlier
    assert kept.destination.root == root


@pytest.mark.parametrize("root", ["~", "~/incoming", "~acme/in"])
def test_a_home_folder_is_no_root_over_sftp(root):
    with pytest.raises(ValidationError, match="'~' names no home folder here"):
        Registration.model_validate({"destination": DESTINATIONS[0] | {"root": root}})


@pytest.mark.parametrize("path", ["~", "~/incoming", "~acme/in"])
def test_a_home_folder_is_no_local_path_either(path):
    with pytest.raises(ValidationError, match="'~' names no home folder here"):
        Registration.model_validate({"destination": {"kind": "folder", "root": path}})
    kept = Registration.model_validate({"destination": {"kind": "folder", "root": path}}, context=STORED_EARLIER)
    assert kept.destination.root == path
    for kind in (DuckDBSource, LakeSource):
        with pytest.raises(ValidationError, match="'~' names no home folder here"):
            kind.model_validate({"kind": "duckdb" if kind is DuckDBSource else "lake", "path": path})


def test_an_unknown_entity_is_named_with_the_likely_one():
    _, findings = resolve_entities(
        Registration.model_validate({"entityList": ["usr logins", "user"]}), catalog(), "config/tenants/acme.yaml"
    )
    assert [str(finding) for finding in findings] == [
        "config/tenants/acme.yaml: entityList: unknown entity 'usr logins' "
        "(allowed: user, user logins, must reads; did you mean user logins?)"
    ]


@pytest.mark.parametrize("option", ["export all", "disable export"])
def test_export_all_and_disable_ignore_even_a_wrong_list(option):
    found, findings = resolve_entities(Registration.model_validate({"exportOption": option, "entityList": "nonsense"}), catalog(), "f")
    assert findings == []
    assert len(found) == (3 if option == "export all" else 0)


@pytest.mark.parametrize("body", [{}, {"entityList": []}, {"entityList": ""}, {"entityList": None}, {"entityList": " , "}])
def test_export_selected_without_entities_is_refused(body):
    _, findings = resolve_entities(Registration.model_validate(body), catalog(), "f")
    assert [finding.path for finding in findings] == ["entityList"]


def test_the_documents_defaults():
    registration = Registration.model_validate({"entityList": ["user"]})
    assert registration.body() == {"exportOption": "export selected", "entityList": ["user"], "frequency": "daily"}


registrations = st.fixed_dictionaries(
    {"entityList": st.lists(st.sampled_from(list(ENTITIES)), min_size=1)},
    optional={
        "exportOption": st.sampled_from(["export all", "export selected", "disable export"]),
        "frequency": st.sampled_from([member.value for member in Frequency]),
        "timezone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
        "deliverAt": st.sampled_from(["00:00", "02:30", "23:59"]),
        "deliverBy": st.sampled_from(["00:00", "06:15", "23:59"]),
        "destination": st.sampled_from(DESTINATIONS),
        "csv": st.fixed_dictionaries(
            {},
            optional={
                "delimiter": st.sampled_from([",", ";", "\t", "tab"]),
                "line_ending": st.sampled_from(["lf", "crlf", "\n", "\r\n"]),
                "bom": st.booleans(),
                "compression": st.sampled_from(["none", "gzip", "zstd"]),
                "max_rows_per_file": st.integers(1, 10**9) | st.none(),
            },
        ),
    },
)


@given(registrations)
def test_what_get_returns_can_be_sent_back_and_changes_nothing(body):
    registration = Registration.model_validate(body)
    again = Registration.model_validate(registration.body())
    assert again == registration
    assert again.body() == registration.body()


@given(st.sets(st.sampled_from("abcdef")), st.lists(st.sampled_from("abcdef")))
def test_a_replace_is_a_diff_and_doing_it_twice_changes_nothing(active, wanted):
    first = difference(active, wanted)
    after = (active - set(first.deactivated)) | set(first.activated)
    assert after == set(wanted)
    assert set(first.kept) == active & set(wanted)
    assert difference(after, wanted).is_empty


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"frequency": "hourly"}, "daily", id="frequency"),
        pytest.param({"timezone": "Europe/Berln"}, "did you mean Europe/Berlin", id="zone"),
        pytest.param({"deliverAt": "24:00"}, "not a time of day", id="clock"),
        pytest.param({"deliverAt": 870}, "quoted", id="an unquoted YAML time"),
        pytest.param({"deliverBy": "6:00"}, "not a time of day", id="promise"),
        pytest.param({"csv": {"delimiter": "x"}}, "not a delimiter", id="delimiter"),
        pytest.param({"csv": {"max_rows_per_file": 0}}, "greater than or equal to 1", id="empty parts"),
        pytest.param({"entityList": {"a": 1}}, "not a list of entity names", id="list"),
        pytest.param({"password": "x"}, "Extra inputs", id="unknown key"),
    ],
)
def test_bad_values_are_refused_with_what_is_allowed(body, message):
    with pytest.raises(ValidationError, match=message):
        Registration.model_validate(body)


def test_runs_are_spread_over_the_hour_unless_a_time_is_given():
    plain = Registration.model_validate({})
    minutes = {plain.cron(f"tenant{number}").split()[0] for number in range(200)}
    assert len(minutes) > 40
    assert plain.cron("acme") == plain.cron("acme")
    assert plain.cron("acme").endswith(" 1 * * *")
    assert Registration.model_validate({"deliverAt": "02:05", "frequency": "weekly"}).cron("acme") == "5 2 * * 1"
    assert Registration.model_validate({"deliverAt": "00:00", "frequency": "monthly"}).cron("acme") == "0 0 1 * *"


def test_entity_words_keep_their_order():
    assert entity_words("b, a ,b") == ("b", "a")
