from __future__ import annotations

import json
import re

from event_hooks.reports.report import Report

EVENT = {"type": "new_assembly", "genome": "homo_sapiens"}


def a_report(report_type: str = "FATAL", key: str = "run/dump_dna/0/FATAL") -> Report:
    return Report(
        report_type=report_type,  # type: ignore[arg-type]
        process="event_processing",
        resource="homo_sapiens",
        params=EVENT,
        message="Event failed: {}",
        key=key,
    )


def test_the_body_has_the_fields_that_consumers_know() -> None:
    body = json.loads(a_report().model_dump_json())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", body.pop("report_time"))
    assert isinstance(body.pop("host"), str)
    assert body == {
        "report_type": "FATAL",
        "process": "event_processing",
        "resource": "homo_sapiens",
        "params": EVENT,
        "message": "Event failed: {}",
        "level": "FATAL",
    }


def test_a_failure_goes_where_mail_is_sent_from() -> None:
    assert a_report().routing_key == "report.fatal"


def test_a_repeated_report_is_recognised_and_another_is_not() -> None:
    assert a_report().message_id == a_report().message_id
    assert a_report().message_id != a_report(key="run/dump_dna/1/FATAL").message_id
