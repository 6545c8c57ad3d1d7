"""Stopping and manual resets of jobs that another tree needs, or that ran later."""

from __future__ import annotations

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.control import ControlResult
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    MakeHive,
    find_child,
    load_status,
    open_reader,
    read_outcome,
    run_root_jobs,
    submit_job,
)
from tests.integration.hives import PracticeHive


def test_stopping_leaves_jobs_that_another_tree_waits_for(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    first_id, second_id = (hive.add_job(status="DONE") for _ in range(2))
    funnel = hive.add_job(prev_job_id=first_id, status="SEMAPHORED", analysis_id=3)
    hive.add_semaphore(9, dependent_job_id=funnel)
    fan = hive.add_job(prev_job_id=second_id, analysis_id=2, controlled_semaphore_id=9)
    own = hive.add_job(prev_job_id=second_id, analysis_id=2)
    assert HiveHook(hive.conn_id).stop_jobs({second_id: None}) == ControlResult([own], [fan])
    assert (load_status(hive, fan), load_status(hive, funnel)) == ("READY", "SEMAPHORED")


def test_a_stopped_job_that_ran_later_is_complete(hive: PracticeHive) -> None:
    """A user has stopped the job, and then reset it with a command of eHive."""
    hook = HiveHook(hive.conn_id)
    root_id = submit_job(hive)
    hook.stop_jobs({root_id: None})
    hive.execute("UPDATE job SET status = 'READY'")
    hive.execute("UPDATE analysis_stats SET status = 'LOADING', ready_job_count = 1")
    hive.run_jobs()
    assert read_outcome(hive, root_id).state is JobState.COMPLETE
    assert hook.reset_jobs({root_id: None}) == ControlResult([], [])


def test_stopping_removes_the_time_of_completion(hive: PracticeHive) -> None:
    """A user reset the finished job, then it was stopped: the old time would mean that it ran."""
    root_id = submit_job(hive, parts=0, no_result=True)
    hive.run_jobs()
    hive.execute("UPDATE job SET status = 'READY' WHERE job_id = :id", id=root_id)
    HiveHook(hive.conn_id).stop_jobs({root_id: None})
    assert read_outcome(hive, root_id).state is JobState.STOPPED


def test_a_done_job_that_is_reset_manually_is_polled_to_its_end(hive: PracticeHive) -> None:
    root_id = submit_job(hive)
    run_root_jobs(hive)
    with open_reader(hive) as reader:
        reader.read_changes((), {root_id: None})
        hive.complete_jobs("status = 'READY'")
        reader.read_changes((), {root_id: None})
        hive.execute(
            "UPDATE job SET status = 'READY' WHERE job_id = :id", id=find_child(hive, root_id, "_part")
        )
        hive.complete_jobs("status = 'SEMAPHORED'")
        assert reader.read_changes((), {root_id: None}).outcomes == []
        hive.complete_jobs()
        (final,) = reader.read_changes((), {root_id: None}).outcomes
        assert final.state is JobState.COMPLETE
