"""Functions for the tests of hives: submit events to a practice hive, and read their outcomes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from event_hooks.hive import perl
from event_hooks.hive.connection import resolve_hive
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.poller import get_poller
from event_hooks.hive.reader import HiveReader
from event_hooks.hive.sql import job_trees
from event_hooks.hive.sql.job_trees import JobState, JobTree
from event_hooks.hive.sql.outcomes import JobOutcome
from tests.integration.hives import PracticeHive

MakeHive = Callable[..., PracticeHive]

ALL_VARIANTS = [
    pytest.param(server, variant, triggers, id=f"{server}-{variant}{'-triggers' * triggers}")
    for server in ("mysql", "sqlite")
    for variant in ("stock", "docs")
    for triggers in (False, True)
]
"""For tests of submission: the INSERT depends on columns, the counters on triggers, the SQL on the server."""

PAIRWISE_VARIANTS = [ALL_VARIANTS[index] for index in (0, 3, 5, 6)]
"""For all other tests: each pair of server and variant, server and triggers, variant and triggers once."""

COUNTED = {
    "total": "total_job_count",
    "SEMAPHORED": "semaphored_job_count",
    "READY": "ready_job_count",
    "DONE": "done_job_count",
    "FAILED": "failed_job_count",
}


def build_inputs(count: int, length: int = 60, token: str = "t") -> list[str]:
    """Return different job inputs of this length."""
    texts = []
    for number in range(count):
        base_length = len(perl.dumps({"event": {}, "token": f"{token}{number}", "x": ""}))
        texts.append(
            perl.dumps({"event": {}, "token": f"{token}{number}", "x": "x" * (length - base_length)})
        )
    return texts


def submit_job(hive: PracticeHive, *, token: str = "", **practice: Any) -> int:
    """Submit a job whose event steers the practice hive; ``token`` distinguishes jobs of equal events."""
    event = {"type": "new_assembly", "genome": "homo_sapiens", "practice": practice}
    (job_id,) = HiveHook(hive.conn_id).submit(
        "event_dump_dna", [perl.dumps({"event": event, "event_hooks": {"token": token}})]
    )
    return job_id


def submit_jobs(hive: PracticeHive, count: int = 1, **practice: Any) -> list[int]:
    """Submit a job for each of several genomes."""
    events = [{"genome": f"genome_{number}", "practice": practice} for number in range(count)]
    return HiveHook(hive.conn_id).submit("event_dump_dna", [perl.dumps({"event": event}) for event in events])


async def wait_for_outcomes(hive: PracticeHive, job_ids: list[int]) -> list[JobOutcome]:
    """Wait for the outcomes of jobs like a trigger, with the shared poller of this hive."""
    outcomes: dict[int, JobOutcome] = {}
    async for changes in get_poller(hive.conn_id).subscribe(dict.fromkeys(job_ids), 3600):
        outcomes |= {outcome.job_id: outcome for outcome in changes.outcomes}
    return [outcomes[job_id] for job_id in job_ids]


def run_root_jobs(hive: PracticeHive) -> None:
    """Run the root jobs only, and none of their children."""
    hive.execute("UPDATE analysis_stats SET is_excluded = 1 WHERE analysis_id <> 1")
    hive.run_jobs()
    hive.execute("UPDATE analysis_stats SET is_excluded = 0")


def load_status(hive: PracticeHive, job_id: int) -> str:
    """Return ``job.status``."""
    ((value,),) = hive.fetch_rows("SELECT status FROM job WHERE job_id = :id", id=job_id)
    return str(value)


def find_child(hive: PracticeHive, parent_id: int, suffix: str) -> int:
    """Return the first child of a job in the analysis with this suffix: ``_part``, ``_merge``, ``_after``."""
    rows = hive.fetch_rows(
        "SELECT MIN(job_id) FROM job JOIN analysis_base USING (analysis_id)"
        " WHERE prev_job_id = :entry AND logic_name = :name",
        entry=parent_id,
        name=f"event_dump_dna{suffix}",
    )
    return int(rows[0][0])


def read_trees(hive: PracticeHive, *job_ids: int) -> dict[int, JobTree]:
    """Read job trees without a reader that remembers them."""
    with hive.engine.connect() as connection:
        return dict(job_trees.load_trees(connection, job_ids))


def read_state(hive: PracticeHive, job_id: int) -> JobState:
    """Return the state of a job tree, read without a reader."""
    return read_trees(hive, job_id)[job_id].state()


@contextmanager
def open_reader(hive: PracticeHive) -> Iterator[HiveReader]:
    """Yield a reader, which remembers the trees that it has read."""
    reader = HiveReader(hive.conn_id, resolve_hive(hive.conn_id))
    yield reader
    reader.close()


def read_outcome(hive: PracticeHive, job_id: int) -> JobOutcome:
    """Return the outcome of a finished job, read with a new reader."""
    with open_reader(hive) as reader:
        (final,) = reader.read_changes((), {job_id: None}, is_final=True).outcomes
    return final


@contextmanager
def record_statements() -> Iterator[list[str]]:
    """Yield a list that records the statements of this process to all databases."""
    statements: list[str] = []

    def record(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)


def load_counters(hive: PracticeHive) -> dict[int, dict[str, int]]:
    """Return the counters of each analysis in ``analysis_stats``."""
    rows = hive.fetch_rows(f"SELECT analysis_id, {', '.join(COUNTED.values())} FROM analysis_stats")
    return {analysis_id: dict(zip(COUNTED, counts, strict=True)) for analysis_id, *counts in rows}


def count_jobs(hive: PracticeHive) -> dict[int, dict[str, int]]:
    """Return the expected counters of each analysis, counted from the jobs."""
    expected = {analysis_id: dict.fromkeys(COUNTED, 0) for analysis_id in load_counters(hive)}
    for analysis_id, name in hive.fetch_rows("SELECT analysis_id, status FROM job"):
        expected[analysis_id]["total"] += 1
        counter = "DONE" if name == "PASSED_ON" else name
        if counter in COUNTED:
            expected[analysis_id][counter] += 1
    return expected


def wait_until(condition: Callable[[], object], timeout_seconds: float = 20) -> None:
    """Poll a condition until it is true."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not true in time"
        time.sleep(0.02)


