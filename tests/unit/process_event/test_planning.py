"""The time of the checks is linear in the length of an event, for events of any shape."""

from __future__ import annotations

import json

import pytest

from event_hooks.events.lookups import Lookups, load
from event_hooks.events.models import EventBatch, build_job_input
from event_hooks.exceptions import EventInvalid
from event_hooks.field_path import FieldPath
from event_hooks.hive import perl
from event_hooks.process_event.planning import MAX_LEVELS, check_value, plan_batch
from tests.support.shapes import SHAPES, SIZE, measure, nest

MAX_RATIO = 100
"""The checks may take this many times as long as ``json.loads`` of the same text, or of a list of numbers."""


@pytest.fixture(scope="module")
def lookups(tmp_path_factory: pytest.TempPathFactory) -> Lookups:
    """Lookups with one type of event."""
    files = [tmp_path_factory.mktemp("lookups") / name for name in ("event_lookup", "process_lookup")]
    process = {"analysis": "dump", "hive_conn_id": "hive"}
    for file, content in zip(files, ({"new_assembly": ["dump"]}, {"dump": process}), strict=True):
        file.write_text(json.dumps(content))
    return load(*files)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_event_of_any_shape_is_checked_in_linear_time(lookups: Lookups, shape: str) -> None:
    event = {"type": "new_assembly", "comment": SHAPES[shape]}
    text, numbers = json.dumps(event), json.dumps([1] * (SIZE // 3))
    loads = max(measure(lambda: json.loads(text)), measure(lambda: json.loads(numbers)))
    checks = measure(lambda: plan_batch(EventBatch.from_conf(event), lookups))
    assert checks < MAX_RATIO * loads


def test_a_long_text_in_a_message_is_cut(lookups: Lookups) -> None:
    event = {"type": "new_assembly", "comment": f"#{'a' * 1000}#"}
    with pytest.raises(EventInvalid, match=r"^comment: expected no '#a{99}', which eHive"):
        plan_batch(EventBatch.from_conf(event), lookups)


def test_a_long_path_in_a_message_is_cut(lookups: Lookups) -> None:
    event = {"type": "new_assembly", "k" * 1000: [0, {"a": "#expr(1)expr#"}]}
    with pytest.raises(EventInvalid, match=r"^k{200}…: expected no '#expr\('"):
        plan_batch(EventBatch.from_conf(event), lookups)


def test_an_accepted_event_fits_into_the_job_of_a_join(lookups: Lookups) -> None:
    event = {"type": "new_assembly", "comment": nest(1, MAX_LEVELS - 1)}
    plan_batch(EventBatch.from_conf(event), lookups)
    joined = {"joined": {"process": "dump", "missing": [], "events": [event]}}
    joined_event = {"type": "new_assembly", **joined}
    plan_batch(EventBatch.from_conf(joined_event), lookups)
    perl.dumps(build_job_input(joined_event, 0, "run", "dump.submit"))


@pytest.mark.parametrize("levels", [MAX_LEVELS, 2 * MAX_LEVELS, 100_000])
def test_an_event_with_too_many_levels_is_rejected(levels: int) -> None:
    event = {"type": "new_assembly", "comment": nest(1, levels)}
    with pytest.raises(EventInvalid, match=r"^comment\[0\].*: expected fewer levels"):
        check_value(event, FieldPath())
