"""The number and the cost of the statements of a poll."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, text

from event_hooks.hive.hook import HiveHook
from event_hooks.hive.sql.job_trees import JobState
from tests.integration.hive.conftest import (
    MakeHive,
    open_reader,
    read_outcome,
    read_state,
    record_statements,
    submit_job,
)
from tests.integration.hives import PracticeHive

ANALYSIS = "event_dump_dna"


def insert_trees(hive: PracticeHive, count: int, status: str = "DONE") -> list[int]:
    """Insert trees of five jobs in three levels, with results and progress, and return the root ids."""
    rows, root_ids = [], []
    for number in range(count):
        first = 5 * number + 1
        root_ids.append(first)
        for address, (above, name) in enumerate(
            [(None, "DONE"), (first, "DONE"), (first, "DONE"), (first, "DONE"), (first + 3, status)]
        ):
            rows.append(
                {"id": first + address, "prev": above, "input": f"{{{first + address}}}", "status": name}
            )
    insert = (
        "INSERT INTO job (job_id, prev_job_id, analysis_id, input_id, param_id_stack, accu_id_stack, status,"
        " when_completed) VALUES (:id, :prev, 1, :input, '', '', :status, '2026-01-01 00:00:00')"
    )
    with hive.engine.begin() as connection:
        connection.execute(text(insert), rows)
        for statement in (
            "INSERT INTO result (job_id, output) VALUES (:id, '[1]')",
            "INSERT INTO job_progress (job_id, message) VALUES (:id, 'half')",
        ):
            connection.execute(text(statement), [{"id": root_id} for root_id in root_ids])
    return root_ids


def select_job_statements(statements: list[str]) -> list[str]:
    """Return the statements that read jobs or results, without the queries of SQLAlchemy itself."""
    return [statement for statement in statements if "FROM job" in statement or "FROM result" in statement]


def test_polling_1000_finished_trees_takes_at_most_six_statements(hive: PracticeHive) -> None:
    root_ids = insert_trees(hive, 1000)
    jobs = {root_id: f"{{{root_id}}}" for root_id in root_ids}
    with open_reader(hive) as reader:
        with record_statements() as statements:
            outcomes = reader.read_changes((), jobs).outcomes
        assert len(outcomes) == 1000
        assert {(final.state, final.warning, str(final.result)) for final in outcomes} == {
            (JobState.COMPLETE, None, "[1]")
        }
        assert len(select_job_statements(statements)) <= 3 + 3  # messages, results, tokens


def test_polling_1000_unfinished_trees_again_takes_one_statement(hive: PracticeHive) -> None:
    jobs = {root_id: f"{{{root_id}}}" for root_id in insert_trees(hive, 1000, "RUN")}
    with open_reader(hive) as reader:
        with record_statements() as statements:
            progress = reader.read_changes((), jobs).progress
        assert (len(progress), progress[0].message, progress[0].done) == (1000, "half", 4)
        assert len(select_job_statements(statements)) <= 3 + 2  # messages, tokens
        with record_statements() as statements:
            reader.read_changes((), jobs)
        assert len(select_job_statements(statements)) == 1


def test_finished_jobs_are_not_polled_again(hive: PracticeHive) -> None:
    root_ids = insert_trees(hive, 3, "RUN")
    with open_reader(hive) as reader:
        reader.read_changes((), dict.fromkeys(root_ids))
        with record_statements() as statements:
            reader.read_changes((), dict.fromkeys(root_ids))
        (statement,) = select_job_statements(statements)
        assert "IN (5, 10, 15)" in statement
        hive.complete_jobs()
        reader.read_changes((), dict.fromkeys(root_ids))
        with record_statements() as statements:
            assert len(reader.read_changes((), dict.fromkeys(root_ids)).outcomes) == 3
        assert not any("prev_job_id" in statement for statement in statements)


def test_removed_jobs_are_not_polled(hive: PracticeHive) -> None:
    root_ids = insert_trees(hive, 3, "RUN")
    with open_reader(hive) as reader:
        reader.read_changes((), dict.fromkeys(root_ids))
        with record_statements() as statements:
            reader.read_changes(root_ids, {})
        assert select_job_statements(statements) == []
        assert not reader._forest.trees
        assert not reader._forest.analysis_ids


def test_no_poll_reads_a_whole_table(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    insert_trees(hive, 2000)
    with hive.engine.begin() as connection:
        connection.execute(text("UPDATE job SET status = 'RUN' WHERE job_id = 5"))
        data = [{"sum": f"{number:032}", "data": f"{{'n' => {number}}}"} for number in range(2000)]
        connection.execute(text("INSERT INTO analysis_data (md5sum, data) VALUES (:sum, :data)"), data)
        tables = "job, log_message, result, job_progress, analysis_data"
        connection.execute(text(f"ANALYZE TABLE {tables}")).all()
    queries: list[tuple[str, Any]] = []
    with open_reader(hive) as reader:
        event.listen(
            reader._engine, "before_cursor_execute", lambda *arguments: queries.append(arguments[2:4])
        )
        reader.read_changes((), {1: "{1}", 6: "{6}", 11: "{11}"})
    queries = [query for query in queries if "SELECT" in query[0]]
    assert len(queries) >= 5
    for statement, values in queries:
        with hive.engine.connect() as connection:
            plan = (
                connection.exec_driver_sql(f"EXPLAIN FORMAT=TRADITIONAL {statement}", values).mappings().all()
            )
        plans = {row["type"] for row in plan if row["table"] in ("job", "result", "analysis_data")}
        assert not plans & {"ALL", "index"}, statement


def test_a_reader_of_sqlite_waits_for_a_writer(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    job_id = submit_job(hive)
    hive.run_jobs()
    with ThreadPoolExecutor(1) as pool, hive.transaction() as writer:
        writer.exec_driver_sql("BEGIN EXCLUSIVE")
        reading = pool.submit(read_outcome, hive, job_id)
        with pytest.raises(TimeoutError):
            reading.result(timeout=0.3)
        writer.rollback()
        assert reading.result(timeout=20).state is JobState.COMPLETE


def test_a_chain_of_1500_jobs_is_read_to_its_end(hive: PracticeHive) -> None:
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
    assert read_state(hive, first) is JobState.RUNNING


def test_a_submission_of_a_job_takes_six_statements(hive: PracticeHive) -> None:
    hook = HiveHook(hive.conn_id)
    hook.submit(ANALYSIS, ["{'a' => 1}"])  # SQLAlchemy requests the server's version
    with record_statements() as statements:
        hook.submit(ANALYSIS, ["{'a' => 2}"])
    tables = ("hive_meta", "analysis_stats", "job")
    own = [statement for statement in statements if any(table in statement for table in tables)]
    assert len(own) == 6, own
    assert "hive_meta" in own[0]


def test_an_open_connection_finds_the_analysis_of_a_hive_that_was_created_again(hive: PracticeHive) -> None:
    hook = HiveHook(hive.conn_id, keep_connections=True)
    hook.submit(ANALYSIS, ["{'a' => 1}"])
    ((new_id,),) = hive.fetch_rows(
        f"SELECT MAX(analysis_id) FROM analysis_base WHERE logic_name <> '{ANALYSIS}'"
    )
    with hive.engine.begin() as connection:
        for name, condition in (
            ("former", f"logic_name = '{ANALYSIS}'"),
            (ANALYSIS, f"analysis_id = {new_id}"),
        ):
            connection.execute(text(f"UPDATE analysis_base SET logic_name = '{name}' WHERE {condition}"))
    (job_id,) = hook.submit(ANALYSIS, ["{'a' => 2}"])
    hook.close()
    assert hive.fetch_rows(f"SELECT analysis_id FROM job WHERE job_id = {job_id}") == [(new_id,)]
