"""Running jobs without a live worker, and semaphored jobs that no job will release."""

from __future__ import annotations

from typing import Any

import pytest

from event_hooks.hive.sql.diagnosis import Stall
from event_hooks.hive.sql.job_trees import State
from tests.integration.hive.conftest import MakeHive, outcome, state, submitted, visiting, work_on_entries
from tests.integration.hives import PracticeHive

LONG_AGO = "2001-01-01 00:00:00"


def stalls(hive: PracticeHive, *entries: int) -> list[Stall]:
    """Give what holds up jobs whose trees have not changed for as long as it takes to be asked."""
    with visiting(hive) as visitor:
        visitor.look((), entries)
        return visitor.diagnose(dict.fromkeys(entries, (0.0, 3600.0)), 0).stalls


def add_running(hive: PracticeHive, *, when_finished: str | None = None, **worker: Any) -> int:
    """Insert a live beekeeper, its worker, the worker's role, and a job that it has in RUN."""
    hive.change(
        "INSERT INTO beekeeper (meadow_host, meadow_user, process_id, loop_until)"
        " VALUES ('host', 'me', '1', 'FOREVER')"
    )
    values = {"worker_id": 1, "meadow_type": "LOCAL", "meadow_name": "x", "meadow_host": "node7"}
    values |= {"process_id": "99"} | worker
    names = ", ".join(values)
    hive.change(
        f"INSERT INTO worker ({names}, when_born) VALUES ({', '.join(f':{name}' for name in values)},"
        f" '{LONG_AGO}')",
        **values,
    )
    role = "INSERT INTO role (role_id, worker_id, analysis_id, when_finished) VALUES (1, 1, 1, :finished)"
    hive.change(role, finished=when_finished)
    return hive.add_job(status="RUN", role_id=1)


def add_held_back(hive: PracticeHive, counter: int, *fan: str, elsewhere: bool = False) -> tuple[int, int]:
    """Insert an entry with a SEMAPHORED funnel, and the jobs that hold it back; gives both."""
    entry = hive.add_job(status="DONE")
    funnel = hive.add_job(prev_job_id=entry, status="SEMAPHORED", analysis_id=4)
    hive.add_semaphore(9, dependent_job_id=funnel)
    hive.change("UPDATE semaphore SET local_jobs_counter = :counter", counter=counter)
    parent = hive.add_job(status="DONE") if elsewhere else entry
    for name in fan:
        hive.add_job(prev_job_id=parent, status=name, controlled_semaphore_id=9)
    return entry, funnel


@pytest.mark.parametrize("sign", ["when_checked_in", "when_seen"])
def test_a_running_job_of_a_worker_seen_recently_is_not_stalled(hive: PracticeHive, sign: str) -> None:
    entry = add_running(hive, status="RUN")
    hive.change(f"UPDATE worker SET {sign} = CURRENT_TIMESTAMP")
    assert stalls(hive, entry) == []


def test_a_running_job_of_a_worker_not_seen_for_long_is_stalled(hive: PracticeHive) -> None:
    entry = add_running(hive, status="RUN", when_checked_in=LONG_AGO)
    (found,) = stalls(hive, entry)
    assert found.kind == "worker_lost"
    assert "its worker 1 on node7 (process 99) has given no sign for" in found.reason


def test_a_running_job_of_a_dead_worker_is_stalled(hive: PracticeHive) -> None:
    entry = add_running(hive, status="DEAD", cause_of_death="KILLED_BY_USER")
    (found,) = stalls(hive, entry)
    assert found.reason == "in RUN, and its worker 1 on node7 (process 99) is gone: KILLED_BY_USER"
    assert found.advice.startswith("beekeeper.pl -url ")
    assert found.advice.endswith(" -dead")


def test_a_running_job_of_a_finished_role_is_stalled(hive: PracticeHive) -> None:
    entry = add_running(hive, status="RUN", when_finished=LONG_AGO)
    (found,) = stalls(hive, entry)
    assert found.reason.endswith("is gone: it left its role")


def test_a_running_job_without_a_role_is_stalled(hive: PracticeHive) -> None:
    (found,) = stalls(hive, hive.add_job(status="RUN"))
    assert (found.kind, found.reason) == ("worker_lost", "in RUN, and no worker has it")


