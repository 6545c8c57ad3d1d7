"""
The form of reports that the known consumers expect.

Source: ensembl-prodinf-report (its queues and the mail's subject) and ensembl-prodinf-core's reporting.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest

from event_hooks.ledger.records import ProcessStatus, ProgressUpdate
from event_hooks.reports.builder import ReportBuilder
from event_hooks.reports.report import Report
from tests.support.run_events import build_run

EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": 1, "more": {"deep": [1, None]}}
BUILDER = ReportBuilder(build_run(EVENT))
OUTCOME: dict[str, Any] = {"job_id": 7, "state": "failed", "result": None, "error": "no disk"}
REPORTS = [
    BUILDER.received(0, ["dump"]),
    BUILDER.duplicate(0, "first"),
    BUILDER.rejected(0, "no"),
    BUILDER.no_process(0),
    BUILDER.submitted(0, "dump", 7),
    BUILDER.progress([0], "dump", 7, ProgressUpdate(0, 1, 2, 0)),
    BUILDER.stalled([0], "dump", 7, "not_picked_up", "no_beekeeper", "key"),
    BUILDER.process_finished(0, "dump", OUTCOME, "1"),
    BUILDER.process_finished(0, "dump", {**OUTCOME, "state": "complete"}, "1"),
    BUILDER.event_finished(0, [ProcessStatus(1, 0, "dump", "hive", "event_dump")]),
]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.message[:16])
def test_a_report_has_the_form_that_its_consumers_expect(report: Report) -> None:
    body = json.loads(report.body)
    texts = {"report_type", "host", "process", "resource", "message", "report_time", "level"}
    assert set(body) == texts | {"params"}
    assert all(isinstance(body[name], str) for name in texts)
    assert body["report_type"] in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
    assert report.routing_key == f"report.{body['report_type'].lower()}"
    assert body["level"] == body["report_type"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", body["report_time"])
    assert datetime.fromisoformat(body["report_time"]).tzinfo is None
    assert (body["process"], body["resource"]) == ("event_processing", "homo_sapiens")
    assert {name: body["params"][name] for name in EVENT} == EVENT
    assert set(body["params"]) - set(EVENT) == {"event_hooks"}
    metadata = body["params"]["event_hooks"]
    assert {name: type(value) for name, value in metadata.items()} == {
        "run_id": str,
        "correlation_id": str,
        "step": str,
        "processes": list,
    }


def test_an_event_without_a_genome_has_no_resource() -> None:
    assert json.loads(ReportBuilder(build_run({"type": "release"})).no_process(0).body)["resource"] is None
