"""Resetting failed and stopped jobs, so that they run again."""

from __future__ import annotations

import pytest

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    MakeHive,
    count_jobs,
    find_child,
    load_counters,
    load_status,
    read_outcome,
    run_root_jobs,
    submit_job,
)
from tests.integration.hives import PracticeHive

STAGES = {"entry": "", "child": "_part", "funnel": "_merge", "after": "_after"}


def load_status_and_retries(hive: PracticeHive, job_id: int) -> tuple[str, int]:
    (values,) = hive.fetch_rows("SELECT status, retry_count FROM job WHERE job_id = :id", id=job_id)
    return values[0], values[1]


# Pairwise: a reset's SQL depends on the server, its counters on triggers, its jobs on the stage that fails.
@pytest.mark.parametrize(
    ("server", "variant", "triggers", "fails"),
    [
        ("mysql", "stock", False, "entry"),
        ("sqlite", "stock", True, "entry"),
        ("mysql", "docs", True, "child"),
        ("sqlite", "docs", False, "child"),
        ("mysql", "stock", False, "funnel"),
        ("sqlite", "stock", True, "funnel"),
    ],
)
def test_a_reset_retries_the_failed_job_and_its_tree_completes(
    make_hive: MakeHive, server: str, variant: str, triggers: bool, fails: str
) -> None:
    hive = make_hive(server, variant=variant, triggers=triggers)
    root_id = submit_job(hive, fail_until_reset=fails)
    hive.run_jobs()
    failed = root_id if fails == "entry" else find_child(hive, root_id, STAGES[fails])
    hook = HiveHook(hive.conn_id)
    assert hook.reset_jobs({root_id: None}).changed_ids == [failed]
    assert load_status_and_retries(hive, failed) == ("READY", 1)
    assert load_counters(hive) == count_jobs(hive)
    assert hook.reset_jobs({root_id: None}).changed_ids == []
    hive.run_jobs()
    assert read_outcome(hive, root_id).state is JobState.COMPLETE
    assert read_outcome(hive, root_id).result["pieces"] == ["homo_sapiens.part1", "homo_sapiens.part2"]
    assert load_counters(hive) == count_jobs(hive)


def test_a_failed_funnel_with_unfinished_fan_jobs_is_reset_to_semaphored(hive: PracticeHive) -> None:
    root_id = submit_job(hive, fail_until_reset="child")
    hive.run_jobs()
    funnel = find_child(hive, root_id, "_merge")
    hive.execute("UPDATE job SET status = 'FAILED' WHERE job_id = :id", id=funnel)
    hive.execute("UPDATE analysis_stats SET status = 'LOADING'")
    hive.run_jobs()
    changed = HiveHook(hive.conn_id).reset_jobs({root_id: None}).changed_ids
    assert sorted(changed) == sorted([funnel, find_child(hive, root_id, "_part")])
    assert load_status_and_retries(hive, funnel) == ("SEMAPHORED", 1)
    assert hive.fetch_rows("SELECT local_jobs_counter FROM semaphore") == [(1,)]
    hive.run_jobs()
    assert read_outcome(hive, root_id).state is JobState.COMPLETE


@pytest.mark.parametrize(("before", "after"), [("FAILED", "LOADING"), ("BLOCKED", "BLOCKED")])
def test_a_reset_sets_the_analysis_to_loading_unless_it_is_blocked(
    hive: PracticeHive, before: str, after: str
) -> None:
    root_id = submit_job(hive, fail="entry")
    hive.run_jobs()
    hive.execute("UPDATE analysis_stats SET status = :status WHERE analysis_id = 1", status=before)
    HiveHook(hive.conn_id).reset_jobs({root_id: None})
    assert hive.fetch_stats() == (after, 1, 1)


def test_a_reset_changes_no_other_tree_and_no_finished_job(hive: PracticeHive) -> None:
    root_id, other = (submit_job(hive, token=token, fail="child") for token in "ab")
    hive.run_jobs()
    old_rows = hive.fetch_rows("SELECT job_id, status FROM job ORDER BY job_id")
    (changed,) = HiveHook(hive.conn_id).reset_jobs({root_id: None}).changed_ids
    new_rows = hive.fetch_rows("SELECT job_id, status FROM job ORDER BY job_id")
    assert [old for old, new in zip(old_rows, new_rows, strict=True) if old != new] == [(changed, "FAILED")]
    assert read_outcome(hive, other).state is JobState.FAILED


def test_a_reset_without_failed_jobs_changes_nothing(hive: PracticeHive) -> None:
    root_id = submit_job(hive)
    hook = HiveHook(hive.conn_id)
    assert hook.reset_jobs({root_id: None, 4711: None}).changed_ids == []
    hive.run_jobs()
    assert hook.reset_jobs({root_id: None}).changed_ids == []
    assert read_outcome(hive, root_id).state is JobState.COMPLETE
    assert hook.reset_jobs({}).changed_ids == []


def test_a_reset_finds_failed_jobs_below_a_running_job(hive: PracticeHive) -> None:
    root_id = hive.add_job(status="DONE")
    running_id = hive.add_job(prev_job_id=root_id, status="RUN")
    failed = hive.add_job(prev_job_id=running_id, status="FAILED", retry_count=2)
    hive.execute("UPDATE analysis_stats SET failed_job_count = 1 WHERE analysis_id = 1")
    change = HiveHook(hive.conn_id).reset_jobs({root_id: None})
    assert (change.changed_ids, change.running_ids) == ([failed], [running_id])


def test_a_reset_includes_the_shared_funnel_of_another_tree(hive: PracticeHive) -> None:
    _, other = (submit_job(hive, token=token, shared="all", fail_until_reset="funnel") for token in "ab")
    run_root_jobs(hive)
    hive.run_jobs()
    assert read_outcome(hive, other).state is JobState.FAILED
    (funnel,) = HiveHook(hive.conn_id).reset_jobs({other: None}).changed_ids
    assert load_status(hive, funnel) == "READY"
    hive.run_jobs()
    assert read_outcome(hive, other).state is JobState.COMPLETE
