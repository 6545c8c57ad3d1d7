"""Events and batches of events, validated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from event_hooks import settings
from event_hooks.exceptions import EventInvalid, combine_invalid
from event_hooks.field_path import FieldPath
from event_hooks.masking import mask_text

EXTRA_FIELDS_PARAM = "further_fields"
"""The field of the trigger form that holds an event's further fields as one object."""

MAX_CORRELATION_ID_LENGTH = 260
"""Characters of a correlation id: a run's id, which Airflow limits to 250, and a position."""

MAX_HOPS = 10
"""Maximum number of events before a follow-up event in its chain."""


class Causation(BaseModel):
    """The origin of a follow-up event."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    correlation_id: str = Field(
        min_length=1,
        max_length=MAX_CORRELATION_ID_LENGTH,
        description="The first event of the chain: its run/position. All its follow-up events share it.",
    )
    causation_id: str = Field(description="The success that raised this event: run/position/process.")
    hops: int = Field(ge=1, description="The number of events before this one in its chain.")
    chain: list[str] = Field(description="Types and processes that led to this event, in order.")


class JoinedEvents(BaseModel):
    """The events of a join: a process that waits for several events."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    process: str
    missing: list[str] = Field(description="Types that did not arrive in time.")
    events: list[dict[str, Any]] = Field(description="The events that arrived, in order of arrival.")


class Event(BaseModel):
    """
    An upstream change. Unknown fields are kept and passed to the jobs.

    Source: the ``POST /jobs`` body of the Ensembl event app.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    type: str = Field(min_length=1, description="A key of the event lookup, as in new_assembly.")
    genome: str | None = Field(
        None, description="Production name, as in homo_sapiens; empty for a release event."
    )
    event_id: Annotated[str, Field(min_length=1)] | int | None = Field(
        None, description="Chosen by the sender. Two events of one type with the same id are duplicates."
    )
    force: bool | None = Field(
        None, description="Whether to run again the processes that run once per value."
    )
    reason: str | None = Field(None, description="Why the processes run again; required with force.")
    follows: Causation | None = Field(None, description="Its origin; set by event hooks.")
    joined: JoinedEvents | None = Field(None, description="The events of a join; set by event hooks.")

    def payload(self) -> dict[str, Any]:
        """Return exactly the fields that the sender wrote."""
        return self.model_dump(exclude_unset=True)


@dataclass(frozen=True)
class EventBatch:
    """The events of one run, in order of arrival."""

    events: tuple[Event, ...]
    list_field: FieldPath | None = field(default=None, compare=False, repr=False)
    """The field with the list of events; ``None`` if the batch was given as the fields of one event."""

    @classmethod
    def from_conf(cls, conf: object) -> EventBatch:
        """
        Parse a run's ``conf``: one event's fields, or ``{"events": [{…}, …]}``.

        The trigger form's conf is also valid: it has null for empty fields, and an event's further fields as
        one object.

        :raises EventInvalid: names the invalid fields and the expected values.
        """
        if not isinstance(conf, Mapping):
            raise EventInvalid("conf", f"expected an object with the event's fields, not {_describe(conf)}")
        fields = {key: value for key, value in conf.items() if not (key in _FORM_FIELDS and value is None)}
        if fields.get("events") == [] and len(fields) > 1:
            del fields["events"]  # The trigger form also sends the empty list.
        if "events" not in fields:
            return cls.from_event(fields)
        if others := sorted(set(fields) - {"events"}):
            raise EventInvalid(others[0], "expected either 'events' or the fields of one event, not both")
        return cls.from_list(fields["events"], FieldPath().child("events"))

    @classmethod
    def from_event(cls, fields: object) -> EventBatch:
        """
        Parse the fields of one event.

        :raises EventInvalid: names the invalid fields and the expected values.
        """
        return cls((parse_event(fields, FieldPath()),))

    @classmethod
    def from_list(cls, events: object, list_field: FieldPath) -> EventBatch:
        """
        Parse a list of events.

        :param list_field: the field with the list.
        :raises EventInvalid: names the invalid fields and the expected values.
        """
        if not isinstance(events, list) or not events:
            raise EventInvalid(list_field, f"expected a list of at least one event, not {_describe(events)}")
        if len(events) > settings.max_events():
            expected = f"expected at most {settings.max_events()} events, not {len(events)}"
            raise EventInvalid(list_field, expected)
        parsed, errors = [], []
        for position, fields in enumerate(events):
            try:
                parsed.append(parse_event(fields, list_field.child(position)))
            except EventInvalid as error:
                errors.append(error)
        if errors:
            raise combine_invalid(errors)
        return cls(tuple(parsed), list_field)

    def find_field(self, position: int) -> FieldPath:
        """Return the field of an event, for error messages."""
        return FieldPath() if self.list_field is None else self.list_field.child(position)

    def reject_internal_fields(self) -> None:
        """
        Reject the field that only event hooks may set.

        :raises EventInvalid: an event has ``joined``.
        """
        for position, event in enumerate(self.events):
            reject_internal_fields(event, self.find_field(position))

    def build_job_input(self, position: int, run_id: str, task_id: str, rerun: int = 0) -> dict[str, Any]:
        """Return the result of :func:`build_job_input` for one of these events."""
        return build_job_input(self.events[position].payload(), position, run_id, task_id, rerun)


def event_reference(run_id: str, position: int) -> str:
    """Return the name of an event in correlation and causation ids: its run/position."""
    return f"{run_id}/{position}"


def build_causation(
    payload: Mapping[str, Any], run_id: str, position: int, process: str, correlation_id: str | None
) -> dict[str, Any]:
    """
    Return the ``follows`` of an event that a process's success raises.

    :param payload: of the event that the process succeeded for, which came at this position of this run.
    :param correlation_id: the first event of its chain; ``None`` if it is the first itself.
    """
    previous = payload.get("follows") or {}
    reference = event_reference(run_id, position)
    return {
        "correlation_id": correlation_id or reference,
        "causation_id": f"{reference}/{process}",
        "hops": previous.get("hops", 0) + 1,
        "chain": [*previous.get("chain", ()), payload["type"], process],
    }


def build_job_input(
    payload: Mapping[str, Any], position: int, run_id: str, task_id: str, rerun: int = 0
) -> dict[str, Any]:
    """
    Return the input of the job that a task submits for one event.

    The same arguments return the same input, and different arguments return different ones: a repeated
    submission recognises its job by the token. The token is a digest because a hive's unique key ignores
    letter case.

    :param payload: the event as its sender wrote it.
    :param position: of the event in its run, from 0.
    :param rerun: how often a user had the process run again as a new job.
    :return: ``{"event": <payload>, "event_hooks": {"run_id": …, "token": …}}``.
    """
    token = build_token(run_id, position, task_id, rerun)
    return {"event": payload, "event_hooks": {"run_id": run_id, "token": token}}


def build_token(run_id: str, position: int, task_id: str, rerun: int = 0) -> str:
    """Return the text that only the input of this task's job for this event of this run contains."""
    text = f"{run_id}\n{position}\n{task_id}" + (f"\n{rerun}" if rerun else "")
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_FORM_FIELDS = {"type", "genome", "event_id", EXTRA_FIELDS_PARAM, "events"}


