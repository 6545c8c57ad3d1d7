"""States, results and error messages of jobs."""

from __future__ import annotations

import json
import time

import pytest

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import JobTree, State
from event_hooks.hive.sql.outcomes import JobOutcome
from tests.integration.hive.conftest import MakeHive, child, outcome, state, submitted
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.columns import JOB_STATUSES
from tests.support.practice_hive.worker import Worker


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
def test_the_statuses_of_a_tree_determine_its_state(statuses: list[str], expected: State) -> None:
    assert JobTree(1, dict(enumerate(statuses, start=1))).state() is expected


def test_a_complete_job_has_its_result(hive: PracticeHive) -> None:
    job_id = submitted(hive)
    hive.work()
    complete = outcome(hive, job_id)
    assert complete.state is State.COMPLETE
    assert complete.result["genome"] == "homo_sapiens"
    assert complete.error is None


@pytest.mark.parametrize(
    ("text", "expected"), [("plain text", "plain text"), ("[1]", [1]), ('{"cut', '{"cut')]
)
def test_a_result_that_is_not_json_is_text(make_hive: MakeHive, text: str, expected: object) -> None:
    hive = make_hive("sqlite")
    job_id = submitted(hive, result=text)
    hive.work()
    assert outcome(hive, job_id).result == expected


def test_a_complete_job_may_have_no_result(hive: PracticeHive) -> None:
    job_id = submitted(hive, no_result=True)
    hive.work()
    assert outcome(hive, job_id) == JobOutcome(job_id, State.COMPLETE)


@pytest.mark.parametrize("stage", ["entry", "child", "funnel"])
def test_a_failure_has_the_message_of_the_failed_job(hive: PracticeHive, stage: str) -> None:
    job_id = submitted(hive, fail=stage, message="disk is full at Dump.pm line 3.")
    hive.work()
    failed = outcome(hive, job_id)
    assert failed.state is State.FAILED
    assert failed.error
    suffix = {"entry": "", "child": "_part", "funnel": "_merge"}[stage]
    assert f"(event_dump_dna{suffix}) failed: disk is full at Dump.pm line 3." in failed.error


def test_the_error_is_the_message_of_the_last_attempt(hive: PracticeHive) -> None:
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


