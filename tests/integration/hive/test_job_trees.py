"""Polling job trees while they grow, change and lose rows."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event

from event_hooks.hive.sql import job_trees
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    MakeHive,
    find_child,
    load_status,
    open_reader,
    read_outcome,
    read_state,
    read_trees,
    record_statements,
    submit_job,
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
    """After each transaction of the worker, poll with one reader, and compare with a new read."""
    hive = make_hive(server)
    job_id = submit_job(hive, **practice)
    states: list[JobState] = []
    write = Database.write

    def poll() -> None:
        new_tree = read_trees(hive, job_id)[job_id]
        outcomes = reader.read_changes((), {job_id: None}).outcomes
        polled_tree = reader._forest.trees[job_id]
        assert polled_tree.statuses == new_tree.statuses
        assert polled_tree.result_ids == new_tree.result_ids
        states.append(outcomes[0].state if outcomes else JobState.RUNNING)

    def write_and_poll(database: Database, work: Any) -> Any:
        result = write(database, work)
        poll()
        return result

    with open_reader(hive) as reader, Worker(hive.url) as worker:
        monkeypatch.setattr(Database, "write", write_and_poll)
        worker.run_until_idle()
        monkeypatch.undo()
    final_state = JobState.FAILED if "fail" in practice else JobState.COMPLETE
    end_position = states.index(final_state)
    assert set(states[:end_position]) == {JobState.RUNNING}
    assert set(states[end_position:]) == {final_state}
    assert hive.fetch_rows("SELECT COUNT(*) FROM job WHERE status NOT IN ('DONE', 'PASSED_ON')") == [
        (0 if final_state is JobState.COMPLETE else 2 if practice.get("fail") == "child" else 1,)
    ]


def test_a_passed_on_job_has_the_result_of_its_replacement(hive: PracticeHive) -> None:
    job_id = submit_job(hive, pass_on=1)
    hive.run_jobs()
    assert hive.fetch_rows("SELECT status FROM job WHERE job_id = :id", id=job_id) == [("PASSED_ON",)]
    assert read_outcome(hive, job_id).result["genome"] == "homo_sapiens"


def test_a_deleted_job_is_missing(hive: PracticeHive) -> None:
    job_id = submit_job(hive)
    hive.execute("DELETE FROM job WHERE job_id = :id", id=job_id)
    missing = read_outcome(hive, job_id)
    assert missing.state is JobState.MISSING
    assert (
        missing.error
        == f"job {job_id} is no longer in the hive (deleted or hoovered): its outcome is unknown"
    )


def test_a_shared_funnel_belongs_to_both_trees(make_hive: MakeHive) -> None:
    """With stock tables two equal funnels are a single job, whose parent is in the first tree."""
    hive = make_hive("mysql")
    first_id, second_id = (hive.add_job(status="DONE") for _ in range(2))
    funnel = hive.add_job(prev_job_id=first_id, status="DONE")
    hive.add_semaphore(9, dependent_job_id=funnel)
    hive.add_job(prev_job_id=second_id, status="DONE", controlled_semaphore_id=9)
    after = hive.add_job(prev_job_id=funnel, status="RUN")
    trees = read_trees(hive, first_id, second_id)
    assert {funnel, after} <= set(trees[first_id].statuses)
    assert {funnel, after} <= set(trees[second_id].statuses)


def test_a_funnel_that_ends_between_two_statements_of_a_poll_is_done_in_both_trees(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll reads the funnel as a known job of one tree, and then as a new child in the other one."""
    monkeypatch.setattr(job_trees, "MAX_IDS_PER_STATEMENT", 1)
    hive = make_hive("mysql")
    first_id, second_id = hive.add_job(status="DONE"), hive.add_job(status="RUN")
    fan_id = hive.add_job(prev_job_id=second_id, status="RUN")
    funnel = hive.add_job(prev_job_id=fan_id, status="RUN")
    hive.add_semaphore(9, dependent_job_id=funnel)
    hive.add_job(prev_job_id=first_id, status="DONE", controlled_semaphore_id=9)

    def end_funnel(*arguments: Any) -> None:
        if "prev_job_id IN" in arguments[2]:
            hive.execute("UPDATE job SET status = 'DONE' WHERE job_id = :id", id=funnel)

    jobs = dict.fromkeys((first_id, second_id))
    with open_reader(hive) as reader:
        reader.read_changes((), {first_id: None})
        assert reader.read_changes((), jobs).outcomes == []
        hive.execute(f"UPDATE job SET status = 'DONE' WHERE job_id IN ({second_id}, {fan_id})")
        event.listen(Engine, "before_cursor_execute", end_funnel)
        try:
            outcomes = reader.read_changes((), jobs).outcomes
        finally:
            event.remove(Engine, "before_cursor_execute", end_funnel)
        outcomes += reader.read_changes((), jobs).outcomes
    assert {outcome.job_id for outcome in outcomes} == set(jobs)


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_range_of_ids_adds_no_other_jobs(make_hive: MakeHive, server: str) -> None:
    """Every second job is followed; the statements read ranges that exclude the others."""
    hive = make_hive(server)
    hive.execute(
        "INSERT INTO job (job_id, prev_job_id, analysis_id, input_id, param_id_stack, accu_id_stack,"
        " status, when_completed) WITH RECURSIVE ids (id) AS"
        " (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < 800) SELECT id,"
        " CASE WHEN id > 400 THEN id - 400 END, 1, id, '', '',"
        " CASE WHEN id > 400 THEN 'RUN' ELSE 'DONE' END, '2026-01-01' FROM ids"
    )
    jobs = dict.fromkeys(range(2, 401, 2))
    with open_reader(hive) as reader:
        for child_status in ("RUN", "DONE"):
            hive.execute("UPDATE job SET status = :status WHERE job_id > 400", status=child_status)
            with record_statements() as statements:
                outcomes = reader.read_changes((), jobs).outcomes
            assert any("BETWEEN" in statement for statement in statements)
            assert [outcome.job_id for outcome in outcomes] == (list(jobs) if child_status == "DONE" else [])
            assert {job_id: tree.statuses for job_id, tree in reader._forest.trees.items()} == {
                job_id: {job_id: "DONE", job_id + 400: child_status} for job_id in jobs
            }
        assert len(reader._forest.analysis_ids) == 2 * len(jobs)


