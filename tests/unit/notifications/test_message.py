"""Messages about processes: their subjects, texts and HTML."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_hooks.ledger.records import ProcessState, ProcessStatus, StoredEvent
from event_hooks.notifications.message import MAX_SHOWN, Message, NotifiedEvent, build_message
from event_hooks.reports.advice import build_retry_advice

ADDRESS = "mysql://user:hunter2pw@host/db"


@pytest.fixture(autouse=True)
def _base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/")


def build_item(status: dict[str, Any] | None = None, **payload: Any) -> NotifiedEvent:
    values = {"job_id": 3, "state": ProcessState.FAILED, **(status or {})}
    event = StoredEvent(7, {"type": "new_assembly", "genome": "g", **payload}, "run", 0)
    return NotifiedEvent(event, ProcessStatus(7, 0, "dump", "hive", "event_dump", **values))


def build(*items: NotifiedEvent, kind: str = "failed", count: int | None = None) -> Message:
    return build_message("dump", kind, items, count or len(items))


def test_a_text_has_the_facts_of_a_failure_in_lines() -> None:
    message = build(build_item({"error": "no disk"}, genome="homo_sapiens", event_id="42"))
    assert message.subject == "[event hooks] dump failed: homo_sapiens (new_assembly)"
    assert message.text.splitlines() == [
        "[event hooks] dump failed: homo_sapiens (new_assembly)",
        "",
        "Genome: homo_sapiens",
        "Event: new_assembly 42",
        "Process: dump: failed",
        "Job: 3 of event_dump in hive",
        "Error: no disk",
        f"To do: {build_retry_advice('dump', 'wait')}",
        "Page: https://airflow.example.org/event-hooks/board/events/7",
    ]


def test_html_has_the_same_facts_with_a_link() -> None:
    message = build(build_item({"error": "<no disk>"}))
    assert message.html.startswith("<p><b>Genome</b>: g<br><b>Event</b>: new_assembly<br>")
    assert "<b>Error</b>: &lt;no disk&gt;<br>" in message.html
    url = "https://airflow.example.org/event-hooks/board/events/7"
    assert f'<b>Page</b>: <a href="{url}">{url}</a></p>' in message.html


def test_a_message_contains_no_secret() -> None:
    item = build_item({"error": f"cannot read {ADDRESS}, 2-pass mapping"}, genome=ADDRESS, event_id=ADDRESS)
    message = build(item)
    assert "hunter2pw" not in message.subject + message.text + message.html
    assert "cannot read mysql://user:***@host/db, 2-pass mapping" in message.text


def test_a_line_break_of_an_event_adds_no_header_and_no_fact() -> None:
    message = build(build_item({"error": "first\nsecond"}, genome="g\nBcc: x"))
    assert message.subject == "[event hooks] dump failed: g Bcc: x (new_assembly)"
    assert "\nGenome: g\n  Bcc: x\n" in message.text
    assert "\nError: first\n  second\n" in message.text


def test_a_control_character_of_an_event_is_escaped() -> None:
    message = build(build_item({"error": "\x1b[2J"}, genome="g\0"))
    assert message.subject == "[event hooks] dump failed: g\\x00 (new_assembly)"
    assert "\nError: \\x1b[2J\n" in message.text


def test_a_long_value_is_cut() -> None:
    message = build(build_item({"error": "x" * 10_000}, genome="y" * 1000))
    assert len(message.subject) == 200
    assert message.subject.endswith("…")
    assert len(message.text) < 4000


def test_a_message_about_many_events_shows_some_and_counts_the_others() -> None:
    items = [build_item(genome=f"g{number}") for number in range(MAX_SHOWN)]
    message = build(*items, count=500)
    genomes = "g0 (new_assembly), g1 (new_assembly), g2 (new_assembly)"
    assert message.subject == f"[event hooks] dump failed, 500 events: {genomes} and 497 more"
    assert message.text.count("Genome: ") == message.html.count("<b>Genome</b>") == MAX_SHOWN
    assert message.text.endswith("\n\n… and 450 more")
    assert message.html.endswith("<p>… and 450 more</p>")


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["timed_out", "timed_out"], "timed_out"),
        (["timed_out", "failed"], "failed"),
        (["submitted"], "failed"),
    ],
    ids=["same", "different", "running again"],
)
def test_a_subject_has_the_state_of_a_failure(states: list[str], state: str) -> None:
    message = build(*(build_item({"state": name}) for name in states))
    assert message.subject.startswith(f"[event hooks] dump {state}")


def test_a_stall_has_its_texts() -> None:
    stalls = json.dumps({"a: x": "no beekeeper", "b: y": "excluded"})
    message = build(build_item({"state": "submitted", "stalls": stalls}), kind="stalled")
    assert message.subject.startswith("[event hooks] dump stalled: ")
    assert "\nStall: no beekeeper\n  excluded\nTo do: resolve the stall" in message.text


def test_a_late_process_has_the_advice_of_its_report() -> None:
    message = build(build_item({"state": "submitted"}), kind="late")
    assert message.subject.startswith("[event hooks] dump late: ")
    assert (
        "\nTo do: check the event board for a stall; if there is none, increase the deadline" in message.text
    )


def test_a_rejected_event_has_its_reason_and_no_process() -> None:
    event = StoredEvent(7, {"type": "x"}, "run", 0, rejected_reason="type: expected new_assembly")
    message = build_message("", "failed", [NotifiedEvent(event, None)], 1)
    assert message.subject == "[event hooks] event rejected: no genome (x)"
    assert (
        "\nError: type: expected new_assembly\nTo do: fix the cause, then clear the task route"
        in message.text
    )
    assert "Process: " not in message.text
