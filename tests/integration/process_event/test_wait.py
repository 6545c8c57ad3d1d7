"""The tasks `submit` and `wait`: hive, analysis and job are those of the ledger's plan."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent
from sqlalchemy import select, text

from event_hooks.exceptions import LedgerValueRejected
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import HiveChanges, JobProgress
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.hive.sql.outcomes import JobOutcome
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run
from event_hooks.ledger.follow_ups import load_pending_follow_ups
from event_hooks.ledger.processes import load_run_statuses, store_jobs
from event_hooks.ledger.records import ProcessState
from event_hooks.ledger.reports import list_run_reports
from event_hooks.ledger.tables import event_process
from event_hooks.process_event.wait_recorder import WaitRecorder
from tests.integration.hives import MakeHive, PracticeHive
from tests.integration.process_event.conftest import (
    ANALYSIS,
    RUN_ID,
    accept,
    build_trigger,
    list_reports,
    load_only_status,
    load_states,
    submit,
    wait,
    wait_until,
)
from tests.support.triggerer import Triggerer

pytestmark = pytest.mark.usefixtures("queue")

ASSEMBLY: dict[str, Any] = {"type": "new_assembly"}
OUTCOME = "process_finished"


def count_jobs(hive: PracticeHive) -> int:
    ((count,),) = hive.fetch_rows("SELECT COUNT(*) FROM job WHERE prev_job_id IS NULL")
    return int(count)


async def test_jobs_are_in_the_hive_of_their_plan(
    ledger: Ledger, make_hive: MakeHive, triggerer: Triggerer
) -> None:
    """Between the two events, the lookup moved the process to another hive."""
    first, second = make_hive("mysql"), make_hive("mysql")
    plans = [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)]) for hive in (first, second)]
    submit(accept(ledger, plans))
    assert [count_jobs(first), count_jobs(second)] == [1, 1]
    for hive in (first, second):
        await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await wait(triggerer), TaskSuccessEvent)
    assert set(load_states(ledger).values()) == {ProcessState.COMPLETE}
    assert triggerer.read_summary(RUN_ID, "dump.wait")["counts"] == {"complete": 2}


async def test_a_wait_may_end_while_its_progress_is_written(ledger: Ledger, triggerer: Triggerer) -> None:
    accept(ledger, [(ASSEMBLY, [("dump", "hive", ANALYSIS)])])
    recorder = WaitRecorder(load_run(ledger, RUN_ID), "dump", {7: 0}, "try1", ())
    with ledger.transaction() as blocking:
        blocking.execute(select(event_process).with_for_update())
        recorder.record(HiveChanges(progress=[JobProgress(7, 3, 5, 0, "working", True)]))
        await asyncio.sleep(0.3)  # the write has begun
        flush = asyncio.create_task(recorder.flush())
        await asyncio.sleep(0.1)
        assert not flush.done()
    await flush
    (row,) = ledger.read(select(event_process.c.done, event_process.c.total))
    assert tuple(row) == (3, 5)


@pytest.mark.parametrize("ledger_server", ["mysql"])
async def test_an_outcome_that_the_ledger_cannot_store_affects_no_other(
    ledger: Ledger, triggerer: Triggerer
) -> None:
    accept(ledger, [(ASSEMBLY, [("dump", "hive", ANALYSIS)])] * 3)
    recorder = WaitRecorder(load_run(ledger, RUN_ID), "dump", {7: 0, 8: 1, 9: 2}, "try1", ())
    ((limit,),) = ledger.read(text("SELECT @@max_allowed_packet"))
    outcomes = [JobOutcome(job_id, JobState.COMPLETE, "x") for job_id in (7, 9)]
    outcomes.append(JobOutcome(8, JobState.FAILED, error="x" * limit))
    recorder.record(HiveChanges(outcomes=outcomes))
    await recorder.catch_up()
    with pytest.raises(LedgerValueRejected, match="longer than max_allowed_packet"):
        await recorder.flush()
    states = [status.state for status in load_run_statuses(ledger, RUN_ID)]
    assert states == [ProcessState.COMPLETE, ProcessState.PLANNED, ProcessState.COMPLETE]


async def test_the_ledger_stores_the_beginning_of_a_long_result(ledger: Ledger, triggerer: Triggerer) -> None:
    accept(ledger, [(ASSEMBLY, [("dump", "hive", ANALYSIS)])] * 2)
    recorder = WaitRecorder(load_run(ledger, RUN_ID), "dump", {7: 0, 8: 1}, "try1", ())
    results = {7: "x" * (2**20 - 2), 8: ["x" * (2**24 - 4)]}
    outcomes = [JobOutcome(job_id, JobState.COMPLETE, result) for job_id, result in results.items()]
    recorder.record(HiveChanges(outcomes=outcomes))
    await recorder.flush()
    rows = ledger.read(select(event_process.c.result).order_by(event_process.c.event_id))
    stored = [json.loads(row.result) for row in rows]
    assert stored[0] == results[7]
    assert (stored[1][:4], len(stored[1]) < 70_000) == ('["xx', True)
    assert stored[1].endswith("x… (16,777,216 characters)")


async def test_a_job_that_the_api_server_submitted_is_not_submitted_again(
    ledger: Ledger, hive: PracticeHive
) -> None:
    run = accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])])
    submit(run)
    job_id = load_only_status(ledger).job_id
    submit(run)
    assert (count_jobs(hive), load_only_status(ledger).job_id) == (1, job_id)


async def test_a_job_that_the_api_server_submitted_is_reported_once(
    ledger: Ledger, hive: PracticeHive
) -> None:
    run = accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])])
    (job_id,) = HiveHook(hive.conn_id).submit(ANALYSIS, ["{}"])
    store_jobs(ledger, {(load_only_status(ledger).event_id, "dump"): job_id})
    for _ in range(2):
        submit(run)
    assert list_reports(ledger) == [("report.info", "submitted")]


async def test_a_job_of_another_hive_is_missing_and_never_reset(
    ledger: Ledger, make_hive: MakeHive, triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection leads to another hive, in which another user's job has the same number."""
    hive, other = make_hive("mysql"), make_hive("mysql")
    submit(accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])]))
    job_id = load_only_status(ledger).job_id
    other.add_job(job_id=job_id, status="FAILED", input_id=perl.dumps({"event": {"type": "other"}}))
    monkeypatch.setenv(f"AIRFLOW_CONN_{hive.conn_id.upper()}", other.url)
    for attempt in ("try1", "try2"):
        assert isinstance(await wait(triggerer, attempt), TaskFailedEvent)
        status = load_only_status(ledger)
        assert (status.state, status.attempt) == (ProcessState.MISSING, attempt)
        assert "is another job" in str(status.error)
    assert other.fetch_rows("SELECT status FROM job") == [("FAILED",)]
    assert [key for key, step in list_reports(ledger) if step == OUTCOME] == ["report.fatal"] * 2


