"""Reasons for a missing outcome, and summaries of events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from event_hooks.ledger.records import ProcessState, ProcessStatus
from event_hooks.process_event.report import RunTasks
from event_hooks.process_event.summaries import build_summaries
from tests.support.run_events import build_run

EVENT = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": "1"}


class TaskInstance:
    """The part of Airflow's task instance that reads XComs."""

    def __init__(self, errors: dict[str, str]) -> None:
        self.errors = errors

    def xcom_pull(self, task_ids: str, key: str) -> str | None:
        return self.errors.get(task_ids) if key == "error" else None


def build_tasks(wait: str | None = "failed", **errors: str) -> RunTasks:
    by_task = {name.replace("_", "."): error for name, error in errors.items()}
    return RunTasks("run", TaskInstance(by_task), {"route": "success", "dump.wait": wait})


def build_status(position: int = 0, process: str = "dump", **fields: Any) -> ProcessStatus:
    return ProcessStatus(position + 100, position, process, "hive", "event_dump", **fields)


@pytest.mark.parametrize(
    ("tasks", "job_id", "reason"),
    [
        (build_tasks("success"), 7, "a user marked the wait as success"),
        (build_tasks(None), 7, "removed from the lookup while its job ran"),
        (build_tasks("removed"), 7, "removed from the lookup while its job ran"),
        (build_tasks("failed"), 7, "the wait ended as failed before it recorded an outcome"),
        (
            build_tasks("upstream_failed", dump_submit="hive b is away"),
            7,
            "an earlier task failed: hive b is",
        ),
        (build_tasks("upstream_failed", dump_submit="no analysis"), None, "no analysis"),
        (build_tasks("upstream_failed", route="no ledger"), None, "no ledger"),
        (build_tasks("upstream_failed"), None, "see the log of the task submit"),
        (build_tasks("removed"), None, "removed from the process lookup before its job was submitted"),
    ],
)
def test_a_missing_outcome_is_explained_by_the_tasks(
    tasks: RunTasks, job_id: int | None, reason: str
) -> None:
    assert reason in tasks.explain_missing_outcome(build_status(job_id=job_id))


@pytest.mark.parametrize(("state", "is_ended"), [("deferred", False), ("failed", True), (None, True)])
def test_a_process_whose_wait_waits_is_left_alone(state: str | None, is_ended: bool) -> None:
    assert build_tasks(state).has_wait_ended(build_status(job_id=7)) is is_ended


def test_the_summary_of_an_event_has_all_its_processes() -> None:
    run = build_run(EVENT, {"type": "y", "genome": "b"})
    statuses = [
        build_status(state=ProcessState.COMPLETE),
        build_status(process="dump_rna", state=ProcessState.FAILED, attempt="1"),
    ]
    first, second = build_summaries(run, statuses)
    assert (first.resource, first.routing_key) == ("homo_sapiens", "report.info")
    assert json.loads(first.message.removeprefix("Event finished: ")) == {
        "run": "run",
        "genome": "homo_sapiens",
        "complete": 1,
        "failed": 1,
        "processes": {"dump": "complete", "dump_rna": "failed"},
    }
    assert (second.resource, second.message) == ("b", "No process reacts to this event")


def test_an_event_with_an_unfinished_process_has_no_summary() -> None:
    statuses = [build_status(state=ProcessState.COMPLETE), build_status(process="other", job_id=5)]
    assert list(build_summaries(build_run(EVENT), statuses)) == []


@pytest.mark.parametrize("state", [ProcessState.FAILED, ProcessState.COMPLETE])
def test_the_summary_of_another_outcome_is_another_report(state: ProcessState) -> None:
    """The attempt does not matter: a run that is started again has other attempts and the same outcomes."""
    reports = []
    for attempt, hour in (("1", 1), ("2", 1), ("2", 2)):
        finished_at = datetime(2026, 11, 28, hour, tzinfo=UTC)
        status = build_status(state=state, attempt=attempt, finished_at=finished_at)
        reports += build_summaries(build_run(EVENT), [status])
    assert len({report.message_id for report in reports}) == 2
