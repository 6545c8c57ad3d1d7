"""
Properties that all triggers share.

Airflow 3.3.2 fails only the task of a trigger with a ``TypeError`` in its constructor; any other error there
ends the triggerer with all of its waits (``TriggerRunner.create_triggers``).
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from event_hooks.hive.trigger import HiveJobTrigger
from event_hooks.process_event.wait import EventJobTrigger

TRIGGERS: dict[type[Any], dict[str, Any]] = {
    HiveJobTrigger: {"hive_conn_id": "hive", "job_ids": [1], "ready_timeout": 60.0},
    EventJobTrigger: {"process": "dump", "ready_timeout": 60.0, "emits": ["done"], "guihive": None},
}
"""``{class: arguments that running waits have in Airflow's database}``."""


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("value", [None, "", "\0", -1, float("nan"), [], {}], ids=repr)
def test_a_constructor_accepts_any_value(trigger: type[Any], value: Any) -> None:
    arguments = dict.fromkeys(TRIGGERS[trigger], value)
    assert vars(trigger(**arguments)).items() >= arguments.items()


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_an_upgrade_can_rebuild_the_triggers_of_running_waits(trigger: type[Any]) -> None:
    required = {
        name
        for name, parameter in inspect.signature(trigger).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    }
    assert required <= TRIGGERS[trigger].keys()
    trigger(**TRIGGERS[trigger])
