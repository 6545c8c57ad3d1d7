"""Notifications from the record of their fact to the servers of two of Airflow's notifiers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from sqlalchemy import select, update

from event_hooks.exceptions import NotificationNotSent
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.hive.sql.outcomes import JobOutcome
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run
from event_hooks.ledger.processes import load_run_statuses, store_plan
from event_hooks.ledger.records import NewEvent, ProcessStatus, run_event_key
from event_hooks.ledger.tables import notification
from event_hooks.notifications.send import send_notifications, send_notifications_of_run
from event_hooks.notifier_settings import NotifierInvalid
from event_hooks.process_event import recording
from tests.integration.notifications.conftest import HTTP, MAIL, SMTP, WEBHOOK, MailServer, set_notifiers
from tests.support.json_server import JsonServer
from tests.support.notifiers import RecordingNotifier
from tests.support.task_instances import RunOfTasks

RUN_ID = "a_run"

CONTEXT: Any = {
    **RunOfTasks(RUN_ID, {}, {}).build_context("report"),
    "dag": DAG("process_event", schedule=None),
}


def plan(ledger: Ledger, *genomes: str, run_id: str = RUN_ID) -> None:
    """Store events of a run with the process ``dump``."""
    new = [
        NewEvent(run_event_key(run_id, position), "t", genome, {"type": "t", "genome": genome}, "rest")
        for position, genome in enumerate(genomes)
    ]
    events = accept_events(ledger, new, run_id)
    statuses = [ProcessStatus(event.id, event.position, "dump", "hive", "event_dump") for event in events]
    store_plan(ledger, run_id, statuses)


def fail(ledger: Ledger, error: str = "no disk", run_id: str = RUN_ID) -> None:
    """Record that the process of all events of a run has failed."""
    run = load_run(ledger, run_id)
    outcome = JobOutcome(7, JobState.FAILED, error=error)
    recording.record_outcomes(ledger, run, "dump", dict.fromkeys(run.events, outcome), "try1")


def end_delays(ledger: Ledger) -> None:
    """Make all pending notifications ready to be sent."""
    earlier = load_time(ledger) - timedelta(seconds=1)
    with ledger.transaction() as connection:
        connection.execute(update(notification).values(retry_at=earlier))


def list_errors(ledger: Ledger) -> list[tuple[int, str | None]]:
    """Return (notifier, error) of the pending notifications."""
    statement = select(notification.c.notifier, notification.c.error)
    pending = statement.where(notification.c.sent_at.is_(None)).order_by(notification.c.id)
    return [tuple(row) for row in ledger.read(pending)]


def count_rows(ledger: Ledger) -> int:
    return len(ledger.read(select(notification.c.id)))


def test_500_failed_events_are_one_mail_and_one_request(
    ledger: Ledger, mail_server: MailServer, web_server: JsonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_notifiers(monkeypatch, MAIL, WEBHOOK)
    plan(ledger, *(f"genome_{number}" for number in range(500)))
    fail(ledger)
    for _ in range(2):
        send_notifications_of_run(ledger, CONTEXT)
        send_notifications(ledger, CONTEXT)
    (mail,) = mail_server.mails
    assert str(mail["Subject"]).startswith("[event hooks] dump failed, 500 events: genome_")
    assert str(mail["Subject"]).endswith(" and 497 more")
    assert mail["To"] == "a@b"
    body = mail.get_body().get_content()  # type: ignore[union-attr]
    assert body.count("<b>Error</b>: no disk<br>") == 50
    assert "… and 450 more" in body
    ((_, path, _, request),) = web_server.requests
    assert (path, request) == ("/hook", {"message": [mail["Subject"]]})


def test_a_second_failure_sends_nothing_and_another_run_does(
    ledger: Ledger, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_notifiers(monkeypatch, MAIL)
    plan(ledger, "first")
    for attempt in ("try1", "try2"):
        run = load_run(ledger, RUN_ID)
        outcome = JobOutcome(7, JobState.FAILED, error="no disk")
        recording.record_outcomes(ledger, run, "dump", {0: outcome}, attempt)
        send_notifications_of_run(ledger, CONTEXT)
    plan(ledger, "second", run_id="another_run")
    fail(ledger, run_id="another_run")
    send_notifications_of_run(ledger, CONTEXT)  # of the first run
    assert len(mail_server.mails) == 1
    send_notifications(ledger, CONTEXT)
    assert [str(mail["Subject"]).partition("failed: ")[2] for mail in mail_server.mails] == [
        "first (t)",
        "second (t)",
    ]


def test_each_kind_is_sent_by_the_notifiers_that_are_configured_for_it(
    ledger: Ledger, mail_server: MailServer, web_server: JsonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_notifiers(monkeypatch, MAIL, WEBHOOK)
    plan(ledger, "g")
    run = load_run(ledger, RUN_ID)
    recording.record_stalls(ledger, run, "dump", {0: 7}, {0: {"no_beekeeper: x": "no beekeeper works"}})
    recording.record_late(ledger, run, "dump", 60)
    send_notifications(ledger, CONTEXT)
    subjects = [str(mail["Subject"]) for mail in mail_server.mails]
    assert subjects == ["[event hooks] dump late: g (t)", "[event hooks] dump stalled: g (t)"]
    assert "no beekeeper works" in mail_server.mails[1].get_body().get_content()  # type: ignore[union-attr]
    assert [request[3]["message"] for request in web_server.requests] == [[subjects[0]]]


def test_a_rejected_event_is_notified_and_a_decision_of_a_user_is_not(
    ledger: Ledger, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_notifiers(monkeypatch, MAIL)
    plan(ledger, "decided")
    (status,) = load_run_statuses(ledger, RUN_ID)
    run = load_run(ledger, RUN_ID)
    recording.record_missing_outcomes(ledger, run, {status: "marked"}, is_user_decision=True)
    accept_events(
        ledger, [NewEvent("key", "t", "rejected", {"type": "t", "genome": "rejected"}, "rest")], "r"
    )
    recording.record_rejections(ledger, load_run(ledger, "r"), {0: "no such type"})
    send_notifications(ledger, CONTEXT)
    (mail,) = mail_server.mails
    assert mail["Subject"] == "[event hooks] event rejected: rejected (t)"


def test_no_row_is_stored_without_a_notifier_of_the_kind(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(ledger, "g")
    fail(ledger)
    set_notifiers(monkeypatch, {**MAIL, "on": ["late"]})
    plan(ledger, "g", run_id="another_run")
    fail(ledger, run_id="another_run")
    send_notifications(ledger, CONTEXT)
    assert count_rows(ledger) == 0


def test_a_failed_notifier_is_retried_alone(
    ledger: Ledger,
    mail_server: MailServer,
    web_server: JsonServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_notifiers(monkeypatch, MAIL, WEBHOOK)
    mail_server.answer = "451 try later: smtp://user:hunter2@host"
    plan(ledger, "g")
    fail(ledger)
    send_notifications_of_run(ledger, CONTEXT)
    assert "notifiers[0] has not sent 1 notifications (dump, failed): SMTPDataError" in caplog.text
    assert len(web_server.requests) == 1
    ((notifier, error),) = list_errors(ledger)
    assert (notifier, "451" in str(error)) == (0, True)
    assert "hunter2" not in caplog.text + str(error)
    end_delays(ledger)
    send_notifications_of_run(ledger, CONTEXT)  # leaves it to maintain_ledger
    with pytest.raises(NotificationNotSent, match="451"):
        send_notifications(ledger, CONTEXT)
    end_delays(ledger)
    mail_server.answer = "250 accepted"
    send_notifications(ledger, CONTEXT)
    assert (len(mail_server.mails), len(web_server.requests), list_errors(ledger)) == (1, 1, [])


def test_an_unreachable_mail_server_does_not_prevent_another_notifier(
    ledger: Ledger, web_server: JsonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://127.0.0.1:1?from_email=c%40d&disable_ssl=true")
    set_notifiers(monkeypatch, MAIL, WEBHOOK)
    plan(ledger, "g")
    fail(ledger)
    with pytest.raises(NotificationNotSent, match="ConnectionRefusedError"):
        send_notifications(ledger, CONTEXT)
    assert len(web_server.requests) == 1


def test_texts_of_an_event_are_no_templates(
    ledger: Ledger, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = {
        "class": "tests.support.notifiers.RecordingNotifier",
        "arguments": {"text": "{subject}"},
        "on": ["failed"],
    }
    set_notifiers(monkeypatch, MAIL, recorded)
    monkeypatch.setattr(RecordingNotifier, "sent", [])
    plan(ledger, "{{ ti.task_id }} {text}")
    fail(ledger, error="{{ 6 * 7 }} {% raw %} {html}")
    send_notifications(ledger, CONTEXT)
    subject = "[event hooks] dump failed: {{ ti.task_id }} {text} (t)"
    (mail,) = mail_server.mails
    assert RecordingNotifier.sent == [(subject, "report")]
    assert mail["Subject"] == subject
    assert "{{ 6 * 7 }} {% raw %} {html}" in mail.get_body().get_content()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"class": "no.such.Notifier"}, "notifiers[0].class: expected a class that can be imported"),
        ({"arguments": {"too": "a@b"}}, "notifiers[0].arguments: expected arguments of"),
    ],
    ids=["class", "arguments"],
)
def test_a_notifier_that_cannot_be_built_fails_with_its_field_and_sends_after_the_fix(
    ledger: Ledger,
    mail_server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
    broken: dict[str, Any],
    reason: str,
) -> None:
    set_notifiers(monkeypatch, {**MAIL, **broken})
    plan(ledger, "g")
    fail(ledger)
    send_notifications_of_run(ledger, CONTEXT)
    end_delays(ledger)
    with pytest.raises(NotificationNotSent) as caught:
        send_notifications(ledger, CONTEXT)
    assert reason in str(caught.value)
    set_notifiers(monkeypatch, MAIL)
    end_delays(ledger)
    send_notifications(ledger, CONTEXT)
    assert len(mail_server.mails) == 1


def test_an_invalid_setting_fails_maintain_ledger_and_no_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_notifiers(monkeypatch, {"class": SMTP})
    plan(ledger, "g")
    fail(ledger)
    send_notifications_of_run(ledger, CONTEXT)
    assert "notifiers[0].on: expected a value" in caplog.text
    with pytest.raises(NotifierInvalid, match=r"notifiers\[0\].on: expected a value"):
        send_notifications(ledger, CONTEXT)


def test_notifications_of_a_removed_notifier_stay_pending_without_a_failure(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_notifiers(monkeypatch, {**MAIL, "class": HTTP, "arguments": {"endpoint": "{text}"}})
    plan(ledger, "g")
    fail(ledger)
    set_notifiers(monkeypatch)
    send_notifications(ledger, CONTEXT)
    assert list_errors(ledger) == [(0, "the setting has no notifiers[0]")]
