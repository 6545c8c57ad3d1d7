"""Submitting jobs so that a beekeeper finds them, and the errors of hives that reject them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from event_hooks.exceptions import AnalysisNotFound, HiveRejected, HiveUnreachable
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import HiveReader
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    ALL_VARIANTS,
    MakeHive,
    build_inputs,
    count_jobs,
    load_counters,
    read_outcome,
    read_state,
    submit_job,
)
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker


# Triggers, columns and server each change what a submission does, so its tests take all their combinations.
@pytest.mark.parametrize(("server", "variant", "triggers"), ALL_VARIANTS)
def test_submitted_jobs_are_counted_claimed_and_done(
    make_hive: MakeHive, server: str, variant: str, triggers: bool
) -> None:
    hive = make_hive(server, variant=variant, triggers=triggers)
    job_ids = HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(3))
    assert hive.fetch_stats() == ("LOADING", 3, 3)
    assert load_counters(hive) == count_jobs(hive)
    hive.run_jobs()
    assert {status for (status,) in hive.fetch_rows("SELECT status FROM job")} == {"DONE"}
    assert sorted(job_id for (job_id,) in hive.fetch_rows("SELECT job_id FROM result")) == sorted(job_ids)


def test_a_submitted_row_equals_that_of_seed_pipeline(hive: PracticeHive) -> None:
    HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(1))
    columns = "prev_job_id, param_id_stack, accu_id_stack, status, retry_count, runtime_msec, query_count"
    rows = hive.fetch_rows(f"SELECT {columns}, controlled_semaphore_id, role_id FROM job")
    assert rows == [(None, "", "", "READY", 0, 0, 0, None, None)]


def test_a_blocked_analysis_stays_blocked(hive: PracticeHive) -> None:
    hive.execute("UPDATE analysis_stats SET status = 'BLOCKED'")
    HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(1))
    assert hive.fetch_stats() == ("BLOCKED", 1, 1)


@pytest.mark.parametrize(("server", "variant", "triggers"), ALL_VARIANTS)
def test_a_finished_analysis_runs_new_jobs(
    make_hive: MakeHive, server: str, variant: str, triggers: bool
) -> None:
    """With triggers a DONE analysis stays DONE, and a beekeeper misses even the jobs seeded by eHive."""
    hive = make_hive(server, variant=variant, triggers=triggers)
    first = submit_job(hive, token="first")
    hive.run_jobs()
    assert hive.fetch_stats()[0] == "DONE"
    second = submit_job(hive, token="second")
    hive.run_jobs()
    assert [read_outcome(hive, job_id).state for job_id in (first, second)] == [JobState.COMPLETE] * 2
    assert load_counters(hive) == count_jobs(hive)


def test_a_duplicate_does_not_change_the_statistics(hive: PracticeHive) -> None:
    job_id = submit_job(hive)
    hive.run_jobs()
    assert submit_job(hive) == job_id
    assert hive.fetch_stats() == ("DONE", 1, 0)


@pytest.mark.parametrize(("variant", "triggers"), [("docs", False), ("stock", True)])
def test_submitting_to_a_busy_hive_keeps_the_counters_exact(
    make_hive: MakeHive, variant: str, triggers: bool
) -> None:
    hive = make_hive("mysql", variant=variant, triggers=triggers)
    stop = threading.Event()

    def seed(name: str) -> list[int]:
        return [submit_job(hive, token=f"{name}{number}", parts=0) for number in range(15)]

    with ThreadPoolExecutor(5) as pool:
        worker_run = pool.submit(Worker(hive.url, threads=2, poll_interval=0.01).run, stop)
        job_ids = [job_id for seeded in pool.map(seed, "abcd") for job_id in seeded]
        stop.set()
        worker_run.result()
    assert len(set(job_ids)) == 60
    assert load_counters(hive) == count_jobs(hive)
    hive.run_jobs()
    assert {tuple(row) for row in hive.fetch_rows("SELECT DISTINCT status FROM job")} == {("DONE",)}


def test_a_job_that_controls_a_wrapping_semaphore_is_polled_to_its_end(hive: PracticeHive) -> None:
    """With ``-wrap`` there is a semaphore without a dependent job, which all jobs of the tree decrement."""
    job_id = submit_job(hive, after_funnel=True)
    hive.execute(
        "INSERT INTO semaphore (semaphore_id, local_jobs_counter, remote_jobs_counter) VALUES (9, 1, 0)"
    )
    hive.execute("UPDATE job SET controlled_semaphore_id = 9")
    with Worker(hive.url) as worker:
        while worker.run_one_job():
            counter = hive.fetch_rows("SELECT local_jobs_counter FROM semaphore WHERE semaphore_id = 9")[0][0]
            assert (read_state(hive, job_id) is JobState.COMPLETE) == (counter == 0)
    assert read_outcome(hive, job_id).state is JobState.COMPLETE


def test_an_analysis_without_statistics_is_rejected(hive: PracticeHive) -> None:
    hive.execute("DELETE FROM analysis_stats")
    with pytest.raises(HiveRejected, match="'event_dump_dna' has no row in analysis_stats"):
        HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(1))


def test_the_error_names_a_missing_analysis(hive: PracticeHive) -> None:
    reason = "it has no analysis 'dump_rna'"
    with pytest.raises(AnalysisNotFound, match=f"hive 'hive_test_0' rejected the request: {reason}"):
        HiveHook(hive.conn_id).submit("dump_rna", build_inputs(1))
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(0,)]


def test_submitting_without_write_permission_is_rejected(readable_hive: tuple[PracticeHive, str]) -> None:
    hive, read_only = readable_hive
    message = "hive 'hive_read' rejected the request: .*UPDATE command denied"
    with pytest.raises(HiveRejected, match=message) as caught:
        HiveHook(read_only).submit("event_dump_dna", build_inputs(1))
    assert "a_password" not in str(caught.value)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(0,)]


def test_waiting_needs_no_write_permission(readable_hive: tuple[PracticeHive, str]) -> None:
    hive, read_only = readable_hive
    job_id = submit_job(hive)
    hive.run_jobs()
    reader = HiveReader(read_only, resolve_hive(read_only))
    assert reader.read_changes((), {job_id: None}).outcomes[0].state is JobState.COMPLETE
    reader.close()


def test_a_dead_server_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_GONE", "mysql://user:secret_word@127.0.0.1:9/hive")
    with pytest.raises(HiveUnreachable, match="hive 'hive_gone' does not answer: .*127.0.0.1") as caught:
        HiveHook("hive_gone").submit("event_dump_dna", build_inputs(1))
    assert "secret_word" not in str(caught.value)


def test_a_missing_sqlite_file_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_GONE", f"sqlite:///{tmp_path}/none.sqlite")
    with pytest.raises(HiveUnreachable, match="unable to open database file"):
        HiveHook("hive_gone").submit("event_dump_dna", build_inputs(1))
    assert list(tmp_path.iterdir()) == []


def test_the_error_names_a_missing_connection() -> None:
    with pytest.raises(HiveUnreachable, match="hive 'hive_none' does not answer: Airflow has no connection"):
        HiveHook("hive_none").submit("event_dump_dna", build_inputs(1))
