"""Bodies and responses of the routes that retry and stop events."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from event_hooks.api.links import MAX_ID
from event_hooks.api.times import EXPECTED_TIME

MAX_EVENTS = 100
"""Events that a request without ``force`` selects."""

MAX_FORCED_EVENTS = 10_000
"""Events that a request with ``force`` selects."""

Mode = Literal["failed_jobs", "process", "event"]
"""How processes run again; the first two are those of :class:`event_hooks.ledger.user_requests.RetryMode`."""


def _reject_nul(text: str) -> str:
    if "\0" in text:  # PostgreSQL rejects it
        raise PydanticCustomError("nul", "expected text without the character NUL")
    return text


_Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_reject_nul)]
_Flag = Annotated[bool, Field(strict=True)]
_Id = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]


class StopRequest(BaseModel):
    """Stop the processes of an event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: _Name | None = Field(None, description="Only this process; default: all.")


class RetryRequest(StopRequest):
    """Retry the processes of an event."""

    mode: Mode = Field(
        "failed_jobs",
        description="failed_jobs: the failed and stopped jobs run again, and a job that was not submitted is"
        " submitted. process: a new job of the process is submitted. event: a new event with the same payload"
        " is submitted.",
    )


class Selection(StopRequest):
    """Events that match all given fields."""

    ids: list[_Id] | None = Field(
        None, min_length=1, max_length=MAX_FORCED_EVENTS, description="Ids of events; without another filter."
    )
    state: Literal["open", "failed", "complete"] | None = Field(None, description="As in GET /events.")
    type: _Name | None = None
    genome: _Name | None = Field(None, description="The whole genome; * stands for any text, as in homo_*.")
    since: str | None = Field(None, description=f"Earliest time of arrival: {EXPECTED_TIME}.")
    until: str | None = Field(
        None, description="Only events that arrived before this time; in the same form."
    )
    dry_run: _Flag = Field(False, description="Return what would happen, and change nothing.")
    force: _Flag = Field(
        False,
        description=f"Whether more than {MAX_EVENTS} events may be selected, up to {MAX_FORCED_EVENTS}.",
    )


class BulkStopRequest(Selection):
    """Stop the processes of many events."""


class BulkRetryRequest(Selection, RetryRequest):
    """Retry the processes of many events."""


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the body of a route for OpenAPI; the routes parse it themselves, to limit its size."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


class ActionItem(BaseModel):
    """A process that a request selects; with the mode event, an event."""

    event: int
    type: str
    genome: str | None
    process: str | None = Field(description="null with the mode event.")
    state: str = Field(description="State of the process, or of the event, before the request.")
    is_applied: bool = Field(
        description="Whether it is retried or stopped; in a dry run, whether it would be."
    )
    reason: str | None = Field(description="Why it is not; null if it is.")
    new_event: int | None = Field(description="The event that repeats this one; null otherwise.")


class ActionResponse(BaseModel):
    """Result of a retry or a stop."""

    events: int = Field(description="Number of selected events.")
    applied: int = Field(description="Number of items that are retried or stopped.")
    is_dry_run: bool
    items: list[ActionItem]
    problems: list[str] = Field(
        description="What is not done yet, such as the stop of jobs in an unreachable hive; it is retried."
    )