async def test_a_missing_job_is_submitted_again_when_submit_is_cleared(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    run = accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])])
    submit(run)
    hive.execute("UPDATE job SET input_id = '{\"event\" => {}}'")
    assert isinstance(await wait(triggerer), TaskFailedEvent)
    submit(run)
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await wait(triggerer, "try2"), TaskSuccessEvent)
    assert (count_jobs(hive), load_only_status(ledger).state) == (2, ProcessState.COMPLETE)


async def test_a_cleared_wait_resets_failed_jobs_only(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    place = ("dump", hive.conn_id, ANALYSIS)
    failing = {**ASSEMBLY, "practice": {"fail_until_reset": "entry"}}
    submit(accept(ledger, [(failing, [place]), (ASSEMBLY, [place])]))
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await wait(triggerer), TaskFailedEvent)
    assert list(load_states(ledger).values()) == [ProcessState.FAILED, ProcessState.COMPLETE]
    second = asyncio.create_task(wait(triggerer, "try2"))
    await wait_until(lambda: ("READY",) in hive.fetch_rows("SELECT status FROM job"))
    await asyncio.to_thread(hive.run_jobs)
    assert isinstance(await second, TaskSuccessEvent)
    keys = [key for key, step in list_reports(ledger) if step == OUTCOME]
    assert sorted(keys) == ["report.fatal", "report.info", "report.info"]


async def test_a_second_trigger_of_a_task_instance_changes_nothing(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(
        accept(ledger, [({**ASSEMBLY, "practice": {"fail": "entry"}}, [("dump", hive.conn_id, ANALYSIS)])])
    )
    await asyncio.to_thread(hive.run_jobs)
    first, second = await asyncio.gather(wait(triggerer), wait(triggerer))
    reports = list_reports(ledger)
    third = await wait(triggerer)
    assert {type(event) for event in (first, second, third)} == {TaskFailedEvent}
    assert list_reports(ledger) == reports
    assert [key for key, step in reports if step == OUTCOME] == ["report.fatal"]


@pytest.mark.parametrize("state", ["success", "skipped"])
async def test_a_trigger_that_starts_after_a_user_marked_its_task_records_nothing(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer, state: str
) -> None:
    """The task `report` may have recorded an outcome already."""
    submit(accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])]))
    before = load_only_status(ledger)
    trigger = build_trigger(triggerer)
    triggerer.states[RUN_ID, "dump.wait"] = state
    await triggerer.run(trigger)
    assert load_only_status(ledger) == before


async def test_an_older_attempt_cannot_replace_the_outcome_of_a_newer_one(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])]))
    old = asyncio.create_task(wait(triggerer, "try1"))
    await wait_until(lambda: load_only_status(ledger).attempt == "try1")
    new = asyncio.create_task(wait(triggerer, "try2"))
    await wait_until(lambda: load_only_status(ledger).attempt == "try2")
    await asyncio.to_thread(hive.run_jobs)
    await asyncio.gather(old, new)
    assert (load_only_status(ledger).state, load_only_status(ledger).attempt) == ("complete", "try2")


