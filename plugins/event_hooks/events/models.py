"""What arrives, checked: one event, or a batch of them."""

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
"""Events that may follow from one another."""


class Causation(BaseModel):
    """What an event follows from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    correlation_id: str = Field(
        min_length=1,
        max_length=MAX_CORRELATION_ID_LENGTH,
        description="The same for all that follows from one event: its run/position.",
    )
    causation_id: str = Field(description="What it follows from: run/position/process.")
    hops: int = Field(ge=1, description="How many events led to it.")
    chain: list[str] = Field(description="Types and processes that led to it, the first one first.")


class JoinedEvents(BaseModel):
    """The events that a process has waited for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    process: str
    missing: list[str] = Field(description="Types that did not come in time.")
    events: list[dict[str, Any]] = Field(description="What came, in the order in which it came.")


class Event(BaseModel):
    """
    One thing that happened upstream; fields that we do not know are kept and given to the jobs.

    Source: the ``POST /jobs`` body of the Ensembl event app.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    type: str = Field(min_length=1, description="A key of the event lookup, as in new_assembly.")
    genome: str | None = Field(
        None, description="Production name, as in homo_sapiens; none for a release event."
    )
    event_id: str | int | None = Field(
        None, description="Chosen by the sender. The same id twice is the same event."
    )
    force: bool | None = Field(None, description="Whether to do again what is done once per something.")
    reason: str | None = Field(None, description="Why it is to be done again.")
    follows: Causation | None = Field(None, description="What it follows from; made by event hooks.")
    joined: JoinedEvents | None = Field(None, description="What a process waited for; made by event hooks.")

    def payload(self) -> dict[str, Any]:
        """Give the event as its sender wrote it: no field added, none left out."""
        return self.model_dump(exclude_unset=True)


class EventBatch(BaseModel):
    """The events of one run, in the order in which they came."""

    model_config = ConfigDict(frozen=True)

    events: tuple[Event, ...]

    @classmethod
    def from_conf(cls, conf: object) -> EventBatch:
        """
        Read a run's ``conf``: one event's fields, or ``{"events": [{…}, …]}``.

        The trigger form sends null for what was left empty, and further fields as one object: both are
        understood.

        :raises EventInvalid: names the first wrong field and what was expected.
        """
        if not isinstance(conf, Mapping):
            raise EventInvalid("conf", f"expected an object with the event's fields, not {_kind(conf)}")
        fields = {key: value for key, value in conf.items() if not (key in _FORM and value is None)}
        if fields.get("events") == [] and len(fields) > 1:
            del fields["events"]  # the form again
        if "events" not in fields:
            return cls(events=(_event(_unfolded(fields), ""),))
        if others := sorted(set(fields) - {"events"}):
            raise EventInvalid(others[0], "expected either 'events' or the fields of one event, not both")
        return cls(events=tuple(_events(fields["events"])))

    def reject_internal_fields(self) -> None:
        """
        Refuse what only event hooks themselves say.

        :raises EventInvalid: an event claims to be made of several.
        """
        for position, event in enumerate(self.events):
            if event.joined:
                where = f"events[{position}]." if len(self.events) > 1 else ""
                raise EventInvalid(f"{where}joined", "expected none: event hooks make it")

    def build_job_input(self, position: int, run_id: str, task_id: str) -> dict[str, Any]:
        """Give what :func:`job_input` gives for one of these events."""
        return build_job_input(self.events[position].payload(), position, run_id, task_id)


def event_reference(run_id: str, position: int) -> str:
    """Give the name of an event by where it came, as correlation and causation ids have it."""
    return f"{run_id}/{position}"


def build_causation(payload: Mapping[str, Any], run_id: str, position: int, process: str) -> dict[str, Any]:
    """
    Give the ``follows`` of an event that follows from a process of another one.

    :param payload: of that other one, as for the rest.
    """
    before = payload.get("follows") or {}
    here = event_reference(run_id, position)
    return {
        "correlation_id": before.get("correlation_id", here),
        "causation_id": f"{here}/{process}",
        "hops": before.get("hops", 0) + 1,
        "chain": [*before.get("chain", ()), payload["type"], process],
    }


def build_job_input(payload: Mapping[str, Any], position: int, run_id: str, task_id: str) -> dict[str, Any]:
    """
    Give the input of the job that one event gets from one task.

    The same arguments give the same input, and no others do: that is how a job is recognised when it is
    asked for again. The token is a digest because a hive's unique key ignores letter case.

    :param payload: the event as its sender wrote it.
    :param position: of the event in its run, from 0.
    :return: ``{"event": <payload>, "event_hooks": {"run_id": …, "token": …}}``.
    """
    token = hashlib.sha256(f"{run_id}\n{position}\n{task_id}".encode()).hexdigest()[:32]
    return {"event": payload, "event_hooks": {"run_id": run_id, "token": token}}


_FORM = {"type", "genome", "event_id", EXTRA_FIELDS_PARAM, "events"}


def _unfolded(fields: Mapping[str, Any]) -> dict[str, Any]:
    further = fields.get(EXTRA_FIELDS_PARAM, {})
    if not isinstance(further, Mapping):
        raise EventInvalid(EXTRA_FIELDS_PARAM, f"expected an object, not {_kind(further)}")
    named = {key: value for key, value in fields.items() if key != EXTRA_FIELDS_PARAM}
    if twice := sorted(set(further) & set(named)):
        raise EventInvalid(f"{EXTRA_FIELDS_PARAM}.{twice[0]}", f"expected no second {twice[0]!r}")
    return {**named, **further}


def _events(listed: object) -> Iterable[Event]:
    if not isinstance(listed, list) or not listed:
        raise EventInvalid("events", f"expected a list of at least one event, not {_kind(listed)}")
    if len(listed) > settings.max_events():
        raise EventInvalid("events", f"expected at most {settings.max_events()} events, not {len(listed)}")
    return (_event(fields, f"events[{position}]") for position, fields in enumerate(listed))


def _event(fields: object, where: str) -> Event:
    if not isinstance(fields, Mapping):
        raise EventInvalid(where, f"expected an object with the event's fields, not {_kind(fields)}")
    prefix = f"{where}." if where else ""
    try:
        event = Event.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        # Of a union, pydantic names the member as well; of an object in the event, the field is wanted.
        steps = first["loc"] if first["loc"][:1] in (("follows",), ("joined",)) else first["loc"][:1]
        name = ".".join(map(str, steps)) or "event"
        raise EventInvalid(f"{prefix}{name}", _expected(name, first)) from None
    if event.force and not (event.reason or "").strip():
        raise EventInvalid(f"{prefix}reason", "expected a text that says why, beside force")
    if event.follows and event.follows.hops > MAX_HOPS:
        chain = " → ".join([*event.follows.chain, event.type])
        expected = f"expected at most {MAX_HOPS}, not {event.follows.hops}: {chain}"
        raise EventInvalid(f"{prefix}follows.hops", expected)
    return event


def _expected(name: str, error: Mapping[str, Any]) -> str:
    kinds = {
        "type": "a string that is not empty",
        "genome": "a string or null",
        "event_id": "a string, a whole number or null",
        "force": "true, false or null",
        "reason": "a string or null",
    }
    found = "nothing" if error["type"] == "missing" else _kind(error["input"])
    return f"expected {kinds.get(name, error['msg'])}, not {found}"


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "null" if value is None else repr(value)[:100]
