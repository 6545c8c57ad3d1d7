"""
Benchmark of runs that wait: what they cost the scheduler, and how they delay an event and a backfill.

Only one run is real. The others are copies of its rows in Airflow's database, which the scheduler examines
like any run that waits.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from tools.bench.environment import Environment, bench_environment, wait_until
from tools.bench.measurement import Measurement

COUNTS = (30, 1000)
"""Numbers of waiting runs."""

LIMITS = (20, 2000)
"""Values of ``[scheduler] max_dagruns_per_loop_to_schedule``: Airflow's default, and ours."""

SETTING = "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE"
CPU_SECONDS = 20
EVENTS = 3
BACKFILL_RUNS = 4
BACKFILL_SECONDS = 60
"""After this time, a backfill counts as one that does not run."""


class WaitingRuns:
    """An Airflow, and its database, in which runs are copied."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._database = environment.database.execution_options(isolation_level="AUTOCOMMIT")
        self._count = 0
        self._backfill_start = datetime(2026, 3, 1, tzinfo=UTC)
        self._run_id, _ = self._submit()

    def copy_run(self, count: int) -> None:
        """Copy the waiting run until there are ``count`` copies."""
        for table, key in (("dag_run", "nextval('dag_run_id_seq')"), ("task_instance", "gen_random_uuid()")):
            others = [name for name in self._columns(table) if name not in ("id", "run_id", "trigger_id")]
            names = ", ".join(f'"{name}"' for name in others)
            self._execute(
                f"INSERT INTO {table} (id, run_id, {names})"
                f" SELECT {key}, 'copy_' || number, {names} FROM {table},"
                f" generate_series({self._count + 1}, {count}) AS number WHERE run_id = :run_id",
                run_id=self._run_id,
            )
        self._count = count

    def restart_scheduler(self, limit: int) -> None:
        """Restart the scheduler with a limit of examined runs, and wait until it has warmed up."""
        self.environment.airflow.start_service("scheduler", {SETTING: str(limit)})
        time.sleep(CPU_SECONDS)

    def measure_cpu(self) -> float:
        """Return the share of a core that the scheduler uses."""
        before = self.environment.measure_cpu("scheduler")
        time.sleep(CPU_SECONDS)
        return (self.environment.measure_cpu("scheduler") - before) / CPU_SECONDS

    def measure_event(self) -> float:
        """Return the seconds from the request until the wait of an event alone is deferred."""
        return self._submit()[1]

    def measure_backfill(self) -> float | None:
        """Return the seconds until all runs of a backfill have ended; ``None`` if they do not in time."""
        start, started = self._backfill_start, time.monotonic()
        self._backfill_start += timedelta(days=1)
        body = {
            "dag_id": "maintain_ledger",
            "from_date": start.isoformat(),
            "to_date": (start + timedelta(minutes=5 * (BACKFILL_RUNS - 1))).isoformat(),
            "reprocess_behavior": "none",
            "max_active_runs": BACKFILL_RUNS,
        }
        backfill_id = self._request("POST", "/api/v2/backfills", body)["id"]
        count = (
            "SELECT count(*) FROM dag_run WHERE run_type = 'backfill' AND state = 'success'"
            " AND logical_date >= :start"
        )
        try:
            wait_until(
                lambda: self._execute(count, start=start)[0][0] >= BACKFILL_RUNS, BACKFILL_SECONDS, "backfill"
            )
        except TimeoutError:
            self._request("PUT", f"/api/v2/backfills/{backfill_id}/cancel")  # a DAG has one at a time
            return None
        return time.monotonic() - started

    def _submit(self) -> tuple[str, float]:
        return self.environment.submit_until_wait({"type": "new_genebuild", "genome": uuid4().hex})

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        url = self.environment.airflow.url + path
        response = self.environment.open_session().request(method, url, json=body)
        response.raise_for_status()
        return response.json()

    def _columns(self, table: str) -> list[str]:
        statement = (
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_name = :table AND table_schema = 'public'"
        )
        return [row.column_name for row in self._execute(statement, table=table)]

    def _execute(self, statement: str, **values: Any) -> list[Any]:
        with self._database.connect() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []


def measure() -> Iterator[Measurement]:
    """Yield the measurements for each number of waiting runs and each limit."""
    with bench_environment() as environment:
        runs = WaitingRuns(environment)
        for count in COUNTS:
            runs.copy_run(count)
            for limit in LIMITS:
                runs.restart_scheduler(limit)
                name = f"{count:,} waiting runs, limit {limit:,}"
                yield Measurement(f"{name}: CPU of the scheduler", 100 * runs.measure_cpu(), "% of a core")
                seconds = statistics.median(runs.measure_event() for _ in range(EVENTS))
                yield Measurement(f"{name}: event alone, request to wait (median)", seconds, "s")
                backfill, is_ours = runs.measure_backfill(), limit == max(LIMITS)
                yield Measurement(
                    f"{name}: backfill of {BACKFILL_RUNS} runs",
                    math.inf if backfill is None else backfill,
                    "s",
                    at_most=BACKFILL_SECONDS if is_ours else None,
                )
