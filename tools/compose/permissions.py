"""Permissions that a container has, and should not have."""

import json
from collections.abc import Sequence
from pathlib import Path

from tools.airflow_services import CHECKOUT
from tools.compose.project import Project

SCRIPT = CHECKOUT / "tests" / "compose" / "list_permissions.py"
ISOLATED = {"beekeeper", "mysql", "postgres", "rabbitmq", "scheduler"}
"""Services that reach no address outside."""

EXPECTED = {
    "compilers": [],
    "databases": {"celery": ["celery"], "event_ledger": ["event_ledger"]},
    "hive": ["INSERT", "SELECT", "UPDATE"],
}
"""What the script prints in a worker."""


def find_permission_faults(project: Project) -> Sequence[str]:
    """Return the permissions of the running containers that are not as expected."""
    faults = []
    for container in project.list_containers():
        pids = project.list_pids(container["Name"])
        lines = {line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()}
        if not {"CapEff:\t0000000000000000", "NoNewPrivs:\t1"} <= lines or any(map(_is_privileged, lines)):
            faults.append(f"{container['Name']} has capabilities, or can get more")
        networks = container["Networks"].split(",")
        if all(map(project.is_internal, networks)) != (container["Service"] in ISOLATED):
            faults.append(f"{container['Name']} is in the networks {networks}")
    found = json.loads(project.run_in("worker", SCRIPT))
    return faults + [f"worker: {name} is {found[name]}" for name in EXPECTED if found[name] != EXPECTED[name]]


def _is_privileged(line: str) -> bool:
    name, _, value = line.partition(":\t")
    return (name == "CapEff" and int(value, 16) != 0) or (name == "NoNewPrivs" and value != "1")
