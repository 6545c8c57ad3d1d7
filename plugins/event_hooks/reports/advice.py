"""Advice on a failed process, for reports and for the event board."""

from __future__ import annotations

from event_hooks.events import lookups
from event_hooks.exceptions import LookupInvalid

LATE_ADVICE = "check the event board for a stall; if there is none, increase the deadline of the process"

REJECTION_ADVICE = "fix the cause, then clear the task route of the run with Downstream"

STALL_ADVICE = "resolve the stall; the process continues without a click"


def build_retry_advice(process: str, task: str) -> str:
    """
    Return how to run a failed process again; clearing a task does not repeat completed jobs.

    A process that was removed from the lookup has no task in the DAG, so the advice names no task.

    :param task: ``submit`` or ``wait``.
    """
    if not _is_removed(process):
        return (
            "fix the cause, then retry the process (on the event board, or with event-hooks retry), or clear"
            f" {process}.{task} of the run with Downstream"
        )
    return (
        f"{process} was removed from the process lookup, and its tasks from the run: put it back into the"
        ' lookup and clear them, or send the event again with another event_id, "force": true and a "reason"'
    )


def _is_removed(process: str) -> bool:
    try:
        return process not in lookups.load_cached().processes
    except LookupInvalid:  # the DAG keeps its tasks until the files are fixed
        return False
