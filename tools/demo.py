"""
Show event hooks on the local stack: events arrive by REST, hive jobs run, and reports are published.

Two events are submitted: one succeeds, and a job of the other fails. A third event is a row in
ensembl_metadata that collect_events finds. The exit status is 0 if runs and reports are as expected.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from event_hooks.reports.hook import RabbitMQHook
from event_hooks.reports.listen import ReportListener, listen
from tests.support.practice_metadata import PracticeMetadata
from tools.airflow_services import CHECKOUT
from tools.runs import FINISHED_STATES, Runs
from tools.stack import Stack

HIVE = "hive_event_handling"
WAIT_SECONDS = 120
SUCCEEDING_EVENT = {
    "type": "new_assembly",
    "genome": "homo_sapiens",
    "practice": {"seconds": 0.5, "parts": 3},
}
FAILING_EVENT = {
    "type": "new_genebuild",
    "genome": "mus_musculus",
    "practice": {"seconds": 0.5, "fail": "child", "message": "No space left on device: /nfs/dumps"},
}
PROCESSES = {"new_assembly": ["dump_dna", "dump_peptide"], "new_genebuild": ["dump_peptide"]}


def show_event(runs: Runs, listener: ReportListener, event: dict[str, Any]) -> tuple[str, list[str]]:
    """
    Submit an event, and print its progress and reports.

    :return: the state of the run, and the sorted routing keys of the reports on finished processes.
    :raises TimeoutError: the run does not finish within ``WAIT_SECONDS``.
    """
    run_id = f"demo__{event['genome']}__{datetime.now():%Y%m%dT%H%M%S}"  # noqa: DTZ005 (the user's local time)
    print(f"\n\033[1mPOST {runs.url}/api/v2/dags/process_event/dagRuns\033[0m\n  {json.dumps(event)}")
    runs.trigger(event, run_id).raise_for_status()
    print(f"  the run: {runs.url}/dags/process_event/runs/{run_id}\n")
    return _show_run(runs, listener, run_id, PROCESSES[event["type"]])


def show_collected_event(
    runs: Runs, listener: ReportListener, metadata: PracticeMetadata
) -> tuple[str, list[str]]:
    """
    Write an event into ensembl_metadata, collect it, and print its progress and reports.

    :return: as of :func:`show_event`.
    :raises TimeoutError: a run does not finish within ``WAIT_SECONDS``.
    """
    event_id = metadata.add_event(metadata.add_genome("danio_rerio"), "New genebuild")
    print(f"\n\033[1mINSERT INTO genome_event\033[0m\n  {event_id}, 'New genebuild', 'Handover', danio_rerio")
    summary = _collect(runs)
    print(f"  collect_events: {summary['found']} found, {summary['started']} started\n")
    return _show_run(runs, listener, summary["runs"][0], PROCESSES["new_genebuild"])


def _collect(runs: Runs) -> dict[str, Any]:
    """Run collect_events for the last minute, and return its summary."""
    now, dag = datetime.now(UTC), "/dags/collect_events"
    window = {
        "start": (now - timedelta(minutes=1)).isoformat(),
        "end": (now + timedelta(minutes=1)).isoformat(),
    }
    runs.request("PATCH", dag, json={"is_paused": False}).raise_for_status()
    response = runs.request("POST", f"{dag}/dagRuns", json={"logical_date": None, "conf": window})
    response.raise_for_status()
    run = f"{dag}/dagRuns/{response.json()['dag_run_id']}"
    path = f"{run}/taskInstances/collect/xcomEntries/return_value"
    runs.wait_until(lambda: runs.request("GET", path).ok, WAIT_SECONDS, lambda: f"{run} has no result")
    return dict(runs.request("GET", path).json()["value"])


def _show_run(
    runs: Runs, listener: ReportListener, run_id: str, processes: list[str]
) -> tuple[str, list[str]]:
    _follow(runs, run_id, processes)
    reports = [
        (key, report) for key, report in listener.iter_reports() if _details(report)["run_id"] == run_id
    ]
    print()
    for key, report in reports:
        print(f"  {key}  {report['message'][:100]}")
    finished = [(key, report) for key, report in reports if _details(report)["step"] == "process_finished"]
    for key, report in finished:
        print(f"\n\033[1mReport on {key}\033[0m")
        print(textwrap.indent(json.dumps(report, indent=2, ensure_ascii=False), "  "))
    return runs.load_state(run_id), sorted(key for key, _ in finished)


def _details(report: dict[str, Any]) -> dict[str, Any]:
    return dict(report["params"]["event_hooks"])


def _follow(runs: Runs, run_id: str, processes: list[str]) -> None:
    """
    Print a line for each change of a process, until the run has finished.

    :raises TimeoutError: it does not finish within ``WAIT_SECONDS``.
    """
    started, printed = time.monotonic(), dict.fromkeys([*processes, "report"], "")
    while True:
        is_finished = runs.load_state(run_id) in FINISHED_STATES
        states = runs.load_task_states(run_id)
        current = {process: _describe_progress(runs, run_id, process, states) for process in processes}
        current["report"] = states.get("report") or ""
        for name, text in current.items():
            if text and text != printed[name]:
                print(f"  {time.monotonic() - started:5.1f} s  {name:<14} {text}", flush=True)
        printed = current
        if is_finished:
            return
        if time.monotonic() - started > WAIT_SECONDS:
            raise TimeoutError(f"the run {run_id} has not finished after {WAIT_SECONDS} s: {states}")
        time.sleep(0.3)


def _describe_progress(runs: Runs, run_id: str, process: str, states: dict[str, str | None]) -> str:
    from event_hooks.hive.connection import resolve_hive
    from event_hooks.hive.reader import HiveReader
    from event_hooks.ledger.database import Ledger
    from event_hooks.ledger.processes import load_process_statuses

    submit, wait = states.get(f"{process}.submit"), states.get(f"{process}.wait")
    if submit != "success":
        return f"submit: {submit or 'to come'}"
    ledger = Ledger()
    statuses = load_process_statuses(ledger, run_id, process)
    ledger.close()
    job_ids = [status.job_id for status in statuses if status.job_id is not None]
    reader = HiveReader(HIVE, resolve_hive(HIVE))
    changes = reader.read_changes((), dict.fromkeys(job_ids))
    reader.close()
    texts = [f"{progress.done} of {progress.total} jobs done" for progress in changes.progress]
    texts += [outcome.state.value for outcome in changes.outcomes]
    return f"job {job_ids[0]}: {texts[0]}; wait: {wait or 'to come'}"


def main() -> int:
    """Show the three events, and return the exit status: 0 if each one ended as expected."""
    stack = Stack(CHECKOUT / ".stack")
    airflow = stack.airflow()
    if replaced := [name for name, value in stack.connections.items() if airflow.settings[name] != value]:
        print(
            f"\nThe demo needs the practice servers. Unset {', '.join(replaced)}, then: make demo",
            file=sys.stderr,
        )
        return 1
    os.environ |= airflow.settings
    runs = Runs(airflow.url, airflow.log_in)
    try:
        with listen(RabbitMQHook(), "report_exchange") as listener:
            results = (
                show_event(runs, listener, SUCCEEDING_EVENT),
                show_event(runs, listener, FAILING_EVENT),
                show_collected_event(runs, listener, PracticeMetadata(stack.metadata_url)),
            )
    except (TimeoutError, requests.RequestException) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    expected = (
        ("success", ["report.info", "report.info"]),
        ("failed", ["report.fatal"]),
        ("success", ["report.info"]),
    )
    if results != expected:
        print(f"\nThe demo failed: expected {expected}, not {results}", file=sys.stderr)
        return 1
    print(f"\nAll events ended as expected. The web page: {airflow.url}  (admin, {airflow.password})")
    print("Repeat: make demo    State of all parts: make status    Stop all parts: make down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