def test_an_error_shows_no_password(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
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
def test_only_the_passwords_in_a_result_are_masked(
    make_hive: MakeHive, output: object, expected: object
) -> None:
    hive = make_hive("sqlite")
    job_id = submitted(hive, result=json.dumps(output))
    hive.work()
    assert outcome(hive, job_id).result == expected


@pytest.mark.alone
def test_a_long_message_is_read_within_a_second(hive: PracticeHive) -> None:
    job_id = submitted(hive, fail="entry")
    hive.work()
    hive.change("UPDATE log_message SET msg = :msg", msg="mysql://" + "ACGT" * 15_000)
    started = time.monotonic()
    error = outcome(hive, job_id).error
    assert time.monotonic() - started < 1
    assert error
    assert len(error) < 5000


def test_several_failed_jobs_are_counted(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    job_id = hive.add_job(status="DONE")
    failed = [hive.add_job(prev_job_id=job_id, status="FAILED") for _ in range(3)]
    error = outcome(hive, job_id).error
    assert error == (
        f"job {failed[0]} (event_dump_dna) failed: the hive has no message of it\n"
        f"and 2 more of its jobs failed: {failed[1]}, {failed[2]}"
    )


def test_a_job_in_any_other_status_is_running(hive: PracticeHive) -> None:
    entry = hive.add_job(status="DONE")
    hive.add_job(prev_job_id=entry, status="FAILED")
    other = hive.add_job(prev_job_id=entry)
    for name in set(JOB_STATUSES) - {"SEMAPHORED", "DONE", "FAILED", "PASSED_ON"}:
        hive.change("UPDATE job SET status = :status WHERE job_id = :id", status=name, id=other)
        assert state(hive, entry) is State.RUNNING


def test_a_failed_attempt_before_a_retry_is_not_a_failure(hive: PracticeHive) -> None:
    job_id = submitted(hive, fail_once="entry")
    with Worker(hive.url) as worker:
        worker.work_one()
        assert hive.rows("SELECT status, retry_count FROM job") == [("READY", 1)]
        assert state(hive, job_id) is State.RUNNING
        worker.work_until_idle()
    assert (outcome(hive, job_id).state, outcome(hive, job_id).error) == (State.COMPLETE, None)


def test_an_invalid_input_fails_with_its_syntax_error(hive: PracticeHive) -> None:
    (job_id,) = HiveHook(hive.conn_id).submit("event_dump_dna", ['{"a": 1}'])
    hive.work()
    failed = outcome(hive, job_id)
    assert failed.state is State.FAILED
    assert f"job {job_id} (event_dump_dna) failed: syntax error" in str(failed.error)


@pytest.mark.parametrize(
    ("charset", "expected"), [("latin1", "Incorrect string value"), ("utf8mb4", "δίσκος")]
)
def test_a_message_depends_on_the_character_set_of_its_column(
    make_hive: MakeHive, charset: str, expected: str
) -> None:
    hive = make_hive("mysql")
    if charset != "latin1":  # which it has already
        hive.change(f"ALTER TABLE log_message CONVERT TO CHARACTER SET {charset}")
    job_id = submitted(hive, fail="entry", message="πλήρης δίσκος")
    hive.work()
    assert expected in str(outcome(hive, job_id).error)


@pytest.mark.parametrize(("server", "expected"), [("mysql", State.FAILED), ("sqlite", State.COMPLETE)])
def test_a_result_too_long_for_its_column_fails_the_funnel(
    make_hive: MakeHive, server: str, expected: State
) -> None:
    """SQLite keeps it, and the first 65,535 characters of it travel on."""
    hive = make_hive(server)
    job_id = submitted(hive, result="x" * 70_000)
    hive.work()
    ended = outcome(hive, job_id)
    assert ended.state is expected
    assert ("Data too long" in str(ended.error)) == (server == "mysql")
    assert ended.result == (None if server == "mysql" else "x" * 65_535)


def test_a_result_that_is_null_is_none(hive: PracticeHive) -> None:
    job_id = submitted(hive)
    hive.work()
    hive.change("UPDATE result SET output = NULL")
    assert outcome(hive, job_id) == JobOutcome(job_id, State.COMPLETE)


def test_a_job_with_a_result_is_running_until_its_tree_has_finished(hive: PracticeHive) -> None:
    job_id = submitted(hive, after_funnel=True, fail="after")
    with Worker(hive.url) as worker:
        while not hive.rows("SELECT 1 FROM result"):
            worker.work_one()
        assert state(hive, job_id) is State.RUNNING
        worker.work_until_idle()
    failed = outcome(hive, job_id)
    assert failed.state is State.FAILED
    assert failed.result["genome"] == "homo_sapiens"


def test_a_failed_child_fails_a_job_that_has_a_result(hive: PracticeHive) -> None:
    """A person has unblocked the funnel."""
    job_id = submitted(hive, fail="child")
    hive.work()
    assert hive.rows("SELECT COUNT(*) FROM result") == [(0,)]
    hive.change("UPDATE job SET status = 'READY' WHERE job_id = :id", id=child(hive, job_id, "_merge"))
    hive.change("UPDATE analysis_stats SET status = 'LOADING'")
    hive.work()
    failed = outcome(hive, job_id)
    assert failed.state is State.FAILED
    assert failed.result["pieces"] == ["homo_sapiens.part2"]


def test_messages_without_a_job_belong_to_no_job(hive: PracticeHive) -> None:
    job_id = submitted(hive, fail="entry", message="its own")
    hive.work()
    hive.change("INSERT INTO log_message (message_class, msg) VALUES ('WORKER_ERROR', 'of a worker')")
    assert f"job {job_id} (event_dump_dna) failed: its own" in str(outcome(hive, job_id).error)
