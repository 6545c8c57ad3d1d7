"""Job trees, polled while they grow, change and lose rows."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from event_hooks.hive.sql import job_trees
from event_hooks.hive.sql.job_trees import State
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
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.database import Database
from tests.support.practice_hive.worker import Worker

# A tree's shape depends on its jobs only, and its statements on the server: each key runs on both servers.
TREES: list[tuple[str, dict[str, Any]]] = [
    ("mysql", {}),
    ("sqlite", {}),
    ("sqlite", {"parts": 0}),
    ("mysql", {"parts": 3, "after_funnel": True}),
    ("sqlite", {"fail_once": "entry"}),
    ("mysql", {"fail_once": "child"}),
    ("sqlite", {"fail_once": "funnel", "after_funnel": True}),
    ("mysql", {"pass_on": 1}),
    ("sqlite", {"pass_on": 2, "after_funnel": True}),
    ("sqlite", {"fail": "entry"}),
    ("mysql", {"fail": "child"}),
    ("sqlite", {"fail": "funnel"}),
    ("mysql", {"fail": "after", "after_funnel": True}),
    ("sqlite", {"pass_on": 1, "fail": "child"}),
]


@pytest.mark.parametrize(("server", "practice"), TREES, ids=str)
def test_a_tree_has_its_final_state_only_after_its_last_transaction(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch, server: str, practice: dict[str, Any]
) -> None:
    """Poll after each of the worker's transactions, with one visitor, and with a new read."""
    hive = make_hive(server)
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


def test_a_passed_on_job_has_the_result_of_its_replacement(hive: PracticeHive) -> None:
    job_id = submitted(hive, pass_on=1)
    hive.work()
    assert hive.rows("SELECT status FROM job WHERE job_id = :id", id=job_id) == [("PASSED_ON",)]
    assert outcome(hive, job_id).result["genome"] == "homo_sapiens"


def test_a_deleted_job_is_missing(hive: PracticeHive) -> None:
    job_id = submitted(hive)
    hive.change("DELETE FROM job WHERE job_id = :id", id=job_id)
    gone = outcome(hive, job_id)
    assert gone.state is State.MISSING
    assert (
        gone.error == f"job {job_id} is no longer in the hive (deleted or hoovered): how it ended is unknown"
    )


def test_a_shared_funnel_belongs_to_both_trees(make_hive: MakeHive) -> None:
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


def test_a_job_that_the_submitted_job_holds_back_is_not_in_its_tree(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    outside = hive.add_job(status="SEMAPHORED")
    hive.add_semaphore(9, dependent_job_id=outside)
    entry = hive.add_job(status="DONE", controlled_semaphore_id=9)
    hive.add_job(prev_job_id=entry, status="DONE", controlled_semaphore_id=9)
    assert state(hive, entry) is State.COMPLETE


def test_a_job_passed_on_twice_has_the_result_of_the_last_replacement(hive: PracticeHive) -> None:
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


@pytest.mark.parametrize(
    ("server", "fails"), [("sqlite", "entry"), ("mysql", "child"), ("sqlite", "funnel"), ("mysql", "after")]
)
def test_a_failed_tree_that_is_reset_manually_is_polled_to_its_end(
    make_hive: MakeHive, server: str, fails: str
) -> None:
    hive = make_hive(server)
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


def test_deleting_a_done_job_after_it_was_polled_changes_nothing(make_hive: MakeHive) -> None:
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
def test_deleting_an_unfinished_job_is_never_success(hive: PracticeHive, name: str) -> None:
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


def test_a_submitted_job_deleted_while_it_is_polled_is_missing(hive: PracticeHive) -> None:
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


def test_a_semaphored_funnel_whose_fan_is_done_is_running(hive: PracticeHive) -> None:
    entry = hive.add_job(status="DONE")
    funnel = hive.add_job(prev_job_id=entry, status="SEMAPHORED")
    hive.add_semaphore(9, dependent_job_id=funnel)
    hive.add_job(prev_job_id=entry, status="DONE", controlled_semaphore_id=9)
    assert state(hive, entry) is State.RUNNING


@pytest.mark.parametrize("number", range(1, 7))
def test_a_child_that_finishes_between_two_statements_keeps_its_children(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Above 25,000 jobs a look is several statements, each with a snapshot of its own."""
    hive = make_hive("sqlite")
    monkeypatch.setattr(job_trees, "MAX_IDS_PER_STATEMENT", 1)
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
