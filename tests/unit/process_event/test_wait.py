"""Serialization of ``EventJobTrigger``."""

from __future__ import annotations

from typing import Any

from airflow.sdk.module_loading import import_string

from event_hooks.process_event.wait import EventJobTrigger


def test_a_trigger_survives_serialization() -> None:
    arguments: dict[str, Any] = {
        "process": "dump_dna",
        "ready_timeout": 3600.0,
        "emits": ["dumped"],
        "guihive": None,
    }
    path, serialized = EventJobTrigger(**arguments).serialize()
    assert import_string(path)(**serialized).serialize() == (path, arguments)