def test_a_removed_tree_leaves_no_data_of_a_funnel_that_several_of_its_jobs_hold_back(
    make_hive: MakeHive,
) -> None:
    hive = make_hive("sqlite")
    root_id = hive.add_job(status="DONE")
    funnel = hive.add_job(status="DONE")
    hive.add_semaphore(9, dependent_job_id=funnel)
    for _ in range(3):
        hive.add_job(prev_job_id=root_id, status="DONE", controlled_semaphore_id=9)
    forest = job_trees.JobForest()
    with hive.engine.connect() as connection:
        forest.refresh(connection, [root_id])
        assert funnel in forest.trees[root_id].statuses
        forest.remove(root_id)
        assert forest.analysis_ids == {}
        hive.execute("UPDATE job SET status = 'READY' WHERE job_id = :id", id=funnel)
        assert forest.refresh(connection, [funnel]) == {forest.trees[funnel]}


def test_a_job_that_the_submitted_job_holds_back_is_not_in_its_tree(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    outside = hive.add_job(status="SEMAPHORED")
    hive.add_semaphore(9, dependent_job_id=outside)
    root_id = hive.add_job(status="DONE", controlled_semaphore_id=9)
    hive.add_job(prev_job_id=root_id, status="DONE", controlled_semaphore_id=9)
    assert read_state(hive, root_id) is JobState.COMPLETE


def test_a_job_passed_on_twice_has_the_result_of_the_last_replacement(hive: PracticeHive) -> None:
    root_id = submit_job(hive, pass_on=2)
    with Worker(hive.url) as worker, open_reader(hive) as reader:
        while worker.run_one_job():
            changes = reader.read_changes((), {root_id: None})
    second = find_child(hive, root_id, "_again")
    third = find_child(hive, second, "_again")
    assert [load_status(hive, job_id) for job_id in (root_id, second, third)] == [
        "PASSED_ON",
        "PASSED_ON",
        "DONE",
    ]
    assert hive.fetch_rows("SELECT job_id FROM result") == [(third,)]
    assert changes.outcomes[0].result["genome"] == "homo_sapiens"
    assert read_outcome(hive, root_id) == changes.outcomes[0]


@pytest.mark.parametrize(
    ("server", "fails"), [("sqlite", "entry"), ("mysql", "child"), ("sqlite", "funnel"), ("mysql", "after")]
)
def test_a_failed_tree_that_is_reset_manually_is_polled_to_its_end(
    make_hive: MakeHive, server: str, fails: str
) -> None:
    hive = make_hive(server)
    root_id = submit_job(hive, fail_until_reset=fails, after_funnel=True)
    hive.run_jobs()
    with open_reader(hive) as reader:
        assert reader.read_changes((), {root_id: None}).outcomes[0].state is JobState.FAILED
        hive.execute("UPDATE job SET status = 'READY', retry_count = 1 WHERE status = 'FAILED'")
        hive.execute("UPDATE analysis_stats SET status = 'LOADING'")
        assert reader.read_changes((), {root_id: None}).outcomes == []
        with Worker(hive.url) as worker:
            while worker.run_one_job():
                outcomes = reader.read_changes((), {root_id: None}).outcomes
        assert outcomes[0].state is JobState.COMPLETE
        assert outcomes == [read_outcome(hive, root_id)]


def test_deleting_a_done_job_after_it_was_polled_changes_nothing(make_hive: MakeHive) -> None:
    """The job was hoovered, on SQLite, where the deletion does not cascade to the rest of the tree."""
    hive = make_hive("sqlite")
    root_id = submit_job(hive)
    with Worker(hive.url) as worker, open_reader(hive) as reader:
        while (finished := worker.run_one_job()) and not finished.analysis.endswith("_part"):
            reader.read_changes((), {root_id: None})
        assert finished
        reader.read_changes((), {root_id: None})
        hive.execute("DELETE FROM job WHERE job_id = :id", id=finished.job_id)
        assert reader.read_changes((), {root_id: None}).outcomes == []
        worker.run_until_idle()
        assert reader.read_changes((), {root_id: None}).outcomes[0].state is JobState.COMPLETE


@pytest.mark.parametrize("name", ["READY", "RUN", "SEMAPHORED", "FAILED"])
def test_deleting_an_unfinished_job_is_never_success(hive: PracticeHive, name: str) -> None:
    root_id = hive.add_job(status="DONE")
    lost = hive.add_job(prev_job_id=root_id, status=name)
    other = hive.add_job(prev_job_id=root_id, status="RUN")
    with open_reader(hive) as reader:
        reader.read_changes((), {root_id: None})
        hive.execute("DELETE FROM job WHERE job_id = :id", id=lost)
        assert reader.read_changes((), {root_id: None}).outcomes == []
        hive.complete_jobs("job_id = :id", id=other)
        (missing,) = reader.read_changes((), {root_id: None}).outcomes
    assert missing.state is JobState.MISSING
    assert missing.error == f"its jobs {lost} were deleted before they finished: its outcome is unknown"


def test_a_submitted_job_deleted_while_it_is_polled_is_missing(hive: PracticeHive) -> None:
    root_id = submit_job(hive)
    with Worker(hive.url) as worker, open_reader(hive) as reader:
        worker.run_one_job()
        assert reader.read_changes((), {root_id: None}).outcomes == []
        hive.execute("UPDATE job SET status = 'RUN' WHERE job_id = :id", id=root_id)
        with open_reader(hive) as other:
            other.read_changes((), {root_id: None})
            hive.execute("DELETE FROM job WHERE job_id = :id", id=root_id)
            (missing,) = other.read_changes((), {root_id: None}).outcomes
    assert (missing.state, missing.job_id) == (JobState.MISSING, root_id)


def test_a_semaphored_funnel_whose_fan_is_done_is_running(hive: PracticeHive) -> None:
    root_id = hive.add_job(status="DONE")
    funnel = hive.add_job(prev_job_id=root_id, status="SEMAPHORED")
    hive.add_semaphore(9, dependent_job_id=funnel)
    hive.add_job(prev_job_id=root_id, status="DONE", controlled_semaphore_id=9)
    assert read_state(hive, root_id) is JobState.RUNNING


@pytest.mark.parametrize("number", range(1, 7))
def test_a_child_that_finishes_between_two_statements_keeps_its_children(
    make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Above 25,000 jobs a poll takes several statements, and each statement has its own snapshot."""
    hive = make_hive("sqlite")
    monkeypatch.setattr(job_trees, "MAX_IDS_PER_STATEMENT", 1)
    root_id = hive.add_job(status="RUN")
    child_id = hive.add_job(prev_job_id=root_id, status="RUN")
    grandchild_ids: list[int] = []

    def finish_jobs(*_: Any) -> None:
        statements.append(number)
        if len(statements) == number:
            grandchild_ids.append(hive.add_job(prev_job_id=child_id, status="RUN"))
            hive.complete_jobs("job_id IN (:a, :b)", a=child_id, b=root_id)

    with open_reader(hive) as reader:
        reader.read_changes((), {root_id: None})
        statements: list[int] = []
        event.listen(reader._engine, "before_cursor_execute", finish_jobs)
        polls = [reader.read_changes((), {root_id: None}).outcomes for _ in range(3)]
        assert polls == [[], [], []]
        assert reader._forest.trees[root_id].statuses == {
            root_id: "DONE",
            child_id: "DONE",
            grandchild_ids[0]: "RUN",
        }
