"""Stopping pending jobs; no job is ever deleted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, event

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql import control
from event_hooks.hive.sql.control import Change
from event_hooks.hive.sql.job_trees import State
from tests.integration.hive.conftest import (
    PAIRWISE_VARIANTS,
    MakeHive,
    child,
    counters,
    outcome,
    recorded,
    recount,
    state,
    status,
    submitted,
    visiting,
    work_on_entries,
)
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker


def stop(hive: PracticeHive, *entries: int) -> Change:
    return HiveHook(hive.conn_id).stop(entries)


# The UPDATE of a stop is the same for all columns, and its counters depend on triggers only.
@pytest.mark.parametrize(("server", "variant", "triggers"), PAIRWISE_VARIANTS)
def test_stopping_sets_pending_jobs_to_done_and_they_never_run(
    make_hive: MakeHive, server: str, variant: str, triggers: bool
) -> None:
    hive = make_hive(server, variant=variant, triggers=triggers)
    entry = submitted(hive)
    work_on_entries(hive)
    change = stop(hive, entry)
    assert (len(change.jobs), change.running) == (3, [])
    assert hive.rows("SELECT status FROM job") == [("DONE",)] * 4
    assert hive.rows("SELECT local_jobs_counter FROM semaphore") == [(2,)]
    assert counters(hive) == recount(hive)
    hive.work()
    assert hive.rows("SELECT COUNT(*) FROM result") == [(0,)]
    stopped = outcome(hive, entry)
    assert stopped.state is State.STOPPED
    assert "stopped by a person: 3 of its jobs never ran" in str(stopped.error)


def test_an_unclaimed_job_is_stopped(hive: PracticeHive) -> None:
    entry = submitted(hive)
    assert stop(hive, entry) == Change([entry], [])
    assert outcome(hive, entry).state is State.STOPPED
    assert hive.rows("SELECT message_class, msg FROM log_message") == [
        ("INFO", "Event hooks stopped this job (it was READY): a person asked for it")
    ]


def test_stopping_is_idempotent(hive: PracticeHive) -> None:
    entry = submitted(hive)
    stop(hive, entry)
    assert stop(hive, entry) == Change([], [])
    assert counters(hive) == recount(hive)
    assert hive.rows("SELECT COUNT(*) FROM log_message") == [(1,)]


def test_a_running_job_is_reported_and_its_end_releases_no_stopped_job(hive: PracticeHive) -> None:
    entry = submitted(hive)
    work_on_entries(hive)
    first, funnel = child(hive, entry, "_part"), child(hive, entry, "_merge")
    hive.change("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=first)
    hive.change("UPDATE analysis_stats SET ready_job_count = 1 WHERE ready_job_count = 2")
    change = stop(hive, entry)
    assert (set(change.jobs), change.running) == ({first + 1, funnel}, [first])
    assert (status(hive, first), state(hive, entry)) == ("RUN", State.RUNNING)
    hive.change("UPDATE job SET status = 'READY' WHERE job_id = :id", id=first)
    hive.change("UPDATE analysis_stats SET status = 'LOADING'")
    hive.work()  # its worker ends it
    assert (status(hive, first), status(hive, funnel)) == ("DONE", "DONE")
    assert hive.rows("SELECT local_jobs_counter FROM semaphore") == [(1,)]
    assert outcome(hive, entry).state is State.STOPPED


@pytest.mark.parametrize("done", [0, 1, 2, 3])
@pytest.mark.parametrize("triggers", [False, True])
def test_a_reset_undoes_a_stop(make_hive: MakeHive, triggers: bool, done: int) -> None:
    hive = make_hive("mysql" if done < 2 else "sqlite", triggers=triggers)
    entry = submitted(hive, after_funnel=True)
    with Worker(hive.url) as worker:
        for _ in range(done):
            worker.work_one()
    stopped = stop(hive, entry).jobs
    assert outcome(hive, entry).state is State.STOPPED
    assert sorted(HiveHook(hive.conn_id).reset([entry]).jobs) == sorted(stopped)
    assert counters(hive) == recount(hive)
    hive.work()
    assert outcome(hive, entry).state is State.COMPLETE
    assert outcome(hive, entry).result["pieces"] == ["homo_sapiens.part1", "homo_sapiens.part2"]
    assert HiveHook(hive.conn_id).reset([entry]).jobs == []


def test_a_tree_stopped_while_it_is_polled_has_the_state_stopped(hive: PracticeHive) -> None:
    entry = submitted(hive)
    with visiting(hive) as visitor:
        work_on_entries(hive)
        assert visitor.look((), [entry]).outcomes == []
        stop(hive, entry)
        assert visitor.look((), [entry]).outcomes[0].state is State.STOPPED


def test_a_stop_finds_pending_jobs_below_a_running_job(hive: PracticeHive) -> None:
    entry = hive.add_job(status="DONE")
    working = hive.add_job(prev_job_id=entry, status="RUN")
    waiting = hive.add_job(prev_job_id=working, status="READY")
    below = hive.add_job(prev_job_id=waiting, status="SEMAPHORED")
    assert stop(hive, entry) == Change([waiting, below], [working])


def test_a_funnel_released_during_the_stop_is_stopped(make_hive: MakeHive) -> None:
    """It was SEMAPHORED when the tree was read, and is READY when its turn comes."""
    hive = make_hive("mysql")
    entry = submitted(hive, parts=1)
    work_on_entries(hive)
    part, funnel = child(hive, entry, "_part"), child(hive, entry, "_merge")
    hive.change("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=part)
    other = create_engine(hive.engine.url, isolation_level="READ COMMITTED", poolclass=NullPool)

    def release(*given: Any) -> None:
        if given[2].startswith("UPDATE job") and status(hive, funnel) == "SEMAPHORED":
            hive.change("UPDATE job SET status = 'DONE' WHERE job_id = :id", id=part)
            hive.change("UPDATE job SET status = 'READY' WHERE job_id = :id", id=funnel)

    event.listen(other, "before_cursor_execute", release)
    with other.begin() as connection:
        change = control.stop(connection, [entry])
    assert change == Change([funnel], [])
    assert outcome(hive, entry).state is State.STOPPED


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_job_is_either_claimed_or_stopped(make_hive: MakeHive, server: str) -> None:
    hive = make_hive(server)
    entries = [submitted(hive, token=str(number), parts=0, no_result=True) for number in range(24)]
    halt = threading.Event()
    with ThreadPoolExecutor(5) as pool:
        working = pool.submit(Worker(hive.url, threads=2, poll_interval=0.005).run, halt)
        changes = list(pool.map(lambda entry: stop(hive, entry), entries))
        halt.set()
        working.result()
    hive.change("UPDATE analysis_stats SET status = 'LOADING'")
    hive.work()
    stopped = [job_id for change in changes for job_id in change.jobs]
    ran = {job_id for (job_id,) in hive.rows("SELECT job_id FROM job WHERE when_completed IS NOT NULL")}
    assert len(stopped) == len(set(stopped))
    assert ran.isdisjoint(stopped)
    assert ran | set(stopped) == {job_id for (job_id,) in hive.rows("SELECT job_id FROM job")}
    assert counters(hive) == recount(hive)


def test_stop_and_reset_delete_nothing(hive: PracticeHive) -> None:
    entry = submitted(hive, fail="child")
    hive.work()
    with recorded() as statements:
        HiveHook(hive.conn_id).reset([entry])
        stop(hive, entry)
    assert statements
    assert not any("DELETE" in statement.upper() for statement in statements)
    assert hive.rows("SELECT COUNT(*) FROM job") == [(4,)]


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_deleted_job_is_missing_although_its_result_exists(make_hive: MakeHive, server: str) -> None:
    hive = make_hive(server)
    entry = submitted(hive)
    hive.work()
    hive.change("DELETE FROM job WHERE job_id = :id", id=entry)
    assert hive.rows("SELECT COUNT(*) FROM job") == [(0 if server == "mysql" else 3,)]
    gone = outcome(hive, entry)
    assert (gone.state, gone.result["genome"]) == (State.MISSING, "homo_sapiens")
    assert stop(hive, entry) == HiveHook(hive.conn_id).reset([entry]) == Change([], [])
