"""Submitting inputs of all lengths, duplicates, and jobs that collide on the unique key of stock tables."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from event_hooks.exceptions import HiveRejected
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    ALL_VARIANTS,
    MakeHive,
    build_inputs,
    find_child,
    open_reader,
    read_outcome,
    run_root_jobs,
    submit_job,
)
from tests.integration.hives import PracticeHive
from tests.support.practice_hive.worker import Worker


# The unique key, the counters and the locks of a submission depend on all three, so all combinations run.
@pytest.mark.parametrize(("server", "variant", "triggers"), ALL_VARIANTS)
def test_submitting_twice_creates_one_job(
    make_hive: MakeHive, server: str, variant: str, triggers: bool
) -> None:
    hive = make_hive(server, variant=variant, triggers=triggers)
    hook = HiveHook(hive.conn_id)
    texts = [build_inputs(1, length, f"of {length} ")[0] for length in (60, 255, 256, 70_000)]
    first_ids = hook.submit("event_dump_dna", [texts[2], texts[0]])
    all_ids = hook.submit("event_dump_dna", texts)
    assert [all_ids[2], all_ids[0]] == first_ids
    assert hook.submit("event_dump_dna", texts) == all_ids
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(4,)]
    assert hive.fetch_stats()[1:] == (4, 4)


@pytest.mark.parametrize("length", [255, 256, 70_000])
def test_an_input_of_any_length_is_stored_completely(hive: PracticeHive, length: int) -> None:
    (text,) = build_inputs(1, length)
    HiveHook(hive.conn_id).submit("event_dump_dna", [text])
    ((input_id,),) = hive.fetch_rows("SELECT input_id FROM job")
    if length <= 255:
        assert input_id == text
    else:
        data_id = int(input_id.removeprefix("_extended_data_id "))
        assert hive.fetch_rows("SELECT data FROM analysis_data WHERE analysis_data_id = :id", id=data_id) == [
            (text,)
        ]
    hive.run_jobs()
    assert hive.fetch_rows("SELECT DISTINCT status FROM job") == [("DONE",)]


@pytest.mark.parametrize("variant", ["stock", "docs"])
@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_concurrent_submissions_create_one_job_each(make_hive: MakeHive, server: str, variant: str) -> None:
    hive = make_hive(server, variant=variant)
    texts = build_inputs(20) + build_inputs(10, 300, "long")

    def submit(seed: int) -> list[int]:
        return HiveHook(hive.conn_id).submit("event_dump_dna", random.Random(seed).sample(texts, len(texts)))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(submit, range(24)))
    assert len({frozenset(job_ids) for job_ids in results}) == 1
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(30,)]
    assert hive.fetch_stats()[1:] == (30, 30)


@pytest.mark.parametrize(("server", "variant"), [("sqlite", "stock"), ("sqlite", "docs"), ("mysql", "docs")])
def test_inputs_that_differ_in_letter_case_create_two_jobs(
    make_hive: MakeHive, server: str, variant: str
) -> None:
    hive = make_hive(server, variant=variant)
    job_ids = HiveHook(hive.conn_id).submit("event_dump_dna", ['{"n" => "Homo"}', '{"n" => "homo"}'])
    assert len(set(job_ids)) == 2


def test_inputs_that_are_equal_for_the_unique_key_are_rejected(make_hive: MakeHive) -> None:
    """The stock key on MySQL ignores letter case; inputs of event hooks have a token of lower-case digits."""
    hive = make_hive("mysql", variant="stock")
    HiveHook(hive.conn_id).submit("event_dump_dna", ['{"n" => "Homo"}'])
    with pytest.raises(HiveRejected, match="hive 'hive_test_0' rejected the request: .*Duplicate entry"):
        HiveHook(hive.conn_id).submit("event_dump_dna", ['{"n" => "homo"}'])
    assert hive.fetch_stats() == ("LOADING", 1, 1)


def test_utf8_columns_hold_the_same_inputs(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    for table in ("job", "analysis_data", "log_message", "result"):
        hive.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4")
    texts = [text for length in (255, 256, 70_000) for text in build_inputs(2, length, f"of {length} ")]
    job_ids = HiveHook(hive.conn_id).submit("event_dump_dna", texts)
    assert HiveHook(hive.conn_id).submit("event_dump_dna", texts) == job_ids
    hive.run_jobs()
    assert [read_outcome(hive, job_id).state for job_id in job_ids] == [JobState.COMPLETE] * 6


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_long_input_that_ehive_has_stored_is_reused(make_hive: MakeHive, server: str) -> None:
    hive = make_hive(server)
    (long,) = build_inputs(1, 300)
    md5 = hashlib.md5(long.encode(), usedforsecurity=False).hexdigest()
    for _ in range(2):
        hive.execute("INSERT INTO analysis_data (md5sum, data) VALUES (:md5, :data)", md5=md5, data=long)
    HiveHook(hive.conn_id).submit("event_dump_dna", [long])
    ((first,),) = hive.fetch_rows("SELECT MIN(analysis_data_id) FROM analysis_data")
    assert hive.fetch_rows("SELECT input_id FROM job") == [(f"_extended_data_id {first}",)]
    assert hive.fetch_rows("SELECT COUNT(*) FROM analysis_data") == [(2,)]


def test_another_text_with_the_same_digest_is_not_reused(hive: PracticeHive) -> None:
    (long,) = build_inputs(1, 300)
    md5 = hashlib.md5(long.encode(), usedforsecurity=False).hexdigest()
    for other in ("{}", long.upper()):
        hive.execute("INSERT INTO analysis_data (md5sum, data) VALUES (:md5, :data)", md5=md5, data=other)
    HiveHook(hive.conn_id).submit("event_dump_dna", [long])
    *_, (data_id, data) = hive.fetch_rows(
        "SELECT analysis_data_id, data FROM analysis_data ORDER BY analysis_data_id"
    )
    assert hive.fetch_rows("SELECT COUNT(*) FROM analysis_data") == [(3,)]
    assert data == long
    assert hive.fetch_rows("SELECT input_id FROM job") == [(f"_extended_data_id {data_id}",)]


def test_many_inputs_are_submitted_in_one_transaction(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    texts = build_inputs(1500) + build_inputs(1100, 300, "long")
    job_ids = HiveHook(hive.conn_id).submit("event_dump_dna", texts)
    assert len(set(job_ids)) == 2600
    assert HiveHook(hive.conn_id).submit("event_dump_dna", texts[::-1]) == job_ids[::-1]
    assert hive.fetch_stats() == ("LOADING", 2600, 2600)


@pytest.mark.parametrize(("variant", "expected"), [("stock", JobState.COMPLETE), ("docs", JobState.FAILED)])
def test_a_job_retried_after_its_dataflow_has_its_final_state(
    make_hive: MakeHive, variant: str, expected: JobState
) -> None:
    """Without the unique key the retry creates each child twice, and the second result is rejected."""
    hive = make_hive("mysql", variant=variant)
    job_id = submit_job(hive, fail_once="dataflow")
    run_root_jobs(hive)
    hive.run_jobs()
    final = read_outcome(hive, job_id)
    assert final.state is expected
    assert final.result["pieces"] == ["homo_sapiens.part1", "homo_sapiens.part2"]


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_fan_of_duplicates_is_reported_as_a_warning(make_hive: MakeHive, server: str) -> None:
    hive = make_hive(server)
    first_id, second_id = (submit_job(hive, token=token, shared="fan") for token in "ab")
    hive.run_jobs()
    with open_reader(hive) as reader:
        complete, incomplete = reader.read_changes((), {first_id: None, second_id: None}).outcomes
    assert (complete.state, complete.warning) == (JobState.COMPLETE, None)
    assert (incomplete.state, incomplete.result["pieces"]) == (JobState.COMPLETE, [])
    assert "may be incomplete: JobAdaptor failed to store the local Job( analysis_id=" in str(
        incomplete.warning
    )
    assert str(incomplete.warning).endswith("possibly due to a collision (and 1 more)")


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_job_whose_descendants_are_all_duplicates_waits_for_the_shared_funnel(
    make_hive: MakeHive, server: str
) -> None:
    hive = make_hive(server)
    first_id, second_id = (submit_job(hive, token=token, shared="all", after_funnel=True) for token in "ab")
    run_root_jobs(hive)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job WHERE prev_job_id = :id", id=second_id) == [(0,)]
    with Worker(hive.url) as worker, open_reader(hive) as reader:
        polls = [reader.read_changes((), {first_id: None, second_id: None}).outcomes]
        while worker.run_one_job():
            assert polls[-1] == []
            polls.append(reader.read_changes((), {first_id: None, second_id: None}).outcomes)
    assert [outcome.state for outcome in polls[-1]] == [JobState.COMPLETE] * 2
    assert [outcome.warning is None for outcome in polls[-1]] == [True, False]


def test_a_job_fails_with_the_funnel_that_it_shares(hive: PracticeHive) -> None:
    first_id, second_id = (submit_job(hive, token=token, shared="all", fail="funnel") for token in "ab")
    run_root_jobs(hive)
    hive.run_jobs()
    funnel = find_child(hive, first_id, "_merge")
    with open_reader(hive) as reader:
        outcomes = reader.read_changes((), {second_id: None, first_id: None}).outcomes
    assert [final.state for final in outcomes] == [JobState.FAILED] * 2
    assert all(f"job {funnel} (event_dump_dna_merge) failed" in str(final.error) for final in outcomes)


def test_a_deleted_shared_funnel_is_not_success(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    first_id, second_id = (submit_job(hive, token=token, shared="all") for token in "ab")
    run_root_jobs(hive)
    hive.run_jobs()
    hive.execute("DELETE FROM job WHERE job_id = :id", id=first_id)
    assert read_outcome(hive, second_id).state is JobState.MISSING
