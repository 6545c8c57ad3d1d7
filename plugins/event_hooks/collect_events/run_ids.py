"""Ids of the runs that a run of `collect_events` starts for a window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from event_hooks.process_event import runs

if TYPE_CHECKING:
    from event_hooks.collect_events.params import CollectParams
    from event_hooks.collect_events.reprocess import Candidate


class RunIds:
    """
    Run ids that begin with the window and end with a digest of the collecting run.

    By both, a retry recognises the events that an earlier attempt of the same run has accepted.
    """

    def __init__(self, window: CollectParams, collect_run_id: str) -> None:
        times = "_".join(f"{time.astimezone(UTC):%Y%m%dT%H%M%S}" for time in (window.start, window.end))
        self._prefix = f"{runs.COLLECT_PREFIX}{times}_"
        self._suffix = f"_{_digest(collect_run_id)}"

    def build(self, number: int, batch: Sequence[Candidate]) -> str:
        """
        Return the id of the run for a batch.

        The digest of the events is needed because a retry may find more events, in other batches.
        """
        digest = _digest("".join(candidate.key for candidate in batch))
        return f"{self._prefix}{number:04d}_{digest}{self._suffix}"

    def has(self, candidate: Candidate) -> bool:
        """Return whether a stored event is of one of these runs."""
        run_id = stored_run_id(candidate) or ""
        return run_id.startswith(self._prefix) and run_id.endswith(self._suffix)


def stored_run_id(candidate: Candidate) -> str | None:
    """Return the run of the candidate's event in the ledger."""
    return candidate.stored_event.run_id if candidate.stored_event else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
