"""Events of shapes that may take long to check, and a way to measure the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SIZE = 1_000_000
"""Bytes of each shape as JSON, about as many as the setting ``max_body_bytes`` allows by default."""


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
"""``{description: value of a field}``."""


def measure(function: Callable[[], object]) -> float:
    """Return the CPU seconds of this process, which other processes do not increase."""
    started = time.process_time()
    function()
    return time.process_time() - started
