"""Submitting jobs so that a beekeeper finds them, and the errors of hives that accept none."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from event_hooks.exceptions import AnalysisNotFound, HiveRejected, HiveUnreachable
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import HiveReader
from event_hooks.hive.sql.job_trees import State
from tests.integration.hive.conftest import (
    ALL_VARIANTS,
    MakeHive,
    counters,
    inputs,
    outcome,
    recount,
    state,
    submitted,
)
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker


# Triggers, columns and server each change what a submission does, so its tests take all their combinations.
@pytest.mark.parametrize(("server", "variant", "triggers"), ALL_VARIANTS)
def test_submitted_jobs_are_counted_claimed_and_done(
    make_hive: MakeHive, server: str, variant: str, triggers: bool
) -> None:
    hive = make_hive(server, variant=variant, triggers=triggers)
    job_ids = HiveHook(hive.conn_id).submit("event_dump_dna", inputs(3))
    assert hive.stats() == ("LOADING", 3, 3)
    assert counters(hive) == recount(hive)
    hive.work()
    assert {status for (status,) in hive.rows("SELECT status FROM job")} == {"DONE"}
    assert sorted(job_id for (job_id,) in hive.rows("SELECT job_id FROM result")) == sorted(job_ids)


def test_a_submitted_row_equals_that_of_seed_pipeline(hive: PracticeHive) -> None:
    HiveHook(hive.conn_id).submit("event_dump_dna", inputs(1))
    columns = "prev_job_id, param_id_stack, accu_id_stack, status, retry_count, runtime_msec, query_count"
    rows = hive.rows(f"SELECT {columns}, controlled_semaphore_id, role_id FROM job")
    assert rows == [(None, "", "", "READY", 0, 0, 0, None, None)]


def test_a_blocked_analysis_stays_blocked(hive: PracticeHive) -> None:
    hive.change("UPDATE analysis_stats SET status = 'BLOCKED'")
    HiveHook(hive.conn_id).submit("event_dump_dna", inputs(1))
    assert hive.stats() == ("BLOCKED", 1, 1)


@pytest.mark.parametrize(("server", "variant", "triggers"), ALL_VARIANTS)
def test_a_finished_analysis_runs_new_jobs(
    make_hive: MakeHive, server: str, variant: str, triggers: bool
) -> None:
    """With triggers a DONE analysis stays DONE, and not even eHive's own seeding is found."""
    hive = make_hive(server, variant=variant, triggers=triggers)
    first = submitted(hive, token="first")
    hive.work()
    assert hive.stats()[0] == "DONE"
    second = submitted(hive, token="second")
    hive.work()
    assert [outcome(hive, job_id).state for job_id in (first, second)] == [State.COMPLETE] * 2
    assert counters(hive) == recount(hive)


def test_a_duplicate_does_not_change_the_statistics(hive: PracticeHive) -> None:
    job_id = submitted(hive)
    hive.work()
    assert submitted(hive) == job_id
    assert hive.stats() == ("DONE", 1, 0)


@pytest.mark.parametrize(("variant", "triggers"), [("docs", False), ("stock", True)])
def test_submitting_to_a_busy_hive_keeps_the_counters_exact(
    make_hive: MakeHive, variant: str, triggers: bool
) -> None:
    hive = make_hive("mysql", variant=variant, triggers=triggers)
    stop = threading.Event()

    def seed(name: str) -> list[int]:
        return [submitted(hive, token=f"{name}{number}", parts=0) for number in range(15)]

    with ThreadPoolExecutor(5) as pool:
        working = pool.submit(Worker(hive.url, threads=2, poll_interval=0.01).run, stop)
        job_ids = [job_id for seeded in pool.map(seed, "abcd") for job_id in seeded]
        stop.set()
        working.result()
    assert len(set(job_ids)) == 60
    assert counters(hive) == recount(hive)
    hive.work()
    assert {tuple(row) for row in hive.rows("SELECT DISTINCT status FROM job")} == {("DONE",)}


def test_a_job_that_controls_a_wrapping_semaphore_is_polled_to_its_end(hive: PracticeHive) -> None:
    """With ``-wrap`` there is a semaphore that holds back no job, lowered by the whole stream."""
    job_id = submitted(hive, after_funnel=True)
    hive.change(
        "INSERT INTO semaphore (semaphore_id, local_jobs_counter, remote_jobs_counter) VALUES (9, 1, 0)"
    )
    hive.change("UPDATE job SET controlled_semaphore_id = 9")
    with Worker(hive.url) as worker:
        while worker.work_one():
            counter = hive.rows("SELECT local_jobs_counter FROM semaphore WHERE semaphore_id = 9")[0][0]
            assert (state(hive, job_id) is State.COMPLETE) == (counter == 0)
    assert outcome(hive, job_id).state is State.COMPLETE


def test_an_analysis_without_statistics_is_rejected(hive: PracticeHive) -> None:
    hive.change("DELETE FROM analysis_stats")
    with pytest.raises(HiveRejected, match="'event_dump_dna' has no row in analysis_stats"):
        HiveHook(hive.conn_id).submit("event_dump_dna", inputs(1))


def test_the_error_names_a_missing_analysis(hive: PracticeHive) -> None:
    with pytest.raises(AnalysisNotFound, match=r"hive 'hive_test_0' refused: it has no analysis 'dump_rna'"):
        HiveHook(hive.conn_id).submit("dump_rna", inputs(1))
    assert hive.rows("SELECT COUNT(*) FROM job") == [(0,)]


def test_submitting_without_write_permission_is_rejected(readable_hive: tuple[PracticeHive, str]) -> None:
    hive, read_only = readable_hive
    with pytest.raises(HiveRejected, match=r"hive 'hive_read' refused: .*UPDATE command denied") as caught:
        HiveHook(read_only).submit("event_dump_dna", inputs(1))
    assert "a_password" not in str(caught.value)
    assert hive.rows("SELECT COUNT(*) FROM job") == [(0,)]


def test_waiting_needs_no_write_permission(readable_hive: tuple[PracticeHive, str]) -> None:
    hive, read_only = readable_hive
    job_id = submitted(hive)
    hive.work()
    visitor = HiveReader(read_only, resolve_hive(read_only))
    assert visitor.look((), [job_id]).outcomes[0].state is State.COMPLETE
    visitor.close()


def test_a_dead_server_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_GONE", "mysql://user:secret_word@127.0.0.1:9/hive")
    with pytest.raises(HiveUnreachable, match="hive 'hive_gone' does not answer: .*127.0.0.1") as caught:
        HiveHook("hive_gone").submit("event_dump_dna", inputs(1))
    assert "secret_word" not in str(caught.value)


def test_a_missing_sqlite_file_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_GONE", f"sqlite:///{tmp_path}/none.sqlite")
    with pytest.raises(HiveUnreachable, match="unable to open database file"):
        HiveHook("hive_gone").submit("event_dump_dna", inputs(1))
    assert list(tmp_path.iterdir()) == []


def test_the_error_names_a_missing_connection() -> None:
    with pytest.raises(HiveUnreachable, match="hive 'hive_none' does not answer: Airflow has no connection"):
        HiveHook("hive_none").submit("event_dump_dna", inputs(1))
