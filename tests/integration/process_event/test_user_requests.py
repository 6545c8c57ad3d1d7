"""Retrying and stopping processes on behalf of a user."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from event_hooks.exceptions import RunFailed
from event_hooks.hive.hook import HiveHook
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.outcomes import release_attempts, request_stop, start_attempt
from event_hooks.ledger.overview import load_event_views
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import ProcessState, ProcessStatus, RetryMarker
from event_hooks.ledger.user_requests import RetryMode, list_requested_stops
from event_hooks.process_event import user_requests
from event_hooks.process_event.report import ReportOperator
from event_hooks.process_event.user_requests import COMPLETE_REASON
from tests.integration.hives import PracticeHive
from tests.integration.process_event.conftest import (
    ANALYSIS,
    RUN_ID,
    accept,
    list_reports,
    load_only_status,
    load_states,
    submit,
    wait,
    wait_until,
)
from tests.support.task_instances import RunOfTasks
from tests.support.triggerer import Triggerer

pytestmark = pytest.mark.usefixtures("queue")

ASSEMBLY: dict[str, Any] = {"type": "new_assembly"}
FAILING = {**ASSEMBLY, "practice": {"fail_until_reset": "entry"}}


def accept_events(ledger: Ledger, hive: PracticeHive, *events: dict[str, Any]) -> RunOfTasks:
    """Accept events with the only process ``dump``."""
    return accept(ledger, [(event, [("dump", hive.conn_id, ANALYSIS)]) for event in events])


def load_views(ledger: Ledger) -> list[Any]:
    return load_event_views(ledger, [event.id for event in load_run_events(ledger, RUN_ID)])[::-1]


def retry(
    ledger: Ledger, *positions: int, mode: RetryMode = RetryMode.FAILED_JOBS, process: str | None = None
) -> dict[int, str | None]:
    """Retry events of the run; return ``{event position: reason why it is not retried}``."""
    views = load_views(ledger)
    candidates = user_requests.plan_retries([views[position] for position in positions], process, mode)
    user_requests.request_retries(ledger, candidates, mode, "a_user")
    return {position: candidate.reason for position, candidate in zip(positions, candidates, strict=True)}


def clear(ledger: Ledger) -> dict[str, set[str]]:
    """Clear the requested tasks; return them by run."""
    cleared: dict[str, set[str]] = {}

    def record(tasks: Mapping[str, Collection[str]]) -> None:
        cleared.update({run_id: set(names) for run_id, names in tasks.items()})

    user_requests.clear_requested_tasks(ledger, record)
    return cleared


def load_all(ledger: Ledger) -> list[ProcessStatus]:
    return load_run_statuses(ledger, RUN_ID)


async def fail_both(ledger: Ledger, hive: PracticeHive, triggerer: Triggerer) -> None:
    """Let the jobs of two events fail."""
    submit(accept_events(ledger, hive, FAILING, FAILING))
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await wait(triggerer), TaskFailedEvent)


async def test_a_retry_resets_the_failed_jobs_of_its_event_only(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    await fail_both(ledger, hive, triggerer)
    assert retry(ledger, 1) == {1: None}
    assert clear(ledger) == {RUN_ID: {"dump.wait", "report"}}
    second = asyncio.create_task(wait(triggerer, "try2"))
    await wait_until(lambda: ("READY",) in hive.fetch_rows("SELECT status FROM job"))
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await second, TaskFailedEvent)  # the other event has failed
    assert list(load_states(ledger).values()) == [ProcessState.FAILED, ProcessState.COMPLETE]
    assert ("report.info", "retry_requested") in list_reports(ledger)
    finished = [key for key, step in list_reports(ledger) if step == "process_finished"]
    assert finished == ["report.fatal", "report.fatal", "report.info"]


async def test_a_repeated_retry_changes_nothing(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    await fail_both(ledger, hive, triggerer)
    retry(ledger, 0)
    before, reports = load_all(ledger), list_reports(ledger)
    assert retry(ledger, 0) == {0: "it is unfinished"}
    assert (load_all(ledger), list_reports(ledger)) == (before, reports)
    assert clear(ledger)
    assert clear(ledger) == {}


async def test_a_retry_while_the_wait_of_other_events_continues_is_left_to_the_next_task_instance(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(accept_events(ledger, hive, FAILING, {**ASSEMBLY, "practice": {"hold": True}}))
    first_id, second_id = (status.job_id for status in load_all(ledger))
    hive.execute(f"UPDATE job SET status = 'FAILED' WHERE job_id = {first_id}")
    first = asyncio.create_task(wait(triggerer))
    await wait_until(lambda: load_all(ledger)[0].state == ProcessState.FAILED)
    retry(ledger, 0)
    hive.execute(f"UPDATE job SET status = 'DONE', when_completed = NOW() WHERE job_id = {second_id}")
    assert isinstance(await first, TaskFailedEvent)
    status, other = load_all(ledger)
    assert (status.state, status.attempt) == (ProcessState.SUBMITTED, RetryMarker.REQUESTED)
    assert other.state == ProcessState.COMPLETE
    assert [key for key, step in list_reports(ledger) if step == "process_finished"].count(
        "report.fatal"
    ) == 1
    second = asyncio.create_task(wait(triggerer, "try2"))
    await wait_until(
        lambda: hive.fetch_rows(f"SELECT status FROM job WHERE job_id = {first_id}") == [("READY",)]
    )
    hive.execute(f"UPDATE job SET status = 'DONE', when_completed = NOW() WHERE job_id = {first_id}")
    assert isinstance(await second, TaskSuccessEvent)


async def test_a_process_runs_again_as_a_new_job(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    run = accept_events(ledger, hive, ASSEMBLY)
    submit(run)
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    job_id = load_only_status(ledger).job_id
    unnamed = retry(ledger, 0, mode=RetryMode.PROCESS)
    assert unnamed == {0: COMPLETE_REASON}
    assert retry(ledger, 0, mode=RetryMode.PROCESS, process="dump") == {0: None}
    assert clear(ledger) == {RUN_ID: {"dump.submit", "dump.wait", "report"}}
    submit(run)
    submit(run)
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await wait(triggerer, "try2"), TaskSuccessEvent)
    status = load_only_status(ledger)
    assert (status.state, status.rerun) == (ProcessState.COMPLETE, 1)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job WHERE prev_job_id IS NULL") == [(2,)]
    assert status.job_id != job_id


async def test_a_retry_submits_only_the_missing_job_of_its_event(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    run = accept_events(ledger, hive, ASSEMBLY, ASSEMBLY)
    submit(run)
    hive.execute("UPDATE job SET input_id = CONCAT('{\"event\" => {\"id\" => ', job_id, '}}')")
    await wait(triggerer)
    assert [status.state for status in load_all(ledger)] == [ProcessState.MISSING] * 2
    retry(ledger, 1)
    assert clear(ledger) == {RUN_ID: {"dump.submit", "dump.wait", "report"}}
    submit(run)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(3,)]
    assert [status.state for status in load_all(ledger)] == [ProcessState.MISSING, ProcessState.SUBMITTED]


def test_a_stop_before_the_submission_prevents_it(ledger: Ledger, hive: PracticeHive) -> None:
    run = accept_events(ledger, hive, ASSEMBLY, ASSEMBLY)
    user_requests.request_stops(ledger, user_requests.plan_stops(load_views(ledger)[:1], None), "a_user")
    submit(run)
    stopped, submitted = load_all(ledger)
    assert (stopped.state, submitted.state) == (ProcessState.NOT_SUBMITTED, ProcessState.SUBMITTED)
    assert "a user stopped the process" in str(stopped.error)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(1,)]
    retry(ledger, 0)
    submit(run)
    assert [status.state for status in load_all(ledger)] == [ProcessState.SUBMITTED] * 2


async def test_a_stop_before_the_first_wait_is_kept(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(accept_events(ledger, hive, ASSEMBLY))
    user_requests.request_stops(ledger, user_requests.plan_stops(load_views(ledger), None), "a_user")
    waiting = asyncio.create_task(wait(triggerer))
    await wait_until(lambda: load_only_status(ledger).attempt == "try1")
    (request,) = list_requested_stops(ledger)
    user_requests.stop_requested_jobs(HiveHook(hive.conn_id), ledger, [request])
    assert isinstance(await waiting, TaskFailedEvent)
    status = load_only_status(ledger)
    assert (status.state, status.stop_requested_at) == (ProcessState.STOPPED, None)
    assert hive.fetch_rows("SELECT status FROM job") == [("DONE",)]
    assert retry(ledger, 0) == {0: None}
    second = asyncio.create_task(wait(triggerer, "try2"))
    await wait_until(lambda: hive.fetch_rows("SELECT status FROM job") == [("READY",)])
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await second, TaskSuccessEvent)


async def test_a_clear_of_the_wait_withdraws_a_stop(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(accept_events(ledger, hive, ASSEMBLY))
    start_attempt(ledger, "dump", [load_only_status(ledger).event_id], "try1")
    user_requests.request_stops(ledger, user_requests.plan_stops(load_views(ledger), None), "a_user")
    requests = list_requested_stops(ledger)
    start_attempt(ledger, "dump", [load_only_status(ledger).event_id], "try2")
    assert list_requested_stops(ledger) == []
    user_requests.stop_requested_jobs(HiveHook(hive.conn_id), ledger, requests)
    assert hive.fetch_rows("SELECT status FROM job") == [("READY",)]


async def test_the_task_report_leaves_a_retry_to_airflow_until_its_tasks_are_cleared(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    run = accept_events(ledger, hive, FAILING)
    submit(run)
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    retry(ledger, 0)
    run.states |= {"route": "success", "dump.submit": "success", "dump.wait": "failed"}
    report = lambda: ReportOperator(task_id="report", emits={}).execute(run.build_context("report"))  # noqa: E731
    with pytest.raises(RunFailed, match=r"the task dump\.wait failed"):
        await asyncio.to_thread(report)
    assert load_only_status(ledger).attempt == RetryMarker.REQUESTED
    clear(ledger)
    with pytest.raises(RunFailed, match="unknown"):  # no task waits although the tasks are cleared
        await asyncio.to_thread(report)
    assert load_only_status(ledger).state == ProcessState.UNKNOWN


async def test_a_run_that_is_started_again_keeps_a_requested_retry(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    await fail_both(ledger, hive, triggerer)
    retry(ledger, 0)
    release_attempts(ledger, RUN_ID)
    assert [status.attempt for status in load_all(ledger)] == [RetryMarker.REQUESTED, None]


async def test_only_a_failed_process_can_be_retried(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(accept_events(ledger, hive, ASSEMBLY))
    assert retry(ledger, 0) == {0: "it is unfinished"}
    event_id = load_only_status(ledger).event_id
    start_attempt(ledger, "dump", [event_id], "try1")
    request_stop(ledger, "dump", [event_id], "try1")
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    assert retry(ledger, 0) == {0: COMPLETE_REASON}
    assert retry(ledger, 0, process="dump") == {0: COMPLETE_REASON}
