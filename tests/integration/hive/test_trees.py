"""What a job and all that grew from it have come to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from event_hooks.hive import address, perl, trees
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.outcomes import JobOutcome
from event_hooks.hive.trees import JobTree, State
from event_hooks.hive.visitor import HiveVisitor
from tests.integration.conftest import PracticeHive
from tests.support.practice_hive.worker import Worker


def submitted(hive: PracticeHive, **practice: Any) -> int:
    """Submit a job whose event steers the practice hive."""
    event = {"type": "new_assembly", "genome": "homo_sapiens", "practice": practice}
    (job_id,) = HiveHook(hive.conn_id).submit("event_dump_dna", [perl.dumps({"event": event})])
    return job_id


def read(hive: PracticeHive, *job_ids: int) -> dict[int, JobTree]:
    with hive.engine.connect() as connection:
        return dict(trees.read(connection, job_ids))


def state(hive: PracticeHive, job_id: int) -> State:
    return read(hive, job_id)[job_id].state()


def outcome(hive: PracticeHive, job_id: int) -> JobOutcome:
    visitor = HiveVisitor(hive.conn_id, address.find(hive.conn_id))
    (one,) = visitor.look((), [job_id]).outcomes
    visitor.close()
    return one


@pytest.mark.parametrize(
    ("practice", "expected"),
    [
        ({}, State.COMPLETE),
        ({"parts": 5, "after_funnel": True}, State.COMPLETE),
        ({"fail_once": "entry"}, State.COMPLETE),
        ({"fail_once": "child"}, State.COMPLETE),
        ({"pass_on": True}, State.COMPLETE),
        ({"fail": "entry"}, State.FAILED),
        ({"fail": "child"}, State.FAILED),
        ({"fail": "funnel"}, State.FAILED),
        ({"fail": "after", "after_funnel": True}, State.FAILED),
        ({"pass_on": True, "fail": "child"}, State.FAILED),
    ],
    ids=str,
)
def test_a_tree_is_running_until_its_last_job_is_over(
    hive: PracticeHive, practice: dict[str, Any], expected: State
) -> None:
    job_id = submitted(hive, **practice)
    seen = [state(hive, job_id)]
    with Worker(hive.url) as worker:
        while worker.work_one():
            seen.append(state(hive, job_id))
    *before, last = seen
    assert set(before) <= {State.RUNNING}
    assert last is expected


def test_the_result_comes_with_success(hive: PracticeHive) -> None:
    job_id = submitted(hive)
    hive.work()
    complete = outcome(hive, job_id)
    assert complete.state is State.COMPLETE
    assert complete.result["genome"] == "homo_sapiens"
    assert complete.error is None


def test_the_result_of_a_passed_on_job_stands_under_its_replacement(hive: PracticeHive) -> None:
    job_id = submitted(hive, pass_on=True)
    hive.work()
    assert hive.rows("SELECT status FROM job WHERE job_id = :id", id=job_id) == [("PASSED_ON",)]
    assert outcome(hive, job_id).result["genome"] == "homo_sapiens"


@pytest.mark.parametrize(
    ("text", "expected"), [("plain text", "plain text"), ("[1]", [1]), ('{"cut', '{"cut')]
)
def test_a_result_that_is_not_json_is_text(hive: PracticeHive, text: str, expected: object) -> None:
    job_id = submitted(hive, result=text)
    hive.work()
    assert outcome(hive, job_id).result == expected


def test_a_result_may_be_missing(hive: PracticeHive) -> None:
    job_id = submitted(hive, no_result=True)
    hive.work()
    assert outcome(hive, job_id) == JobOutcome(job_id, State.COMPLETE)


def test_a_hive_may_lack_the_result_table(make_hive: Callable[..., PracticeHive]) -> None:
    hive = make_hive("mysql", with_result=False, with_progress=False)
    job_id = submitted(hive)
    hive.work()
    assert outcome(hive, job_id) == JobOutcome(job_id, State.COMPLETE)


@pytest.mark.parametrize("stage", ["entry", "child", "funnel"])
def test_a_failure_comes_with_the_failing_jobs_own_message(hive: PracticeHive, stage: str) -> None:
    job_id = submitted(hive, fail=stage, message="disk is full at Dump.pm line 3.")
    hive.work()
    failed = outcome(hive, job_id)
    assert failed.state is State.FAILED
    assert failed.error
    suffix = {"entry": "", "child": "_part", "funnel": "_merge"}[stage]
    assert f"(event_dump_dna{suffix}) failed: disk is full at Dump.pm line 3." in failed.error


def test_the_message_is_of_the_last_attempt_and_no_chatter(hive: PracticeHive) -> None:
    job_id = submitted(hive, fail="entry")
    hive.work()
    for message_class, message in [("WORKER_ERROR", "the last attempt"), ("INFO", "chatter")]:
        hive.change(
            "INSERT INTO log_message (job_id, message_class, msg) VALUES (:id, :class, :msg)",
            id=job_id,
            **{"class": message_class},
            msg=message,
        )
    assert outcome(hive, job_id).error == f"job {job_id} (event_dump_dna) failed: the last attempt"


def test_a_message_shows_no_password(hive: PracticeHive) -> None:
    job_id = submitted(hive, fail="entry", message="no table in mysql://ensadmin:secret_word@host:3306/core")
    hive.work()
    error = outcome(hive, job_id).error
    assert error
    assert "mysql://ensadmin:***@host:3306/core" in error


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"db": "mysql://u:p@ss@host:3306/core"}, {"db": "mysql://u:***@host:3306/core"}),
        (
            {"url": "http://host:80/x", "mail": "me@ebi.ac.uk"},
            {"url": "http://host:80/x", "mail": "me@ebi.ac.uk"},
        ),
        (["amqp://:secret@h/%2F"], ["amqp://:***@h/%2F"]),
        ("mysql -u me --password=secret -pass secret", "mysql -u me --password=*** -pass ***"),
    ],
    ids=str,
)
def test_a_result_keeps_all_but_its_passwords(hive: PracticeHive, output: object, expected: object) -> None:
    job_id = submitted(hive, result=json.dumps(output))
    hive.work()
    assert outcome(hive, job_id).result == expected


def test_a_long_text_is_read_at_once(hive: PracticeHive) -> None:
    job_id = submitted(hive, fail="entry")
    hive.work()
    hive.change("UPDATE log_message SET msg = :msg", msg="mysql://" + "ACGT" * 15_000)
    started = time.monotonic()
    error = outcome(hive, job_id).error
    assert time.monotonic() - started < 1
    assert error
    assert len(error) < 5000


def test_several_failed_jobs_are_counted(hive: PracticeHive) -> None:
    job_id = hive.add_job(status="DONE")
    failed = [hive.add_job(prev_job_id=job_id, status="FAILED") for _ in range(3)]
    error = outcome(hive, job_id).error
    assert error == (
        f"job {failed[0]} (event_dump_dna) failed: the hive has no message of it\n"
        f"and 2 more of its jobs failed: {failed[1]}, {failed[2]}"
    )


def test_a_row_that_is_gone_is_not_success(hive: PracticeHive) -> None:
    job_id = submitted(hive)
    hive.change("DELETE FROM job WHERE job_id = :id", id=job_id)
    gone = outcome(hive, job_id)
    assert gone.state is State.MISSING
    assert (
        gone.error == f"job {job_id} is no longer in the hive (deleted or hoovered): how it ended is unknown"
    )


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["DONE", "FAILED", "RUN"], State.RUNNING),
        (["DONE", "FAILED", "READY"], State.RUNNING),
        (["DONE", "FAILED", "SEMAPHORED"], State.FAILED),
        (["DONE", "DONE", "SEMAPHORED"], State.RUNNING),
        (["PASSED_ON", "DONE", "DONE"], State.COMPLETE),
        (["DONE", "SOMETHING_NEW"], State.RUNNING),
    ],
    ids=str,
)
def test_the_decision_table(statuses: list[str], expected: State) -> None:
    assert JobTree(1, dict(enumerate(statuses, start=1))).state() is expected


def test_a_funnel_of_another_tree_is_waited_for(make_hive: Callable[..., PracticeHive]) -> None:
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


def test_what_the_entry_itself_holds_back_is_not_its_own(make_hive: Callable[..., PracticeHive]) -> None:
    hive = make_hive("mysql")
    outside = hive.add_job(status="SEMAPHORED")
    hive.add_semaphore(9, dependent_job_id=outside)
    entry = hive.add_job(status="DONE", controlled_semaphore_id=9)
    hive.add_job(prev_job_id=entry, status="DONE", controlled_semaphore_id=9)
    assert state(hive, entry) is State.COMPLETE


def test_a_chain_of_1500_jobs_is_followed_to_its_end(hive: PracticeHive) -> None:
    first = hive.add_job(status="DONE")
    rows = [
        {"id": first + depth, "prev": first + depth - 1, "input": f"{{{depth}}}"} for depth in range(1, 1500)
    ]
    with hive.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO job (job_id, prev_job_id, analysis_id, input_id, param_id_stack, accu_id_stack,"
                " status) VALUES (:id, :prev, 1, :input, '', '', 'DONE')"
            ),
            rows,
        )
        connection.execute(text("UPDATE job SET status = 'RUN' WHERE job_id = :id"), rows[-1])
    assert state(hive, first) is State.RUNNING
