"""What a wait leaves for others: the XCom of its task, at its end and meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from event_hooks import xcom

if TYPE_CHECKING:
    from event_hooks.hive.outcomes import JobOutcome


@dataclass
class Waiting:
    """
    How a wait stands: goes on, gave up with an error, or has outcomes.

    As XCom it is the text of ``{"outcomes", "error", "since", "told"}``. It is text, and ASCII, because
    Airflow 3.3.2 sends events as msgpack: an integer above 64 bits or a lone surrogate in a job's result
    would end the triggerer, again after each restart.
    """

    outcomes: Sequence[JobOutcome] | None = None
    """What the jobs have come to, in the order asked for; None while the wait goes on, and if it gave up."""

    error: str | None = None
    """Why the wait gave up."""

    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    told: set[str] = field(default_factory=set)
    """Keys of the troubles that people were told of."""

    def dumps(self) -> str:
        """Write it as text."""
        outcomes = None if self.outcomes is None else [outcome.as_dict() for outcome in self.outcomes]
        since, told = self.since.isoformat(), sorted(self.told)
        return json.dumps({"outcomes": outcomes, "error": self.error, "since": since, "told": told})


def interrupted(left: Any) -> Waiting | None:
    """Give the wait that left this and goes on; None if it ended, or there was none."""
    before = xcom.decoded(left)
    if not before or before["outcomes"] is not None or before["error"] is not None:
        return None
    return Waiting(since=datetime.fromisoformat(before["since"]), told=set(before["told"]))
