"""The verdict and the record of `make test-compose`."""

from __future__ import annotations

from typing import Any

from tests.conftest import CHECKOUT
from tools.compose.__main__ import Result, build_record, find_faults
from tools.compose.project import read_curl_commands

NUMBERS: dict[str, Any] = {
    "events": 3,
    "processes": {"complete": 6},
    "jobs": 6,
    "final_reports": 6,
    "pending_reports": 0,
    "missing_reports": 0,
    "repeated_reports": 1,
}


def test_each_process_has_one_job_and_one_final_report() -> None:
    assert find_faults(NUMBERS) == []
    assert find_faults({**NUMBERS, "jobs": 7}) == ["jobs: expected 6, not 7"]
    states = {"complete": 5, "failed": 1}
    assert find_faults({**NUMBERS, "processes": states}) == [
        f"processes: expected {{'complete': 6}}, not {states}"
    ]


def test_the_record_has_faults_and_recoveries() -> None:
    result = Result(
        331.2, {"event-hooks-mysql-1": 4.4}, NUMBERS, ["JWT_SECRET is in the output of a container"]
    )
    lines = build_record(result, ["Docker Engine 20.10"]).splitlines()
    assert "- 3 events, 6 jobs, 6 final reports, 1 reports sent twice." in lines
    assert "  - JWT_SECRET is in the output of a container" in lines
    assert "| event-hooks-mysql-1 | 4 |" in lines


def test_the_readme_submits_an_event_with_curl() -> None:
    commands = read_curl_commands(CHECKOUT / "README.md")
    assert commands.startswith(". .stack/env\n")
    assert 'curl -s "$AIRFLOW_URL/event-hooks/jobs"' in commands
