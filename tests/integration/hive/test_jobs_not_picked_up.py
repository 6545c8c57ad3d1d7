"""READY jobs that no worker picks up, and the recommended command."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from event_hooks.hive.connection import resolve_hive_uri
from event_hooks.hive.reader import HiveReader
from event_hooks.hive.sensor import HiveJobSensor
from event_hooks.hive.sql.diagnosis import Stall
from tests.integration.hive.conftest import MakeHive, open_reader, submit_job
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker

LIMIT = 3600.0


def find_stalls(hive: PracticeHive, job_id: int, waited: float = 301) -> list[Stall]:
    """Return the stalls of a job that a trigger has waited for, for this many seconds."""
    with open_reader(hive) as reader:
        reader.read_changes((), {job_id: None})
        return reader.find_stalls({job_id: (waited, LIMIT)}, 300).stalls


def add_beekeeper(hive: PracticeHive, cause_of_death: str | None = None) -> None:
    hive.execute(
        "INSERT INTO beekeeper (meadow_host, meadow_user, process_id, loop_until, cause_of_death)"
        " VALUES ('a_host', 'me', '4711', 'FOREVER', :cause)",
        cause=cause_of_death,
    )


def load_last_beekeeper(hive: PracticeHive) -> int:
    ((beekeeper_id,),) = hive.fetch_rows("SELECT MAX(beekeeper_id) FROM beekeeper")
    return int(beekeeper_id)


@pytest.mark.parametrize("waited", [301, LIMIT - 1])
def test_a_ready_job_is_not_stalled_before_the_timeout_if_a_beekeeper_is_alive(
    hive: PracticeHive, waited: float
) -> None:
    add_beekeeper(hive)
    assert find_stalls(hive, submit_job(hive), waited) == []


def test_no_job_is_stalled_before_the_minimum_wait(hive: PracticeHive) -> None:
    assert find_stalls(hive, submit_job(hive), waited=299) == []


def test_a_job_that_is_ready_after_the_timeout_is_stalled(hive: PracticeHive) -> None:
    add_beekeeper(hive)
    job_id = submit_job(hive)
    (stall,) = find_stalls(hive, job_id, LIMIT + 1)
    assert (stall.kind, stall.job_ids, stall.root_ids) == ("not_picked_up", (job_id,), (job_id,))
    assert (
        f"beekeeper {load_last_beekeeper(hive)} on a_host (process 4711) has not recorded its end"
        in stall.reason
    )


def test_a_ready_job_is_stalled_if_there_was_never_a_beekeeper(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    (stall,) = find_stalls(hive, submit_job(hive))
    assert stall.kind == "no_beekeeper"
    assert "no beekeeper has ever worked on this hive" in str(stall)
    url = f"<URL of connection {hive.conn_id}>"
    assert str(stall).endswith(f"To do: beekeeper.pl -url {url} -loop_until FOREVER")


def test_a_ready_job_is_stalled_after_the_last_beekeeper_has_ended(hive: PracticeHive) -> None:
    """The default beekeeper ends with the first failed job, and other jobs stay READY."""
    add_beekeeper(hive, "LOOP_LIMIT")
    add_beekeeper(hive, "JOB_FAILED")
    (stall,) = find_stalls(hive, submit_job(hive))
    assert stall.kind == "no_beekeeper"
    assert f"the last, {load_last_beekeeper(hive)} on a_host, ended with JOB_FAILED" in stall.reason


def block_beekeepers(hive: PracticeHive) -> None:
    """Block the beekeepers that are alive, as ``beekeeper.pl -big_red_button`` does."""
    hive.execute("UPDATE beekeeper SET is_blocked = 1 WHERE cause_of_death IS NULL")


def test_a_ready_job_is_stalled_if_its_beekeeper_is_blocked(hive: PracticeHive) -> None:
    """A blocked beekeeper does nothing until a user unblocks it."""
    add_beekeeper(hive)
    block_beekeepers(hive)
    beekeeper_id = load_last_beekeeper(hive)
    add_beekeeper(hive, "NO_WORK")
    (stall,) = find_stalls(hive, submit_job(hive), waited=301)
    assert stall.kind == "no_beekeeper"
    assert stall.reason == (
        f"READY, and beekeeper {beekeeper_id} on a_host is blocked (beekeeper.is_blocked = 1), so it starts"
        " no workers"
    )
    assert stall.advice.endswith(
        f'-sql "UPDATE beekeeper SET is_blocked = 0 WHERE beekeeper_id = {beekeeper_id}"'
    )


def test_a_ready_job_is_not_stalled_if_a_beekeeper_was_started_after_the_block(hive: PracticeHive) -> None:
    add_beekeeper(hive)
    block_beekeepers(hive)
    add_beekeeper(hive)
    assert find_stalls(hive, submit_job(hive), waited=301) == []


def test_a_blocked_beekeeper_that_has_ended_is_an_ended_one(hive: PracticeHive) -> None:
    add_beekeeper(hive)
    block_beekeepers(hive)
    hive.execute("UPDATE beekeeper SET cause_of_death = 'DISAPPEARED'")
    (stall,) = find_stalls(hive, submit_job(hive), waited=301)
    assert "ended with DISAPPEARED" in stall.reason


@pytest.mark.parametrize(("cause", "count"), [(None, 0), ("NO_WORK", 1)])
def test_beekeepers_of_hives_before_version_2_6_cannot_be_blocked(
    hive: PracticeHive, cause: str | None, count: int
) -> None:
    hive.execute("ALTER TABLE beekeeper DROP COLUMN is_blocked")
    add_beekeeper(hive, cause)
    assert len(find_stalls(hive, submit_job(hive), waited=301)) == count


def test_a_ready_job_is_not_stalled_if_one_of_several_beekeepers_is_alive(hive: PracticeHive) -> None:
    add_beekeeper(hive)
    add_beekeeper(hive, "NO_WORK")
    assert find_stalls(hive, submit_job(hive)) == []


def test_a_job_of_an_excluded_analysis_is_stalled(hive: PracticeHive) -> None:
    add_beekeeper(hive)
    job_id = submit_job(hive)
    hive.execute("UPDATE analysis_stats SET is_excluded = 1")
    with Worker(hive.url) as worker:
        assert worker.run_until_idle() == []
        (stall,) = find_stalls(hive, job_id)
    assert stall.kind == "excluded"
    assert stall.advice.endswith(
        f"run tweak_pipeline.pl -url <URL of connection {hive.conn_id}>"
        " -SET 'analysis[event_dump_dna].is_excluded=0'"
    )


def test_a_job_of_a_blocked_analysis_is_stalled_after_the_timeout(hive: PracticeHive) -> None:
    hive.execute("UPDATE analysis_stats SET status = 'BLOCKED'")
    job_id = submit_job(hive)
    with Worker(hive.url) as worker:
        assert worker.run_until_idle() == []
        assert find_stalls(hive, job_id) == []
        (stall,) = find_stalls(hive, job_id, LIMIT + 1)
    assert (stall.kind, stall.key) == ("blocked", "blocked: event_dump_dna")
    assert "-sync" in stall.advice


def test_stalled_jobs_of_one_analysis_are_reported_together(hive: PracticeHive) -> None:
    job_ids = [submit_job(hive, token=str(number)) for number in range(3)]
    with open_reader(hive) as reader:
        reader.read_changes((), dict.fromkeys(job_ids))
        (stall,) = reader.find_stalls(dict.fromkeys(job_ids, (301, LIMIT)), 300).stalls
    assert (stall.root_ids, stall.job_ids) == (tuple(job_ids), tuple(job_ids))
    assert str(stall).startswith(
        f"3 jobs of event_dump_dna, the first is {job_ids[0]}: READY, and no beekeeper"
    )


def test_the_recommended_command_names_the_process_with_a_hive_uri(hive: PracticeHive) -> None:
    job_id = submit_job(hive)
    reader = HiveReader("lookup:dump_dna", resolve_hive_uri(hive.url))
    (final,) = reader.read_final_outcomes({job_id: None}, LIMIT, LIMIT)
    reader.close()
    assert final.error
    assert "beekeeper.pl -url <hive_uri of dump_dna in the process lookup> -loop_until" in final.error


def test_a_tree_that_has_just_changed_is_not_stalled_at_the_timeout(hive: PracticeHive) -> None:
    """When a wait times out, a child that has just become READY is not the reason."""
    job_id = submit_job(hive)
    with Worker(hive.url) as worker, open_reader(hive) as reader:
        worker.run_one_job()
        (final,) = reader.read_final_outcomes({job_id: None}, LIMIT + 1, LIMIT)
    assert final.error == "not finished in time: 1 of 4 jobs are done"


def test_the_timeout_error_explains_a_job_that_was_not_picked_up(hive: PracticeHive) -> None:
    add_beekeeper(hive)
    job_id = submit_job(hive)
    with open_reader(hive) as reader:
        (final,) = reader.read_final_outcomes({job_id: None}, LIMIT + 1, LIMIT)
    reason = f"not finished in time: 0 of 1 jobs are done. job {job_id} of event_dump_dna: READY for longer"
    assert reason in str(final.error)


def test_a_timeout_below_the_ready_timeout_does_not_call_a_job_late(hive: PracticeHive) -> None:
    add_beekeeper(hive)
    job_id = submit_job(hive)
    sensor = HiveJobSensor(
        task_id="wait", hive_conn_id=hive.conn_id, job_ids=str([job_id]), ready_timeout=LIMIT, timeout=1.5
    )
    context: Any = {"ti": SimpleNamespace(id="first")}
    summary = sensor.summarize_after_timeout(context)
    assert summary.errors == (f"job {job_id}: not finished in time: 0 of 1 jobs are done",)
