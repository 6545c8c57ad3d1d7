"""Health, metrics and logs of the running system."""

from __future__ import annotations

import re

from tests.support.lookups import HIVES
from tests.support.system import WAIT_SECONDS, System

EXPECTED_METRICS = {
    "events_received",
    "inputs_rejected",
    "time_to_ready",
    "time_to_report",
    "jobs_waiting",
    "jobs_running",
    "oldest_seconds",
    "events_not_started",
    "reports_pending",
    "reports_rejected",
    "follow_ups_pending",
}


def test_a_running_system_is_healthy(system: System) -> None:
    answer = system.api("GET", "/health", "viewer")
    health = answer.json()
    assert (answer.status_code, health["status"]) == (200, "healthy"), health
    assert health["triggerers"]["alive"] >= 1
    idle = health["hives"]["hive_idle"]
    assert (idle["status"], idle["beekeeper"]) == ("healthy", False)
    assert set(health["hives"]) == {*HIVES, "lookup:dump_old"} - {"hive_old"}


def test_metrics_are_sent_without_genomes(system: System, genome: str) -> None:
    event = {"type": "new_genebuild", "genome": genome}
    assert system.api("POST", "/jobs", json=event).status_code == 201
    assert system.api("POST", "/jobs", json={**event, "type": 5}).status_code == 422
    run_id = system.start(event)
    assert system.runs.wait_finished(run_id, WAIT_SECONDS) == "success"
    system.run_maintenance()
    missing = lambda: EXPECTED_METRICS - {parse_line(line)[0] for line in system.metrics()}  # noqa: E731
    system.runs.wait_until(lambda: not missing(), WAIT_SECONDS, lambda: f"not measured: {missing()}")
    metrics = [parse_line(line) for line in system.metrics()]
    assert ("events_received", "source=api,type=new_genebuild", "1|c") in metrics
    assert ("events_received", "source=manual,type=new_genebuild", "1|c") in metrics
    assert ("inputs_rejected", "where=api", "1|c") in metrics
    assert any(name == "time_to_ready" and tags == "hive=hive_test" for name, tags, _ in metrics)
    assert any(name == "jobs_waiting" and tags == "hive=hive_idle" for name, tags, _ in metrics)
    assert not [line for line in system.metrics() if "genome_" in line and ".event_hooks." in line]


def parse_line(line: str) -> tuple[str, str, str]:
    """Return name, tags and value of a StatsD line such as airflow.event_hooks.a,b=c:1|c."""
    match = re.fullmatch(r"airflow\.event_hooks\.(\w+),?([^:]*):(.*)", line)
    return (match[1], ",".join(sorted(match[2].split(","))), match[3]) if match else ("", "", "")
