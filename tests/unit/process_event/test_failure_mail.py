"""The mail about a failed run."""

from __future__ import annotations

from event_hooks.ledger.records import ProcessState, ProcessStatus
from event_hooks.process_event.failure_mail import RunFailure, build_body, build_subject


def test_a_mail_contains_no_secret() -> None:
    address = "mysql://user:hunter2pw@host/db"
    error = f"cannot read {address}, 2-pass mapping failed"
    status = ProcessStatus(7, 0, "dump", "hive", "event_dump", 3, ProcessState.FAILED, error)
    failure = RunFailure("run", {0: {"type": "x", "genome": address, "event_id": address}}, [status])
    body, subject = build_body(failure), build_subject(failure)
    assert "hunter2pw" not in body + subject
    assert "cannot read mysql://user:***@host/db, 2-pass mapping failed" in body
