"""Garbage collection in the API server: short, and without the objects that exist as long as the process."""

from __future__ import annotations

import asyncio
import gc

FREEZE_DELAYS = (0.0, 30.0, 300.0)
"""
Seconds after which the existing objects are excluded from later collections, each after the previous time.

First at the start, then when the first requests have built the routes' models and filled the caches.
"""

THRESHOLDS = (10_000, 20, 50)
"""
Arguments of ``gc.set_threshold``; the default of Python is (700, 10, 10).

An event creates thousands of objects, of which almost none are part of a reference cycle.
"""


async def limit_collections() -> None:
    """
    Exclude the modules, routes and caches of Airflow and event hooks from garbage collection.

    A full collection of these some 500,000 objects takes up to a second, in which the process answers no
    request, and frees almost none.
    """
    gc.set_threshold(*THRESHOLDS)
    for seconds in FREEZE_DELAYS:
        await asyncio.sleep(seconds)
        gc.collect()
        gc.freeze()
