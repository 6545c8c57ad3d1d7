"""What a monitor sees of the running system."""

from __future__ import annotations

import re

from tests.support.lookups import HIVES
from tests.support.system import LIMIT, System

MEASURED = {
    "events_received",
    "inputs_rejected",
    "time_to_ready",
    "time_to_report",
    "jobs_waiting",
    "jobs_running",
    "oldest_seconds",
    "events_not_started",
    "reports_pending",
    "follow_ups_pending",
}


def test_all_is_healthy_while_it_runs(system: System) -> None:
    answer = system.api("GET", "/health", "looker")
    health = answer.json()
    assert answer.status_code == 200, health
    assert health["triggerers"]["alive"] >= 1
    idle = health["hives"]["hive_idle"]
    assert (idle["status"], idle["beekeeper"]) == ("healthy", False)
    assert set(health["hives"]) == {*HIVES, "lookup:dump_old"} - {"hive_old"}


def test_what_happens_is_measured_and_no_metric_names_a_genome(system: System, genome: str) -> None:
    event = {"type": "new_genebuild", "genome": genome}
    assert system.api("POST", "/jobs", json=event).status_code == 201
    assert system.api("POST", "/jobs", json={**event, "type": 5}).status_code == 422
    run_id = system.start(event)
    assert system.runs.until_over(run_id, LIMIT) == "success"
    system.tend()
    missing = lambda: MEASURED - {line_of(one)[0] for one in system.metrics()}  # noqa: E731
    system.runs.until(lambda: not missing(), LIMIT, lambda: f"not measured: {missing()}")
    found = [line_of(one) for one in system.metrics()]
    assert ("events_received", "source=api,type=new_genebuild", "1|c") in found
    assert ("events_received", "source=manual,type=new_genebuild", "1|c") in found
    assert ("inputs_rejected", "where=api", "1|c") in found
    assert any(name == "time_to_ready" and tags == "hive=hive_test" for name, tags, _ in found)
    assert any(name == "jobs_waiting" and tags == "hive=hive_idle" for name, tags, _ in found)
    assert not [one for one in system.metrics() if "genome_" in one and ".event_hooks." in one]


def line_of(line: str) -> tuple[str, str, str]:
    """Give name, tags and value of a line of StatsD, as in airflow.event_hooks.a,b=c:1|c."""
    found = re.fullmatch(r"airflow\.event_hooks\.(\w+),?([^:]*):(.*)", line)
    return (found[1], ",".join(sorted(found[2].split(","))), found[3]) if found else ("", "", "")
