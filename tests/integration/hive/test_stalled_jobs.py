"""Running jobs without a live worker, and semaphored jobs that no job will release."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from event_hooks.hive.sql.diagnosis import Stall
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    MakeHive,
    open_reader,
    read_outcome,
    read_state,
    run_root_jobs,
    submit_job,
)
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker

LONG_AGO = "2001-01-01 00:00:00"


def find_stalls(hive: PracticeHive, *root_ids: int) -> list[Stall]:
    """Return the stalls of jobs whose trees have not changed for the minimum wait."""
    with open_reader(hive) as reader:
        reader.read_changes((), dict.fromkeys(root_ids))
        return reader.find_stalls(dict.fromkeys(root_ids, (0.0, 3600.0)), 0).stalls


def add_running_job(hive: PracticeHive, *, when_finished: str | None = None, **worker: Any) -> int:
    """Insert a live beekeeper, its worker, the role of the worker, and a job in RUN; return the job id."""
    hive.execute(
        "INSERT INTO beekeeper (meadow_host, meadow_user, process_id, loop_until)"
        " VALUES ('host', 'me', '1', 'FOREVER')"
    )
    values = {"worker_id": 1, "meadow_type": "LOCAL", "meadow_name": "x", "meadow_host": "node7"}
    values |= {"process_id": "99"} | worker
    names = ", ".join(values)
    hive.execute(
        f"INSERT INTO worker ({names}, when_born) VALUES ({', '.join(f':{name}' for name in values)},"
        f" '{LONG_AGO}')",
        **values,
    )
    role = "INSERT INTO role (role_id, worker_id, analysis_id, when_finished) VALUES (1, 1, 1, :finished)"
    hive.execute(role, finished=when_finished)
    return hive.add_job(status="RUN", role_id=1)


def add_semaphored_funnel(
    hive: PracticeHive, counter: int, *fan: str, elsewhere: bool = False
) -> tuple[int, int]:
    """Insert a root job with a SEMAPHORED funnel, and fan jobs that hold it back; return both ids."""
    root_id = hive.add_job(status="DONE")
    funnel = hive.add_job(prev_job_id=root_id, status="SEMAPHORED", analysis_id=4)
    hive.add_semaphore(9, dependent_job_id=funnel)
    hive.execute("UPDATE semaphore SET local_jobs_counter = :counter", counter=counter)
    parent = hive.add_job(status="DONE") if elsewhere else root_id
    for name in fan:
        hive.add_job(prev_job_id=parent, status=name, controlled_semaphore_id=9)
    return root_id, funnel


@pytest.mark.parametrize("sign", ["when_checked_in", "when_seen"])
def test_a_running_job_of_a_worker_seen_recently_is_not_stalled(hive: PracticeHive, sign: str) -> None:
    root_id = add_running_job(hive, status="RUN")
    hive.execute(f"UPDATE worker SET {sign} = CURRENT_TIMESTAMP")
    assert find_stalls(hive, root_id) == []


def test_a_running_job_of_a_worker_not_seen_for_long_is_stalled(hive: PracticeHive) -> None:
    root_id = add_running_job(hive, status="RUN", when_checked_in=LONG_AGO)
    (stall,) = find_stalls(hive, root_id)
    assert stall.kind == "worker_lost"
    assert "its worker 1 on node7 (process 99) has not been seen for" in stall.reason


def test_a_running_job_of_a_dead_worker_is_stalled(hive: PracticeHive) -> None:
    root_id = add_running_job(hive, status="DEAD", cause_of_death="KILLED_BY_USER")
    (stall,) = find_stalls(hive, root_id)
    assert stall.reason == "in RUN, and its worker 1 on node7 (process 99) is gone: KILLED_BY_USER"
    assert stall.advice == f"beekeeper.pl -url <URL of connection {hive.conn_id}> -dead"


def test_a_restarted_practice_hive_does_the_jobs_of_its_killed_workers_again(
    hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    root_id = add_running_job(hive, status="RUN")
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    with Worker(hive.url) as worker:
        worker.release_lost_jobs()
    statement = "SELECT status, retry_count FROM job WHERE job_id = :id"
    assert hive.fetch_rows(statement, id=root_id) == [("READY", 1)]


def test_a_restarted_practice_hive_balances_the_semaphores_of_a_killed_worker(hive: PracticeHive) -> None:
    """The worker was killed between the end of the last job and the decrement of the semaphore."""
    funnel = hive.add_job(status="SEMAPHORED")
    hive.execute("INSERT INTO semaphore (local_jobs_counter, dependent_job_id) VALUES (1, :id)", id=funnel)
    hive.add_job(status="DONE")
    semaphore_id = "(SELECT MAX(semaphore_id) FROM semaphore)"
    hive.execute(f"UPDATE job SET controlled_semaphore_id = {semaphore_id} WHERE job_id <> :id", id=funnel)
    with Worker(hive.url) as worker:
        assert worker.run_until_idle() == []
        worker.release_lost_jobs()
        (attempt, *_) = worker.run_until_idle()
    assert attempt.job_id == funnel


def test_a_running_job_of_a_finished_role_is_stalled(hive: PracticeHive) -> None:
    root_id = add_running_job(hive, status="RUN", when_finished=LONG_AGO)
    (stall,) = find_stalls(hive, root_id)
    assert stall.reason.endswith("is gone: it left its role")


def test_a_running_job_without_a_role_is_stalled(hive: PracticeHive) -> None:
    (stall,) = find_stalls(hive, hive.add_job(status="RUN"))
    assert (stall.kind, stall.reason) == ("worker_lost", "in RUN, and no worker has it")


@pytest.mark.parametrize("change", ["cause_of_death = 'DISAPPEARED'", "is_blocked = 1"])
def test_a_running_job_is_stalled_without_a_live_beekeeper_and_a_recent_sign_of_its_worker(
    hive: PracticeHive, change: str
) -> None:
    root_id = add_running_job(hive, status="RUN")
    hive.execute(f"UPDATE beekeeper SET {change}")
    hive.execute("UPDATE worker SET when_seen = CURRENT_TIMESTAMP")
    assert find_stalls(hive, root_id) == []
    long_ago = "'2020-01-01 00:00:00'"
    hive.execute(
        f"UPDATE worker SET when_born = {long_ago}, when_checked_in = {long_ago}, when_seen = {long_ago}"
    )
    (stall,) = find_stalls(hive, root_id)
    assert "so the end of its worker 1 on node7" in stall.reason


def test_a_job_that_finished_after_the_poll_is_not_stalled(hive: PracticeHive) -> None:
    root_id = add_running_job(hive, status="DEAD")
    with open_reader(hive) as reader:
        reader.read_changes((), {root_id: None})
        hive.complete_jobs()
        assert reader.find_stalls({root_id: (0.0, 3600.0)}, 0).stalls == []


def test_a_funnel_with_a_running_fan_job_is_not_stalled(hive: PracticeHive) -> None:
    add_running_job(
        hive, status="RUN", when_checked_in="2999-01-01 00:00:00" if "sqlite" in hive.url else None
    )
    hive.execute("UPDATE worker SET when_seen = CURRENT_TIMESTAMP")
    root_id, _ = add_semaphored_funnel(hive, 2, "DONE", "RUN")
    hive.execute("UPDATE job SET role_id = 1 WHERE status = 'RUN'")
    assert find_stalls(hive, root_id) == []


@pytest.mark.parametrize("counter", [0, 1, 2])
def test_a_semaphored_funnel_whose_fan_has_finished_is_stalled(hive: PracticeHive, counter: int) -> None:
    root_id, funnel = add_semaphored_funnel(hive, counter, "DONE", "PASSED_ON")
    assert read_state(hive, root_id) is JobState.RUNNING
    (stall,) = find_stalls(hive, root_id)
    assert (stall.kind, stall.job_ids) == ("semaphore", (funnel,))
    assert stall.reason.endswith(f"the jobs that held it back have finished (counter {counter})")
    assert stall.advice.endswith(" -balance_semaphores")


def test_a_semaphored_job_without_a_semaphore_is_stalled(hive: PracticeHive) -> None:
    root_id = hive.add_job(status="DONE")
    funnel = hive.add_job(prev_job_id=root_id, status="SEMAPHORED")
    (stall,) = find_stalls(hive, root_id)
    assert "no semaphore holds it back, so no job will release it" in stall.reason
    assert stall.advice.endswith(f" -reset_job_id {funnel}")


def test_a_funnel_behind_a_failed_job_of_another_tree_is_stalled(hive: PracticeHive) -> None:
    root_id, funnel = add_semaphored_funnel(hive, 1, "DONE", "FAILED", elsewhere=True)
    (stall,) = find_stalls(hive, root_id)
    assert "SEMAPHORED behind 1 FAILED jobs of another tree" in stall.reason
    assert (stall.job_ids, stall.advice.split()[-2]) == ((funnel,), "-reset_job_id")


@pytest.mark.parametrize("name", ["READY", "RUN", "SEMAPHORED"])
def test_a_funnel_behind_an_unfinished_job_of_another_tree_is_not_stalled(
    hive: PracticeHive, name: str
) -> None:
    root_id, _ = add_semaphored_funnel(hive, 1, name, elsewhere=True)
    assert find_stalls(hive, root_id) == []


def test_a_funnel_behind_another_database_is_not_stalled(hive: PracticeHive) -> None:
    root_id, _ = add_semaphored_funnel(hive, 0, "DONE")
    hive.execute("UPDATE semaphore SET remote_jobs_counter = 1")
    assert find_stalls(hive, root_id) == []


def test_a_stalled_shared_funnel_is_reported_for_every_tree(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    first_id, second_id = (submit_job(hive, token=token, shared="all", fail="child") for token in "ab")
    run_root_jobs(hive)
    hive.run_jobs()
    assert read_outcome(hive, first_id).state is JobState.FAILED
    assert find_stalls(hive, second_id)[0].root_ids == (second_id,)
    hive.complete_jobs("status = 'FAILED'")
    (stall,) = find_stalls(hive, first_id, second_id)
    assert stall.root_ids == (first_id, second_id)


def test_each_command_names_the_connection_instead_of_the_url(hive: PracticeHive) -> None:
    root_id, _ = add_semaphored_funnel(hive, 0, "DONE")
    stalls = find_stalls(hive, root_id, submit_job(hive), hive.add_job(status="RUN"))
    assert {stall.kind for stall in stalls} == {"semaphore", "no_beekeeper", "worker_lost"}
    for stall in stalls:
        assert stall.advice.startswith(f"beekeeper.pl -url <URL of connection {hive.conn_id}> -")
