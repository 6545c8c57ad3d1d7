"""Supported and rejected versions and schemas of hives."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from event_hooks.exceptions import HiveRejected, HiveTooOld
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    MakeHive,
    build_inputs,
    open_reader,
    read_outcome,
    read_state,
    submit_job,
)
from tests.integration.hives import PracticeHive


@pytest.mark.parametrize("version", [89, 94, 96, 97, 105])
def test_hives_since_ehive_2_5_are_supported(make_hive: MakeHive, version: int) -> None:
    hive = make_hive("sqlite", schema_version=version)
    job_id = submit_job(hive)
    hive.run_jobs()
    assert read_outcome(hive, job_id).state is JobState.COMPLETE


@pytest.mark.parametrize("version", ["80", "88", "", "2.5"])
def test_a_hive_with_an_old_schema_is_rejected_before_any_write(make_hive: MakeHive, version: str) -> None:
    hive = make_hive("sqlite")
    hive.execute("UPDATE hive_meta SET meta_value = :v WHERE meta_key = 'hive_sql_schema_version'", v=version)
    with pytest.raises(HiveTooOld, match=f"schema version is {version or 'not set'}, and 89 is the oldest"):
        HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(1))
    with pytest.raises(HiveTooOld):
        HiveHook(hive.conn_id).check_analysis("event_dump_dna")
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(0,)]


def test_a_hive_that_is_being_created_is_rejected_until_it_has_a_version(hive: PracticeHive) -> None:
    """Airflow retries the task: the error is no AirflowFailException."""
    hive.execute("DELETE FROM hive_meta WHERE meta_key = 'hive_sql_schema_version'")
    with pytest.raises(HiveRejected, match="schema version is not set") as caught:
        HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(1))
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_a_database_that_is_not_a_hive_is_rejected(make_hive: MakeHive, server: str) -> None:
    hive = make_hive(server)
    hive.execute("DROP TABLE hive_meta")
    with pytest.raises(HiveRejected, match="hive_meta"):
        HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(1))


def test_counters_are_updated_if_hive_meta_disables_triggers(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    hive.execute("INSERT INTO hive_meta (meta_key, meta_value) VALUES ('hive_use_triggers', '0')")
    HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(2))
    assert hive.fetch_stats() == ("LOADING", 2, 2)


def test_deleting_a_job_on_sqlite_leaves_its_children(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    root_id = hive.add_job(status="DONE")
    hive.add_job(prev_job_id=root_id, status="RUN")
    hive.execute("DELETE FROM job WHERE job_id = :id", id=root_id)
    assert hive.fetch_rows("SELECT COUNT(*) FROM job") == [(1,)]
    assert read_state(hive, root_id) is JobState.MISSING


def test_the_age_of_a_ready_job_is_the_recorded_waiting_time(hive: PracticeHive) -> None:
    """A restarted triggerer reads the job for the first time; the XCom of the wait has its start time."""
    hive.execute(
        "INSERT INTO beekeeper (meadow_host, meadow_user, process_id, loop_until)"
        " VALUES ('host', 'me', '1', 'FOREVER')"
    )
    job_id = submit_job(hive)
    with open_reader(hive) as reader:
        reader.read_changes((), {job_id: None})
        young = reader.find_stalls({job_id: (3599, 3600)}, 300).stalls
        (old,) = reader.find_stalls({job_id: (3601, 3600)}, 300).stalls
    assert young == []
    assert old.kind == "not_picked_up"


def test_a_hive_may_lack_the_tables_for_results_and_progress(make_hive: MakeHive) -> None:
    hive = make_hive("mysql", with_result=False, with_progress=False)
    job_id = submit_job(hive)
    with open_reader(hive) as reader:
        assert reader.read_changes((), {job_id: None}).progress[0].message is None
        hive.run_jobs()
        (complete,) = reader.read_changes((), {job_id: None}).outcomes
    assert (complete.state, complete.result) == (JobState.COMPLETE, None)


def test_the_result_table_may_be_created_later(make_hive: MakeHive) -> None:
    hive = make_hive("mysql", with_result=False)
    job_id = submit_job(hive)
    with open_reader(hive) as reader:
        reader.read_changes((), {job_id: None})
        hive.execute("CREATE TABLE result (job_id INTEGER PRIMARY KEY, output TEXT)")
        hive.run_jobs()
        (complete,) = reader.read_changes((), {job_id: None}).outcomes
    assert complete.result["genome"] == "homo_sapiens"
