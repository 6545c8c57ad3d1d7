"""Stopping pending jobs; no job is ever deleted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, event

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql import control
from event_hooks.hive.sql.control import ControlResult
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    PAIRWISE_VARIANTS,
    MakeHive,
    count_jobs,
    find_child,
    load_counters,
    load_status,
    open_reader,
    read_outcome,
    read_state,
    record_statements,
    run_root_jobs,
    submit_job,
)
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker


def stop_jobs(hive: PracticeHive, *root_ids: int) -> ControlResult:
    return HiveHook(hive.conn_id).stop_jobs(dict.fromkeys(root_ids))


# The UPDATE of a stop is the same for all columns, and its counters depend on triggers only.
@pytest.mark.parametrize(("server", "variant", "triggers"), PAIRWISE_VARIANTS)
def test_stopping_sets_pending_jobs_to_done_and_they_never_run(
    make_hive: MakeHive, server: str, variant: str, triggers: bool
) -> None:
    hive = make_hive(server, variant=variant, triggers=triggers)
    root_id = submit_job(hive)
    run_root_jobs(hive)
    change = stop_jobs(hive, root_id)
    assert (len(change.changed_ids), change.running_ids) == (3, [])
    assert hive.fetch_rows("SELECT status FROM job") == [("DONE",)] * 4
    assert hive.fetch_rows("SELECT local_jobs_counter FROM semaphore") == [(2,)]
    assert load_counters(hive) == count_jobs(hive)
    hive.run_jobs()
    assert hive.fetch_rows("SELECT COUNT(*) FROM result") == [(0,)]
    stopped = read_outcome(hive, root_id)
    assert stopped.state is JobState.STOPPED
    assert "stopped by a user: 3 of its jobs never ran" in str(stopped.error)


def test_an_unclaimed_job_is_stopped(hive: PracticeHive) -> None:
    root_id = submit_job(hive)
    assert stop_jobs(hive, root_id) == ControlResult([root_id], [])
    assert read_outcome(hive, root_id).state is JobState.STOPPED
    assert hive.fetch_rows("SELECT message_class, msg FROM log_message") == [
        ("INFO", "Event hooks stopped this job (it was READY): requested by a user")
    ]


def test_stopping_is_idempotent(hive: PracticeHive) -> None:
    root_id = submit_job(hive)
    stop_jobs(hive, root_id)
    assert stop_jobs(hive, root_id) == ControlResult([], [])
    assert load_counters(hive) == count_jobs(hive)
    assert hive.fetch_rows("SELECT COUNT(*) FROM log_message") == [(1,)]


def test_a_running_job_is_reported_and_its_end_releases_no_stopped_job(hive: PracticeHive) -> None:
    root_id = submit_job(hive)
    run_root_jobs(hive)
    first, funnel = find_child(hive, root_id, "_part"), find_child(hive, root_id, "_merge")
    hive.execute("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=first)
    hive.execute("UPDATE analysis_stats SET ready_job_count = 1 WHERE ready_job_count = 2")
    change = stop_jobs(hive, root_id)
    assert (set(change.changed_ids), change.running_ids) == ({first + 1, funnel}, [first])
    assert (load_status(hive, first), read_state(hive, root_id)) == ("RUN", JobState.RUNNING)
    hive.execute("UPDATE job SET status = 'READY' WHERE job_id = :id", id=first)
    hive.execute("UPDATE analysis_stats SET status = 'LOADING'")
    hive.run_jobs()  # A worker finishes the job.
    assert (load_status(hive, first), load_status(hive, funnel)) == ("DONE", "DONE")
    assert hive.fetch_rows("SELECT local_jobs_counter FROM semaphore") == [(1,)]
    assert read_outcome(hive, root_id).state is JobState.STOPPED


@pytest.mark.parametrize("done", [0, 1, 2, 3])
@pytest.mark.parametrize("triggers", [False, True])
def test_a_reset_undoes_a_stop(make_hive: MakeHive, triggers: bool, done: int) -> None:
    hive = make_hive("mysql" if done < 2 else "sqlite", triggers=triggers)
    root_id = submit_job(hive, after_funnel=True)
    with Worker(hive.url) as worker:
        for _ in range(done):
            worker.run_one_job()
    stopped = stop_jobs(hive, root_id).changed_ids
    assert read_outcome(hive, root_id).state is JobState.STOPPED
    assert sorted(HiveHook(hive.conn_id).reset_jobs({root_id: None}).changed_ids) == sorted(stopped)
    assert load_counters(hive) == count_jobs(hive)
    hive.run_jobs()
    assert read_outcome(hive, root_id).state is JobState.COMPLETE
    assert read_outcome(hive, root_id).result["pieces"] == ["homo_sapiens.part1", "homo_sapiens.part2"]
    assert HiveHook(hive.conn_id).reset_jobs({root_id: None}).changed_ids == []


def test_a_tree_stopped_while_it_is_polled_has_the_state_stopped(hive: PracticeHive) -> None:
    root_id = submit_job(hive)
    with open_reader(hive) as reader:
        run_root_jobs(hive)
        assert reader.read_changes((), {root_id: None}).outcomes == []
        stop_jobs(hive, root_id)
        assert reader.read_changes((), {root_id: None}).outcomes[0].state is JobState.STOPPED


def test_a_stop_finds_pending_jobs_below_a_running_job(hive: PracticeHive) -> None:
    root_id = hive.add_job(status="DONE")
    running_id = hive.add_job(prev_job_id=root_id, status="RUN")
    pending_id = hive.add_job(prev_job_id=running_id, status="READY")
    child_id = hive.add_job(prev_job_id=pending_id, status="SEMAPHORED")
    assert stop_jobs(hive, root_id) == ControlResult([pending_id, child_id], [running_id])


def test_a_funnel_released_during_the_stop_is_stopped(make_hive: MakeHive) -> None:
    """The funnel is SEMAPHORED when the stop reads the tree, and READY when the stop updates it."""
    hive = make_hive("mysql")
    root_id = submit_job(hive, parts=1)
    run_root_jobs(hive)
    part, funnel = find_child(hive, root_id, "_part"), find_child(hive, root_id, "_merge")
    hive.execute("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=part)
    other = create_engine(hive.engine.url, isolation_level="READ COMMITTED", poolclass=NullPool)

    def release(*arguments: Any) -> None:
        if arguments[2].startswith("UPDATE job") and load_status(hive, funnel) == "SEMAPHORED":
            hive.complete_jobs("job_id = :id", id=part)
            hive.execute("UPDATE job SET status = 'READY' WHERE job_id = :id", id=funnel)

    event.listen(other, "before_cursor_execute", release)
    with other.begin() as connection:
        change = control.stop_jobs(connection, {root_id: None})
    assert change == ControlResult([funnel], [])
    assert read_outcome(hive, root_id).state is JobState.STOPPED


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_job_is_either_claimed_or_stopped(make_hive: MakeHive, server: str) -> None:
    hive = make_hive(server)
    root_ids = [submit_job(hive, token=str(number), parts=0, no_result=True) for number in range(24)]
    halt = threading.Event()
    with ThreadPoolExecutor(5) as pool:
        worker_run = pool.submit(Worker(hive.url, threads=2, poll_interval=0.005).run, halt)
        changes = list(pool.map(lambda root_id: stop_jobs(hive, root_id), root_ids))
        halt.set()
        worker_run.result()
    hive.execute("UPDATE analysis_stats SET status = 'LOADING'")
    hive.run_jobs()
    stopped = [job_id for change in changes for job_id in change.changed_ids]
    ran = {job_id for (job_id,) in hive.fetch_rows("SELECT job_id FROM job WHERE when_completed IS NOT NULL")}
    assert len(stopped) == len(set(stopped))
    assert ran.isdisjoint(stopped)
    assert ran | set(stopped) == {job_id for (job_id,) in hive.fetch_rows("SELECT job_id FROM job")}
    assert load_counters(hive) == count_jobs(hive)


def test_stop_and_reset_delete_nothing(hive: PracticeHive) -> None:
    root_id = submit_job(hive, fail="child")
    hive.run_jobs()
    with record_statements() as statements:
        HiveHook(hive.conn_id).reset_jobs({root_id: None})
        stop_jobs(hive, root_id)
    assert statements
    assert not any("DELETE" in statement.upper() for statement in statements)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(4,)]


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_deleted_job_is_missing_although_its_result_exists(make_hive: MakeHive, server: str) -> None:
    hive = make_hive(server)
    root_id = submit_job(hive)
    hive.run_jobs()
    hive.execute("DELETE FROM job WHERE job_id = :id", id=root_id)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(0 if server == "mysql" else 3,)]
    missing = read_outcome(hive, root_id)
    assert (missing.state, missing.result["genome"]) == (JobState.MISSING, "homo_sapiens")
    assert (
        stop_jobs(hive, root_id)
        == HiveHook(hive.conn_id).reset_jobs({root_id: None})
        == ControlResult([], [])
    )
