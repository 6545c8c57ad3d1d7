"""Serialization and arguments of ``HiveJobTrigger``."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.module_loading import import_string

from event_hooks.hive.trigger import HiveJobTrigger

ARGUMENTS: dict[str, Any] = {"hive_conn_id": "hive_test", "job_ids": [1, 2], "ready_timeout": 3600.0}


def test_a_trigger_survives_serialization() -> None:
    path, arguments = HiveJobTrigger(**ARGUMENTS).serialize()
    assert import_string(path)(**arguments).serialize() == (path, ARGUMENTS)


@pytest.mark.parametrize("job_ids", [None, "None", "[1, '2']", "[True]", "{}", "open('x')"])
async def test_a_wait_without_a_list_of_job_ids_fails(job_ids: Any) -> None:
    trigger = HiveJobTrigger(**(ARGUMENTS | {"job_ids": job_ids}))
    with pytest.raises(ValueError, match=r"job_ids|malformed"):
        await anext(trigger.run())  # type: ignore[call-overload]