def test_a_running_job_is_stalled_without_a_live_beekeeper_and_a_recent_sign_of_its_worker(
    hive: PracticeHive,
) -> None:
    entry = add_running(hive, status="RUN")
    hive.change("UPDATE beekeeper SET cause_of_death = 'DISAPPEARED'")
    hive.change("UPDATE worker SET when_seen = CURRENT_TIMESTAMP")
    assert stalls(hive, entry) == []
    long_ago = "'2020-01-01 00:00:00'"
    hive.change(
        f"UPDATE worker SET when_born = {long_ago}, when_checked_in = {long_ago}, when_seen = {long_ago}"
    )
    (found,) = stalls(hive, entry)
    assert "nobody would notice the end of its worker 1 on node7" in found.reason


def test_a_job_that_finished_after_the_poll_is_not_stalled(hive: PracticeHive) -> None:
    entry = add_running(hive, status="DEAD")
    with visiting(hive) as visitor:
        visitor.look((), [entry])
        hive.change("UPDATE job SET status = 'DONE'")
        assert visitor.diagnose({entry: (0.0, 3600.0)}, 0).stalls == []


def test_a_funnel_with_a_running_fan_job_is_not_stalled(hive: PracticeHive) -> None:
    add_running(hive, status="RUN", when_checked_in="2999-01-01 00:00:00" if "sqlite" in hive.url else None)
    hive.change("UPDATE worker SET when_seen = CURRENT_TIMESTAMP")
    entry, _ = add_held_back(hive, 2, "DONE", "RUN")
    hive.change("UPDATE job SET role_id = 1 WHERE status = 'RUN'")
    assert stalls(hive, entry) == []


@pytest.mark.parametrize("counter", [0, 1, 2])
def test_a_semaphored_funnel_whose_fan_has_finished_is_stalled(hive: PracticeHive, counter: int) -> None:
    entry, funnel = add_held_back(hive, counter, "DONE", "PASSED_ON")
    assert state(hive, entry) is State.RUNNING
    (found,) = stalls(hive, entry)
    assert (found.kind, found.jobs) == ("semaphore", (funnel,))
    assert found.reason.endswith(f"the jobs that held it back are over (counter {counter})")
    assert found.advice.endswith(" -balance_semaphores")


def test_a_semaphored_job_without_a_semaphore_is_stalled(hive: PracticeHive) -> None:
    entry = hive.add_job(status="DONE")
    funnel = hive.add_job(prev_job_id=entry, status="SEMAPHORED")
    (found,) = stalls(hive, entry)
    assert "no semaphore holds it back, so none will release it" in found.reason
    assert found.advice.endswith(f" -reset_job_id {funnel}")


def test_a_funnel_behind_a_failed_job_of_another_tree_is_stalled(hive: PracticeHive) -> None:
    entry, funnel = add_held_back(hive, 1, "DONE", "FAILED", elsewhere=True)
    (found,) = stalls(hive, entry)
    assert "SEMAPHORED behind 1 FAILED jobs of another tree" in found.reason
    assert (found.jobs, found.advice.split()[-2]) == ((funnel,), "-reset_job_id")


@pytest.mark.parametrize("name", ["READY", "RUN", "SEMAPHORED"])
def test_a_funnel_behind_an_unfinished_job_of_another_tree_is_not_stalled(
    hive: PracticeHive, name: str
) -> None:
    entry, _ = add_held_back(hive, 1, name, elsewhere=True)
    assert stalls(hive, entry) == []


def test_a_funnel_behind_another_database_is_not_stalled(hive: PracticeHive) -> None:
    entry, _ = add_held_back(hive, 0, "DONE")
    hive.change("UPDATE semaphore SET remote_jobs_counter = 1")
    assert stalls(hive, entry) == []


def test_a_stalled_shared_funnel_is_reported_for_every_tree(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    one, other = (submitted(hive, token=token, shared="all", fail="child") for token in "ab")
    work_on_entries(hive)
    hive.work()
    assert outcome(hive, one).state is State.FAILED
    assert stalls(hive, other)[0].entries == (other,)
    hive.change("UPDATE job SET status = 'DONE' WHERE status = 'FAILED'")
    (found,) = stalls(hive, one, other)
    assert found.entries == (one, other)


def test_no_report_of_stalled_jobs_shows_a_password(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    password = hive.url.split("@")[0].rpartition(":")[2]
    entry, _ = add_held_back(hive, 0, "DONE")
    told = [str(stall) for stall in stalls(hive, entry, submitted(hive), hive.add_job(status="RUN"))]
    assert len(told) == 3
    assert not any(password in text for text in told)
    assert all("root:***@" in text for text in told)
