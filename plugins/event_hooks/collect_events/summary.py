"""The counts of a window's events, and the report on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from event_hooks.reports.outbox import to_pending
from event_hooks.reports.report import METADATA_KEY, Report, format_message

if TYPE_CHECKING:
    from event_hooks.collect_events.params import CollectParams
    from event_hooks.ledger.records import PendingReport

MAX_REPORTED_ITEMS = 20
"""Rejected events, and runs, that the report of a window lists."""


@dataclass
class CollectSummary:
    """Counts of a window's events, or of all windows of a run: the result of the task ``collect``."""

    found: int = 0
    """Events of the window in ensembl_metadata."""

    started: int = 0
    """Events that this run, in any attempt, put into a run of ``process_event``; in a dry run: would put."""

    reprocessed: int = 0
    """Of ``started``: repetitions of duplicates."""

    duplicates: int = 0
    """Events that the ledger had before."""

    succeeded: int = 0
    failed: int = 0
    running: int = 0
    """Of all events in the ledger: all processes succeeded, one failed, or neither."""

    ignored: Counter[str] = field(default_factory=Counter)
    """``{reason: number of events}``."""

    unknown_types: Counter[str] = field(default_factory=Counter)
    """``{type as ensembl_metadata spells it: number of events}``; also counted in ``ignored``."""

    rejected: list[str] = field(default_factory=list)
    """``event_id: error`` of invalid events; also counted in ``ignored``."""

    runs: list[str] = field(default_factory=list)
    """Ids of the runs that were started; a retry leaves out those of its earlier attempts' repetitions."""

    def add(self, other: CollectSummary) -> None:
        """Add the counts and lists of another window."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON types."""
        return {**vars(self), "ignored": dict(self.ignored), "unknown_types": dict(self.unknown_types)}


def build_report(summary: CollectSummary, params: CollectParams, collect_run_id: str) -> list[PendingReport]:
    """
    Return the report on a window, or [] if it has no events and is no part of a gap.

    It is a WARN for a part of a gap, and if an event was rejected or of unknown type. Its identity is the run
    and the window, so a retry yields the same report.
    """
    if not (summary.found or params.is_gap):
        return []
    window = {
        "start": params.start.isoformat(),
        "end": params.end.isoformat(),
        "dry_run": params.is_dry_run,
        "gap": params.is_gap,
    }
    counts = {
        **summary.as_dict(),
        "rejected": summary.rejected[:MAX_REPORTED_ITEMS],
        "runs": summary.runs[:MAX_REPORTED_ITEMS],
    }
    metadata = {
        "run_id": collect_run_id,
        "correlation_id": collect_run_id,
        "step": "collected",
        "processes": [],
    }
    is_warning = params.is_gap or summary.rejected or summary.unknown_types
    report = Report(
        report_type="WARN" if is_warning else "INFO",
        process="event_handler",
        resource=None,
        params={METADATA_KEY: metadata},
        message=format_message("Events collected", {**window, **counts}),
        key=f"{collect_run_id}/collected/{window['start']}/{window['end']}",
    )
    return to_pending([report], collect_run_id)
