"""The state of a wait: the XCom ``return_value`` of the waiting task, during the wait and after its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from event_hooks import xcom
from event_hooks.hive.sql.job_trees import JobState
from event_hooks.hive.sql.outcomes import JobOutcome


@dataclass
class WaitState:
    """
    State of a wait: it continues, failed with an error, or has outcomes.

    The XCom is JSON text with the names of these fields. It is ASCII because Airflow 3.3.2 sends events as
    msgpack: an integer above 64 bits or a lone surrogate in a job's result would end the triggerer, and again
    after each restart.
    """

    outcomes: Sequence[JobOutcome] | None = None
    """Outcomes in the order of the job ids; ``None`` while the wait continues, and if it failed."""

    error: str | None = None
    """Reason why the wait failed."""

    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    """UTC time at which the wait started, kept when Airflow restarts the trigger."""

    reported_stalls: set[str] = field(default_factory=set)
    """``Stall.key`` of each stall that was reported."""

    task_instance_id: str | None = None
    """
    ``id`` of the task instance.

    A cleared task has a new one, a trigger that runs twice has the same.
    """

    @property
    def is_finished(self) -> bool:
        """Return whether the wait has ended, with outcomes or with an error."""
        return self.outcomes is not None or self.error is not None

    @property
    def is_success(self) -> bool:
        """Return whether all jobs are complete."""
        return self.outcomes is not None and all(
            outcome.state is JobState.COMPLETE for outcome in self.outcomes
        )

    def to_json(self) -> str:
        """Return the state as JSON text in ASCII."""
        outcomes = None if self.outcomes is None else [outcome.as_dict() for outcome in self.outcomes]
        fields = {
            "outcomes": outcomes,
            "error": self.error,
            "since": self.since.isoformat(),
            "reported_stalls": sorted(self.reported_stalls),
            "task_instance_id": self.task_instance_id,
        }
        return json.dumps(fields)


def parse_wait_state(xcom_value: Any) -> WaitState | None:
    """Parse the XCom that :meth:`WaitState.to_json` wrote; ``None`` if there is no XCom."""
    if (fields := xcom.decode_xcom(xcom_value)) is None:
        return None
    outcomes = fields["outcomes"]
    if outcomes is not None:
        outcomes = [JobOutcome(**{**outcome, "state": JobState(outcome["state"])}) for outcome in outcomes]
    since = datetime.fromisoformat(fields["since"])
    return WaitState(
        outcomes, fields["error"], since, set(fields["reported_stalls"]), fields["task_instance_id"]
    )
