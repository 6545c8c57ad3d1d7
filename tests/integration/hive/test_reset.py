"""Resetting failed and stopped jobs, so that they run again."""

from __future__ import annotations

import pytest

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import State
from tests.integration.hive.conftest import (
    MakeHive,
    child,
    counters,
    outcome,
    recount,
    status,
    submitted,
    work_on_entries,
)
from tests.integration.hives import PracticeHive

STAGES = {"entry": "", "child": "_part", "funnel": "_merge", "after": "_after"}


def row(hive: PracticeHive, job_id: int) -> tuple[str, int]:
    (found,) = hive.rows("SELECT status, retry_count FROM job WHERE job_id = :id", id=job_id)
    return found[0], found[1]


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
    entry = submitted(hive, fail_until_reset=fails)
    hive.work()
    failed = entry if fails == "entry" else child(hive, entry, STAGES[fails])
    hook = HiveHook(hive.conn_id)
    assert hook.reset([entry]).jobs == [failed]
    assert row(hive, failed) == ("READY", 1)
    assert counters(hive) == recount(hive)
    assert hook.reset([entry]).jobs == []
    hive.work()
    assert outcome(hive, entry).state is State.COMPLETE
    assert outcome(hive, entry).result["pieces"] == ["homo_sapiens.part1", "homo_sapiens.part2"]
    assert counters(hive) == recount(hive)


def test_a_failed_funnel_with_unfinished_fan_jobs_is_reset_to_semaphored(hive: PracticeHive) -> None:
    entry = submitted(hive, fail_until_reset="child")
    hive.work()
    funnel = child(hive, entry, "_merge")
    hive.change("UPDATE job SET status = 'FAILED' WHERE job_id = :id", id=funnel)
    hive.change("UPDATE analysis_stats SET status = 'LOADING'")
    hive.work()
    changed = HiveHook(hive.conn_id).reset([entry]).jobs
    assert sorted(changed) == sorted([funnel, child(hive, entry, "_part")])
    assert row(hive, funnel) == ("SEMAPHORED", 1)
    assert hive.rows("SELECT local_jobs_counter FROM semaphore") == [(1,)]
    hive.work()
    assert outcome(hive, entry).state is State.COMPLETE


@pytest.mark.parametrize(("before", "after"), [("FAILED", "LOADING"), ("BLOCKED", "BLOCKED")])
def test_a_reset_sets_the_analysis_to_loading_unless_it_is_blocked(
    hive: PracticeHive, before: str, after: str
) -> None:
    entry = submitted(hive, fail="entry")
    hive.work()
    hive.change("UPDATE analysis_stats SET status = :status WHERE analysis_id = 1", status=before)
    HiveHook(hive.conn_id).reset([entry])
    assert hive.stats() == (after, 1, 1)


def test_a_reset_changes_no_other_tree_and_no_finished_job(hive: PracticeHive) -> None:
    entry, other = (submitted(hive, token=token, fail="child") for token in "ab")
    hive.work()
    before = hive.rows("SELECT job_id, status FROM job ORDER BY job_id")
    (changed,) = HiveHook(hive.conn_id).reset([entry]).jobs
    after = hive.rows("SELECT job_id, status FROM job ORDER BY job_id")
    assert [one for one, two in zip(before, after, strict=True) if one != two] == [(changed, "FAILED")]
    assert outcome(hive, other).state is State.FAILED


def test_a_reset_without_failed_jobs_changes_nothing(hive: PracticeHive) -> None:
    entry = submitted(hive)
    hook = HiveHook(hive.conn_id)
    assert hook.reset([entry, 4711]).jobs == []
    hive.work()
    assert hook.reset([entry]).jobs == []
    assert outcome(hive, entry).state is State.COMPLETE
    assert hook.reset([]).jobs == []


def test_a_reset_finds_failed_jobs_below_a_running_job(hive: PracticeHive) -> None:
    entry = hive.add_job(status="DONE")
    working = hive.add_job(prev_job_id=entry, status="RUN")
    failed = hive.add_job(prev_job_id=working, status="FAILED", retry_count=2)
    hive.change("UPDATE analysis_stats SET failed_job_count = 1 WHERE analysis_id = 1")
    change = HiveHook(hive.conn_id).reset([entry])
    assert (change.jobs, change.running) == ([failed], [working])


def test_a_reset_includes_the_shared_funnel_of_another_tree(hive: PracticeHive) -> None:
    _, other = (submitted(hive, token=token, shared="all", fail_until_reset="funnel") for token in "ab")
    work_on_entries(hive)
    hive.work()
    assert outcome(hive, other).state is State.FAILED
    (funnel,) = HiveHook(hive.conn_id).reset([other]).jobs
    assert status(hive, funnel) == "READY"
    hive.work()
    assert outcome(hive, other).state is State.COMPLETE
