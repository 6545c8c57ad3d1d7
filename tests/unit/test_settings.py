"""Settings: defaults, sources, invalid values, and the table of the reference."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from event_hooks import settings
from event_hooks.notifier_settings import NotifierSettings
from event_hooks.settings import SETTINGS, Setting

CHECKOUT = Path(__file__).resolve().parents[2]

DEFAULTS = {
    "event_lookup": CHECKOUT / "lookups" / "event_lookup.json",
    "process_lookup": CHECKOUT / "lookups" / "process_lookup.json",
    "lookup_cache_dir": Path("/opt/airflow/event_hooks"),
    "poll_interval": 2.0,
    "max_poll_interval": 8.0,
    "ready_timeout": 3600.0,
    "stall_check_after": 300.0,
    "job_timeout": 7 * 24 * 3600.0,
    "hive_timeout": 30.0,
    "task_queue": "default",
    "retry_delay": 10.0,
    "max_events": 10_000,
    "write_through": True,
    "write_through_timeout": 2.0,
    "view_timeout": 10.0,
    "max_body_bytes": 2**20,
    "ledger_timeout": 10.0,
    "ledger_pool_size": 5,
    "ledger_retention_days": 400.0,
    "asset_events": True,
    "notifiers": [],
    "progress_interval": 60.0,
    "report_level": "INFO",
    "report_server": None,
    "report_exchange": "report_exchange",
    "report_exchange_type": "topic",
    "report_unroutable": True,
    "report_max_bytes": 4 * 2**20,
    "report_timeout": 30.0,
    "collect_schedule": "*/15 * * * *",
    "collect_overlap": 6 * 3600.0,
    "collect_batch_size": 500,
    "metadata_timeout": 120.0,
    "event_uri": None,
    "event_server_timeout": 30.0,
}

ALIASES = [
    ("event_lookup", "EVENT_LOOKUP"),
    ("event_lookup", "EVENT_LOOKUP_FILE"),
    ("process_lookup", "PROCESS_LOOKUP"),
    ("process_lookup", "PROCESS_LOOKUP_FILE"),
    ("report_server", "REPORT_SERVER"),
    ("report_exchange", "REPORT_EXCHANGE"),
    ("report_exchange_type", "REPORT_EXCHANGE_TYPE"),
    ("event_uri", "EVENT_URI"),
]

VALID_TEXTS = {
    settings.NUMBER: ("2.5", 2.5),
    settings.COUNT: ("7", 7),
    settings.YES_NO: ("no", False),
    settings.UNROUTABLE: ("Accept", False),
    settings.REPORT_LEVEL: ("error", "ERROR"),
    settings.NOTIFIERS: (
        '[{"class": "a.B", "on": ["late"]}]',
        [NotifierSettings(**{"class": "a.B", "on": ["late"]})],
    ),
    settings.PATH: ("/a/file", Path("/a/file")),
    settings.TEXT: ("a_text", "a_text"),
    settings.AMQP_ADDRESS: ("amqp://host", "amqp://host"),
    settings.HTTP_ADDRESS: ("http://host", "http://host"),
}


def variable_of(name: str) -> str:
    return f"AIRFLOW__EVENT_HOOKS__{name.upper()}"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings, and Airflow's home at a known place."""
    for setting in SETTINGS.values():
        for variable in (variable_of(setting.name), *setting.aliases):
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("AIRFLOW__OPERATORS__DEFAULT_QUEUE", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", "/opt/airflow")


def test_the_table_lists_every_setting_of_the_module() -> None:
    assert list(SETTINGS) == list(DEFAULTS)
    assert all(getattr(settings, name) is setting for name, setting in SETTINGS.items())
    assert all(setting.description for setting in SETTINGS.values())


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_that_is_not_set_has_its_default(name: str) -> None:
    value = SETTINGS[name]()
    assert value == DEFAULTS[name]
    assert type(value) is type(DEFAULTS[name]) or isinstance(value, Path)


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_empty_value_counts_as_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (variable_of(name), *SETTINGS[name].aliases):
        monkeypatch.setenv(variable, "")
    assert SETTINGS[name]() == DEFAULTS[name]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_a_setting_is_read_from_the_configuration(
    setting: Setting[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, value = VALID_TEXTS[setting.type]
    monkeypatch.setenv(variable_of(setting.name), text)
    assert setting() == value


def test_the_old_variables_are_the_aliases() -> None:
    assert [(setting.name, alias) for setting in SETTINGS.values() for alias in setting.aliases] == ALIASES


@pytest.mark.parametrize(("name", "alias"), ALIASES)
def test_an_alias_is_used_where_the_configuration_has_no_value(
    name: str, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = {"report_server": "amqp://", "event_uri": "http://"}.get(name, "")
    monkeypatch.setenv(alias, f"{scheme}old")
    assert str(SETTINGS[name]()) == f"{scheme}old"
    monkeypatch.setenv(variable_of(name), f"{scheme}new")
    assert str(SETTINGS[name]()) == f"{scheme}new"


def test_the_first_alias_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_LOOKUP_FILE", "second")
    monkeypatch.setenv("EVENT_LOOKUP", "first")
    assert settings.event_lookup() == Path("first")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        *(
            (name, text, "a number above 0, of at most 1,000,000,000")
            for name, setting in SETTINGS.items()
            if setting.type in (settings.NUMBER, settings.COUNT)
            for text in ("0", "-1", "inf", "nan", "1e308", "soon")
        ),
        ("write_through", "maybe", "yes or no"),
        ("report_unroutable", "drop", "error or accept"),
        ("report_level", "NOTICE", "one of DEBUG, INFO, WARN, ERROR, FATAL"),
    ],
)
def test_an_invalid_value_is_named_with_its_setting(
    name: str, text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable_of(name), text)
    with pytest.raises(ValueError, match=r"^\[event_hooks\] ") as caught:
        SETTINGS[name]()
    assert str(caught.value) == f"[event_hooks] {name}: expected {expected}, not {text!r}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mail", "notifiers: expected a JSON list of objects: Expecting value: line 1 column 1 (char 0)"),
        ("{}", "notifiers: expected a valid list"),
        ('[{"class": "a.B"}]', "notifiers[0].on: expected a value"),
        ('[{"class": "a.B", "on": []}]', "notifiers[0].on: expected a list that is not empty"),
        (
            '[{"class": "a.B", "on": ["late", "lost"]}]',
            "notifiers[0].on[1]: expected 'failed', 'stalled' or 'late'",
        ),
        (
            '[{"class": "B", "on": ["late"]}]',
            "notifiers[0].class: expected the import path of a class, such as package.module.Class",
        ),
        (
            '[{"class": "a.B", "on": ["late"]}, {"class": "a.B", "on": ["late"], "to": "hunter2"}]',
            "notifiers[1].to: expected no such key",
        ),
        (
            '[{"class": "a.B", "on": ["late"], "arguments": "hunter2"}]',
            "notifiers[0].arguments: expected a valid dictionary",
        ),
    ],
)
def test_an_invalid_notifier_is_named_with_its_field(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable_of("notifiers"), text)
    with pytest.raises(ValueError, match=r"^\[event_hooks\] notifiers") as caught:
        settings.notifiers()
    assert str(caught.value) == f"[event_hooks] {message}"


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("TRUE", True), ("no", False), ("false", False)])
def test_yes_and_no_have_two_spellings_in_any_case(
    text: str, value: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable_of("write_through"), text)
    assert settings.write_through() is value