async def test_one_hive_that_rejects_all_polls_does_not_fail_the_other(
    ledger: Ledger, make_hive: MakeHive, triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("event_hooks.hive.poller.MAX_REJECTION_SECONDS", 0.0)
    good, broken = make_hive("mysql"), make_hive("sqlite")
    submit(accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)]) for hive in (good, broken)]))
    await asyncio.to_thread(good.run_jobs)
    broken.execute("ALTER TABLE job RENAME TO elsewhere")
    assert isinstance(await wait(triggerer), TaskFailedEvent)
    assert list(load_states(ledger).values()) == [ProcessState.COMPLETE, ProcessState.UNKNOWN]
    (error,) = triggerer.read_summary(RUN_ID, "dump.wait")["errors"]
    assert "no such table: job" in error


async def test_submit_reports_a_rejected_hive_after_the_others_have_their_jobs(
    ledger: Ledger, make_hive: MakeHive
) -> None:
    good, broken = make_hive("mysql"), make_hive("sqlite")
    broken.execute("ALTER TABLE job RENAME TO elsewhere")
    plans = [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)]) for hive in (broken, good)]
    run = accept(ledger, plans)
    with pytest.raises(Exception, match="no such table: job"):
        submit(run)
    assert count_jobs(good) == 1
    assert list(load_states(ledger).values()) == [ProcessState.PLANNED, ProcessState.SUBMITTED]
    assert "no such table: job" in run.xcoms["dump.submit", "error"]


async def test_all_events_of_a_long_result_are_recorded_and_the_summary_is_short(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])]))
    await asyncio.to_thread(hive.run_jobs)
    hive.execute("ALTER TABLE result MODIFY output LONGTEXT CHARACTER SET utf8mb4")
    events = [{"type": "new_assembly", "genome": f"g{number}", "note": "αβγ" * 500} for number in range(1000)]
    output = json.dumps({"events": events}, ensure_ascii=False)
    hive.execute("UPDATE result SET output = :output", output=output)
    assert isinstance(await wait(triggerer), TaskSuccessEvent)
    pending = load_pending_follow_ups(ledger, 2000)
    assert [follow_up.payload["genome"] for follow_up in pending] == [event["genome"] for event in events]
    assert len(json.dumps(triggerer.read_summary(RUN_ID, "dump.wait"))) < 1000


async def test_events_of_a_success_are_recorded_with_it(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    submit(accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])]))
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer, emits=["dumped"])
    await wait(triggerer, emits=["dumped", "added_later"])
    assert [event.payload["type"] for event in load_pending_follow_ups(ledger)] == ["dumped"]


async def test_submission_is_idempotent_by_the_token(ledger: Ledger, hive: PracticeHive) -> None:
    run = accept(ledger, [(ASSEMBLY, [("dump", hive.conn_id, ANALYSIS)])])
    submit(run)
    job_id = load_only_status(ledger).job_id
    with ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE event_process SET job_id = NULL, state = 'planned'")
    submit(run)
    assert load_only_status(ledger).job_id == job_id
    assert HiveHook(hive.conn_id).list_jobs(ANALYSIS, limit=10)[0].job_id == job_id


async def test_a_complete_job_that_a_user_reset_is_waited_for_again(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    place = ("dump", hive.conn_id, ANALYSIS)
    submit(accept(ledger, [(ASSEMBLY, [place]), (ASSEMBLY, [place])]))
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    first, second = (status.job_id for status in load_run_statuses(ledger, RUN_ID))
    hive.execute("DELETE FROM job WHERE prev_job_id = :id", id=first)
    hive.execute("DELETE FROM job WHERE job_id = :id", id=first)  # hoovered
    hive.execute("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=second)
    again = asyncio.create_task(wait(triggerer, "try2"))
    await wait_until(lambda: list(load_states(ledger).values()) == ["complete", "submitted"])
    hive.complete_jobs("job_id = :id", id=second)
    assert isinstance(await again, TaskSuccessEvent)
    assert [key for key, step in list_reports(ledger) if step == OUTCOME] == ["report.info"] * 2


async def test_a_returned_event_keeps_its_secrets_and_the_report_on_it_shows_none(
    ledger: Ledger, hive: PracticeHive, triggerer: Triggerer
) -> None:
    returned = {
        "type": "dumped",
        "src_uri": "mysql://user:hunter2pw@host/db",
        "comment": "use -pass hunter2pw",
    }
    practice = {"result": json.dumps({"events": [returned], "log": "2-pass mapping"})}
    submit(accept(ledger, [({**ASSEMBLY, "practice": practice}, [("dump", hive.conn_id, ANALYSIS)])]))
    await asyncio.to_thread(hive.run_jobs)
    await wait(triggerer)
    (follow_up,) = load_pending_follow_ups(ledger)
    assert returned.items() <= follow_up.payload.items()
    (result,) = ledger.read(select(event_process.c.result))[0]
    bodies = json.dumps([report.body for report in list_run_reports(ledger, RUN_ID)])
    for shown in (result, bodies):
        assert "hunter2pw" not in shown
        assert "2-pass mapping" in shown
