"""
Run docker-compose.yaml on a Docker Engine, kill each container while events are processed, and count.

It needs root, and takes 15 to 40 minutes: some tasks go on only after a timeout of Airflow. The data of the
engine, the Compose plugin and the images are below ``.stack/compose`` (5 GB). The images have the names of
the official ones, since no image registry may be reachable, and are built from Debian's packages; the
practice hive replaces eHive. The result is written to ``docs/compose.md``.
"""

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tools.airflow_services import CHECKOUT
from tools.bench.measurement import describe_machine
from tools.compose.engine import Engine
from tools.compose.permissions import find_permission_faults
from tools.compose.project import Project
from tools.exceptions import StackError
from tools.runs import Runs

RECORD = CHECKOUT / "docs" / "compose.md"
EVENTS_PER_KILL = 5
KILL_PAUSE = (0.0, 3.0)
"""Bounds of the seconds between the request with the events and the kill."""

FINISH_SECONDS = 900.0
"""
Timeout of the events of a kill.

If the scheduler is killed before it has sent the message of a task to Celery, the task is queued again after
``[scheduler] task_queued_timeout``, 10 minutes.
"""


@dataclass
class Result:
    """What was seen."""

    start_seconds: float
    recoveries: dict[str, float] = field(default_factory=dict)
    """``{container: seconds from its kill until all events were complete}``."""

    numbers: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def run(project: Project) -> Result:
    """Start the services, send events, kill each container and then all of them, and count."""
    print("Starting the services", flush=True)
    result = Result(project.start())
    print(f"All services are healthy after {result.start_seconds:.0f} s", flush=True)
    result.faults += find_permission_faults(project)
    answer = project.run_curl_of_readme()
    wait_complete(project, [answer["id"]])
    names = [container["Name"] for container in project.list_containers()]
    for targets in (*([name] for name in names), names):
        label = targets[0] if len(targets) == 1 else "all"
        result.recoveries[label] = kill_during_events(project, targets)
        print(f"{label}: all events complete {result.recoveries[label]:.0f} s after the kill", flush=True)
    result.faults += find_restart_faults(project)
    result.numbers = project.run_python(CHECKOUT / "tests" / "compose" / "count.py")
    result.faults += find_faults(result.numbers)
    result.faults += [f"{name} is in the output of a container" for name in project.find_secrets_in_logs()]
    checked = project.check_ledger()
    if not checked.endswith(" 0 faults"):
        result.faults.append(checked)
    return result


def kill_during_events(project: Project, names: Sequence[str]) -> float:
    """Send events, kill containers, and return the seconds until all events are complete."""
    events = [
        {"type": "new_assembly", "genome": f"genome_{uuid4().hex[:12]}", "event_id": uuid4().hex}
        for _ in range(EVENTS_PER_KILL)
    ]
    answers = project.request("POST", "/event-hooks/jobs", json=events)
    time.sleep(random.uniform(*KILL_PAUSE))  # noqa: S311
    for name in names:
        project.kill(name)
    killed = time.monotonic()
    wait_complete(project, [answer["id"] for answer in answers])
    return time.monotonic() - killed


def wait_complete(project: Project, event_ids: Sequence[int]) -> None:
    """
    Wait until events are complete.

    :raises TimeoutError: they are not within ``FINISH_SECONDS``.
    """
    states: dict[int, str] = {}

    def are_complete() -> bool:
        for event_id in event_ids:
            states[event_id] = project.request("GET", f"/event-hooks/events/{event_id}")["state"]
        return set(states.values()) == {"complete"}

    Runs.wait_until(are_complete, FINISH_SECONDS, lambda: f"events: {states}; {project.list_states()}")


def find_restart_faults(project: Project) -> list[str]:
    """Start all services again without a change, and return the containers that are new."""
    before = {container["Name"]: container["ID"] for container in project.list_containers()}
    project.compose("up", "--build", "--detach")
    after = {container["Name"]: container["ID"] for container in project.list_containers()}
    return [f"{name} was created again" for name, container in after.items() if before.get(name) != container]


def find_faults(numbers: dict[str, Any]) -> list[str]:
    """Return what is not as expected: each process is complete, with one job and one final report."""
    processes = 2 * numbers["events"]
    expected = {
        "processes": {"complete": processes},
        "jobs": processes,
        "final_reports": processes,
        "pending_reports": 0,
        "missing_reports": 0,
    }
    return [
        f"{name}: expected {value}, not {numbers[name]}"
        for name, value in expected.items()
        if numbers[name] != value
    ]


def build_record(result: Result, versions: Sequence[str]) -> str:
    """Return the content of docs/compose.md."""
    numbers = result.numbers
    return "\n".join(
        [
            "# docker-compose.yaml on a Docker Engine",
            "",
            "Written by `make test-compose`; do not edit. The images have the names of the official ones and"
            " are built from Debian's packages; the practice hive replaces eHive.",
            "",
            f"- {describe_machine('; '.join(versions))}",
            f"- All services were healthy {result.start_seconds:.0f} s after `docker compose up`.",
            f"- {numbers['events']} events, {numbers['jobs']} jobs, {numbers['final_reports']} final reports,"
            f" {numbers['repeated_reports']} reports sent twice.",
            f"- Faults: {len(result.faults)}",
            *(f"  - {fault}" for fault in result.faults),
            "",
            f"Each container was killed while {EVENTS_PER_KILL} events with two processes were processed:",
            "",
            "| Container | Seconds from its kill until all events were complete |",
            "| --- | ---: |",
            *(f"| {name} | {seconds:.0f} |" for name, seconds in result.recoveries.items()),
            "",
        ]
    )


def main() -> int:
    """Run everything, stop it, and return the exit status."""
    folder = CHECKOUT / ".stack" / "compose"
    engine = Engine(folder)
    project = Project(engine, folder / "checkout")
    try:
        engine.start()
        engine.build_images()
        project.copy_checkout()
        result = run(project)
        RECORD.write_text(build_record(result, engine.load_versions()))
        print("\n".join([*result.faults, f"{len(result.faults)} faults; written to {RECORD}"]))
        project.remove()
        return 1 if result.faults else 0
    except (StackError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        engine.processes.stop()


if __name__ == "__main__":
    sys.exit(main())
