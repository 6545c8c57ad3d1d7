"""Submit, stop and reset while another transaction holds a lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event
from tenacity import wait_none

from event_hooks.exceptions import HiveUnreachable
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from tests.integration.hive.conftest import (
    MakeHive,
    build_inputs,
    count_jobs,
    is_waiting_for_lock,
    load_counters,
    submit_job,
    wait_until,
)
from tests.integration.hives import PracticeHive

OPERATIONS: dict[str, Callable[[HiveHook, int], Any]] = {
    "submit": lambda hook, _: hook.submit("event_dump_dna", build_inputs(1)),
    "reset": lambda hook, job_id: hook.reset_jobs({job_id: None}),
    "stop": lambda hook, job_id: hook.stop_jobs({job_id: None}),
}


@pytest.fixture
def error_codes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The error codes of the database; retries do not wait."""
    monkeypatch.setattr("event_hooks.hive.hook.wait_random_exponential", lambda **_: wait_none())
    error_codes: list[object] = []

    def record_error(context: Any) -> None:
        code = context.original_exception.args[0]
        if code != 1146:  # 1146: a missing table, while a hive is created
            error_codes.append(code)

    event.listen(Engine, "handle_error", record_error)
    yield error_codes
    event.remove(Engine, "handle_error", record_error)


def build_hook(hive: PracticeHive, seconds: int) -> HiveHook:
    """Return a hook whose statements wait this many seconds for a lock."""
    url, options = resolve_hive(hive.conn_id)
    setting = {"init_command": f"SET innodb_lock_wait_timeout = {seconds}"}
    return HiveHook(hive.conn_id, (url, options | setting))


@contextmanager
def rollback_on_error(transaction: Connection) -> Iterator[None]:
    """Roll back a transaction, which releases its locks, when a statement of another transaction fails."""

    def roll_back(_: object) -> None:
        transaction.rollback()

    event.listen(Engine, "handle_error", roll_back)
    yield
    event.remove(Engine, "handle_error", roll_back)


def create_job(hive: PracticeHive, operation: str) -> int:
    """Submit a job for the operation, and return its id."""
    job_id = submit_job(hive, fail="entry")
    if operation == "reset":
        hive.run_jobs()
    return job_id


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_deadlock_is_retried(make_hive: MakeHive, error_codes: list[object], operation: str) -> None:
    """The other transaction has more changes, so MariaDB rolls back the transaction of the hook."""
    hive = make_hive("mysql")
    job_id = create_job(hive, operation)
    count = hive.fetch_rows("SELECT COUNT(*) FROM log_message")[0][0]
    ours, theirs = "UPDATE job SET status = status", "UPDATE analysis_stats SET status = status"
    with ThreadPoolExecutor(1) as pool, hive.transaction() as other:
        for _ in range(50):
            other.exec_driver_sql("INSERT INTO log_message (msg) VALUES ('weight')")
        if operation == "submit":  # A submission locks the statistics first, then its new row.
            (text,) = build_inputs(1)
            columns = "analysis_id, input_id, param_id_stack, accu_id_stack"
            other.exec_driver_sql(f"INSERT INTO job ({columns}) VALUES (1, %s, '', '')", (text,))
            ours = "SELECT 1"
        else:
            other.exec_driver_sql(theirs)
        future = pool.submit(OPERATIONS[operation], HiveHook(hive.conn_id), job_id)
        wait_until(lambda: is_waiting_for_lock(hive))
        other.exec_driver_sql(theirs if operation == "submit" else ours)
        other.rollback()
        result = future.result(timeout=20)
    assert error_codes == [1213]
    assert len(result) == 1 if operation == "submit" else result.changed_ids == [job_id]
    assert load_counters(hive) == count_jobs(hive)
    assert hive.fetch_rows("SELECT COUNT(*) FROM log_message")[0][0] == count + (operation != "submit")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lock_wait_timeout_is_retried(
    make_hive: MakeHive, error_codes: list[object], operation: str
) -> None:
    hive = make_hive("mysql")
    job_id = create_job(hive, operation)
    with hive.transaction() as other:
        other.exec_driver_sql("UPDATE analysis_stats SET status = status")
        with rollback_on_error(other):
            OPERATIONS[operation](build_hook(hive, 0), job_id)
    assert error_codes == [1205]
    assert load_counters(hive) == count_jobs(hive)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lock_that_is_never_released_raises_an_error_and_writes_nothing(
    make_hive: MakeHive, error_codes: list[object], operation: str
) -> None:
    hive = make_hive("mysql")
    job_id = create_job(hive, operation)
    old_rows = hive.fetch_rows("SELECT job_id, status FROM job")
    with hive.transaction() as other:
        other.exec_driver_sql("UPDATE analysis_stats SET status = status")
        with pytest.raises(HiveUnreachable, match="hive 'hive_test_0' does not answer: .*Lock wait timeout"):
            OPERATIONS[operation](build_hook(hive, 0), job_id)
        other.rollback()
    assert error_codes == [1205] * 5
    assert hive.fetch_rows("SELECT job_id, status FROM job") == old_rows


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_locked_file_raises_an_error_and_writes_nothing(
    make_hive: MakeHive, error_codes: list[object], operation: str
) -> None:
    hive = make_hive("sqlite")
    job_id = create_job(hive, operation)
    url, options = resolve_hive(hive.conn_id)
    with hive.transaction() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(HiveUnreachable, match="database is locked"):
            OPERATIONS[operation](HiveHook(hive.conn_id, (url, options | {"timeout": 0})), job_id)
        other.rollback()
    assert error_codes == ["database is locked"] * 5
    OPERATIONS[operation](HiveHook(hive.conn_id), job_id)
    assert load_counters(hive) == count_jobs(hive)


def test_a_submission_waits_for_a_lock_and_succeeds(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    hook = HiveHook(hive.conn_id)
    with ThreadPoolExecutor(1) as pool, hive.transaction() as other:
        other.exec_driver_sql("UPDATE analysis_stats SET status = status")
        future = pool.submit(hook.submit, "event_dump_dna", build_inputs(1))
        assert not future.done()
        other.rollback()
        assert len(future.result(timeout=20)) == 1