def parse_event(fields: object, path: FieldPath) -> Event:
    """
    Return the event with these fields; further fields in one object are merged with the others.

    :param path: of the event in error messages.
    :raises EventInvalid: names the invalid fields and the expected values.
    """
    if not isinstance(fields, Mapping):
        raise EventInvalid(path, f"expected an object with the event's fields, not {_describe(fields)}")
    try:
        event = Event.model_validate(_merge_extra_fields(fields, path))
    except ValidationError as error:
        by_field = {_invalid_name(item): item for item in reversed(error.errors())}
        errors = [_invalid_field(path, *item) for item in reversed(by_field.items())]
        raise combine_invalid(errors) from None
    if event.force and not (event.reason or "").strip():
        raise EventInvalid(path.child("reason"), "expected a reason, which is required with force")
    if event.follows and event.follows.hops > MAX_HOPS:
        chain = " → ".join([*event.follows.chain, event.type])
        expected = f"expected at most {MAX_HOPS}, not {event.follows.hops}: {chain}"
        raise EventInvalid(path.child("follows").child("hops"), expected)
    return event


def reject_internal_fields(event: Event, path: FieldPath) -> None:
    """
    Reject the field that only event hooks may set.

    :param path: of the event in error messages.
    :raises EventInvalid: the event has ``joined``.
    """
    if event.joined:
        raise EventInvalid(path.child("joined"), "expected no such field: only event hooks set it")


def _merge_extra_fields(fields: Mapping[str, Any], path: FieldPath) -> dict[str, Any]:
    """Move the further fields of the trigger form to the top level."""
    extra = fields.get(EXTRA_FIELDS_PARAM)
    if extra is not None and not isinstance(extra, Mapping):
        raise EventInvalid(path.child(EXTRA_FIELDS_PARAM), f"expected an object, not {_describe(extra)}")
    named = {key: value for key, value in fields.items() if key != EXTRA_FIELDS_PARAM}
    if duplicates := sorted(set(extra or ()) & set(named)):
        name = duplicates[0]
        raise EventInvalid(path.child(EXTRA_FIELDS_PARAM).child(name), f"expected no second {name!r}")
    return {**named, **(extra or {})}


_EXPECTED_KINDS = {
    "type": "a string that is not empty",
    "genome": "a string or null",
    "event_id": "a string that is not empty, a whole number or null",
    "force": "true, false or null",
    "reason": "a string or null",
}


def _invalid_name(error: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Return the steps to the field of one of pydantic's errors."""
    # Pydantic's path of a union also names its member: only the first step is the field. The path of a nested
    # object is kept, because it names the invalid field inside.
    steps: tuple[str | int, ...] = error["loc"]
    return steps if steps[:1] in (("follows",), ("joined",)) else steps[:1]


def _invalid_field(path: FieldPath, steps: tuple[str | int, ...], error: Mapping[str, Any]) -> EventInvalid:
    for step in steps:
        path = path.child(step)
    problem = "but it is missing" if error["type"] == "missing" else f"not {_describe(error['input'])}"
    expected = _EXPECTED_KINDS.get(".".join(map(str, steps)), error["msg"])
    return EventInvalid(path, f"expected {expected}, {problem}")


def _describe(value: object) -> str:
    """Return the kind of a value, or at most 100 characters of the value itself, for an error message."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "null" if value is None else mask_text(repr(value))[:100]
