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


def test_a_wait_that_an_earlier_version_started_goes_on() -> None:
    former = {"hive_conn_id": "hive_a", "job_ids": "[1]", "positions": "[0]"}
    trigger = EventJobTrigger(process="dump_dna", ready_timeout=3600, emits=[], guihive=None, **former)
    assert set(trigger.serialize()[1]) == {"process", "ready_timeout", "emits", "guihive"}
