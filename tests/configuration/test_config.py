"""The configuration folder: all problems of all files in one go, and nobody harmed by a neighbour's mistake."""

from pathlib import Path

import pytest
import yaml

from waybill.configuration import loading
from waybill.configuration.loading import Settings
from waybill.configuration.rules.seldom_meant import ignored, warnings
from waybill.errors import ConfigError

pytestmark = pytest.mark.fast

CATALOG = {
    "sources": {"warehouse": {"kind": "duckdb", "path": "w.duckdb"}},
    "entities": {
        "user": {
            "source": "warehouse",
            "relation": "user",
            "tenant_column": "tenant_id",
            "key": ["id"],
            "changes": {"mode": "lookback", "column": "updated_at", "lookback": "24h"},
            "columns": {"id": {"type": "string"}},
        },
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "config"
    (root / "tenants").mkdir(parents=True)
    (root / "catalog.yaml").write_text(yaml.safe_dump(CATALOG))
    (root / "tenants" / "acme.yaml").write_text("entityList: [user]\n")
    return root


def findings(folder: Path) -> list[str]:
    return [str(finding) for finding in loading.load(folder).findings]


def with_catalog(folder: Path, text: str) -> list[str]:
    (folder / "catalog.yaml").write_text(text)
    return findings(folder)


def with_tenant(folder: Path, text: str, name: str = "globex") -> list[str]:
    (folder / "tenants" / f"{name}.yaml").write_text(text)
    return findings(folder)


def test_a_good_folder_has_no_findings_and_needs_no_policy(folder):
    found = loading.load(folder)
    assert found.findings == ()
    assert found.tenants["acme"].entities == ("user",)
    assert found.policy.destination.kind == "sftp"


def test_an_empty_policy_is_all_defaults(folder):
    (folder / "policy.yaml").write_text("{}\n")
    assert loading.load(folder).policy == loading.Policy()


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        pytest.param(
            "frequency: dayly\nentityList: user",
            "frequency: unknown value 'dayly' (allowed: daily, weekly, monthly; did you mean daily?)",
            id="frequency",
        ),
        pytest.param("entityList: [usr]", "entityList: unknown entity 'usr' (allowed: user; did you mean user?)", id="entity"),
        pytest.param(
            "entitylist: user",
            "entitylist: unknown key (allowed: exportOption, entityList, frequency, timezone, deliverAt, deliverBy, destination, csv, "
            "files, encryption, landing, notify, sourceTenant, copyOf, where, columns, rename, frequencies; did you mean entityList?)",
            id="key",
        ),
        pytest.param("entityList: user\ntimezone: berlin", "did you mean Europe/Berlin?", id="a zone by its city"),
        pytest.param("entityList: user\ntimezone: Mars/Base", "timezone: unknown time zone 'Mars/Base' (allowed: IANA names", id="zone"),
        pytest.param(
            "entityList: user\ndestination: {kind: ftp}", "destination.kind: unknown kind 'ftp' (allowed: sftp, folder, s3", id="kind"
        ),
        pytest.param(
            "entityList: user\ndestination: {kind: sftp, connection: 'sftp://u:planted@h/'}",
            "destination.connection: an address, not shown, does not fit (allowed: the id of an Airflow connection",
            id="a URL as connection",
        ),
        pytest.param("entityList: user\ntimezone: localtime", "timezone: unknown time zone 'localtime'", id="the machine's zone"),
        pytest.param("entityList: user\ndestination: {kind: sftp}", "destination.connection: is required", id="required"),
        pytest.param("entityList: [user", "line 1, column 18: not valid YAML", id="syntax"),
        pytest.param(
            "entityList: user\nentityList: user", "line 2, column 1: not valid YAML: the key 'entityList' stands here twice", id="twice"
        ),
        pytest.param("destination: {{ destination }}", "line 1, column 15: not valid YAML: a key must be plain text", id="template"),
        pytest.param("? [a]\n: b", "line 1, column 3: not valid YAML: a key must be plain text", id="a list as key"),
        pytest.param("entityList: !!timestamp x", "not valid YAML: a value does not fit the type its tag (!!) names", id="a false time"),
        pytest.param("entityList: !!bool x", "not valid YAML: a value does not fit the type its tag (!!) names", id="a false truth"),
        pytest.param("entityList: " + "[" * 400 + "]" * 400, "not valid YAML: nested too deeply", id="depth"),
        pytest.param("entityList: user\ncsv: {max_rows_per_file: true}", "csv.max_rows_per_file: true does not fit", id="yes as number"),
        pytest.param("entityList: user\ncsv: {bom: 'yes'}", "csv.bom: 'yes' does not fit (allowed: true or false)", id="text as truth"),
        pytest.param(
            "entityList: user\nwhere: {user: {id: 3}}",
            "where.user: a mapping does not fit (allowed: a list of mappings of these keys: column, op, value)",
            id="a mapping as conditions",
        ),
        pytest.param(
            "entityList: user\nwhere: {user: [id > 3]}",
            "where.user.0: 'id > 3' does not fit (allowed: a mapping of these keys: column, op, value)",
            id="SQL as a condition",
        ),
        pytest.param(
            "entityList: user\nlanding: status",
            "landing: 'status' does not fit (allowed: a mapping of these keys: status, sha256sums)",
            id="a word as a mapping",
        ),
        pytest.param("entityList: user\ncolumns: {user: id}", "columns.user: 'id' does not fit (allowed: a list)", id="a word as a list"),
        pytest.param("- user", "holds a list (allowed: a mapping of keys to values)", id="a list"),
    ],
)
def test_a_tenant_file_says_where_what_and_what_is_allowed(folder, text, finding):
    assert any(finding in line for line in with_tenant(folder, text))


