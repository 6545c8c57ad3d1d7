"""The lines that ``python -m event_hooks.reports.listen`` prints."""

from __future__ import annotations

import json

from event_hooks.reports.listen import format_report

REPORT = {
    "report_time": "2026-11-01",
    "report_type": "INFO",
    "resource": "a\x1b[31m",
    "message": "b\n\x9b2Jc",
}


def test_a_report_is_one_line_that_does_not_control_the_terminal() -> None:
    assert format_report(REPORT, is_json=False) == r"2026-11-01  INFO   a\x1b[31m  b\n\x9b2Jc"
    assert format_report({**REPORT, "resource": None}, is_json=False).startswith("2026-11-01  INFO   -  b")


def test_json_is_ascii() -> None:
    line = format_report(REPORT, is_json=True)
    assert line.isascii()
    assert json.loads(line) == REPORT
