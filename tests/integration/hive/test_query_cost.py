"""The number and the cost of the statements of a poll."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, text

from event_hooks.hive.sql.job_trees import State
from tests.integration.hive.conftest import MakeHive, outcome, recorded, state, submitted, visiting
from tests.integration.hives import PracticeHive


def plant(hive: PracticeHive, count: int, status: str = "DONE") -> list[int]:
    """Insert trees of five jobs in three levels, with results and progress; gives their entries."""
    rows, entries = [], []
    for number in range(count):
        first = 5 * number + 1
        entries.append(first)
        for place, (above, name) in enumerate(
            [(None, "DONE"), (first, "DONE"), (first, "DONE"), (first, "DONE"), (first + 3, status)]
        ):
            rows.append({"id": first + place, "prev": above, "input": f"{{{first + place}}}", "status": name})
    insert = (
        "INSERT INTO job (job_id, prev_job_id, analysis_id, input_id, param_id_stack, accu_id_stack, status)"
        " VALUES (:id, :prev, 1, :input, '', '', :status)"
    )
    with hive.engine.begin() as connection:
        connection.execute(text(insert), rows)
        for statement in (
            "INSERT INTO result (job_id, output) VALUES (:id, '[1]')",
            "INSERT INTO job_progress (job_id, message) VALUES (:id, 'half')",
        ):
            connection.execute(text(statement), [{"id": entry} for entry in entries])
    return entries


def asked(statements: list[str]) -> list[str]:
    """Leave out what SQLAlchemy asks for itself."""
    return [statement for statement in statements if "FROM job" in statement or "FROM result" in statement]


def test_polling_1000_finished_trees_takes_at_most_five_statements(hive: PracticeHive) -> None:
    entries = plant(hive, 1000)
    with visiting(hive) as visitor:
        with recorded() as statements:
            over = visitor.look((), entries).outcomes
        assert len(over) == 1000
        assert {(each.state, each.warning, str(each.result)) for each in over} == {
            (State.COMPLETE, None, "[1]")
        }
        assert len(asked(statements)) <= 3 + 2  # messages, results


def test_polling_1000_unfinished_trees_again_takes_one_statement(hive: PracticeHive) -> None:
    entries = plant(hive, 1000, "RUN")
    with visiting(hive) as visitor:
        with recorded() as statements:
            progress = visitor.look((), entries).progress
        assert (len(progress), progress[0].message, progress[0].done) == (1000, "half", 4)
        assert len(asked(statements)) <= 3 + 1
        with recorded() as statements:
            visitor.look((), entries)
        assert len(asked(statements)) == 1


def test_finished_jobs_are_not_polled_again(hive: PracticeHive) -> None:
    entries = plant(hive, 3, "RUN")
    with visiting(hive) as visitor:
        visitor.look((), entries)
        with recorded() as statements:
            visitor.look((), entries)
        (statement,) = asked(statements)
        assert "IN (5, 10, 15)" in statement
        hive.change("UPDATE job SET status = 'DONE'")
        visitor.look((), entries)
        with recorded() as statements:
            assert len(visitor.look((), entries).outcomes) == 3
        assert not any("prev_job_id" in statement for statement in statements)


def test_jobs_that_are_no_longer_watched_are_not_polled(hive: PracticeHive) -> None:
    entries = plant(hive, 3, "RUN")
    with visiting(hive) as visitor:
        visitor.look((), entries)
        with recorded() as statements:
            visitor.look(entries, [])
        assert asked(statements) == []
        assert not visitor._forest.trees
        assert not visitor._forest.analyses


def test_no_poll_reads_a_whole_table(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    plant(hive, 2000)
    with hive.engine.begin() as connection:
        connection.execute(text("UPDATE job SET status = 'RUN' WHERE job_id = 5"))
        connection.execute(text("ANALYZE TABLE job, log_message, result, job_progress")).all()
    questions: list[tuple[str, Any]] = []
    with visiting(hive) as visitor:
        event.listen(visitor._engine, "before_cursor_execute", lambda *given: questions.append(given[2:4]))
        visitor.look((), [1, 6, 11])
    questions = [question for question in questions if "SELECT" in question[0]]
    assert len(questions) >= 4
    for statement, values in questions:
        with hive.engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", values).mappings().all()
        ways = {row["type"] for row in plan if row["table"] in ("job", "result", "fan")}
        assert not ways & {"ALL", "index"}, statement


def test_a_reader_of_sqlite_waits_for_a_writer(make_hive: MakeHive) -> None:
    hive = make_hive("sqlite")
    job_id = submitted(hive)
    hive.work()
    with ThreadPoolExecutor(1) as pool, hive.transaction() as writer:
        writer.exec_driver_sql("BEGIN EXCLUSIVE")
        reading = pool.submit(outcome, hive, job_id)
        with pytest.raises(TimeoutError):
            reading.result(timeout=0.3)
        writer.rollback()
        assert reading.result(timeout=20).state is State.COMPLETE


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
    assert state(hive, first) is State.RUNNING
