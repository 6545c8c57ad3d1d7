"""What a wait leaves for others: the XCom of its task, at its end and meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from event_hooks import xcom
from event_hooks.hive.sql.job_trees import State
from event_hooks.hive.sql.outcomes import JobOutcome


@dataclass
class WaitState:
    """
    How a wait stands: goes on, gave up with an error, or has outcomes.

    As XCom it is the text of ``{"outcomes", "error", "since", "told", "ti"}``. It is text, and ASCII, because
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

    ti: str | None = None
    """``id`` of the task instance: a cleared task has a new one, a trigger that runs twice the same."""

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.outcomes is not None or self.error is not None

    @property
    def is_success(self) -> bool:
        """Whether all jobs are complete."""
        return self.outcomes is not None and all(outcome.state is State.COMPLETE for outcome in self.outcomes)

    def dumps(self) -> str:
        """Write it as text."""
        outcomes = None if self.outcomes is None else [outcome.as_dict() for outcome in self.outcomes]
        since, told = self.since.isoformat(), sorted(self.told)
        left = {"outcomes": outcomes, "error": self.error, "since": since, "told": told, "ti": self.ti}
        return json.dumps(left)


def loads(text: Any) -> WaitState | None:
    """Read such an XCom; None if there is none."""
    if (left := xcom.decoded(text)) is None:
        return None
    outcomes = left["outcomes"]
    if outcomes is not None:
        outcomes = [JobOutcome(**{**outcome, "state": State(outcome["state"])}) for outcome in outcomes]
    since = datetime.fromisoformat(left["since"])
    return WaitState(outcomes, left["error"], since, set(left["told"]), left["ti"])