def test_every_problem_of_every_file_is_reported_at_once(folder):
    broken = yaml.safe_load(yaml.safe_dump(CATALOG))
    broken["entities"]["user"]["source"] = "warehose"
    broken["entities"]["user"]["columns"]["id"]["type"] = "strin"
    broken["entities"]["user"]["colour"] = "red"
    (folder / "catalog.yaml").write_text(yaml.safe_dump(broken))
    (folder / "policy.yaml").write_text("archive_dais: 3\n")
    (folder / "tenants" / "Up.yaml").write_text("entityList: user\n")
    lines = with_tenant(folder, "frequency: x\nentityList: [nobody]\ncolour: red\n")
    for part in [
        "config/catalog.yaml: entities.user.source: unknown source 'warehose' (allowed: warehouse; did you mean warehouse?)",
        "config/catalog.yaml: entities.user.columns.id.type: unknown value 'strin'",
        "config/catalog.yaml: entities.user.colour: unknown key",
        "config/policy.yaml: archive_dais: unknown key",
        "config/tenants/Up.yaml: the file name 'Up' is not a tenant id",
        "config/tenants/globex.yaml: frequency: unknown value 'x'",
        "config/tenants/globex.yaml: entityList: unknown entity 'nobody'",
        "config/tenants/globex.yaml: colour: unknown key",
    ]:
        assert any(line.startswith(part) for line in lines), part


def test_a_tenant_is_not_blamed_for_an_entity_whose_definition_is_broken(folder):
    broken = yaml.safe_load(yaml.safe_dump(CATALOG))
    broken["entities"]["user"]["changes"]["mode"] = "magic"
    assert [line for line in with_catalog(folder, yaml.safe_dump(broken)) if "tenants" in line] == []


@pytest.mark.parametrize("text", ["entities: [", "- user", "entities: {}", "entities: 5"])
def test_a_catalog_that_cannot_be_read_brings_no_findings_about_entities(folder, text):
    (folder / "policy.yaml").write_text("export_types: {people: {entities: [user]}}\n")
    lines = with_catalog(folder, text)
    assert len(lines) == 1, lines
    assert lines[0].startswith("config/catalog.yaml: ")
    found = loading.load(folder)
    assert (set(found.tenants), found.broken) == (set(), {"acme"})


@pytest.mark.parametrize("name", ["warehouse", "duckdb", "postgres"])
@pytest.mark.parametrize("kind", ["duckdb", "lake", "postgres", "dbapi"])
def test_a_mistake_of_a_source_is_told_where_it_is_written_whatever_the_source_is_called(folder, kind, name):
    catalog = {"sources": {name: {"kind": kind, "colour": "red"}}, "entities": {}}
    lines = [line.removeprefix("config/catalog.yaml: ") for line in with_catalog(folder, yaml.safe_dump(catalog))]
    assert {line.partition(":")[0] for line in lines if "sources" in line} >= {f"sources.{name}.colour"}
    assert not [line for line in lines if f"{name}.{kind}" in line]


