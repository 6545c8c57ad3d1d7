"""Hives that reject a submission for a while: the task is retried instead of failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from airflow.sdk.exceptions import AirflowFailException

from event_hooks.exceptions import HiveRejected, HiveUnreachable
from event_hooks.hive.hook import HiveHook
from tests.integration.hive.conftest import MakeHive, build_inputs, wait_until
from tests.integration.hives import PracticeHive


@pytest.fixture
def submitter(make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PracticeHive, str]]:
    """A hive, and the name of a database user of the connection `hive_submit`."""
    hive = make_hive("mysql")
    server, _, database = hive.url.rpartition("/")
    user = f"s{database[-16:]}"
    hive.execute(f"CREATE USER {user}@'%' IDENTIFIED BY 'a_password'")
    hive.execute(f"GRANT SELECT, INSERT, UPDATE ON {database}.* TO {user}@'%'")
    address = server.rpartition("@")[2]
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_SUBMIT", f"mysql://{user}:a_password@{address}/{database}")
    yield hive, user
    hive.execute(f"DROP USER {user}@'%'")


@contextmanager
def reject_submissions(hive: PracticeHive, user: str, statements: tuple[str, str]) -> Iterator[None]:
    """Execute a statement after which the hive rejects the user's submissions, and then one that ends it."""
    values = {"user": f"{user}@'%'", "database": hive.engine.url.database}
    hive.execute(statements[0].format(**values))
    try:
        yield
    finally:
        hive.execute(statements[1].format(**values))


CAUSES = {
    "Access denied for user": (
        "ALTER USER {user} IDENTIFIED BY 'other'",
        "ALTER USER {user} IDENTIFIED BY 'a_password'",
    ),
    "INSERT command denied": (
        "REVOKE INSERT ON {database}.* FROM {user}",
        "GRANT INSERT ON {database}.* TO {user}",
    ),
    "job' doesn't exist": ("RENAME TABLE job TO elsewhere", "RENAME TABLE elsewhere TO job"),
    "Unknown column": (
        "ALTER TABLE job RENAME COLUMN input_id TO elsewhere",
        "ALTER TABLE job RENAME COLUMN elsewhere TO input_id",
    ),
}


@pytest.mark.parametrize("message", CAUSES)
def test_a_rejected_submission_can_be_retried(submitter: tuple[PracticeHive, str], message: str) -> None:
    hook = HiveHook("hive_submit")
    with (
        reject_submissions(*submitter, CAUSES[message]),
        pytest.raises(HiveRejected, match=message) as caught,
    ):
        hook.submit("event_dump_dna", build_inputs(1))
    assert not isinstance(caught.value, AirflowFailException)
    assert len(hook.submit("event_dump_dna", build_inputs(1))) == 1


def test_a_user_who_has_used_up_its_limit_makes_the_hive_unavailable(
    submitter: tuple[PracticeHive, str],
) -> None:
    """The limit is one of each hour, so the same request succeeds later."""
    statements = (
        "ALTER USER {user} WITH MAX_QUERIES_PER_HOUR 1",
        "ALTER USER {user} WITH MAX_QUERIES_PER_HOUR 0",
    )
    with (
        reject_submissions(*submitter, statements),
        pytest.raises(HiveUnreachable, match="max_queries_per_hour"),
    ):
        HiveHook("hive_submit").submit("event_dump_dna", build_inputs(1))


def test_an_input_longer_than_a_packet_is_rejected_with_the_limit_of_the_server(
    make_hive: MakeHive,
) -> None:
    """Without a check before it is sent, the server ends the connection, as in an outage."""
    hive = make_hive("mysql")
    ((limit,),) = hive.fetch_rows("SELECT @@max_allowed_packet")
    with pytest.raises(HiveRejected, match="longer than max_allowed_packet"):
        HiveHook(hive.conn_id).submit("event_dump_dna", build_inputs(1, limit))


@pytest.mark.alone
def test_a_read_only_server_is_retried_with_a_new_connection(submitter: tuple[PracticeHive, str]) -> None:
    """During a failover, the old connection leads to a server that stays read-only."""
    hive, user = submitter
    hook = HiveHook("hive_submit", keep_connections=True)
    hook.submit("event_dump_dna", build_inputs(1))
    sessions = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = :user"
    assert hive.fetch_rows(sessions, user=user) == [(1,)]
    statements = ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0")
    with (
        reject_submissions(hive, user, statements),
        pytest.raises(HiveRejected, match="--read-only option") as caught,
    ):
        hook.submit("event_dump_dna", build_inputs(2))
    assert not isinstance(caught.value, AirflowFailException)
    wait_until(lambda: hive.fetch_rows(sessions, user=user) == [(0,)])
    assert len(hook.submit("event_dump_dna", build_inputs(2))) == 2
    hook.close()
