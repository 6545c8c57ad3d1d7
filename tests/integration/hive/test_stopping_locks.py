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
    counters,
    inputs,
    recount,
    submitted,
    wait_for,
    waits_for_a_lock,
)
from tests.integration.hives import PracticeHive

OPERATIONS: dict[str, Callable[[HiveHook, int], Any]] = {
    "submit": lambda hook, _: hook.submit("event_dump_dna", inputs(1)),
    "reset": lambda hook, entry: hook.reset([entry]),
    "stop": lambda hook, entry: hook.stop([entry]),
}


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The numbers of the errors that MariaDB gave; and nobody waits long before a retry."""
    monkeypatch.setattr("event_hooks.hive.hook.wait_random_exponential", lambda **_: wait_none())
    found: list[object] = []

    def note(context: Any) -> None:
        code = context.original_exception.args[0]
        if code != 1146:  # that a table is not there yet, while a hive is made
            found.append(code)

    event.listen(Engine, "handle_error", note)
    yield found
    event.remove(Engine, "handle_error", note)


def hook_that_waits(hive: PracticeHive, seconds: int) -> HiveHook:
    """Give a hook whose statements wait so long for a lock."""
    url, options = resolve_hive(hive.conn_id)
    setting = {"init_command": f"SET innodb_lock_wait_timeout = {seconds}"}
    return HiveHook(hive.conn_id, (url, options | setting))


@contextmanager
def rolled_back_on_error(transaction: Connection) -> Iterator[None]:
    """Roll a transaction back, and so release its locks, when a statement of another one has failed."""

    def roll_back(_: object) -> None:
        transaction.rollback()

    event.listen(Engine, "handle_error", roll_back)
    yield
    event.remove(Engine, "handle_error", roll_back)


def job_for(hive: PracticeHive, operation: str) -> int:
    """Give a job that can be reset, or stopped."""
    entry = submitted(hive, fail="entry")
    if operation == "reset":
        hive.work()
    return entry


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_deadlock_is_retried(make_hive: MakeHive, codes: list[object], operation: str) -> None:
    """The other transaction weighs more, so MariaDB gives ours up."""
    hive = make_hive("mysql")
    entry = job_for(hive, operation)
    count = hive.rows("SELECT COUNT(*) FROM log_message")[0][0]
    ours, theirs = "UPDATE job SET status = status", "UPDATE analysis_stats SET status = status"
    with ThreadPoolExecutor(1) as pool, hive.transaction() as other:
        for _ in range(50):
            other.exec_driver_sql("INSERT INTO log_message (msg) VALUES ('weight')")
        if operation == "submit":  # it locks the statistics first, then its new row
            (text,) = inputs(1)
            columns = "analysis_id, input_id, param_id_stack, accu_id_stack"
            other.exec_driver_sql(f"INSERT INTO job ({columns}) VALUES (1, %s, '', '')", (text,))
            ours = "SELECT 1"
        else:
            other.exec_driver_sql(theirs)
        doing = pool.submit(OPERATIONS[operation], HiveHook(hive.conn_id), entry)
        wait_for(lambda: waits_for_a_lock(hive))
        other.exec_driver_sql(theirs if operation == "submit" else ours)
        other.rollback()
        done = doing.result(timeout=20)
    assert codes == [1213]
    assert len(done) == 1 if operation == "submit" else done.jobs == [entry]
    assert counters(hive) == recount(hive)
    assert hive.rows("SELECT COUNT(*) FROM log_message")[0][0] == count + (operation != "submit")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lock_wait_timeout_is_retried(make_hive: MakeHive, codes: list[object], operation: str) -> None:
    hive = make_hive("mysql")
    entry = job_for(hive, operation)
    with hive.transaction() as other:
        other.exec_driver_sql("UPDATE analysis_stats SET status = status")
        with rolled_back_on_error(other):
            OPERATIONS[operation](hook_that_waits(hive, 0), entry)
    assert codes == [1205]
    assert counters(hive) == recount(hive)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lock_that_is_never_released_raises_an_error_and_writes_nothing(
    make_hive: MakeHive, codes: list[object], operation: str
) -> None:
    hive = make_hive("mysql")
    entry = job_for(hive, operation)
    before = hive.rows("SELECT job_id, status FROM job")
    with hive.transaction() as other:
        other.exec_driver_sql("UPDATE analysis_stats SET status = status")
        with pytest.raises(HiveUnreachable, match="hive 'hive_test_0' does not answer: .*Lock wait timeout"):
            OPERATIONS[operation](hook_that_waits(hive, 0), entry)
        other.rollback()
    assert codes == [1205] * 5
    assert hive.rows("SELECT job_id, status FROM job") == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_locked_file_raises_an_error_and_writes_nothing(
    make_hive: MakeHive, codes: list[object], operation: str
) -> None:
    hive = make_hive("sqlite")
    entry = job_for(hive, operation)
    url, options = resolve_hive(hive.conn_id)
    with hive.transaction() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(HiveUnreachable, match="database is locked"):
            OPERATIONS[operation](HiveHook(hive.conn_id, (url, options | {"timeout": 0})), entry)
        other.rollback()
    assert codes == ["database is locked"] * 5
    OPERATIONS[operation](HiveHook(hive.conn_id), entry)
    assert counters(hive) == recount(hive)


def test_a_submission_waits_for_a_lock_and_succeeds(make_hive: MakeHive) -> None:
    hive = make_hive("mysql")
    hook = HiveHook(hive.conn_id)
    with ThreadPoolExecutor(1) as pool, hive.transaction() as other:
        other.exec_driver_sql("UPDATE analysis_stats SET status = status")
        waiting = pool.submit(hook.submit, "event_dump_dna", inputs(1))
        assert not waiting.done()
        other.rollback()
        assert len(waiting.result(timeout=20)) == 1
