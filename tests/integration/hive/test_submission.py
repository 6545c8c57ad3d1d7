"""Jobs reach a hive once, and so that a beekeeper notices them."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from event_hooks.exceptions import AnalysisNotFound, HiveRefused, HiveTooOld, HiveUnreachable
from event_hooks.hive import perl
from event_hooks.hive.hook import HiveHook
from tests.integration.conftest import PracticeHive

MakeHive = Callable[..., PracticeHive]
VARIANTS = [
    pytest.param(server, variant, triggers, id=f"{server}-{variant}{'-triggers' * triggers}")
    for server in ("mysql", "sqlite")
    for variant in ("stock", "docs")
    for triggers in (False, True)
]


def inputs(count: int, length: int = 60, token: str = "t") -> list[str]:
    """Give inputs of this length, all different."""
    texts = []
    for number in range(count):
        empty = len(perl.dumps({"event": {}, "token": f"{token}{number}", "x": ""}))
        texts.append(perl.dumps({"event": {}, "token": f"{token}{number}", "x": "x" * (length - empty)}))
    return texts


@pytest.mark.parametrize(("server", "variant", "triggers"), VARIANTS)
def test_submitted_jobs_are_announced_found_and_done(
    make_hive: MakeHive, server: str, variant: str, triggers: bool
) -> None:
    hive = make_hive(server, variant=variant, triggers=triggers)
    job_ids = HiveHook(hive.conn_id).submit("event_dump_dna", inputs(3))
    assert hive.stats() == ("LOADING", 3, 3)
    hive.work()
    assert {status for (status,) in hive.rows("SELECT status FROM job")} == {"DONE"}
    assert sorted(job_id for (job_id,) in hive.rows("SELECT job_id FROM result")) == sorted(job_ids)


@pytest.mark.parametrize(("server", "variant", "triggers"), VARIANTS)
@pytest.mark.parametrize("length", [60, 255, 256, 70_000])
def test_submitting_twice_is_one_job(
    make_hive: MakeHive, server: str, variant: str, triggers: bool, length: int
) -> None:
    hive = make_hive(server, variant=variant, triggers=triggers)
    hook = HiveHook(hive.conn_id)
    texts = inputs(4, length)
    some = hook.submit("event_dump_dna", [texts[2], texts[0]])
    every = hook.submit("event_dump_dna", texts)
    assert [every[2], every[0]] == some
    assert hook.submit("event_dump_dna", texts) == every
    assert hive.rows("SELECT COUNT(*) FROM job") == [(4,)]
    assert hive.stats()[1:] == (4, 4)


@pytest.mark.parametrize("length", [255, 256, 70_000])
def test_an_input_of_any_length_arrives_whole(hive: PracticeHive, length: int) -> None:
    (text,) = inputs(1, length)
    HiveHook(hive.conn_id).submit("event_dump_dna", [text])
    ((input_id,),) = hive.rows("SELECT input_id FROM job")
    if length <= 255:
        assert input_id == text
    else:
        data_id = int(input_id.removeprefix("_extended_data_id "))
        assert hive.rows("SELECT data FROM analysis_data WHERE analysis_data_id = :id", id=data_id) == [
            (text,)
        ]
    hive.work()
    assert hive.rows("SELECT DISTINCT status FROM job") == [("DONE",)]


def test_the_row_is_the_one_that_seed_pipeline_makes(hive: PracticeHive) -> None:
    HiveHook(hive.conn_id).submit("event_dump_dna", inputs(1))
    columns = "prev_job_id, param_id_stack, accu_id_stack, status, retry_count, runtime_msec, query_count"
    rows = hive.rows(f"SELECT {columns}, controlled_semaphore_id, role_id FROM job")
    assert rows == [(None, "", "", "READY", 0, 0, 0, None, None)]


def test_inputs_that_differ_in_letter_case_are_two_jobs(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    job_ids = HiveHook(hive.conn_id).submit("event_dump_dna", ['{"n" => "Homo"}', '{"n" => "homo"}'])
    assert len(set(job_ids)) == 2


@pytest.mark.parametrize("variant", ["stock", "docs"])
@pytest.mark.parametrize("server", ["mysql", "sqlite"])
def test_racing_submissions_make_one_job_each(make_hive: MakeHive, server: str, variant: str) -> None:
    hive = make_hive(server, variant=variant)
    texts = inputs(20) + inputs(10, 300, "long")

    def submit(seed: int) -> list[int]:
        return HiveHook(hive.conn_id).submit("event_dump_dna", random.Random(seed).sample(texts, len(texts)))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(24)))
    assert len({frozenset(answer) for answer in answers}) == 1
    assert hive.rows("SELECT COUNT(*) FROM job") == [(30,)]
    assert hive.stats()[1:] == (30, 30)


def test_a_blocked_analysis_stays_blocked(hive: PracticeHive) -> None:
    hive.change("UPDATE analysis_stats SET status = 'BLOCKED'")
    HiveHook(hive.conn_id).submit("event_dump_dna", inputs(1))
    assert hive.stats() == ("BLOCKED", 1, 1)


def test_a_missing_analysis_is_named(hive: PracticeHive) -> None:
    with pytest.raises(AnalysisNotFound, match=r"hive 'hive_test_0' refused: it has no analysis 'dump_rna'"):
        HiveHook(hive.conn_id).submit("dump_rna", inputs(1))
    assert hive.rows("SELECT COUNT(*) FROM job") == [(0,)]


@pytest.mark.parametrize("version", [80, 88])
def test_an_early_hive_is_refused_before_anything_is_written(make_hive: MakeHive, version: int) -> None:
    hive = make_hive("sqlite", schema_version=version)
    with pytest.raises(HiveTooOld, match=f"schema version is {version}, and 89 is the oldest"):
        HiveHook(hive.conn_id).submit("event_dump_dna", inputs(1))
    assert hive.rows("SELECT COUNT(*) FROM job") == [(0,)]


def test_a_database_that_is_no_hive_is_refused(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    hive.change("DROP TABLE hive_meta")
    with pytest.raises(HiveRefused, match="hive_meta"):
        HiveHook(hive.conn_id).submit("event_dump_dna", inputs(1))


def test_a_user_who_may_not_write_is_told(
    make_hive: MakeHive, mysql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = make_hive("mysql")
    database = hive.url.rpartition("/")[2]
    user = f"u{database[-16:]}"
    hive.change(f"CREATE USER {user}@'%' IDENTIFIED BY 'a_password'")
    hive.change(f"GRANT SELECT ON {database}.* TO {user}@'%'")
    place = mysql_url.rpartition("@")[2]
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_READ", f"mysql://{user}:a_password@{place}/{database}")
    with pytest.raises(HiveRefused, match=r"hive 'hive_read' refused: .*UPDATE command denied") as caught:
        HiveHook("hive_read").submit("event_dump_dna", inputs(1))
    assert "a_password" not in str(caught.value)
    hive.change(f"DROP USER {user}@'%'")


def test_a_hive_that_is_not_there_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_GONE", "mysql://user:secret_word@127.0.0.1:9/hive")
    with pytest.raises(HiveUnreachable, match="hive 'hive_gone' does not answer: .*127.0.0.1") as caught:
        HiveHook("hive_gone").submit("event_dump_dna", inputs(1))
    assert "secret_word" not in str(caught.value)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_GONE", f"sqlite:///{tmp_path}/none.sqlite")
    with pytest.raises(HiveUnreachable, match="unable to open database file"):
        HiveHook("hive_gone").submit("event_dump_dna", inputs(1))
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_airflow_lacks_is_named() -> None:
    with pytest.raises(HiveUnreachable, match="hive 'hive_none' does not answer: Airflow has no connection"):
        HiveHook("hive_none").submit("event_dump_dna", inputs(1))


def test_a_submission_waits_its_turn_and_then_succeeds(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    hook = HiveHook(hive.conn_id)
    with ThreadPoolExecutor(1) as pool, hive.transaction() as other:
        other.exec_driver_sql("UPDATE analysis_stats SET status = status")
        waiting = pool.submit(hook.submit, "event_dump_dna", inputs(1))
        assert not waiting.done()
        other.rollback()
        assert len(waiting.result(timeout=20)) == 1
