"""Facts, section 3: whole trees, followed from job to job while they grow, move and vanish."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from event_hooks.hive import trees
from event_hooks.hive.trees import State
from tests.integration.conftest import PracticeHive
from tests.integration.hive.conftest import (
    MakeHive,
    child,
    outcome,
    read,
    state,
    status,
    submitted,
    visiting,
)
from tests.support.practice_hive.database import Database
from tests.support.practice_hive.worker import Worker

LIVES: list[dict[str, Any]] = [
    {},
    {"parts": 0},
    {"parts": 3, "after_funnel": True},
    {"fail_once": "entry"},
    {"fail_once": "child"},
    {"fail_once": "funnel", "after_funnel": True},
    {"pass_on": 1},
    {"pass_on": 2, "after_funnel": True},
    {"fail": "entry"},
    {"fail": "child"},
    {"fail": "funnel"},
    {"fail": "after", "after_funnel": True},
    {"pass_on": 1, "fail": "child"},
]


@pytest.mark.parametrize("practice", LIVES, ids=str)
def test_fact_3_no_moment_of_a_tree_looks_like_its_end(
    hive: PracticeHive, monkeypatch: pytest.MonkeyPatch, practice: dict[str, Any]
) -> None:
    """Look after each of the worker's transactions, with one visitor, and anew."""
    job_id = submitted(hive, **practice)
    moments: list[State] = []
    write = Database.write

    def look() -> None:
        afresh = read(hive, job_id)[job_id]
        over = visitor.look((), [job_id]).outcomes
        known = visitor._forest.trees[job_id]
        assert known.statuses == afresh.statuses
        assert known.result_ids == afresh.result_ids
        moments.append(over[0].state if over else State.RUNNING)

    def watched(database: Database, work: Any) -> Any:
        done = write(database, work)
        look()
        return done

    with visiting(hive) as visitor, Worker(hive.url) as worker:
        monkeypatch.setattr(Database, "write", watched)
        worker.work_until_idle()
        monkeypatch.undo()
    last = State.FAILED if "fail" in practice else State.COMPLETE
    ends = moments.index(last)
    assert set(moments[:ends]) == {State.RUNNING}
    assert set(moments[ends:]) == {last}
    assert hive.rows("SELECT COUNT(*) FROM job WHERE status NOT IN ('DONE', 'PASSED_ON')") == [
        (0 if last is State.COMPLETE else 2 if practice.get("fail") == "child" else 1,)
    ]


def test_fact_3_the_result_of_a_passed_on_job_stands_under_its_replacement(hive: PracticeHive) -> None:
    job_id = submitted(hive, pass_on=1)
    hive.work()
    assert hive.rows("SELECT status FROM job WHERE job_id = :id", id=job_id) == [("PASSED_ON",)]
    assert outcome(hive, job_id).result["genome"] == "homo_sapiens"


def test_fact_3_a_row_that_is_gone_is_not_success(hive: PracticeHive) -> None:
    job_id = submitted(hive)
    hive.change("DELETE FROM job WHERE job_id = :id", id=job_id)
    gone = outcome(hive, job_id)
    assert gone.state is State.MISSING
    assert (
        gone.error == f"job {job_id} is no longer in the hive (deleted or hoovered): how it ended is unknown"
    )


def test_fact_3_a_funnel_of_another_tree_is_waited_for(make_hive: MakeHive) -> None:
    """On stock tables two equal funnels are one job, whose parent is in the first tree."""
    hive = make_hive("mysql")
    one, other = (hive.add_job(status="DONE") for _ in range(2))
    funnel = hive.add_job(prev_job_id=one, status="DONE")
    hive.add_semaphore(9, dependent_job_id=funnel)
    hive.add_job(prev_job_id=other, status="DONE", controlled_semaphore_id=9)
    after = hive.add_job(prev_job_id=funnel, status="RUN")
    found = read(hive, one, other)
    assert {funnel, after} <= set(found[one].statuses)
    assert {funnel, after} <= set(found[other].statuses)


