"""States, results and error messages of jobs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import JobState, JobTree
from event_hooks.hive.sql.outcomes import JobOutcome
from event_hooks.masking import mask_secrets
from tests.integration.hive.conftest import MakeHive, find_child, read_outcome, read_state, submit_job
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.columns import JOB_STATUSES
from tests.support.practice_hive.worker import Worker


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["DONE", "FAILED", "RUN"], JobState.RUNNING),
        (["DONE", "FAILED", "READY"], JobState.RUNNING),
        (["DONE", "FAILED", "SEMAPHORED"], JobState.FAILED),
        (["DONE", "DONE", "SEMAPHORED"], JobState.RUNNING),
        (["PASSED_ON", "DONE", "DONE"], JobState.COMPLETE),
        (["DONE", "SOMETHING_NEW"], JobState.RUNNING),
    ],
    ids=str,
)
def test_the_statuses_of_a_tree_determine_its_state(statuses: list[str], expected: JobState) -> None:
    assert JobTree(1, dict(enumerate(statuses, start=1))).state() is expected


def test_a_complete_job_has_its_result(hive: PracticeHive) -> None:
    job_id = submit_job(hive)
    hive.run_jobs()
    complete = read_outcome(hive, job_id)
    assert complete.state is JobState.COMPLETE
    assert complete.result["genome"] == "homo_sapiens"
    assert complete.error is None


@pytest.mark.parametrize(
    ("text", "expected"), [("plain text", "plain text"), ("[1]", [1]), ('{"cut', '{"cut')]
)
def test_a_result_that_is_not_json_is_text(make_hive: MakeHive, text: str, expected: object) -> None:
    hive = make_hive("sqlite")
    job_id = submit_job(hive, result=text)
    hive.run_jobs()
    assert read_outcome(hive, job_id).result == expected


def test_a_complete_job_may_have_no_result(hive: PracticeHive) -> None:
    job_id = submit_job(hive, no_result=True)
    hive.run_jobs()
    assert read_outcome(hive, job_id) == JobOutcome(job_id, JobState.COMPLETE)


@pytest.mark.parametrize("stage", ["entry", "child", "funnel"])
def test_a_failure_has_the_message_of_the_failed_job(hive: PracticeHive, stage: str) -> None:
    job_id = submit_job(hive, fail=stage, message="disk is full at Dump.pm line 3.")
    hive.run_jobs()
    failed = read_outcome(hive, job_id)
    assert failed.state is JobState.FAILED
    assert failed.error
    suffix = {"entry": "", "child": "_part", "funnel": "_merge"}[stage]
    assert f"(event_dump_dna{suffix}) failed: disk is full at Dump.pm line 3." in failed.error


def test_the_error_is_the_message_of_the_last_attempt(hive: PracticeHive) -> None:
    job_id = submit_job(hive, fail="entry")
    hive.run_jobs()
    for message_class, message in [("WORKER_ERROR", "the last attempt"), ("INFO", "chatter")]:
        hive.execute(
            "INSERT INTO log_message (job_id, message_class, msg) VALUES (:id, :class, :msg)",
            id=job_id,
            **{"class": message_class},
            msg=message,
        )
    assert read_outcome(hive, job_id).error == f"job {job_id} (event_dump_dna) failed: the last attempt"


def test_the_error_of_an_unsupported_uri_hides_its_password(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    job_id = submit_job(hive, fail="entry", message="no table in mysql://ensadmin:secret_word@host:3306/core")
    hive.run_jobs()
    error = read_outcome(hive, job_id).error
    assert error
    assert "mysql://ensadmin:***@host:3306/core" in error


@pytest.mark.parametrize(
    "output", [{"events": [{"type": "x", "src_uri": "mysql://u:p@ss@host/core"}]}, "-pass word"], ids=str
)
def test_a_result_is_read_with_its_secrets_and_shown_without(make_hive: MakeHive, output: Any) -> None:
    hive = make_hive("sqlite")
    job_id = submit_job(hive, result=json.dumps(output))
    hive.run_jobs()
    assert read_outcome(hive, job_id).result == output
    (view,) = HiveHook(hive.conn_id).list_jobs("event_dump_dna", job_id)
    assert view.output == mask_secrets(output)
    assert view.output != output


@pytest.mark.alone
def test_a_long_message_is_read_within_a_second(hive: PracticeHive) -> None:
    job_id = submit_job(hive, fail="entry")
    hive.run_jobs()
    hive.execute("UPDATE log_message SET msg = :msg", msg="mysql://" + "ACGT" * 15_000)
    start = time.monotonic()
    error = read_outcome(hive, job_id).error
    assert time.monotonic() - start < 1
    assert error
    assert len(error) < 5000


def test_several_failed_jobs_are_counted(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    job_id = hive.add_job(status="DONE")
    failed = [hive.add_job(prev_job_id=job_id, status="FAILED") for _ in range(3)]
    error = read_outcome(hive, job_id).error
    assert error == (
        f"job {failed[0]} (event_dump_dna) failed: the hive has no error message for it\n"
        f"and 2 more of its jobs failed: {failed[1]}, {failed[2]}"
    )


def test_a_job_in_any_other_status_is_running(hive: PracticeHive) -> None:
    root_id = hive.add_job(status="DONE")
    hive.add_job(prev_job_id=root_id, status="FAILED")
    other = hive.add_job(prev_job_id=root_id)
    for name in set(JOB_STATUSES) - {"SEMAPHORED", "DONE", "FAILED", "PASSED_ON"}:
        hive.execute("UPDATE job SET status = :status WHERE job_id = :id", status=name, id=other)
        assert read_state(hive, root_id) is JobState.RUNNING


def test_a_failed_attempt_before_a_retry_is_not_a_failure(hive: PracticeHive) -> None:
    job_id = submit_job(hive, fail_once="entry")
    with Worker(hive.url) as worker:
        worker.run_one_job()
        assert hive.fetch_rows("SELECT status, retry_count FROM job") == [("READY", 1)]
        assert read_state(hive, job_id) is JobState.RUNNING
        worker.run_until_idle()
    assert (read_outcome(hive, job_id).state, read_outcome(hive, job_id).error) == (JobState.COMPLETE, None)


def test_an_invalid_input_fails_with_its_syntax_error(hive: PracticeHive) -> None:
    (job_id,) = HiveHook(hive.conn_id).submit("event_dump_dna", ['{"a": 1}'])
    hive.run_jobs()
    failed = read_outcome(hive, job_id)
    assert failed.state is JobState.FAILED
    assert f"job {job_id} (event_dump_dna) failed: syntax error" in str(failed.error)


@pytest.mark.parametrize(
    ("charset", "expected"), [("latin1", "Incorrect string value"), ("utf8mb4", "δίσκος")]
)
def test_a_message_depends_on_the_character_set_of_its_column(
    make_hive: MakeHive, charset: str, expected: str
) -> None:
    hive = make_hive("mysql")
    if charset != "latin1":  # latin1 is the default
        hive.execute(f"ALTER TABLE log_message CONVERT TO CHARACTER SET {charset}")
    job_id = submit_job(hive, fail="entry", message="πλήρης δίσκος")
    hive.run_jobs()
    assert expected in str(read_outcome(hive, job_id).error)


@pytest.mark.parametrize(("server", "expected"), [("mysql", JobState.FAILED), ("sqlite", JobState.COMPLETE)])
def test_a_result_too_long_for_its_column_fails_the_funnel(
    make_hive: MakeHive, server: str, expected: JobState
) -> None:
    """SQLite stores it completely."""
    hive = make_hive(server)
    job_id = submit_job(hive, result="x" * 70_000)
    hive.run_jobs()
    final = read_outcome(hive, job_id)
    assert final.state is expected
    assert ("Data too long" in str(final.error)) == (server == "mysql")
    assert final.result == (None if server == "mysql" else "x" * 70_000)


def test_a_job_with_a_result_is_running_until_its_tree_has_finished(hive: PracticeHive) -> None:
    job_id = submit_job(hive, after_funnel=True, fail="after")
    with Worker(hive.url) as worker:
        while not hive.fetch_rows("SELECT 1 FROM result"):
            worker.run_one_job()
        assert read_state(hive, job_id) is JobState.RUNNING
        worker.run_until_idle()
    failed = read_outcome(hive, job_id)
    assert failed.state is JobState.FAILED
    assert failed.result["genome"] == "homo_sapiens"


def test_a_failed_child_fails_a_job_that_has_a_result(hive: PracticeHive) -> None:
    """A user has unblocked the funnel."""
    job_id = submit_job(hive, fail="child")
    hive.run_jobs()
    assert hive.fetch_rows("SELECT COUNT(*) FROM result") == [(0,)]
    hive.execute("UPDATE job SET status = 'READY' WHERE job_id = :id", id=find_child(hive, job_id, "_merge"))
    hive.execute("UPDATE analysis_stats SET status = 'LOADING'")
    hive.run_jobs()
    failed = read_outcome(hive, job_id)
    assert failed.state is JobState.FAILED
    assert failed.result["pieces"] == ["homo_sapiens.part2"]


TOLERATED = (
    "\neHive tolerates 50 % of failed jobs of event_dump_dna_part (failed_job_tolerance), and may go on with"
    " other analyses, but the failed job is not done"
)


@pytest.mark.parametrize(
    ("others", "note"),
    [
        (["DONE"], TOLERATED),
        (["DONE", "SEMAPHORED"], f"{TOLERATED}; 1 SEMAPHORED jobs of this tree never run"),
    ],
    ids=["all other jobs are done", "a funnel behind it"],
)
def test_a_failed_job_that_ehive_tolerates_fails_the_event_with_a_note(
    hive: PracticeHive, others: list[str], note: str
) -> None:
    """The tolerance is one of all jobs of an analysis, and eHive's semaphores ignore it."""
    hive.execute(
        "UPDATE analysis_base SET failed_job_tolerance = 50 WHERE logic_name = 'event_dump_dna_part'"
    )
    ((part_id,),) = hive.fetch_rows(
        "SELECT analysis_id FROM analysis_base WHERE logic_name = 'event_dump_dna_part'"
    )
    root_id = hive.add_job(status="DONE")
    failed_id = hive.add_job(prev_job_id=root_id, status="FAILED", analysis_id=part_id)
    for status in others:
        hive.add_job(prev_job_id=root_id, status=status)
    final = read_outcome(hive, root_id)
    assert final.state is JobState.FAILED
    assert final.error == (
        f"job {failed_id} (event_dump_dna_part) failed: the hive has no error message for it{note}"
    )


