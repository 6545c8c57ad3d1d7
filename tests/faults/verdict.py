"""The comparison of the ledger with the events, the hives and the reports, after all runs have finished."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from event_hooks.events.models import build_token
from tests.faults.changes import Changes
from tests.faults.changing_hives import HiveJob
from tests.faults.event_flow import EventFlow
from tests.faults.patient_client import PatientClient
from tests.support.system import System
from tests.system.events import facts, step
from tools.runs import DAG_PATH

EVENTS = (
    "SELECT id, genome, type, run_id, position, planned_at IS NOT NULL, rejected_reason FROM event"
    " WHERE genome LIKE :genome ORDER BY id"
)
ROWS = (
    "SELECT genome, event.type, run_id, position, process, hive, analysis, job_id, state, result, error,"
    " attempt, EXTRACT(EPOCH FROM finished_at) FROM event JOIN event_process ON event.id = event_id"
    " WHERE genome LIKE :genome ORDER BY event.id, process"
)
REPORTS = (
    "SELECT message_id, routing_key, body, sent_at IS NOT NULL FROM report"
    " WHERE event_id IN (SELECT id FROM event WHERE genome LIKE :genome) ORDER BY id"
)
UNFINISHED_STATES = ("planned", "submitted")
REMOVED_ERRORS = ("removed from the process lookup", "removed from the lookup while its job ran")
"""Parts of the error of a process that was removed from the lookup before its end."""


@dataclass(frozen=True)
class Row:
    """A process of an event in the ledger."""

    genome: str
    type: str
    run_id: str
    position: int
    process: str
    hive: str
    analysis: str
    job_id: int | None
    state: str
    result: str | None
    error: str | None
    attempt: str | None
    finished_at: float | None
    """Seconds since 1970."""

    @property
    def token(self) -> str:
        """Return the text that identifies its job."""
        return build_token(self.run_id, self.position, f"{self.process}.submit")


class Verdict:
    """
    The faults of all events of a flow.

    :param name: prefix of the genomes.
    """

    def __init__(self, system: System, name: str, flow: EventFlow, changes: Changes) -> None:
        self._system = system
        self._client = PatientClient(system)
        self._genomes = {"genome": f"{name}%"}
        self._flow = flow
        self._changes = changes

    def wait_finished(self, seconds: float) -> list[str]:
        """Wait until all runs have finished and all reports are sent; return what has not."""
        deadline = time.monotonic() + seconds
        while (unfinished := list(self._find_unfinished())) and time.monotonic() < deadline:
            time.sleep(1)
        return unfinished

    def _find_unfinished(self) -> Iterator[str]:
        pending = [row for row in self._system.ledger_rows(REPORTS, **self._genomes) if not row[3]]
        if pending:
            yield f"{len(pending)} reports are pending"
        for run_id in sorted({row.run_id for row in self._rows()}):
            state = self._load_run(run_id).get("state")
            if state not in ("success", "failed"):
                yield f"run {run_id} is {state}: {self._load_task_states(run_id)}"

    def _load_run(self, run_id: str) -> dict[str, Any]:
        return dict(self._client.request("GET", f"/api/v2{DAG_PATH}/dagRuns/{run_id}").json())

    def _load_task_states(self, run_id: str) -> dict[str, str]:
        path = f"/api/v2{DAG_PATH}/dagRuns/{run_id}/taskInstances"
        answer = self._client.request("GET", path).json()
        return {
            task["task_id"]: f"{task['state']} try {task['try_number']}"
            for task in answer.get("task_instances", ())  # none if the run does not exist yet
            if task["state"] != "skipped"
        }

    def _rows(self) -> list[Row]:
        return [Row(*row) for row in self._system.ledger_rows(ROWS, **self._genomes)]

    def count_states(self) -> Counter[str]:
        """Count the processes of events by their state."""
        return Counter(row.state for row in self._rows())

    def find_faults(self) -> list[str]:
        """Return a line for each fault."""
        rows = self._rows()
        jobs = [job for hive in self._changes.hives.values() for job in hive.jobs()]
        return [
            *self._find_event_faults(rows),
            *self._find_job_faults(rows, jobs),
            *self._find_outcome_faults(rows, jobs),
            *self._find_report_faults(rows, jobs),
        ]

    def _find_event_faults(self, rows: Sequence[Row]) -> Iterator[str]:
        """Compare the events that were sent, and the lookups, with those of the ledger."""
        stored = self._system.ledger_rows(EVENTS, **self._genomes)
        counts = Counter(genome for _, genome, *_ in stored)
        for genome in self._flow.events.keys() | counts.keys():
            if (counts[genome], genome in self._flow.events) != (1, True):
                yield f"{genome}: {counts[genome]} events in the ledger, sent: {genome in self._flow.events}"
        for _, genome, event_type, run_id, _, is_planned, rejected in stored:
            plan = frozenset((row.process, row.hive) for row in rows if row.genome == genome)
            if not is_planned or rejected:
                yield f"{genome} of run {run_id}: planned: {is_planned}, rejected: {rejected}"
            elif genome in self._flow.events:
                sent_at = self._flow.events[genome].sent_at
                possible = self._changes.lookups.possible_plans(event_type, sent_at)
                if plan not in possible:
                    yield f"{genome}: plan {sorted(plan)} is not one of {possible}"

    def _find_job_faults(self, rows: Sequence[Row], jobs: Sequence[HiveJob]) -> Iterator[str]:
        """Each job belongs to a process of an event, and is its only one in a generation of the hive."""
        by_token = {row.token: row for row in rows}
        count: Counter[tuple[str, int]] = Counter()
        for job in jobs:
            tokens = [token for token in by_token if token in job.input]
            if not tokens:
                yield f"{job} has no event in the ledger: {job.input}"
                continue
            (token,) = tokens
            row = by_token[token]
            count[token, job.generation] += 1
            if (row.hive, row.analysis) != (job.hive, job.logic_name) or row.genome not in job.input:
                yield f"{job} of {job.logic_name} is not the planned job of {row}"
        for (token, generation), number in count.items():
            if number != 1:
                yield f"{number} jobs in generation {generation} for {by_token[token]}"
        for hive, generation, complete in self._changes.complete:
            for row in rows:
                is_later = any(row.token in job.input and job.generation > generation for job in jobs)
                if (row.genome, row.process) in complete and row.hive == hive and is_later:
                    yield f"a second job after a success: {row}"

    def _find_outcome_faults(self, rows: Sequence[Row], jobs: Sequence[HiveJob]) -> Iterator[str]:
        for row in rows:
            own = [job for job in jobs if row.token in job.input]
            if text := self._explain(row, own):
                tasks = self._load_task_states(row.run_id)
                yield f"{text}: {row}; jobs: {[str(job) for job in own]}; {tasks}"

    def _explain(self, row: Row, jobs: Sequence[HiveJob]) -> str | None:
        """Return why the outcome of a process is wrong."""
        job = next((job for job in reversed(jobs) if job.job_id == row.job_id), None)
        was_complete = any((row.genome, row.process) in done for _, _, done in self._changes.complete)
        fails = self._flow.events[row.genome].fails(row.analysis) if row.genome in self._flow.events else None
        if row.state in UNFINISHED_STATES:
            return "unfinished"
        if row.state in ("not_submitted", "unknown"):
            is_explained = self._has_valid_reason(row) and not was_complete
            is_submitted = row.job_id is not None
            is_right = is_explained and is_submitted is (row.state == "unknown")
            return None if is_right else "without an outcome"
        if job is None:
            return "its job is in no generation of the hive"
        if row.state == "complete":
            is_right = job.status == "DONE" and job.output is not None and not fails
            is_same = is_right and json.loads(row.result or "null") == json.loads(job.output or "null")
            return None if is_same else f"no success with this result in the hive: {job.output}"
        if was_complete:
            return "it was complete before"
        if row.state == "failed":
            return None if job.has_failed and job.output is None and fails is not False else "no failed job"
        is_current = job.generation == len(self._changes.hives[row.hive].created)
        if row.state == "missing":
            return "its job is in the hive" if is_current else None
        return "unexpected state"

    def _has_valid_reason(self, row: Row) -> bool:
        """Return whether the error of a process without an outcome names a change that prevented it."""
        removed_at = self._changes.lookups.removed_at.get(row.process)
        was_removed = removed_at is not None and removed_at <= float(row.finished_at or 0)
        return was_removed and any(text in (row.error or "") for text in REMOVED_ERRORS)

    def _find_report_faults(self, rows: Sequence[Row], jobs: Sequence[HiveJob]) -> Iterator[str]:
        stored = self._system.ledger_rows(REPORTS, **self._genomes)
        genomes = sorted(self._flow.events)
        received = {
            report["message_id"]: report for genome in genomes for report in self._system.all_reports(genome)
        }
        finished: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        summaries: dict[str, dict[str, str]] = {}
        for message_id, routing_key, _, _ in stored:
            report = received.get(message_id)
            if report is None or report["routing_key"] != routing_key:
                yield f"report {message_id} was not received with {routing_key}: {report}"
            elif step(report) == "process_finished":
                (process,) = report["params"]["event_hooks"]["processes"]
                finished[report["resource"], process].append(report)
            elif step(report) == "event_finished":
                is_without_process = not report["params"]["event_hooks"]["processes"]
                summaries[report["resource"]] = {} if is_without_process else facts(report)["processes"]
        for row in rows:
            reports = finished[row.genome, row.process]
            if text := self._explain_reports(row, reports, jobs):
                yield f"{text}: {row}: {[(report['routing_key'], report['message']) for report in reports]}"
        for genome, states in summaries.items():
            expected = {row.process: row.state for row in rows if row.genome == genome}
            if states != expected:
                yield f"{genome}: the last summary is {states}, and the ledger has {expected}"
        yield from (f"{genome}: no summary" for genome in genomes if genome not in summaries)

    def _explain_reports(
        self, row: Row, reports: Sequence[dict[str, Any]], jobs: Sequence[HiveJob]
    ) -> str | None:
        """Return why the reports on the outcomes of a process are wrong."""
        attempts = 1 + self._changes.cleared[row.run_id, row.process]
        keys = [report["routing_key"] for report in reports]
        expected = "report.info" if row.state == "complete" else "report.fatal"
        if keys[-1:] != [expected] or facts(reports[-1])["status"] != row.state:
            return f"the last report is not a {expected}"
        if len(keys) > attempts or keys.count("report.info") > 1:
            return f"{len(keys)} reports of {attempts} attempts"
        for report in reports:
            told = facts(report)
            outputs = [
                json.loads(job.output)
                for job in jobs
                if row.token in job.input
                and job.job_id == told.get("id")
                and job.output
                and job.status == "DONE"
            ]
            if report["routing_key"] == "report.info" and told["output"] not in outputs:
                return "a success without a job that is done"
        return None
