"""
The main job before your eyes: an event comes in over REST, hive jobs run, reports go out.

Two events are sent, one that succeeds and one whose job fails; a third is a row in ensembl_metadata, which
collect_events finds. The exit status is 0 if the reports say so.
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
from event_hooks.reports.listen import Ear, ear
from tests.support.practice_metadata import PracticeMetadata
from tools.airflow_services import CHECKOUT
from tools.runs import OVER, Runs
from tools.stack import Stack

HIVE = "hive_event_handling"
LIMIT = 120
GOOD = {"type": "new_assembly", "genome": "homo_sapiens", "practice": {"seconds": 0.5, "parts": 3}}
BAD = {
    "type": "new_genebuild",
    "genome": "mus_musculus",
    "practice": {"seconds": 0.5, "fail": "child", "message": "No space left on device: /nfs/dumps"},
}
PROCESSES = {"new_assembly": ["dump_dna", "dump_peptide"], "new_genebuild": ["dump_peptide"]}


def show(runs: Runs, heard: Ear, event: dict[str, Any]) -> tuple[str, list[str]]:
    """
    Send an event and show what becomes of it.

    :return: the run's state, and the routing keys of the reports how it ended, sorted.
    :raises TimeoutError: after two minutes.
    """
    run_id = f"demo__{event['genome']}__{datetime.now():%Y%m%dT%H%M%S}"  # noqa: DTZ005 (a person's own clock)
    print(f"\n\033[1mPOST {runs.url}/api/v2/dags/process_event/dagRuns\033[0m\n  {json.dumps(event)}")
    runs.trigger(event, run_id).raise_for_status()
    print(f"  the run: {runs.url}/dags/process_event/runs/{run_id}\n")
    return _shown(runs, heard, run_id, PROCESSES[event["type"]])


def show_collected(runs: Runs, heard: Ear, metadata: PracticeMetadata) -> tuple[str, list[str]]:
    """
    Hand a genome over in ensembl_metadata, collect the event, and show what becomes of it.

    :return: as of :func:`show`.
    """
    event_id = metadata.event(metadata.genome("danio_rerio"), "New genebuild")
    print(f"\n\033[1mINSERT INTO genome_event\033[0m\n  {event_id}, 'New genebuild', 'Handover', danio_rerio")
    now, dag = datetime.now(UTC), "/dags/collect_events"
    window = {
        "start": (now - timedelta(minutes=1)).isoformat(),
        "end": (now + timedelta(minutes=1)).isoformat(),
    }
    runs.ask("PATCH", dag, json={"is_paused": False}).raise_for_status()
    answer = runs.ask("POST", f"{dag}/dagRuns", json={"logical_date": None, "conf": window})
    answer.raise_for_status()
    run = f"{dag}/dagRuns/{answer.json()['dag_run_id']}"
    path = f"{run}/taskInstances/collect/xcomEntries/return_value"
    runs.until(lambda: runs.ask("GET", path).ok, LIMIT, lambda: f"{run} has no result")
    summary = runs.ask("GET", path).json()["value"]
    print(f"  collect_events: {summary['found']} found, {summary['handed_over']} handed over\n")
    return _shown(runs, heard, summary["runs"][0], PROCESSES["new_genebuild"])


def _shown(runs: Runs, heard: Ear, run_id: str, processes: list[str]) -> tuple[str, list[str]]:
    _follow(runs, run_id, processes)
    told = [(key, report) for key, report in heard.heard() if _about(report)["run_id"] == run_id]
    print()
    for key, report in told:
        print(f"  {key}  {report['message'][:100]}")
    ended = [(key, report) for key, report in told if _about(report)["step"] == "process_finished"]
    return runs.state(run_id), sorted(_print(key, report) for key, report in ended)


def _about(report: dict[str, Any]) -> dict[str, Any]:
    return dict(report["params"]["event_hooks"])


def _follow(runs: Runs, run_id: str, processes: list[str]) -> None:
    """Print a line whenever something has changed, until the run is over."""
    started, shown = time.monotonic(), dict.fromkeys([*processes, "report"], "")
    while True:
        is_finished = runs.state(run_id) in OVER
        states = runs.task_states(run_id)
        news = {process: _progress(runs, run_id, process, states) for process in processes}
        news["report"] = states.get("report") or ""
        for name, text in news.items():
            if text and text != shown[name]:
                print(f"  {time.monotonic() - started:5.1f} s  {name:<14} {text}", flush=True)
        shown = news
        if is_finished:
            return
        if time.monotonic() - started > LIMIT:
            raise TimeoutError(f"the run {run_id} is not over after {LIMIT} s: {states}")
        time.sleep(0.3)


def _progress(runs: Runs, run_id: str, process: str, states: dict[str, str | None]) -> str:
    from event_hooks.hive.connection import resolve_hive
    from event_hooks.hive.reader import HiveReader

    submit, wait = states.get(f"{process}.submit"), states.get(f"{process}.wait")
    if submit != "success":
        return f"submit: {submit or 'to come'}"
    job_ids = runs.xcom(run_id, f"{process}.submit")
    visitor = HiveReader(HIVE, resolve_hive(HIVE))
    found = visitor.look((), job_ids)
    visitor.close()
    how = [f"{one.done} of {one.total} jobs done" for one in found.progress]
    how += [one.state.value for one in found.outcomes]
    return f"job {job_ids[0]}: {how[0]}; wait: {wait or 'to come'}"


def _print(key: str, report: dict[str, Any]) -> str:
    print(f"\n\033[1mReport on {key}\033[0m")
    print(textwrap.indent(json.dumps(report, indent=2, ensure_ascii=False), "  "))
    return key


def main() -> int:
    """Show the events; return 0 if each ended as it should."""
    stack = Stack(CHECKOUT / ".stack")
    airflow = stack.airflow()
    if other := [name for name, value in stack.connections.items() if airflow.settings[name] != value]:
        print(
            f"\nThe demo needs the practice servers. Unset {', '.join(other)}, then: make demo",
            file=sys.stderr,
        )
        return 1
    os.environ |= airflow.settings
    runs = Runs(airflow.url, airflow.token)
    try:
        with ear(RabbitMQHook(), "report_exchange") as heard:
            good, bad = show(runs, heard, GOOD), show(runs, heard, BAD)
            collected = show_collected(runs, heard, PracticeMetadata(stack.metadata_url))
    except (TimeoutError, requests.RequestException) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    expected = (
        ("success", ["report.info", "report.info"]),
        ("failed", ["report.fatal"]),
        ("success", ["report.info"]),
    )
    if (good, bad, collected) != expected:
        print(f"\nThe demo failed: expected {expected}, and it was {(good, bad, collected)}", file=sys.stderr)
        return 1
    print(f"\nAll events ended as they should. Look around: {airflow.url}  (admin, {airflow.password})")
    print("Again: make demo    The whole state: make status    Stop everything: make down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