def test_fact_3_what_the_entry_itself_holds_back_is_not_its_own(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    outside = hive.add_job(status="SEMAPHORED")
    hive.add_semaphore(9, dependent_job_id=outside)
    entry = hive.add_job(status="DONE", controlled_semaphore_id=9)
    hive.add_job(prev_job_id=entry, status="DONE", controlled_semaphore_id=9)
    assert state(hive, entry) is State.COMPLETE


def test_fact_3_a_result_stands_under_the_last_of_those_it_was_passed_on_to(hive: PracticeHive) -> None:
    entry = submitted(hive, pass_on=2)
    with Worker(hive.url) as worker, visiting(hive) as visitor:
        while worker.work_one():
            found = visitor.look((), [entry])
    second = child(hive, entry, "_again")
    third = child(hive, second, "_again")
    assert [status(hive, job_id) for job_id in (entry, second, third)] == ["PASSED_ON", "PASSED_ON", "DONE"]
    assert hive.rows("SELECT job_id FROM result") == [(third,)]
    assert found.outcomes[0].result["genome"] == "homo_sapiens"
    assert outcome(hive, entry) == found.outcomes[0]


@pytest.mark.parametrize("fails", ["entry", "child", "funnel", "after"])
def test_fact_3_a_failed_tree_reset_by_hand_is_followed_to_its_end(hive: PracticeHive, fails: str) -> None:
    entry = submitted(hive, fail_until_reset=fails, after_funnel=True)
    hive.work()
    with visiting(hive) as visitor:
        assert visitor.look((), [entry]).outcomes[0].state is State.FAILED
        hive.change("UPDATE job SET status = 'READY', retry_count = 1 WHERE status = 'FAILED'")
        hive.change("UPDATE analysis_stats SET status = 'LOADING'")
        assert visitor.look((), [entry]).outcomes == []
        with Worker(hive.url) as worker:
            while worker.work_one():
                over = visitor.look((), [entry]).outcomes
        assert over[0].state is State.COMPLETE
        assert over == [outcome(hive, entry)]


def test_fact_3_a_done_row_that_vanishes_after_it_was_seen_changes_nothing(make_hive: MakeHive) -> None:
    """It was hoovered; on SQLite, which cascades nothing to the rest of the tree."""
    hive = make_hive("sqlite")
    entry = submitted(hive)
    with Worker(hive.url) as worker, visiting(hive) as visitor:
        while (worked := worker.work_one()) and not worked.analysis.endswith("_part"):
            visitor.look((), [entry])
        assert worked
        visitor.look((), [entry])
        hive.change("DELETE FROM job WHERE job_id = :id", id=worked.job_id)
        assert visitor.look((), [entry]).outcomes == []
        worker.work_until_idle()
        assert visitor.look((), [entry]).outcomes[0].state is State.COMPLETE


@pytest.mark.parametrize("name", ["READY", "RUN", "SEMAPHORED", "FAILED"])
def test_fact_3_an_unfinished_row_that_vanishes_is_never_success(hive: PracticeHive, name: str) -> None:
    entry = hive.add_job(status="DONE")
    lost = hive.add_job(prev_job_id=entry, status=name)
    other = hive.add_job(prev_job_id=entry, status="RUN")
    with visiting(hive) as visitor:
        visitor.look((), [entry])
        hive.change("DELETE FROM job WHERE job_id = :id", id=lost)
        assert visitor.look((), [entry]).outcomes == []
        hive.change("UPDATE job SET status = 'DONE' WHERE job_id = :id", id=other)
        (missing,) = visitor.look((), [entry]).outcomes
    assert missing.state is State.MISSING
    assert missing.error == f"its jobs {lost} were deleted before they were over: how it ended is unknown"


def test_fact_3_an_entry_that_vanishes_while_it_is_followed_is_not_success(hive: PracticeHive) -> None:
    entry = submitted(hive)
    with Worker(hive.url) as worker, visiting(hive) as visitor:
        worker.work_one()
        assert visitor.look((), [entry]).outcomes == []
        hive.change("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=entry)
        with visiting(hive) as other:
            other.look((), [entry])
            hive.change("DELETE FROM job WHERE job_id = :id", id=entry)
            (missing,) = other.look((), [entry]).outcomes
    assert (missing.state, missing.job_id) == (State.MISSING, entry)


def test_fact_3_a_funnel_still_held_back_when_its_fan_is_done_is_running(hive: PracticeHive) -> None:
    entry = hive.add_job(status="DONE")
    funnel = hive.add_job(prev_job_id=entry, status="SEMAPHORED")
    hive.add_semaphore(9, dependent_job_id=funnel)
    hive.add_job(prev_job_id=entry, status="DONE", controlled_semaphore_id=9)
    assert state(hive, entry) is State.RUNNING


@pytest.mark.parametrize("number", range(1, 7))
def test_fact_3_a_child_that_ends_between_two_statements_keeps_its_children(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Above 25,000 jobs a look is several statements, each with a snapshot of its own."""
    hive = make_hive("sqlite")
    monkeypatch.setattr(trees, "NAMED", 1)
    entry = hive.add_job(status="RUN")
    early = hive.add_job(prev_job_id=entry, status="RUN")
    late: list[int] = []

    def end(*_: Any) -> None:
        statements.append(number)
        if len(statements) == number:
            late.append(hive.add_job(prev_job_id=early, status="RUN"))
            hive.change("UPDATE job SET status = 'DONE' WHERE job_id IN (:a, :b)", a=early, b=entry)

    with visiting(hive) as visitor:
        visitor.look((), [entry])
        statements: list[int] = []
        event.listen(visitor._engine, "before_cursor_execute", end)
        looks = [visitor.look((), [entry]).outcomes for _ in range(3)]
        assert looks == [[], [], []]
        assert visitor._forest.trees[entry].statuses == {entry: "DONE", early: "DONE", late[0]: "RUN"}
