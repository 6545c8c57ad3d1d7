"""Events and batches of events, validated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from event_hooks import settings
from event_hooks.exceptions import EventInvalid

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
    event_id: str | int | None = Field(
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


class EventBatch(BaseModel):
    """The events of one run, in order of arrival."""

    model_config = ConfigDict(frozen=True)

    events: tuple[Event, ...]

    @classmethod
    def from_conf(cls, conf: object) -> EventBatch:
        """
        Parse a run's ``conf``: one event's fields, or ``{"events": [{…}, …]}``.

        The trigger form's conf is also valid: it has null for empty fields, and an event's further fields as
        one object.

        :raises EventInvalid: names the first invalid field and the expected value.
        """
        if not isinstance(conf, Mapping):
            raise EventInvalid("conf", f"expected an object with the event's fields, not {_describe(conf)}")
        fields = {key: value for key, value in conf.items() if not (key in _FORM_FIELDS and value is None)}
        if fields.get("events") == [] and len(fields) > 1:
            del fields["events"]  # The trigger form also sends the empty list.
        if "events" not in fields:
            return cls(events=(_parse_event(_merge_extra_fields(fields), ""),))
        if others := sorted(set(fields) - {"events"}):
            raise EventInvalid(others[0], "expected either 'events' or the fields of one event, not both")
        return cls(events=tuple(_parse_events(fields["events"])))

    def reject_internal_fields(self) -> None:
        """
        Reject the field that only event hooks may set.

        :raises EventInvalid: an event has ``joined``.
        """
        for position, event in enumerate(self.events):
            if event.joined:
                prefix = field_prefix(position, len(self.events))
                raise EventInvalid(f"{prefix}joined", "expected no such field: only event hooks set it")

    def build_job_input(self, position: int, run_id: str, task_id: str) -> dict[str, Any]:
        """Return the result of :func:`build_job_input` for one of these events."""
        return build_job_input(self.events[position].payload(), position, run_id, task_id)


def field_prefix(position: int, count: int) -> str:
    """Return the prefix of an event's field in an error message: empty if the event is the only one."""
    return f"events[{position}]." if count > 1 else ""


def event_reference(run_id: str, position: int) -> str:
    """Return the name of an event in correlation and causation ids: its run/position."""
    return f"{run_id}/{position}"


def build_causation(payload: Mapping[str, Any], run_id: str, position: int, process: str) -> dict[str, Any]:
    """
    Return the ``follows`` of an event that a process's success raises.

    :param payload: of the event that the process succeeded for, which came at this position of this run.
    """
    previous = payload.get("follows") or {}
    reference = event_reference(run_id, position)
    return {
        "correlation_id": previous.get("correlation_id", reference),
        "causation_id": f"{reference}/{process}",
        "hops": previous.get("hops", 0) + 1,
        "chain": [*previous.get("chain", ()), payload["type"], process],
    }


def build_job_input(payload: Mapping[str, Any], position: int, run_id: str, task_id: str) -> dict[str, Any]:
    """
    Return the input of the job that a task submits for one event.

    The same arguments return the same input, and different arguments return different ones: a repeated
    submission recognises its job by the token. The token is a digest because a hive's unique key ignores
    letter case.

    :param payload: the event as its sender wrote it.
    :param position: of the event in its run, from 0.
    :return: ``{"event": <payload>, "event_hooks": {"run_id": …, "token": …}}``.
    """
    token = build_token(run_id, position, task_id)
    return {"event": payload, "event_hooks": {"run_id": run_id, "token": token}}


def build_token(run_id: str, position: int, task_id: str) -> str:
    """Return the text that only the input of this task's job for this event of this run contains."""
    return hashlib.sha256(f"{run_id}\n{position}\n{task_id}".encode()).hexdigest()[:32]


_FORM_FIELDS = {"type", "genome", "event_id", EXTRA_FIELDS_PARAM, "events"}


def _merge_extra_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Move the further fields of the trigger form to the top level."""
    extra = fields.get(EXTRA_FIELDS_PARAM, {})
    if not isinstance(extra, Mapping):
        raise EventInvalid(EXTRA_FIELDS_PARAM, f"expected an object, not {_describe(extra)}")
    named = {key: value for key, value in fields.items() if key != EXTRA_FIELDS_PARAM}
    if duplicates := sorted(set(extra) & set(named)):
        name = duplicates[0]
        raise EventInvalid(f"{EXTRA_FIELDS_PARAM}.{name}", f"expected no second {name!r}")
    return {**named, **extra}


def _parse_events(events: object) -> Iterable[Event]:
    if not isinstance(events, list) or not events:
        raise EventInvalid("events", f"expected a list of at least one event, not {_describe(events)}")
    if len(events) > settings.max_events():
        raise EventInvalid("events", f"expected at most {settings.max_events()} events, not {len(events)}")
    return (_parse_event(fields, f"events[{position}]") for position, fields in enumerate(events))


def _parse_event(fields: object, name: str) -> Event:
    """
    Return the event with these fields.

    :param name: of the event in error messages; empty if it is the only one.
    """
    if not isinstance(fields, Mapping):
        raise EventInvalid(name, f"expected an object with the event's fields, not {_describe(fields)}")
    prefix = f"{name}." if name else ""
    try:
        event = Event.model_validate(dict(fields))
    except ValidationError as error:
        raise _invalid_field(prefix, error.errors()[0]) from None
    if event.force and not (event.reason or "").strip():
        raise EventInvalid(f"{prefix}reason", "expected a reason, which is required with force")
    if event.follows and event.follows.hops > MAX_HOPS:
        chain = " → ".join([*event.follows.chain, event.type])
        expected = f"expected at most {MAX_HOPS}, not {event.follows.hops}: {chain}"
        raise EventInvalid(f"{prefix}follows.hops", expected)
    return event


_EXPECTED_KINDS = {
    "type": "a string that is not empty",
    "genome": "a string or null",
    "event_id": "a string, a whole number or null",
    "force": "true, false or null",
    "reason": "a string or null",
}


def _invalid_field(prefix: str, error: Mapping[str, Any]) -> EventInvalid:
    """Return the exception for one of pydantic's errors."""
    # Pydantic's path of a union also names its member: only the first step is the field. The path of a nested
    # object is kept, because it names the invalid field inside.
    steps = error["loc"] if error["loc"][:1] in (("follows",), ("joined",)) else error["loc"][:1]
    name = ".".join(map(str, steps)) or "event"
    problem = "but it is missing" if error["type"] == "missing" else f"not {_describe(error['input'])}"
    return EventInvalid(f"{prefix}{name}", f"expected {_EXPECTED_KINDS.get(name, error['msg'])}, {problem}")


def _describe(value: object) -> str:
    """Return the kind of a value, or at most 100 characters of the value itself, for an error message."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "null" if value is None else repr(value)[:100]