def test_messages_without_a_job_belong_to_no_job(hive: PracticeHive) -> None:
    job_id = submit_job(hive, fail="entry", message="its own")
    hive.run_jobs()
    hive.execute("INSERT INTO log_message (message_class, msg) VALUES ('WORKER_ERROR', 'of a worker')")
    assert f"job {job_id} (event_dump_dna) failed: its own" in str(read_outcome(hive, job_id).error)


@pytest.mark.parametrize("before", ["READY", "FAILED"], ids=["discarded", "forgiven"])
def test_a_tree_with_jobs_that_ehive_discarded_or_forgave_is_no_success(
    hive: PracticeHive, before: str
) -> None:
    """``-discard_ready_jobs`` and ``-forgive_failed_jobs`` set the status, and no time of completion."""
    root_id = hive.add_job(status="DONE")
    child_id, other_id = (hive.add_job(prev_job_id=root_id, status=before) for _ in range(2))
    hive.execute("UPDATE job SET status = 'DONE' WHERE status = :before", before=before)
    outcome = read_outcome(hive, root_id)
    assert outcome.state is JobState.STOPPED
    assert outcome.error
    assert "2 of its jobs never ran or were forgiven" in outcome.error
    assert outcome.error.endswith(f"the first is {child_id}")
    hive.complete_jobs("job_id IN (:a, :b)", a=child_id, b=other_id)
    assert read_outcome(hive, root_id).state is JobState.COMPLETE
