"""The objects of a warm API server are excluded from garbage collection."""

from __future__ import annotations

import gc

import pytest

from event_hooks.api import garbage_collection
from event_hooks.api.garbage_collection import THRESHOLDS, limit_collections


async def test_existing_objects_are_excluded_at_the_start_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage_collection, "FREEZE_DELAYS", (0.0, 0.01))
    counts = []
    monkeypatch.setattr(
        gc, "freeze", lambda freeze=gc.freeze: (freeze(), counts.append(gc.get_freeze_count()))
    )
    thresholds, frozen_before = gc.get_threshold(), gc.get_freeze_count()
    try:
        await limit_collections()
        assert len(counts) == 2
        assert counts[0] > frozen_before
        assert gc.get_threshold() == THRESHOLDS
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
