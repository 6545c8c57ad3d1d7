"""Details of any format: a field that cannot be kept is left out, and its event is processed."""

from __future__ import annotations

from typing import Any

import pytest

from event_hooks.ledger.database import Ledger
from tests.integration.collect_events.stored import NOON, Collect, list_stored_events
from tests.support.practice_metadata import PracticeMetadata

UNSAFE = [
    r'"a\u0000"',
    r'["\ud800"]',
    "1" * 30,
    "-9223372036854775809",
    "1e17",
    "-0.0",
    "1e400",
    "NaN",
    "-Infinity",
    "[" * 47 + "]" * 47,
    '{"a": ' * 200 + "1" + "}" * 200,
    r'{"\u0000": 1}',
    '[{"#x#": 1}]',
]
"""JSON values that the ledger or Airflow cannot keep, or no job can receive."""

UNSAFE_NAMES = [('"#x#"', "?x?"), (r'"a\u0000"', "a?"), (r'"\ud800"', "?")]
"""Names of fields, and the same in ``left_out``."""


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ("plain old text", {"details": "plain old text"}),
        ('{"email": "a@b", "comm', {"details": '{"email": "a@b", "comm'}),  # cut at 64 KB
        ('["a"]', {"details": '["a"]'}),
        ("", {}),
        ('{"comment": "caf\u00e9"}', {"comment": "caf\u00e9"}),
        ('{"comment": "#expr(unlink)expr#", "email": "a@b"}', {"email": "a@b", "left_out": ["comment"]}),
        ('{"force": true, "joined": {}, "type": "other"}', {"left_out": ["force", "joined"]}),
        (
            '{"further_fields": {"genome": "x"}, "email": "a@b"}',
            {"email": "a@b", "left_out": ["further_fields"]},
        ),
        *((f'{{"x": {value}, "email": "a@b"}}', {"email": "a@b", "left_out": ["x"]}) for value in UNSAFE),
        *(
            (f'{{{name}: 1, "email": "a@b"}}', {"email": "a@b", "left_out": [shown]})
            for name, shown in UNSAFE_NAMES
        ),
        ("1" * 5000, {"details": "1" * 2000}),
        ("#x#", {"left_out": ["details"]}),
    ],
)
def test_details_of_any_format_are_accepted(
    details: str, expected: dict[str, Any], metadata: PracticeMetadata, collect: Collect, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON, details=details)
    assert collect().started == 1
    (event,) = list_stored_events(ledger)
    standard_fields = {
        "type",
        "genome",
        "event_id",
        "source",
        "creation_time",
        "division",
        "release",
        "eg_release",
    }
    standard_fields |= {"assembly", "assembly_accession", "genebuild"}
    assert {name: value for name, value in event.payload.items() if name not in standard_fields} == expected
    assert event.payload["type"] == "new_genebuild"