@pytest.mark.parametrize(("kind", "key"), [("mail", "to"), ("slack", "connection"), ("webhook", "connection")])
def test_a_mistake_of_a_channel_is_told_by_its_number(folder, kind, key):
    lines = with_tenant(folder, f"entityList: user\nnotify: [{{kind: {kind}, {key}: 5, colour: red}}]")
    assert {line.partition("globex.yaml: ")[2].partition(":")[0] for line in lines} >= {f"notify.0.{key}", "notify.0.colour"}


def test_a_list_with_a_number_in_it_is_told_its_unknown_names_too(folder):
    lines = [line.partition("globex.yaml: ")[2] for line in with_tenant(folder, "entityList: [usr, user, 5, nobody]")]
    assert [line.partition(" (")[0] for line in lines] == [
        "entityList: not a list of entity names",
        "entityList: unknown entity 'usr'",
        "entityList: unknown entity 'nobody'",
    ]


def test_a_bad_tenant_file_is_left_out_and_the_others_stay(folder):
    with_tenant(folder, "frequency: x\nentityList: user")
    found = loading.load(folder)
    assert set(found.tenants) == {"acme"}
    assert found.broken == {"globex"}


@pytest.mark.parametrize("ending", ["YAML", "YML", "Yaml", "yMl"])
def test_a_file_whose_name_ends_in_capitals_is_told_and_switches_nobody_off(folder, ending):
    (folder / "tenants/acme.yaml").rename(folder / f"tenants/acme.{ending}")
    assert findings(folder) == [
        f"config/tenants/acme.{ending}: the file name ends in .{ending} (allowed: a name that ends in .yaml or .yml, in small letters)"
    ]
    found = loading.load(folder)
    assert found.broken == {"acme"}, "and not gone"
    assert found.files_of("acme").broken == ({"acme"} if ending != "yMl" else set())


@pytest.mark.parametrize(("option", "told"), [("all", 1), ("selected", 0), ("disable", 0)])
def test_a_list_that_the_option_ignores_is_warned_of(folder, option, told):
    (folder / "tenants/acme.yaml").write_text(
        f"exportOption: {'disable export' if option == 'disable' else 'export ' + option}\nentityList: user\n"
    )
    file = loading.load(folder).tenants["acme"]
    found = [str(warning) for warning in ignored(file.registration, file.file)]
    assert len(found) == told
    assert all("config/tenants/acme.yaml: entityList: export all ignores this list" in warning for warning in found)


def test_a_missing_folder_is_one_finding(tmp_path):
    assert any("the configuration folder does not exist" in line for line in findings(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        pytest.param({"mode": "snapshot", "column": "v"}, "snapshot needs a postgres source", id="snapshot on duckdb"),
        pytest.param({"mode": "lookback"}, "mode lookback needs the column", id="no change column"),
        pytest.param(
            {"mode": "lookback", "column": "u", "lookback": "soon"},
            "'soon': not a duration (allowed: a whole number and a unit",
            id="duration",
        ),
    ],
)
def test_change_modes_are_checked_against_the_source(folder, change, finding):
    broken = yaml.safe_load(yaml.safe_dump(CATALOG))
    broken["entities"]["user"]["changes"] = change
    assert any(finding in line for line in with_catalog(folder, yaml.safe_dump(broken)))


@pytest.mark.parametrize(
    ("streams", "finding"),
    [(2, "only postgres and lake sources are read over several connections, warehouse is duckdb"), (0, "1"), (17, "16"), ("2", "")],
)
def test_streams_are_checked_against_the_source(folder, streams, finding):
    broken = yaml.safe_load(yaml.safe_dump(CATALOG))
    broken["entities"]["user"]["streams"] = streams
    assert any("entities.user.streams" in line and finding in line for line in with_catalog(folder, yaml.safe_dump(broken)))


