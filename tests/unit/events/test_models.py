from __future__ import annotations

from typing import Any

import pytest

from event_hooks.events.models import EventBatch
from event_hooks.exceptions import EventInvalid


def payloads(conf: object) -> list[dict[str, Any]]:
    return [event.payload() for event in EventBatch.from_conf(conf).events]


def test_a_payload_has_exactly_the_fields_of_the_sender() -> None:
    event = {"type": "new_assembly", "event_id": 7, "dropped": None, "off": False, "deep": {"a": [1, "é"]}}
    assert payloads(event) == [event]


def test_a_batch_keeps_its_order() -> None:
    events = [{"type": "new_assembly", "genome": name} for name in ("b", "a", "c")]
    assert payloads({"events": events}) == events


def test_the_conf_of_the_trigger_form_is_valid() -> None:
    form = {"type": "new_assembly", "genome": "homo_sapiens", "event_id": None, "events": None}
    assert payloads({**form, "further_fields": {"comment": "x"}}) == [
        {"type": "new_assembly", "genome": "homo_sapiens", "comment": "x"}
    ]


def test_an_empty_batch_of_the_trigger_form_is_ignored() -> None:
    assert payloads({"type": "x", "events": []}) == [{"type": "x"}]


def test_a_batch_in_the_trigger_form_is_valid() -> None:
    form = dict.fromkeys(("type", "genome", "event_id", "further_fields"))
    assert payloads({**form, "events": [{"type": "x"}]}) == [{"type": "x"}]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({}, "type: expected a string that is not empty, but it is missing"),
        (None, "conf: expected an object with the event's fields, not null"),
        ([{"type": "x"}], "conf: expected an object with the event's fields, not a list"),
        ({"type": ""}, "type: expected a string that is not empty, not ''"),
        ({"type": 5}, "type: expected a string that is not empty, not 5"),
        ({"type": "x", "genome": ["y"]}, "genome: expected a string or null, not a list"),
        (
            {"type": "x", "event_id": {}},
            "event_id: expected a string that is not empty, a whole number or null, not an object",
        ),
        (
            {"type": "x", "event_id": True},
            "event_id: expected a string that is not empty, a whole number or null, not True",
        ),
        ({"events": []}, "events: expected a list of at least one event, not an empty list"),
        ({"events": {"type": "x"}}, "events: expected a list of at least one event, not an object"),
        ({"events": ["x"]}, r"events\[0\]: expected an object with the event's fields, not 'x'"),
        ({"events": [{"type": "x"}, {"genome": "y"}]}, r"events\[1\].type: expected .*, but it is missing"),
        (
            {"events": [{"type": "x"}], "genome": "y"},
            "genome: expected either 'events' or the fields of one event",
        ),
        ({"type": "x", "further_fields": [1]}, "further_fields: expected an object, not a list"),
        ({"type": "x", "further_fields": {"type": "y"}}, "further_fields.type: expected no second 'type'"),
        ({"events": [{"type": "x"}] * 10_001}, "events: expected at most 10000 events, not 10001"),
    ],
)
def test_the_error_of_an_invalid_event_names_its_field(conf: object, message: str) -> None:
    with pytest.raises(EventInvalid, match=f"^{message}"):
        EventBatch.from_conf(conf)


def test_job_inputs_differ_only_by_run_position_and_task() -> None:
    batch = EventBatch.from_conf({"events": [{"type": "x"}, {"type": "x"}]})
    arguments = [(0, "run", "a"), (1, "run", "a"), (0, "Run", "a"), (0, "run", "A")]
    tokens = [batch.build_job_input(*values)["event_hooks"]["token"].lower() for values in arguments]
    assert len(set(tokens)) == len(arguments)
    assert batch.build_job_input(0, "run", "a") == batch.build_job_input(0, "run", "a")
    assert batch.build_job_input(0, "run", "a")["event"] == {"type": "x"}
