"""A job id that leads to another job, because the hive was created again, or to no job."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from event_hooks.hive import perl
from event_hooks.hive import reader as reader_module
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.poller import get_poller
from event_hooks.hive.reader import HiveChanges
from event_hooks.hive.sql.control import ControlResult
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import MakeHive, load_status, open_reader, submit_job, wait_until
from tests.integration.hives import PracticeHive
from tests.support.practice_hive import tables

TOKEN = "token-of-this-event"
OTHER_TOKEN = "token-of-another-event"


def replace_job(hive: PracticeHive, job_id: int, status: str = "DONE") -> None:
    """Put a job of another event in the place of a job, as in a hive that was created again."""
    with hive.engine.begin() as connection:
        connection.execute(text("DELETE FROM job WHERE job_id = :id"), {"id": job_id})
    hive.add_job(job_id=job_id, status=status, input_id=perl.dumps({"token": OTHER_TOKEN}))


def test_a_job_of_a_hive_that_was_created_again_is_missing(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    job_id = submit_job(hive, token=TOKEN)
    hive.execute(f"DROP DATABASE {hive.engine.url.database}")
    hive.engine.dispose()
    tables.create(hive.url)
    hive.execute(f"ALTER TABLE job AUTO_INCREMENT = {job_id}")
    assert submit_job(hive, token=OTHER_TOKEN) == job_id
    hive.run_jobs()
    with open_reader(hive) as reader:
        (final,) = reader.read_final_outcomes({job_id: TOKEN}, 0, 3600)
        (other,) = reader.read_final_outcomes({job_id: OTHER_TOKEN}, 0, 3600)
    assert (final.state, final.result, other.state) == (JobState.MISSING, None, JobState.COMPLETE)
    assert final.error
    assert final.error.startswith(f"job {job_id} of hive 'hive_test_0' is another job")


@pytest.mark.parametrize("status", ["READY", "RUN", "FAILED"])
def test_an_unfinished_or_failed_job_of_another_event_is_missing(hive: PracticeHive, status: str) -> None:
    job_id = submit_job(hive, token=TOKEN)
    replace_job(hive, job_id, status)
    with open_reader(hive) as reader:
        changes = reader.read_changes((), {job_id: TOKEN})
        (final,) = changes.outcomes
        assert (final.state, changes.progress) == (JobState.MISSING, [])
        assert not reader._forest.trees


def test_a_job_that_is_replaced_during_the_wait_is_missing(hive: PracticeHive) -> None:
    job_id = submit_job(hive, token=TOKEN)
    with open_reader(hive) as reader:
        assert reader.read_changes((), {job_id: TOKEN}).outcomes == []
        replace_job(hive, job_id)
        (final,) = reader.read_changes((), {job_id: TOKEN}).outcomes
    assert final.state is JobState.MISSING


def test_the_token_is_found_in_a_long_input(hive: PracticeHive) -> None:
    (job_id,) = HiveHook(hive.conn_id).submit("event_dump_dna", [perl.dumps({"a": "x" * 300, "z": TOKEN})])
    assert hive.fetch_rows("SELECT COUNT(*) FROM job WHERE input_id LIKE '%token%'") == [(0,)]
    with open_reader(hive) as reader:
        assert reader.read_changes((), {job_id: TOKEN}).outcomes == []
        (final,) = reader.read_changes((), {job_id: OTHER_TOKEN}).outcomes
    assert final.state is JobState.MISSING
    hook = HiveHook(hive.conn_id)
    assert hook.stop_jobs({job_id: OTHER_TOKEN}) == ControlResult([], [], [job_id])
    assert hook.stop_jobs({job_id: TOKEN}) == ControlResult([job_id], [], [])


@pytest.mark.parametrize("operation", [HiveHook.reset_jobs, HiveHook.stop_jobs], ids=["reset", "stop"])
def test_a_job_of_another_event_is_neither_reset_nor_stopped(hive: PracticeHive, operation: object) -> None:
    status = "FAILED" if operation is HiveHook.reset_jobs else "READY"
    replaced_id, own_id = (submit_job(hive, token=f"{TOKEN}{number}") for number in range(2))
    replace_job(hive, replaced_id, status)
    hive.execute("UPDATE job SET status = :status", status=status)
    assert callable(operation)
    jobs = {own_id: f"{TOKEN}1", replaced_id: f"{TOKEN}0", 999_999: TOKEN}
    result = operation(HiveHook(hive.conn_id), jobs)
    assert result == ControlResult([own_id], [], [replaced_id, 999_999])
    assert load_status(hive, replaced_id) == status


@pytest.mark.usefixtures("fast_polling")
async def test_waits_with_other_tokens_do_not_affect_the_wait_of_the_job(
    hive: PracticeHive,
) -> None:
    job_id = submit_job(hive, token=TOKEN)

    async def wait(token: str) -> JobState:
        (final,) = [
            outcome
            async for changes in get_poller(hive.conn_id).subscribe({job_id: token}, 3600)
            for outcome in changes.outcomes
        ]
        return final.state

    async with asyncio.timeout(20):
        own_wait = asyncio.create_task(wait(TOKEN))
        states = await asyncio.gather(*(wait(f"{OTHER_TOKEN} {number}") for number in range(5)))
        assert (set(states), own_wait.done()) == ({JobState.MISSING}, False)
        await asyncio.to_thread(hive.run_jobs)
        assert await own_wait is JobState.COMPLETE


def test_a_job_without_a_row_at_the_first_read_may_appear_later(hive: PracticeHive) -> None:
    job_id = hive.add_job()
    hive.execute("DELETE FROM job")
    with open_reader(hive) as reader:
        for _ in range(2):
            assert reader.read_changes((), {job_id: None}) == HiveChanges()
        hive.add_job(job_id=job_id, status="READY")
        (progress,) = reader.read_changes((), {job_id: None}).progress
        assert (progress.job_id, progress.is_started) == (job_id, False)
        hive.execute("DELETE FROM job")
        (final,) = reader.read_changes((), {job_id: None}).outcomes
        assert final.state is JobState.MISSING


def test_a_job_without_a_row_is_missing_after_some_time_or_at_the_last_read(
    hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_reader(hive) as reader:
        (final,) = reader.read_final_outcomes({999_999: TOKEN}, 0, 3600)
        assert final.state is JobState.MISSING
    monkeypatch.setattr(reader_module, "NOT_FOUND_SECONDS", 0.3)
    with open_reader(hive) as reader:
        assert reader.read_changes((), {999_999: TOKEN}).outcomes == []
        wait_until(lambda: reader.read_changes((), {999_999: TOKEN}).outcomes == [final], 5)
        assert reader.read_changes([999_999], {999_999: TOKEN}).outcomes == []
