"""Durations of the tests: those of all tests in a file, the sum of each folder on the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tools.private_files import private_folder

FILE = Path(__file__).parents[2] / ".stack" / "test-durations.txt"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seconds of each folder, and write those of each test, the slowest first."""
    tests: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                tests[report.nodeid] += report.duration
    if not tests:
        return
    folders: Counter[str] = Counter()
    for test, seconds in tests.items():
        folders["/".join(test.partition("::")[0].split("/")[:3][:-1])] += seconds
    terminalreporter.section("seconds by folder, set-up included")
    for folder, seconds in folders.most_common():
        count = sum(test.startswith(f"{folder}/") for test in tests)
        terminalreporter.line(f"{seconds:7.1f} {count:5} {folder}")
    private_folder(FILE.parent)
    FILE.write_text("".join(f"{seconds:8.2f} {test}\n" for test, seconds in tests.most_common()))