def is_waiting_for_lock(hive: PracticeHive) -> bool:
    """
    Return whether a transaction in this database (MariaDB) waits for another.

    Not from ``innodb_trx``: it shows an old state for as long as any connection reads it every 0.1 s.
    """
    ((_, _, monitor),) = hive.fetch_rows("SHOW ENGINE INNODB STATUS")
    transactions = monitor.partition("\nTRANSACTIONS\n")[2]  # after the section of the latest deadlock
    waiting_ids = re.findall(r"^LOCK WAIT .*\n\w+ thread id (\d+)", transactions, re.MULTILINE)
    connections = hive.fetch_rows("SELECT id FROM information_schema.processlist WHERE db = DATABASE()")
    return any(str(connection_id) in waiting_ids for (connection_id,) in connections)


@pytest.fixture
def readable_hive(make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PracticeHive, str]]:
    """A hive, and the id of a connection whose user has SELECT permission only."""
    hive = make_hive("mysql")
    server, _, database = hive.url.rpartition("/")
    user = f"u{database[-16:]}"
    hive.execute(f"CREATE USER {user}@'%' IDENTIFIED BY 'a_password'")
    hive.execute(f"GRANT SELECT ON {database}.* TO {user}@'%'")
    address = server.rpartition("@")[2]
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_READ", f"mysql://{user}:a_password@{address}/{database}")
    yield hive, "hive_read"
    hive.execute(f"DROP USER {user}@'%'")


@pytest.fixture
def fast_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll hives at short intervals."""
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__POLL_INTERVAL", "0.05")
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__MAX_POLL_INTERVAL", "0.1")
