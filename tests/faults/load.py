"""The events of a round, their expected outcomes, and the faults."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from tests.support.lookups import EVENT_LOOKUP
from tests.support.system import System
from tools.runs import FINISHED_STATES

SUBMITTED_JOBS = text(
    "SELECT logic_name, COALESCE(data, input_id), job.status, COUNT(result.job_id)"
    " FROM job JOIN analysis_base USING (analysis_id) LEFT JOIN result USING (job_id)"
    " LEFT JOIN analysis_data ON input_id = CONCAT('_extended_data_id ', analysis_data_id)"
    " WHERE prev_job_id IS NULL GROUP BY job.job_id"
)
"""The submitted jobs, each with the number of its results: one if its whole job tree is done."""

FINISHED_TASK_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")
STEPS = ("route", "submit", "wait", "report")


@dataclass(frozen=True)
class Run:
    """
    One run.

    :param events: by genome.
    """

    run_id: str
    events: dict[str, dict[str, Any]]

    @property
    def expected_successes(self) -> dict[tuple[str, str], bool]:
        """``{(genome, process): whether the job is expected to succeed}``."""
        return {
            (genome, process): not _fails(event["practice"], process)
            for genome, event in self.events.items()
            for process in EVENT_LOOKUP[event["type"]]
        }


class Load:
    """
    Two concurrent runs: one of a single event, one of a batch of two events.

    One job of the batch fails.

    :param name: prefix of the genomes, which identify jobs and reports; no other load has it.
    :param single_fails: whether the job of the single event fails, too.
    """

    def __init__(self, system: System, name: str, *, single_fails: bool) -> None:
        self.system = system
        fails = {"fail": "child"} if single_fails else {}
        self.runs = [
            self._start(_event("new_genebuild", f"{name}_single", **fails)),
            self._start(
                _event("new_assembly", f"{name}_first", fail="entry", only="event_dump_dna"),
                _event("new_genebuild", f"{name}_second"),
            ),
        ]

    def _start(self, *events: dict[str, Any]) -> Run:
        run_id = self.system.start({"events": list(events)} if len(events) > 1 else events[0])
        return Run(run_id, {event["genome"]: event for event in events})

    @property
    def expected_successes(self) -> dict[tuple[str, str], bool]:
        """``{(genome, process): whether the job is expected to succeed}`` of both runs."""
        return {pair: succeeds for run in self.runs for pair, succeeds in run.expected_successes.items()}

    def is_finished(self) -> bool:
        """Return whether all runs have finished."""
        return all(self.system.runs.load_state(run.run_id) in FINISHED_STATES for run in self.runs)

    def count_steps(self) -> Counter[str]:
        """Count the runs by their first unfinished step."""
        return Counter(self._find_step(run) for run in self.runs)

    def _find_step(self, run: Run) -> str:
        states = self.system.runs.load_task_states(run.run_id)
        unfinished = {
            task.rpartition(".")[2] for task, state in states.items() if state not in FINISHED_TASK_STATES
        }
        return next((step for step in STEPS if step in unfinished), "finished")

    def reports(self) -> list[dict[str, Any]]:
        """Return all reports of these events so far."""
        return [
            report for run in self.runs for genome in run.events for report in self.system.reports(genome)
        ]

    def jobs(self) -> list[tuple[tuple[str, str], str, int]]:
        """Return ((genome, process), status, number of results) of each submitted job."""
        jobs = []
        genomes = [genome for run in self.runs for genome in run.events]
        with self.system.hives["hive_test"].connect() as connection:
            for analysis, job_input, status, results in connection.execute(SUBMITTED_JOBS):
                pairs = [
                    (genome, analysis.removeprefix("event_")) for genome in genomes if genome in job_input
                ]
                jobs += [(pair, status, results) for pair in pairs]
        return jobs

    def find_faults(self) -> list[str]:
        """Return a line for each fault, after all runs have finished or reached the timeout."""
        return [*self._find_run_faults(), *self._find_job_faults(), *self._find_report_faults()]

    def _find_run_faults(self) -> list[str]:
        expected = {
            run.run_id: "success" if all(run.expected_successes.values()) else "failed" for run in self.runs
        }
        states = {run_id: self.system.runs.load_state(run_id) for run_id in expected}
        return [
            f"run {run_id} is {states[run_id]}, not {state}: {self.system.runs.load_task_states(run_id)}"
            for run_id, state in expected.items()
            if states[run_id] != state
        ]

    def _find_job_faults(self) -> list[str]:
        jobs = self.jobs()
        count = Counter(pair for pair, _, _ in jobs)
        expected = self.expected_successes
        faults = [f"{count[pair]} jobs of {pair}" for pair in {**expected, **count} if count[pair] != 1]
        for pair, status, results in jobs:
            if pair not in expected:
                faults.append(f"{pair}: this job was not submitted")
            elif results != expected[pair]:
                outcome = "success" if expected[pair] else "failure"
                faults.append(f"{pair}: job is {status} with {results} results, expected a {outcome}")
        return faults

    def _find_report_faults(self) -> list[str]:
        reports: dict[tuple[str, str], list[dict[str, Any]]] = {pair: [] for pair in self.expected_successes}
        faults = []
        for report in self.reports():
            pair = (report["resource"], _parse_message(report).get("process", "none"))
            if pair in reports:
                reports[pair].append(report)
            else:
                faults.append(f"unexpected report on {pair}: {report['message']}")
        for pair, succeeds in self.expected_successes.items():
            expected = "report.info" if succeeds else "report.fatal"
            ids = {report["message_id"] for report in reports[pair]}
            keys = {report["routing_key"] for report in reports[pair]}
            if len(ids) != 1 or keys != {expected}:
                messages = sorted({report["message"] for report in reports[pair]})
                faults.append(f"{pair}: {sorted(keys)} instead of one {expected}: {messages}")
        return faults


def _event(event_type: str, genome: str, **practice: Any) -> dict[str, Any]:
    return {"type": event_type, "genome": genome, "practice": {"seconds": 0.2, **practice}}


def _fails(practice: dict[str, Any], process: str) -> bool:
    return "fail" in practice and practice.get("only") in (None, f"event_{process}")


def _parse_message(report: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON in a report's message; empty if it has none."""
    _, _, text = report["message"].partition(": ")
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}
