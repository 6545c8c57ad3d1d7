"""The time of the checks is linear in the length of an event, for events of any shape."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from event_hooks.events.lookups import Lookups, load
from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventInvalid
from event_hooks.process_event.planning import plan_batch

SIZE = 1_000_000
"""Bytes of each shape as JSON, about as many as the setting ``max_body_bytes`` allows by default."""

MAX_RATIO = 100
"""The checks may take this many times as long as ``json.loads`` of the same text, or of a list of numbers."""


def nest(value: object, levels: int) -> object:
    for _ in range(levels):
        value = [value]
    return value


SHAPES: dict[str, Any] = {
    "a long key before a long list": {"k" * (SIZE // 2): [1] * (SIZE // 4)},
    "long keys before lists": {"k" * 1000 + str(index): [1] * 100 for index in range(SIZE // 1300)},
    "a wide list": [1] * (SIZE // 3),
    "many keys": {f"k{index}": 1 for index in range(SIZE // 12)},
    "a long text": "x" * SIZE,
    "characters that are escaped": "é" * (SIZE // 6),
    "many signs": "# " * (SIZE // 2),
    "a long name": "#" + "a" * SIZE,
    "many levels": [nest(40, 40) for _ in range(SIZE // 2000)],
    "long keys in each other": {"k" * (SIZE // 3): {"l" * (SIZE // 3): [[1] * 100] * 300}},
}


@pytest.fixture(scope="module")
def lookups(tmp_path_factory: pytest.TempPathFactory) -> Lookups:
    """Lookups with one type of event."""
    files = [tmp_path_factory.mktemp("lookups") / name for name in ("event_lookup", "process_lookup")]
    process = {"analysis": "dump", "hive_conn_id": "hive"}
    for file, content in zip(files, ({"new_assembly": ["dump"]}, {"dump": process}), strict=True):
        file.write_text(json.dumps(content))
    return load(*files)


def measure(function: Callable[[], object]) -> float:
    """Return the CPU seconds of this process, which other processes do not increase."""
    started = time.process_time()
    function()
    return time.process_time() - started


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