def test_a_span_that_leaves_the_calendar_is_a_finding(folder):
    broken = yaml.safe_load(yaml.safe_dump(CATALOG))
    broken["entities"]["user"]["changes"]["lookback"] = "99999999999w"
    assert any("changes.lookback" in line and "at most 36500d" in line for line in with_catalog(folder, yaml.safe_dump(broken)))
    (folder / "policy.yaml").write_text("archive_days: 99999999999\n")
    assert any("archive_days" in line for line in findings(folder))


@pytest.mark.parametrize(
    ("key", "more", "warned"),
    [
        (["id"], {}, False),
        (["tenant_id", "id"], {}, False),
        (["project", "id"], {}, True),
        (["tenant_id", "project", "id"], {}, True),
        (["project", "id"], {"deletes": "compare"}, False),
        (["project", "id"], {"changes": {"mode": "append", "column": "at"}}, False),
        (["project", "id"], {"changes": {"mode": "lookback", "column": "id"}}, False),
    ],
)
def test_ids_that_each_project_counts_for_itself_are_a_warning_where_append_goes_by_them(folder, key, more, warned):
    columns = {name: {"type": "integer"} for name in ("id", "project")} | {"at": {"type": "timestamp"}, "tenant_id": {"type": "string"}}
    by_id = {"mode": "append", "column": "id", "lag": 9}
    user = CATALOG["entities"]["user"] | {"key": key, "changes": by_id, "columns": columns, "deletes": "never"}
    (folder / "catalog.yaml").write_text(yaml.safe_dump(CATALOG | {"entities": {"user": user | more}}))
    said = [str(warning) for warning in warnings(loading.load(folder).catalog, "config/catalog.yaml")]
    assert [line.partition(" (")[0] for line in said] == [
        "config/catalog.yaml: entities.user.changes.column: "
        "if id is counted anew for each project, rows below the highest id of all are passed over"
    ] * warned


@pytest.mark.parametrize(
    ("changes", "deletes", "warned"),
    [
        ({"mode": "append", "column": "id"}, "never", True),
        ({"mode": "append", "column": "updated"}, "never", True),
        ({"mode": "append", "column": "id", "lag": 1}, "never", False),
        ({"mode": "append", "column": "id"}, "compare", False),
        ({"mode": "append", "column": "at"}, "never", False),
        ({"mode": "full"}, "never", False),
    ],
)
def test_ids_that_are_never_read_again_are_a_warning(folder, changes, deletes, warned):
    columns = {name: {"type": "integer"} for name in ("id", "updated")} | {"at": {"type": "timestamp"}}
    user = CATALOG["entities"]["user"] | {"key": ["id"], "changes": changes, "columns": columns, "deletes": deletes}
    (folder / "catalog.yaml").write_text(yaml.safe_dump(CATALOG | {"entities": {"user": user}}))
    said = [str(warning) for warning in warnings(loading.load(folder).catalog, "")]
    assert ["a row that is committed after one with a higher id never arrives" in line for line in said] == [True] * warned


def test_what_lives_for_no_time_is_a_finding(folder: Path) -> None:
    (folder / "policy.yaml").write_text("archive_life: 0s\ntenants: {acme: {link_life: 0d, heartbeat: 0s}}\n")
    assert [line.partition(" (")[0] for line in findings(folder)] == [
        "config/policy.yaml: archive_life: must be longer than 0, or nothing could be downloaded",
        "config/policy.yaml: tenants.acme.link_life: must be longer than 0, or nothing could be downloaded",
        "config/policy.yaml: tenants.acme.stall_after: must be at least twice the heartbeat",
    ]


def test_yaml_yes_means_yes(folder):
    with_export = yaml.safe_dump(CATALOG).replace("type: string", "type: string\n        export: yes")
    assert with_catalog(folder, with_export) == []


def test_relative_paths_are_resolved_against_the_folder_above_the_configuration(tmp_path):
    settings = Settings.from_environment(
        {"WAYBILL_CONFIG_DIR": str(tmp_path / "etc"), "WAYBILL_SPOOL_DIR": "spool", "WAYBILL_LEDGER_URL": "sqlite:///l.db"}
    )
    assert settings.base == tmp_path
    assert settings.spool_dir == tmp_path / "spool"
    assert settings.ledger_url == f"sqlite:///{tmp_path}/l.db"
    defaults = Settings.from_environment({"WAYBILL_CONFIG_DIR": str(tmp_path / "etc")})
    assert defaults.ledger_url == f"sqlite:///{tmp_path}/.waybill/ledger.db"
    absolute = Settings.from_environment({"WAYBILL_LEDGER_URL": "postgresql+psycopg://u@h/d"})
    assert absolute.ledger_url == "postgresql+psycopg://u@h/d"
    assert "postgresql" not in repr(absolute)


