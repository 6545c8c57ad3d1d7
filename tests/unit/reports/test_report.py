from __future__ import annotations

import json
import re

from event_hooks.reports.report import Report

EVENT = {"type": "new_assembly", "genome": "homo_sapiens"}


def build_report(report_type: str = "FATAL", key: str = "run/dump_dna/0/FATAL") -> Report:
    return Report(
        report_type=report_type,  # type: ignore[arg-type]
        process="event_processing",
        resource="homo_sapiens",
        params=EVENT,
        message="Event failed: {}",
        key=key,
    )


def test_the_body_has_the_fields_that_consumers_expect() -> None:
    body = json.loads(build_report().model_dump_json())
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


def test_a_fatal_report_is_routed_to_the_mail_queue() -> None:
    assert build_report().routing_key == "report.fatal"


def test_only_a_repeated_report_has_the_same_message_id() -> None:
    assert build_report().message_id == build_report().message_id
    assert build_report().message_id != build_report(key="run/dump_dna/1/FATAL").message_id
