"""The results of the client have the fields of the API's responses."""

from __future__ import annotations

import pytest

from event_hooks.api import action_models, models
from event_hooks.client import results

RESULTS = [
    *(
        "ProcessJob",
        "SubmitResponse",
        "BatchItemResponse",
        "ProcessDetails",
        "EventDetails",
        "PlannedProcess",
    ),
    *("OtherProcess", "PlannedEvent", "PlanResponse", "TreeProgress", "JobResponse", "StopResponse"),
    *("JoinDetails", "PlanDifference", "RejectedType", "PlanComparison"),
]


@pytest.mark.parametrize("name", ["ActionItem", "ActionResponse"])
def test_a_result_of_a_retry_has_the_fields_of_the_response(name: str) -> None:
    fields = getattr(action_models, name).model_fields
    assert set(getattr(results, name).__annotations__) == set(fields)


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_has_the_fields_of_the_response(name: str) -> None:
    fields = getattr(models, name).model_fields
    assert set(getattr(results, name).__annotations__) == set(fields)


def test_an_event_of_a_list_has_no_payload() -> None:
    assert set(models.EventDetails.model_fields) - set(results.EventSummary.__annotations__) == {"event"}