@pytest.mark.parametrize("end", ["\n", "\r", " ", "\r\n"])
def test_a_line_end_behind_a_variable_names_no_other_place(tmp_path, end):
    """A ledger `l.db\\r` would be another, empty one."""
    values = {"CONFIG_DIR": str(tmp_path / "etc"), "SPOOL_DIR": "spool", "LEDGER_URL": "sqlite:///l.db", "ARCHIVE_URL": "s3://store@kept"}
    plain = {f"WAYBILL_{name}": value for name, value in values.items()}
    assert Settings.from_environment({name: value + end for name, value in plain.items()}) == Settings.from_environment(plain)
    assert Settings.from_environment(dict.fromkeys(plain, end)) == Settings.from_environment({})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("WAYBILL_CONFIG_DIR", "~/config", "begins with ~"),
        ("WAYBILL_SPOOL_DIR", "~/spool", "begins with ~"),
        ("WAYBILL_SPOOL_DIR", "file:///spool", "has a scheme that is not known here: file://"),
        ("WAYBILL_SPOOL_DIR", "'/spool'", "holds its quotes"),
        ("WAYBILL_SPOOL_DIR", "/spool\n/other", "holds a line end"),
        ("WAYBILL_LEDGER_URL", "sqlite:///~/ledger.db", "begins with ~"),
        ("WAYBILL_LEDGER_URL", '"sqlite:///ledger.db"', "holds its quotes"),
        ("WAYBILL_ARCHIVE_URL", "~/archive", "begins with ~"),
        ("WAYBILL_ARCHIVE_URL", "file://~/archive", "begins with ~"),
        ("WAYBILL_ARCHIVE_URL", "gs://bucket/archive", "has a scheme that is not known here: gs://"),
        ("WAYBILL_ARCHIVE_URL", "S3://store@bucket", "has a scheme that is not known here: S3://"),
    ],
)
def test_a_variable_that_would_make_a_folder_nobody_means_is_refused(name, value, reason):
    with pytest.raises(ConfigError, match=f"{name}: {reason}.*allowed: "):
        Settings.from_environment({name: value})


def test_a_deletion_that_consumers_could_not_tell_is_a_warning_and_no_problem(folder):
    body = yaml.safe_load(yaml.safe_dump(CATALOG))
    body["entities"]["user"]["deleted_column"] = "deleted_at"
    assert with_catalog(folder, yaml.safe_dump(body)) == []
    (warning,) = warnings(loading.load(folder).catalog, "config/catalog.yaml")
    assert str(warning).startswith("config/catalog.yaml: entities.user.deleted_column: deleted rows are delivered looking like live ones")
    body["entities"]["user"]["columns"]["deleted_at"] = {"type": "timestamp"}
    (folder / "catalog.yaml").write_text(yaml.safe_dump(body))
    assert warnings(loading.load(folder).catalog, "") == []


def test_a_wrong_key_of_one_tenant_in_the_policy_is_told_with_those_there_are(folder: Path) -> None:
    (folder / "policy.yaml").write_text("tenants: {acme: {singing: k}}\n")
    [told] = findings(folder)
    assert "tenants.acme.singing: unknown key (allowed: " in told


def test_a_mapping_in_place_of_a_word_does_not_fit(folder: Path) -> None:
    (folder / "tenants" / "acme.yaml").write_text("entityList: [user]\nfrequency: {a: b}\n")
    [told] = findings(folder)
    assert "frequency: a mapping does not fit (allowed: " in told


def test_a_column_that_is_chosen_twice_is_a_finding(folder: Path) -> None:
    (folder / "tenants" / "acme.yaml").write_text("entityList: [user]\ncolumns: {user: [id, id]}\n")
    [told] = findings(folder)
    assert "columns.user.1: id is named twice (allowed: each column once)" in told
