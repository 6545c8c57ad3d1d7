"""Notifiers that are built from the setting."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.http.notifications.http import HttpNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from event_hooks.notifications.message import Message
from event_hooks.notifications.notifiers import build_notifier, check_notifiers, list_notifiers
from event_hooks.notifier_settings import NotificationKind, NotifierInvalid, parse_notifiers

SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
HTTP = "airflow.providers.http.notifications.http.HttpNotifier"

MESSAGE = Message("the subject {text}", "the text {{ ti }}", "<p>{subject}</p>")


def set_notifiers(monkeypatch: pytest.MonkeyPatch, *notifiers: dict[str, Any]) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__NOTIFIERS", json.dumps(notifiers))


def build(class_path: str, **arguments: Any) -> Any:
    (configured,) = parse_notifiers(
        json.dumps([{"class": class_path, "on": ["late"], "arguments": arguments}])
    )
    return build_notifier(0, configured, MESSAGE)


def test_placeholders_are_replaced_once_at_any_depth() -> None:
    notifier = build(HTTP, json={"a": [{"b": "{subject}: {text}"}, 5, None]}, headers={"{text}": "{other}"})
    assert isinstance(notifier, HttpNotifier)
    assert notifier.json == {"a": [{"b": "the subject {text}: the text {{ ti }}"}, 5, None]}
    assert notifier.headers == {"{text}": "{other}"}


def test_a_mail_needs_no_placeholder() -> None:
    notifier = build(SMTP, to=["a@b"])
    assert isinstance(notifier, SmtpNotifier)
    assert (notifier.to, notifier.subject) == (["a@b"], MESSAGE.subject)
    assert notifier.html_content == MESSAGE.html
    assert build(SMTP, to="a@b", subject="Failure", html_content="{text}").subject == "Failure"


@pytest.mark.parametrize(
    ("class_path", "arguments", "field", "reason"),
    [
        ("no.such.Notifier", {}, "class", "expected a class that can be imported: ModuleNotFoundError"),
        ("json.Notifier", {}, "class", "expected a class that can be imported: AttributeError"),
        ("json.JSONDecoder", {}, "class", "expected a subclass of Airflow's BaseNotifier"),
        (SMTP, {}, "arguments", "missing 1 required positional argument: 'to'"),
        (SMTP, {"to": "a@b", "too": "c@d"}, "arguments", "unexpected keyword argument 'too'"),
        (
            HTTP,
            {"json": {"a": "{subjct}"}},
            "arguments",
            "expected {subject}, {text} or {html} in an argument",
        ),
    ],
)
def test_a_notifier_that_cannot_be_built_is_named_with_its_field(
    class_path: str, arguments: dict[str, Any], field: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_notifiers(
        monkeypatch,
        {"class": SMTP, "on": ["late"], "arguments": {"to": "a@b"}},
        {"class": class_path, "on": ["late"], "arguments": arguments},
    )
    (error,) = check_notifiers()
    assert error.field == f"notifiers[1].{field}"
    assert reason in str(error)


def test_an_error_of_a_constructor_shows_no_password() -> None:
    with pytest.raises(NotifierInvalid) as caught:
        build("tests.support.notifiers.FailingNotifier", text="smtp://user:hunter2@host {text}")
    assert "smtp://user:***@host" in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__suppress_context__


def test_the_notifiers_of_a_kind_are_listed_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    set_notifiers(monkeypatch, {"class": SMTP, "on": ["late", "failed"]}, {"class": HTTP, "on": ["failed"]})
    assert [list_notifiers(kind) for kind in NotificationKind] == [[0, 1], [], [0]]


def test_an_invalid_setting_prevents_no_record(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__NOTIFIERS", "[{}]")
    assert list_notifiers(NotificationKind.FAILED) == []
    assert "notifiers[0].class: expected a value" in caplog.text
    (error,) = check_notifiers()
    assert error.field == "notifiers[0].class"
