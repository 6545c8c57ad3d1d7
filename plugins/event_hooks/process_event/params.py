"""The params of the DAG `process_event`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Param

from event_hooks.events.models import EXTRA_FIELDS_PARAM, Event

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups


def build_params(lookups: Lookups) -> dict[str, Param]:
    """
    Return the params of the DAG, from which Airflow builds the trigger form and its own validation.

    Airflow validates each param alone; ``EventBatch`` validates rules that concern several params.
    """
    fields = Event.model_fields
    return {
        "type": Param(
            None,
            type=["null", "string"],
            # Examples instead of an enum: Airflow validates the params again before each task, so a type that
            # was removed from the lookup meanwhile would prevent the run's report from being sent.
            examples=list(lookups.rules.process_names),
            title="Type",
            description="Type of the event: a key of the event lookup; `GET /event-hooks/events` lists them.",
        ),
        "genome": Param(
            None, type=["null", "string"], title="Genome", description=fields["genome"].description
        ),
        # Without a type, so that the form has a text field; the value may also be a number.
        "event_id": Param(None, title="Event id", description=fields["event_id"].description),
        EXTRA_FIELDS_PARAM: Param(
            None,
            type=["null", "object"],
            title="Further fields",
            description='Passed to the jobs unchanged, for example {"comment": "second try"}.',
        ),
        "events": Param(
            None,
            type=["null", "array"],
            items={"type": "object"},
            title="Batch",
            description="Several events in one run, instead of the fields above: a list of objects, "
            'for example [{"type": "new_assembly", "genome": "homo_sapiens"}].',
        ),
    }
