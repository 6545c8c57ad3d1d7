"""What a round sends in, what must come of it, and what did."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from tests.support.lookups import EVENT_LOOKUP
from tests.support.system import System
from tools.runs import OVER

ENTRY_JOBS = text(
    "SELECT logic_name, COALESCE(data, input_id), job.status, COUNT(result.job_id)"
    " FROM job JOIN analysis_base USING (analysis_id) LEFT JOIN result USING (job_id)"
    " LEFT JOIN analysis_data ON input_id = CONCAT('_extended_data_id ', analysis_data_id)"
    " WHERE prev_job_id IS NULL GROUP BY job.job_id"
)
"""Jobs that a submit made, each with the number of its results: one if all that grew from it is done."""

ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
STEPS = ("route", "submit", "wait", "report")


@dataclass(frozen=True)
class Run:
    """One run, and its events by their genomes."""

    run_id: str
    events: dict[str, dict[str, Any]]

    @property
    def pairs(self) -> dict[tuple[str, str], bool]:
        """Give the (genome, process) pairs, and whether the job of each is meant to succeed."""
        return {
            (genome, process): not _fails(event["practice"], process)
            for genome, event in self.events.items()
            for process in EVENT_LOOKUP[event["type"]]
        }


class Load:
    """
    Two runs that are under way at the same time: one of a single event, one of a batch of two.

    One job of the batch fails, and that of the single event where it is said.

    :param name: begins the genomes, by which all is found again; of this load alone.
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
    def pairs(self) -> dict[tuple[str, str], bool]:
        """Give the pairs of all runs."""
        return {pair: succeeds for run in self.runs for pair, succeeds in run.pairs.items()}

    def is_finished(self) -> bool:
        """Tell whether all runs are."""
        return all(self.system.runs.state(run.run_id) in OVER for run in self.runs)

    def steps(self) -> Counter[str]:
        """Count the runs by the first step that is not over in them."""
        return Counter(self._step(run) for run in self.runs)

    def _step(self, run: Run) -> str:
        states = self.system.runs.task_states(run.run_id)
        under_way = {task.rpartition(".")[2] for task, state in states.items() if state not in ENDED}
        return next((step for step in STEPS if step in under_way), "over")

    def reports(self) -> list[dict[str, Any]]:
        """Give all reports of these events that have arrived so far."""
        return [
            report for run in self.runs for genome in run.events for report in self.system.reports(genome)
        ]

    def jobs(self) -> list[tuple[tuple[str, str], str, int]]:
        """Give the pair, the status and the number of results of each entry job."""
        found = []
        genomes = [genome for run in self.runs for genome in run.events]
        with self.system.hives["hive_test"].connect() as connection:
            for analysis, job_input, status, results in connection.execute(ENTRY_JOBS):
                pairs = [
                    (genome, analysis.removeprefix("event_")) for genome in genomes if genome in job_input
                ]
                found += [(pair, status, results) for pair in pairs]
        return found

    def faults(self) -> list[str]:
        """Say what is not as it must be, now that all runs are over or out of time."""
        return [*self._run_faults(), *self._job_faults(), *self._report_faults()]

    def _run_faults(self) -> list[str]:
        expected = {run.run_id: "success" if all(run.pairs.values()) else "failed" for run in self.runs}
        found = {run_id: self.system.runs.state(run_id) for run_id in expected}
        return [
            f"run {run_id} is {found[run_id]}, not {state}: {self.system.runs.task_states(run_id)}"
            for run_id, state in expected.items()
            if found[run_id] != state
        ]

    def _job_faults(self) -> list[str]:
        jobs = self.jobs()
        count = Counter(pair for pair, _, _ in jobs)
        expected = self.pairs
        faults = [f"{count[pair]} jobs of {pair}" for pair in {**expected, **count} if count[pair] != 1]
        for pair, status, results in jobs:
            if pair not in expected:
                faults.append(f"{pair}: nobody asked for this job")
            elif results != expected[pair]:
                meant = "succeed" if expected[pair] else "fail"
                faults.append(f"{pair}: job is {status} with {results} results, and was to {meant}")
        return faults

    def _report_faults(self) -> list[str]:
        said: dict[tuple[str, str], list[dict[str, Any]]] = {pair: [] for pair in self.pairs}
        faults = []
        for report in self.reports():
            pair = (report["resource"], _facts(report).get("process", "none"))
            if pair in said:
                said[pair].append(report)
            else:
                faults.append(f"report of nobody, {pair}: {report['message']}")
        for pair, succeeds in self.pairs.items():
            meant = "report.info" if succeeds else "report.fatal"
            ids = {report["message_id"] for report in said[pair]}
            keys = {report["routing_key"] for report in said[pair]}
            if len(ids) != 1 or keys != {meant}:
                messages = sorted({report["message"] for report in said[pair]})
                faults.append(f"{pair}: {sorted(keys)} instead of one {meant}: {messages}")
        return faults


def _event(event_type: str, genome: str, **practice: Any) -> dict[str, Any]:
    return {"type": event_type, "genome": genome, "practice": {"seconds": 0.2, **practice}}


def _fails(practice: dict[str, Any], process: str) -> bool:
    return "fail" in practice and practice.get("only") in (None, f"event_{process}")


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    """Give what a report's message says after its verdict, nothing if it has no such form."""
    _, _, facts = report["message"].partition(": ")
    try:
        return dict(json.loads(facts))
    except ValueError:
        return {}
