"""Compare the plans of events under the present lookups with their plans under other lookups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from event_hooks.events.models import parse_event
from event_hooks.exceptions import EventInvalid
from event_hooks.field_path import FieldPath
from event_hooks.masking import mask_text
from event_hooks.process_event import planning

if TYPE_CHECKING:
    from event_hooks.events.lookups import Lookups, Process
    from event_hooks.events.rules import JoinRule
    from event_hooks.ledger.history import ReceivedEvent

MAX_EXAMPLES = 5
"""Ids of events that a difference, or a rejected type, has as examples."""

MAX_TYPE_LENGTH = 100
"""Characters of the type of a rejected event that are shown."""


@dataclass(frozen=True)
class Reaction:
    """The reaction of a process to a type of event."""

    hive: str
    """Connection id."""

    analysis: str
    database: tuple[Any, ...]
    """Host, port and name of a hive with a ``hive_uri``: its connection id does not depend on them."""

    join: JoinRule | None
    """The join for which the event counts; ``None`` if the process runs for each event by itself."""

    @property
    def place(self) -> tuple[Any, ...]:
        """Return where its jobs are created."""
        return self.hive, self.analysis, self.database


@dataclass
class Difference:
    """The events of a type to which a process reacts, under both lookups."""

    now_reaction: Reaction | None
    """Under the present lookups; ``None`` if the process does not react to the type."""

    then_reaction: Reaction | None
    """The same under the other lookups."""

    now: int = 0
    then: int = 0
    """Number of events for which the process runs, or which count for its join."""

    event_ids: list[int] = field(default_factory=list)
    """Examples of the events that differ, at most ``MAX_EXAMPLES``."""

    @property
    def is_moved(self) -> bool:
        """Return whether the jobs are created at another place."""
        now, then = self.now_reaction, self.then_reaction
        return now is not None and then is not None and now.place != then.place


@dataclass
class RejectedType:
    """The events of a type that the other lookups reject."""

    reason: str
    """Of the first event."""

    now: int = 0
    """Number of these events that the present lookups reject as well."""

    then: int = 0
    """Number of events."""

    event_ids: list[int] = field(default_factory=list)
    """Examples, at most ``MAX_EXAMPLES``."""


class PlanComparison:
    """
    Plan events under both lookups, and count the differences.

    The processes are selected as ``route`` selects them for an event of the ledger: its values were checked
    when it was accepted, and that check does not depend on the lookups.

    A process with ``once_per`` runs for the first event with the same values; claims of earlier events are
    unknown for the other lookups, and are ignored for both. A join is not simulated: an event counts for it.

    :param present: the present lookups.
    :param other: the other lookups.
    """

    def __init__(self, present: Lookups, other: Lookups) -> None:
        self.rejected: dict[str, RejectedType] = {}
        """``{event type: counts}``."""

        self.events = self.excluded = self.unchanged = 0
        """Number of compared events, of events of joins or partial repetitions, and of equal plans."""

        self._now, self._then = _Planner(present), _Planner(other)
        self._counts: dict[tuple[str, str], Difference] = {}
        """``{(event type, process): counts}``, also without a difference."""

    def add(self, events: Iterable[ReceivedEvent]) -> None:
        """
        Compare the plans of events.

        :param events: in the order of their ids, also across calls.
        """
        for event in events:
            if event.is_derived:
                self.excluded += 1
            else:
                self.events += 1
                self.unchanged += not self._compare(event)

    def find_differences(self) -> dict[tuple[str, str], Difference]:
        """Return the counts with a difference, by event type and process."""
        return {key: counts for key, counts in sorted(self._counts.items()) if counts.event_ids}

    def _compare(self, received: ReceivedEvent) -> bool:
        """Count an event, and return whether its plans differ."""
        now, then = self._now.plan(received), self._then.plan(received)
        if then.error:
            self._count_rejected(received, then.error, is_new=not now.error)
        pairs = [(received.type, process) for process in now.processes | then.processes]
        differences = [self._count(received.id, pair, now, then) for pair in pairs]
        return any(differences) or bool(now.error) != bool(then.error)

    def _count(self, event_id: int, pair: tuple[str, str], now: _EventPlan, then: _EventPlan) -> bool:
        """
        Count an event for a process, and return whether its plans differ.

        :param pair: (event type, process).
        """
        if (counts := self._counts.get(pair)) is None:
            counts = Difference(self._now.find_reaction(*pair), self._then.find_reaction(*pair))
            self._counts[pair] = counts
        is_now, is_then = pair[1] in now.processes, pair[1] in then.processes
        counts.now += is_now
        counts.then += is_then
        is_different = is_now != is_then or counts.now_reaction != counts.then_reaction
        if is_different and len(counts.event_ids) < MAX_EXAMPLES:
            counts.event_ids.append(event_id)
        return is_different

    def _count_rejected(self, received: ReceivedEvent, reason: str, *, is_new: bool) -> None:
        event_type = mask_text(received.type)[:MAX_TYPE_LENGTH]
        counts = self.rejected.setdefault(event_type, RejectedType(reason))
        counts.now += not is_new
        counts.then += 1
        if len(counts.event_ids) < MAX_EXAMPLES:
            counts.event_ids.append(received.id)


@dataclass(frozen=True)
class _EventPlan:
    """The plan of an event."""

    processes: frozenset[str] = frozenset()
    """Processes that run for the event, or have a join for which it counts."""

    error: str = ""
    """Why the event is rejected; empty unless it is."""


class _Planner:
    """Plan events with the same lookups."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._claimed: dict[str, set[str]] = {}
        """``{process: digests of the values for which it has run}``."""

    def plan(self, received: ReceivedEvent) -> _EventPlan:
        """Return the plan of an event."""
        try:
            event = parse_event(received.payload, FieldPath())
            selected = self._lookups.select_names(event)
        except EventInvalid as error:
            return _EventPlan(error=str(error))
        reacting = self._lookups.rules.processes_for(event.type)
        return _EventPlan(frozenset(reacting).difference(self._find_skipped(received, selected)))

    def find_reaction(self, event_type: str, process: str) -> Reaction | None:
        """Return how a process reacts to a type of event; ``None`` if it does not react."""
        if process not in self._lookups.rules.processes_for(event_type):
            return None
        join = self._lookups.rules.joins.get(process)
        _, hive, analysis = self._lookups.find_place(process)
        return Reaction(
            hive,
            analysis,
            _find_database(self._lookups.processes[process]),
            join if join and event_type in join.after else None,
        )

    def _find_skipped(self, received: ReceivedEvent, selected: Sequence[str]) -> Iterator[str]:
        """Claim the selected processes that run once, and yield those that have run for the same values."""
        plan = dict.fromkeys(selected, (received.id,))
        claims = planning.build_claims({received.id: received.payload}, plan, self._lookups)
        for (_, process), claim in claims.items():
            claimed = self._claimed.setdefault(process, set())
            if claim.values_digest in claimed and not claim.is_forced:
                yield process
            claimed.add(claim.values_digest)


def _find_database(process: Process) -> tuple[Any, ...]:
    if process.hive_uri is None:
        return ()
    url = make_url(process.hive_uri.get_secret_value())
    return url.host, url.port, url.database