def test_the_longest_poll_interval_is_not_below_the_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_of("poll_interval"), "20")
    assert settings.max_poll_interval() == 20


def test_a_batch_of_collected_events_fits_into_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_of("max_events"), "3")
    assert settings.collect_batch_size() == 3


def test_the_task_queue_is_the_default_queue_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_QUEUE", "another")
    assert settings.task_queue() == "another"


def test_the_lookup_cache_is_in_the_home_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_HOME")
    assert settings.lookup_cache_dir() == Path(os.path.expanduser("~/airflow/event_hooks"))


def test_a_setting_can_be_replaced_in_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "poll_interval", lambda: 30.0)
    assert settings.max_poll_interval() == 30


def test_the_reference_lists_the_settings_as_they_are_declared() -> None:
    lines = (CHECKOUT / "docs" / "reference" / "settings.md").read_text().splitlines()
    start = lines.index("| Name | Also | Default | Meaning |") + 2
    table = lines[start : lines.index("", start)]
    assert table == [_reference_row(setting) for setting in SETTINGS.values()]


def _reference_row(setting: Setting[Any]) -> str:
    aliases = "".join(f" {alias}," for alias in (f"`{alias}`" for alias in setting.aliases)).rstrip(",")
    default = setting.default_text or f"`{setting.default}`"
    return f"| `{setting.name}` |{aliases} | {default} | {setting.description} |"


@pytest.mark.parametrize(
    "password", ["pa@hunter2", "pa#hunter2", "pa/hunter2", "12/hunter2", "pa?hunter2", "pa[hunter2"]
)
@pytest.mark.parametrize("name", ["REPORT_SERVER", "EVENT_URI"])
def test_an_address_with_an_ambiguous_password_is_rejected_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, name: str, password: str
) -> None:
    scheme = "amqp" if name == "REPORT_SERVER" else "http"
    monkeypatch.setenv(name, f"{scheme}://user:{password}@host:5672/%2F")
    with pytest.raises(ValueError, match="percent-encode .* %40, %23, %2F") as caught:
        settings.SETTINGS[name.lower()]()
    assert "hunter2" not in str(caught.value) + repr(caught.value.__cause__)
    assert "user" not in str(caught.value).replace("its user", "")


@pytest.mark.parametrize(
    "address", ["amqp://user:p%40ss@host/%2F", "amqps://host:5671", "amqp://u:p@[::1]:5672/v?heartbeat=9"]
)
def test_a_valid_address_is_accepted(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("REPORT_SERVER", address)
    assert settings.report_server() == address
