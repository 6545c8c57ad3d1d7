"""READY jobs that no worker picks up, and the command that is recommended."""

from __future__ import annotations

import pytest

from event_hooks.hive.sql.diagnosis import Stall
from tests.integration.hive.conftest import MakeHive, submitted, visiting
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker

LIMIT = 3600.0


def stalls(hive: PracticeHive, job_id: int, waited: float = 301) -> list[Stall]:
    """Give what holds up a job that somebody has waited for, for so many seconds."""
    with visiting(hive) as visitor:
        visitor.look((), [job_id])
        return visitor.diagnose({job_id: (waited, LIMIT)}, 300).stalls


def keep_bees(hive: PracticeHive, cause_of_death: str | None = None) -> None:
    hive.change(
        "INSERT INTO beekeeper (meadow_host, meadow_user, process_id, loop_until, cause_of_death)"
        " VALUES ('a_host', 'me', '4711', 'FOREVER', :cause)",
        cause=cause_of_death,
    )


def last_beekeeper(hive: PracticeHive) -> int:
    ((beekeeper_id,),) = hive.rows("SELECT MAX(beekeeper_id) FROM beekeeper")
    return int(beekeeper_id)


@pytest.mark.parametrize("waited", [301, LIMIT - 1])
def test_a_ready_job_is_not_stalled_before_the_timeout_if_a_beekeeper_is_alive(
    hive: PracticeHive, waited: float
) -> None:
    keep_bees(hive)
    assert stalls(hive, submitted(hive), waited) == []


def test_no_job_is_stalled_before_the_minimum_wait(hive: PracticeHive) -> None:
    assert stalls(hive, submitted(hive), waited=299) == []


def test_a_job_that_is_ready_after_the_timeout_is_stalled(hive: PracticeHive) -> None:
    keep_bees(hive)
    job_id = submitted(hive)
    (found,) = stalls(hive, job_id, LIMIT + 1)
    assert (found.kind, found.jobs, found.entries) == ("not_picked_up", (job_id,), (job_id,))
    assert (
        f"beekeeper {last_beekeeper(hive)} on a_host (process 4711) has not said that it ended"
        in found.reason
    )


def test_a_ready_job_is_stalled_if_there_was_never_a_beekeeper(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    (found,) = stalls(hive, submitted(hive))
    assert found.kind == "no_beekeeper"
    assert "no beekeeper has ever worked on this hive" in str(found)
    place = hive.url.rpartition("@")[2]
    assert str(found).endswith(f"To do: beekeeper.pl -url mysql://root:***@{place} -loop_until FOREVER")


def test_a_ready_job_is_stalled_after_the_last_beekeeper_has_ended(hive: PracticeHive) -> None:
    """The default beekeeper ends with the first failed job, and an innocent one stays READY."""
    keep_bees(hive, "LOOP_LIMIT")
    keep_bees(hive, "JOB_FAILED")
    (found,) = stalls(hive, submitted(hive))
    assert found.kind == "no_beekeeper"
    assert f"the last, {last_beekeeper(hive)} on a_host, ended with JOB_FAILED" in found.reason


def test_a_ready_job_is_not_stalled_if_one_of_several_beekeepers_is_alive(hive: PracticeHive) -> None:
    keep_bees(hive)
    keep_bees(hive, "NO_WORK")
    assert stalls(hive, submitted(hive)) == []


def test_a_job_of_an_excluded_analysis_is_stalled(hive: PracticeHive) -> None:
    keep_bees(hive)
    job_id = submitted(hive)
    hive.change("UPDATE analysis_stats SET is_excluded = 1")
    with Worker(hive.url) as worker:
        assert worker.work_until_idle() == []
        (found,) = stalls(hive, job_id)
    assert found.kind == "excluded"
    assert "tweak_pipeline.pl -url" in found.advice
    assert found.advice.endswith("-SET 'analysis[event_dump_dna].is_excluded=0'")


def test_a_job_of_a_blocked_analysis_is_stalled_after_the_timeout(hive: PracticeHive) -> None:
    hive.change("UPDATE analysis_stats SET status = 'BLOCKED'")
    job_id = submitted(hive)
    with Worker(hive.url) as worker:
        assert worker.work_until_idle() == []
        assert stalls(hive, job_id) == []
        (found,) = stalls(hive, job_id, LIMIT + 1)
    assert (found.kind, found.key) == ("blocked", "blocked: event_dump_dna")
    assert "-sync" in found.advice


def test_stalled_jobs_of_one_analysis_are_reported_together(hive: PracticeHive) -> None:
    job_ids = [submitted(hive, token=str(number)) for number in range(3)]
    with visiting(hive) as visitor:
        visitor.look((), job_ids)
        (found,) = visitor.diagnose(dict.fromkeys(job_ids, (301, LIMIT)), 300).stalls
    assert (found.entries, found.jobs) == (tuple(job_ids), tuple(job_ids))
    assert str(found).startswith(
        f"3 jobs of event_dump_dna, the first is {job_ids[0]}: READY, and no beekeeper"
    )


def test_the_recommended_command_has_ehives_url_of_a_sqlite_file(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    (found,) = stalls(hive, submitted(hive))
    assert found.advice == f"beekeeper.pl -url {hive.url} -loop_until FOREVER"


def test_a_tree_that_has_just_changed_is_not_stalled_at_the_timeout(hive: PracticeHive) -> None:
    """A wait that ends at its limit has no reason to blame a child that became READY a moment ago."""
    job_id = submitted(hive)
    with Worker(hive.url) as worker, visiting(hive) as visitor:
        worker.work_one()
        (told,) = visitor.verdicts([job_id], LIMIT)
    assert told.error == "not over in time: 1 of 4 jobs are done"


def test_the_timeout_error_explains_a_job_that_was_not_picked_up(hive: PracticeHive) -> None:
    keep_bees(hive)
    job_id = submitted(hive)
    with visiting(hive) as visitor:
        (told,) = visitor.verdicts([job_id], LIMIT)
    reason = f"not over in time: 0 of 1 jobs are done. job {job_id} of event_dump_dna: READY for longer"
    assert reason in str(told.error)
