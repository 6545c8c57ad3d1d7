"""Stopping and manual resets of jobs that another tree needs, or that ran later."""

from __future__ import annotations

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.control import Change
from event_hooks.hive.sql.job_trees import State
from tests.integration.hive.conftest import (
    MakeHive,
    child,
    outcome,
    status,
    submitted,
    visiting,
    work_on_entries,
)
from tests.integration.hives import PracticeHive


def test_stopping_leaves_jobs_that_another_tree_waits_for(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    one, other = (hive.add_job(status="DONE") for _ in range(2))
    funnel = hive.add_job(prev_job_id=one, status="SEMAPHORED", analysis_id=3)
    hive.add_semaphore(9, dependent_job_id=funnel)
    fan = hive.add_job(prev_job_id=other, analysis_id=2, controlled_semaphore_id=9)
    own = hive.add_job(prev_job_id=other, analysis_id=2)
    assert HiveHook(hive.conn_id).stop([other]) == Change([own], [fan])
    assert (status(hive, fan), status(hive, funnel)) == ("READY", "SEMAPHORED")


def test_a_stopped_job_that_ran_later_is_complete(hive: PracticeHive) -> None:
    """A person has stopped it, and then taken eHive's own way to let it run."""
    hook = HiveHook(hive.conn_id)
    entry = submitted(hive)
    hook.stop([entry])
    hive.change("UPDATE job SET status = 'READY'")
    hive.change("UPDATE analysis_stats SET status = 'LOADING', ready_job_count = 1")
    hive.work()
    assert outcome(hive, entry).state is State.COMPLETE
    assert hook.reset([entry]) == Change([], [])


def test_stopping_removes_the_time_of_completion(hive: PracticeHive) -> None:
    """It was done once, then reset by a person, then stopped: the old time would say that it ran."""
    entry = submitted(hive, parts=0, no_result=True)
    hive.work()
    hive.change("UPDATE job SET status = 'READY' WHERE job_id = :id", id=entry)
    HiveHook(hive.conn_id).stop([entry])
    assert outcome(hive, entry).state is State.STOPPED


def test_a_done_job_that_is_reset_manually_is_polled_to_its_end(hive: PracticeHive) -> None:
    entry = submitted(hive)
    work_on_entries(hive)
    with visiting(hive) as visitor:
        visitor.look((), [entry])
        hive.change("UPDATE job SET status = 'DONE' WHERE status = 'READY'")
        visitor.look((), [entry])
        hive.change("UPDATE job SET status = 'READY' WHERE job_id = :id", id=child(hive, entry, "_part"))
        hive.change("UPDATE job SET status = 'DONE' WHERE status = 'SEMAPHORED'")
        assert visitor.look((), [entry]).outcomes == []
        hive.change("UPDATE job SET status = 'DONE'")
        assert [ended.state for ended in visitor.look((), [entry]).outcomes] == [State.COMPLETE]
