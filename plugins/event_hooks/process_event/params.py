"""The params of the DAG `process_event`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Param

from event_hooks.events.models import EXTRA_FIELDS_PARAM, Event

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups


def build_params(lookups: Lookups) -> dict[str, Param]:
    """
    Give the params of the DAG, from which Airflow makes the trigger form and its own check.

    That check sees one param at a time: what concerns several of them is checked by ``EventBatch``.
    """
    fields = Event.model_fields
    return {
        "type": Param(
            None,
            type=["null", "string"],
            # Examples, no enum: Airflow checks the params again before each task, and a type that has
            # left the lookup meanwhile would keep the run's report from ever being sent.
            examples=list(lookups.rules.process_names),
            title="Type",
            description=f"What happened: one of {', '.join(lookups.rules.process_names)}.",
        ),
        "genome": Param(
            None, type=["null", "string"], title="Genome", description=fields["genome"].description
        ),
        # Without a type, so that the form has a line for it; it may also be a number.
        "event_id": Param(None, title="Event id", description=fields["event_id"].description),
        EXTRA_FIELDS_PARAM: Param(
            None,
            type=["null", "object"],
            title="Further fields",
            description='Given to the jobs as they are, as in {"comment": "second try"}.',
        ),
        "events": Param(
            None,
            type=["null", "array"],
            items={"type": "object"},
            title="Batch",
            description="Many events in one run, instead of the fields above: a list of objects, "
            'as in [{"type": "new_assembly", "genome": "homo_sapiens"}].',
        ),
    }
