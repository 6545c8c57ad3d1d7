"""The summary of a wait: the XCom ``return_value`` of the waiting task, during the wait and after its end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from event_hooks import xcom

MAX_ERRORS = 5
"""Errors that a summary contains."""

MAX_ERROR_CHARS = 1000
"""Characters of each of them."""


@dataclass(frozen=True)
class WaitSummary:
    """
    Summary of a wait, for users: how many jobs have which state, and the first errors.

    The XCom is JSON text with the names of these fields. It is ASCII because Airflow 3.3.2 sends events as
    msgpack: a lone surrogate in an error would end the triggerer, and again after each restart.
    """

    state: str = "waiting"
    """``waiting``, ``success`` or ``failed``."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """``{state of a job: number of jobs}``; empty while the wait continues."""

    errors: tuple[str, ...] = ()
    since: str = ""
    """UTC time at which the wait started, ISO 8601."""

    task_instance_id: str | None = None
    """``id`` of the task instance. A cleared task has a new one; a trigger that runs twice has the same."""

    @classmethod
    def start(cls, task_instance_id: str | None) -> WaitSummary:
        """Return the summary of a wait that starts now."""
        return cls(since=datetime.now(UTC).isoformat(), task_instance_id=task_instance_id)

    @property
    def is_finished(self) -> bool:
        """Return whether the wait has ended."""
        return self.state != "waiting"

    @property
    def waited(self) -> float:
        """Return the seconds since the wait started; 0 if the clock of another machine is ahead."""
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(self.since)).total_seconds())

    def finish(self, states: Iterable[str], errors: Iterable[str], *, is_success: bool) -> WaitSummary:
        """Return the summary of the same wait after its end."""
        shortened = tuple(error[:MAX_ERROR_CHARS] for error in islice(errors, MAX_ERRORS))
        state = "success" if is_success else "failed"
        return WaitSummary(state, dict(Counter(states)), shortened, self.since, self.task_instance_id)

    def to_json(self) -> str:
        """Return the summary as JSON text in ASCII."""
        return json.dumps(vars(self))


def parse_wait_summary(xcom_value: Any) -> WaitSummary | None:
    """Parse the XCom that :meth:`WaitSummary.to_json` wrote; ``None`` if there is no XCom."""
    fields = xcom.decode_xcom(xcom_value)
    return None if fields is None else WaitSummary(**{**fields, "errors": tuple(fields["errors"])})
