"""What the tests of hives share: events that steer a practice hive, and looks at what came of them."""

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
from event_hooks.hive.sql.job_trees import JobTree, State
from event_hooks.hive.sql.outcomes import JobOutcome
from tests.integration.hives import PracticeHive

MakeHive = Callable[..., PracticeHive]

ALL_VARIANTS = [
    pytest.param(server, variant, triggers, id=f"{server}-{variant}{'-triggers' * triggers}")
    for server in ("mysql", "sqlite")
    for variant in ("stock", "docs")
    for triggers in (False, True)
]
"""For submission: its INSERT depends on the columns, its counters on triggers, its SQL on the server."""

PAIRWISE_VARIANTS = [ALL_VARIANTS[index] for index in (0, 3, 5, 6)]
"""Each pair of server and variant, server and triggers, variant and triggers once; for everything else."""

COUNTED = {
    "total": "total_job_count",
    "SEMAPHORED": "semaphored_job_count",
    "READY": "ready_job_count",
    "DONE": "done_job_count",
    "FAILED": "failed_job_count",
}


def inputs(count: int, length: int = 60, token: str = "t") -> list[str]:
    """Give inputs of this length, all different."""
    texts = []
    for number in range(count):
        empty = len(perl.dumps({"event": {}, "token": f"{token}{number}", "x": ""}))
        texts.append(perl.dumps({"event": {}, "token": f"{token}{number}", "x": "x" * (length - empty)}))
    return texts


def submitted(hive: PracticeHive, *, token: str = "", **practice: Any) -> int:
    """Submit a job whose event steers the practice hive; ``token`` tells it from one of an equal event."""
    event = {"type": "new_assembly", "genome": "homo_sapiens", "practice": practice}
    (job_id,) = HiveHook(hive.conn_id).submit(
        "event_dump_dna", [perl.dumps({"event": event, "event_hooks": {"token": token}})]
    )
    return job_id


def submit(hive: PracticeHive, count: int = 1, **practice: Any) -> list[int]:
    """Submit a job for each of several genomes."""
    events = [{"genome": f"genome_{number}", "practice": practice} for number in range(count)]
    return HiveHook(hive.conn_id).submit("event_dump_dna", [perl.dumps({"event": event}) for event in events])


async def until_over(hive: PracticeHive, job_ids: list[int]) -> list[JobOutcome]:
    """Wait as a trigger does, with the one poller of this hive."""
    found: dict[int, JobOutcome] = {}
    async for news in get_poller(hive.conn_id).watch(job_ids, 3600):
        found |= {outcome.job_id: outcome for outcome in news.outcomes}
    return [found[job_id] for job_id in job_ids]


def work_on_entries(hive: PracticeHive) -> None:
    """Do the entries' jobs alone, before anything that they have made."""
    hive.change("UPDATE analysis_stats SET is_excluded = 1 WHERE analysis_id <> 1")
    hive.work()
    hive.change("UPDATE analysis_stats SET is_excluded = 0")


def status(hive: PracticeHive, job_id: int) -> str:
    """Give ``job.status``."""
    ((found,),) = hive.rows("SELECT status FROM job WHERE job_id = :id", id=job_id)
    return str(found)


def child(hive: PracticeHive, entry: int, suffix: str) -> int:
    """Give the first job below this one that is of this kind: ``_part``, ``_merge``, ``_after``."""
    rows = hive.rows(
        "SELECT MIN(job_id) FROM job JOIN analysis_base USING (analysis_id)"
        " WHERE prev_job_id = :entry AND logic_name = :name",
        entry=entry,
        name=f"event_dump_dna{suffix}",
    )
    return int(rows[0][0])


def read(hive: PracticeHive, *job_ids: int) -> dict[int, JobTree]:
    """Read trees once."""
    with hive.engine.connect() as connection:
        return dict(job_trees.read(connection, job_ids))


def state(hive: PracticeHive, job_id: int) -> State:
    """Give what a tree, read once, has come to."""
    return read(hive, job_id)[job_id].state()


@contextmanager
def visiting(hive: PracticeHive) -> Iterator[HiveReader]:
    """Give a visitor that remembers what it sees."""
    visitor = HiveReader(hive.conn_id, resolve_hive(hive.conn_id))
    yield visitor
    visitor.close()


def outcome(hive: PracticeHive, job_id: int) -> JobOutcome:
    """Give how a job that is over has ended."""
    with visiting(hive) as visitor:
        (one,) = visitor.look((), [job_id]).outcomes
    return one


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Give the statements that this process sends meanwhile, to any database."""
    statements: list[str] = []

    def record(*given: Any) -> None:
        statements.append(given[2])

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)


def counters(hive: PracticeHive) -> dict[int, dict[str, int]]:
    """Give the counters of each analysis as ``analysis_stats`` has them."""
    rows = hive.rows(f"SELECT analysis_id, {', '.join(COUNTED.values())} FROM analysis_stats")
    return {analysis_id: dict(zip(COUNTED, counts, strict=True)) for analysis_id, *counts in rows}


def recount(hive: PracticeHive) -> dict[int, dict[str, int]]:
    """Give what these counters should be, from the jobs themselves."""
    found = {analysis_id: dict.fromkeys(COUNTED, 0) for analysis_id in counters(hive)}
    for analysis_id, name in hive.rows("SELECT analysis_id, status FROM job"):
        found[analysis_id]["total"] += 1
        counter = "DONE" if name == "PASSED_ON" else name
        if counter in COUNTED:
            found[analysis_id][counter] += 1
    return found


def wait_for(condition: Callable[[], object], limit: float = 20) -> None:
    """Poll a condition until it is true."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def waits_for_a_lock(hive: PracticeHive) -> bool:
    """
    Return whether a transaction in this database (MariaDB) waits for another.

    Not from ``innodb_trx``: it shows an old state for as long as any connection reads it every 0.1 s.
    """
    ((_, _, monitor),) = hive.rows("SHOW ENGINE INNODB STATUS")
    transactions = monitor.partition("\nTRANSACTIONS\n")[2]  # before that are those of the latest deadlock
    waiting = re.findall(r"^LOCK WAIT .*\n\w+ thread id (\d+)", transactions, re.MULTILINE)
    connections = hive.rows("SELECT id FROM information_schema.processlist WHERE db = DATABASE()")
    return any(str(connection_id) in waiting for (connection_id,) in connections)


@pytest.fixture
def readable_hive(make_hive: MakeHive, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PracticeHive, str]]:
    """A hive, and the id of a connection whose user may only read it."""
    hive = make_hive("mysql")
    server, _, database = hive.url.rpartition("/")
    user = f"u{database[-16:]}"
    hive.change(f"CREATE USER {user}@'%' IDENTIFIED BY 'a_password'")
    hive.change(f"GRANT SELECT ON {database}.* TO {user}@'%'")
    place = server.rpartition("@")[2]
    monkeypatch.setenv("AIRFLOW_CONN_HIVE_READ", f"mysql://{user}:a_password@{place}/{database}")
    yield hive, "hive_read"
    hive.change(f"DROP USER {user}@'%'")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__POLL_INTERVAL", "0.05")
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__MAX_POLL_INTERVAL", "0.1")
