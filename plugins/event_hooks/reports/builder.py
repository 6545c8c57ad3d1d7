"""The reports on each step of an event's run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from event_hooks.ledger.records import (
    FAILURE_STATES,
    ProcessState,
    ProcessStatus,
    ProgressUpdate,
    RunEvents,
)
from event_hooks.masking import mask_text
from event_hooks.reports.advice import LATE_ADVICE, build_retry_advice
from event_hooks.reports.report import Report, ReportType, build_event_report, format_message


class ReportStep(StrEnum):
    """The subject of a report: its ``params.event_hooks.step``."""

    RECEIVED = "received"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    SUBMITTED = "submitted"
    PROGRESS = "progress"
    STALLED = "stalled"
    LATE = "late"
    PROCESS_FINISHED = "process_finished"
    JOIN_TIMED_OUT = "join_timed_out"
    FOLLOW_UP_REJECTED = "follow_up_rejected"
    RETRY_REQUESTED = "retry_requested"
    STOP_REQUESTED = "stop_requested"
    EVENT_FINISHED = "event_finished"


class ReportBuilder:
    """
    Build the reports on the events of one run.

    Reports are idempotent: a repeated call returns a report with the same ``message_id``.

    :param run: the events that the reports are about.
    """

    def __init__(self, run: RunEvents) -> None:
        self.run = run

    def received(self, position: int, processes: Sequence[str], skipped: Sequence[str] = ()) -> Report:
        """
        Report that an event is recorded.

        :param processes: planned for it.
        :param skipped: processes that already ran for the same values (``once_per``).
        """
        facts = self._facts(position, processes=list(processes))
        if skipped:
            facts["skipped"] = list(skipped)
        text = format_message("Event received", facts)
        return self._report("INFO", text, ReportStep.RECEIVED, position, processes)

    def duplicate(self, position: int, first_run: str) -> Report:
        """Report that an event is a duplicate of an event in another run."""
        facts = self._facts(position, status="duplicate", first_run=first_run)
        text = format_message("Event ignored", facts)
        return self._report("DEBUG", text, ReportStep.DUPLICATE, position, ())

    def rejected(self, position: int, reason: str) -> Report:
        """Report that no process runs for an event because of an error."""
        text = f"Event rejected: {mask_text(reason)}"
        return self._report("FATAL", text, ReportStep.REJECTED, position, (), identity=text)

    def no_process(self, position: int, waiting: Sequence[str] = ()) -> Report:
        """
        Report that no process runs for this event by itself.

        :param waiting: processes that wait for further events (joins).
        """
        text = "No process reacts to this event"
        if waiting:
            facts = self._facts(position, processes=list(waiting))
            text = format_message("Event recorded: these processes wait for further events", facts)
        return self._report("INFO", text, ReportStep.EVENT_FINISHED, position, ())

    def join_timed_out(
        self, position: int, process: str, types: Sequence[str], missing: Sequence[str], since: datetime
    ) -> Report:
        """
        Report that the events of a join did not all arrive in time, under the first event of the join.

        :param types: of all events of the join.
        :param missing: types that did not arrive.
        :param since: arrival of the first event.
        """
        facts = self._facts(
            position,
            process,
            arrived=[event_type for event_type in types if event_type not in missing],
            missing=list(missing),
            since=since.isoformat(),
            to_do=f"send the missing events: the next event of these types starts a new join of {process}",
        )
        text = format_message("Join timed out", facts)
        return self._report("WARN", text, ReportStep.JOIN_TIMED_OUT, position, [process], identity=text)

    def follow_up_rejected(self, position: int, process: str, event: Mapping[str, Any], error: str) -> Report:
        """Report that the event server cannot receive a follow-up event."""
        to_do = "fix the cause, then send this event without follows and with another event_id"
        facts = self._facts(position, process, event=dict(event), error=error, to_do=to_do)
        text = format_message("Follow-up event rejected", facts)
        return self._report("FATAL", text, ReportStep.FOLLOW_UP_REJECTED, position, [process], identity=text)

    def submitted(self, position: int, process: str, job_id: int) -> Report:
        """Report that a hive has the job of an event, once for each job."""
        text = format_message("Event submitted", self._facts(position, process, id=job_id))
        return self._report("INFO", text, ReportStep.SUBMITTED, position, [process], identity=text)

    def progress(
        self, positions: Sequence[int], process: str, job_id: int, progress: ProgressUpdate
    ) -> Report:
        """Report the progress of a process with some events, under the first of them."""
        counts = {"done": progress.done, "total": progress.total, "failed": progress.failed}
        facts = self._facts(positions[0], process, id=job_id, status="running", **counts)
        if progress.message:
            facts["message"] = progress.message
        if len(positions) > 1:
            facts["events"] = len(positions)
        text = format_message("Event in progress", facts)
        return self._report("INFO", text, ReportStep.PROGRESS, positions[0], [process], identity=text)

    def stalled(
        self, positions: Sequence[int], process: str, job_id: int, status: str, reason: str, identity: str
    ) -> Report:
        """
        Report that jobs of a process are stalled, under the first of the affected events.

        :param identity: of this occurrence of the stall.
        """
        facts = self._facts(
            positions[0], process, id=job_id, status=status, error=reason, events=len(positions)
        )
        text = format_message("Event stalled", facts)
        return self._report("WARN", text, ReportStep.STALLED, positions[0], [process], identity=identity)

    def requested(
        self, step: ReportStep, position: int, process: str, user: str, identity: str, **facts: Any
    ) -> Report:
        """
        Report that a user retries or stops a process.

        :param step: RETRY_REQUESTED or STOP_REQUESTED.
        :param identity: of this request.
        """
        title = step.value.replace("_", " ").capitalize()
        text = format_message(title, self._facts(position, process, user=user, **facts))
        return self._report("INFO", text, step, position, [process], identity=identity)

    def late(self, position: int, process: str, job_id: int | None, count: int, seconds: float) -> Report:
        """
        Report that a process misses its deadline, under the first of its unfinished events.

        :param count: number of unfinished events.
        :param seconds: the deadline, from the plan of the run on.
        """
        facts = self._facts(
            position, process, id=job_id, status="late", events=count, seconds=seconds, to_do=LATE_ADVICE
        )
        text = format_message("Event late", facts)
        return self._report("WARN", text, ReportStep.LATE, position, [process])

    def process_finished(
        self, position: int, process: str, outcome: Mapping[str, Any], attempt: str
    ) -> Report:
        """
        Report the outcome of a job: a success once, a failure once for each attempt.

        :param outcome: ``{"job_id", "state", "result", "error"}``, and an optional ``"warning"``.
        :param attempt: id of the task attempt that found the outcome.
        """
        facts = self._facts(position, process, id=outcome["job_id"], status=outcome["state"])
        if outcome["state"] != ProcessState.COMPLETE:
            return self._failed(position, process, {**facts, "error": outcome["error"]}, attempt)
        warning = {"warning": outcome["warning"]} if outcome.get("warning") else {}
        text = format_message("Event succeeded", {**facts, "output": outcome["result"], **warning})
        report_type: ReportType = "WARN" if warning else "INFO"
        step = ReportStep.PROCESS_FINISHED
        return self._report(report_type, text, step, position, [process], identity=text)

    def not_submitted(self, position: int, process: str, error: str, identity: str) -> Report:
        """
        Report that no job was submitted for an event.

        :param identity: of this failure; a later one is reported again.
        """
        status = ProcessState.NOT_SUBMITTED.value
        facts = self._facts(position, process, status=status, error=error)
        return self._failed(position, process, facts, identity, task="submit")

    def outcome_unknown(
        self, position: int, process: str, job_id: int, error: str, attempt: str, *, is_user_decision: bool
    ) -> Report:
        """
        Report that the task ``wait`` did not read the outcome of a job.

        :param is_user_decision: whether a user has marked the task as successful; a WARN instead of a FATAL.
        """
        status = ProcessState.UNKNOWN.value
        facts = self._facts(position, process, id=job_id, status=status, error=error)
        if not is_user_decision:
            return self._failed(position, process, facts, attempt)
        text = format_message("Outcome unknown", facts)
        step = ReportStep.PROCESS_FINISHED
        return self._report("WARN", text, step, position, [process], identity=attempt + text)

    def event_finished(self, position: int, statuses: Sequence[ProcessStatus]) -> Report:
        """Report the outcomes of all processes of an event, again after each later outcome."""
        states = {status.process: status.state for status in statuses}
        failed = [status for status in statuses if status.state in FAILURE_STATES]
        complete = sum(status.state == ProcessState.COMPLETE for status in statuses)
        facts = self._facts(position, complete=complete, failed=len(failed), processes=states)
        text = format_message("Event finished", facts)
        identity = f"{text}{[str(status.finished_at) for status in statuses]}"
        step = ReportStep.EVENT_FINISHED
        return self._report("INFO", text, step, position, list(states), identity=identity)

    def _failed(
        self, position: int, process: str, facts: Mapping[str, Any], identity: str, task: str = "wait"
    ) -> Report:
        text = format_message("Event failed", {**facts, "to_do": build_retry_advice(process, task)})
        step = ReportStep.PROCESS_FINISHED
        return self._report("FATAL", text, step, position, [process], identity=identity)

    def _facts(self, position: int, process: str | None = None, **facts: Any) -> dict[str, Any]:
        """Return the facts of a message; those that all messages share come first."""
        process_facts = {"process": process} if process else {}
        return {**process_facts, "run": self.run.run_id, "genome": self.run.events[position].genome, **facts}

    def _report(
        self,
        report_type: ReportType,
        text: str,
        step: ReportStep,
        position: int,
        processes: Sequence[str],
        identity: str = "",
    ) -> Report:
        """
        Return a report on an event.

        :param identity: distinguishes reports of the same step, event and process.
        """
        event, run_id = self.run.events[position], self.run.run_id
        metadata = {
            "run_id": run_id,
            "correlation_id": self.run.correlation_id(position),
            "step": step.value,
            "processes": list(processes),
        }
        process = processes[0] if len(processes) == 1 else ""
        digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()
        key = f"{run_id}/{process}/{position}/{step}/{report_type}/{digest}"
        event_id = self.run.event_ids.get(position)
        report = build_event_report(report_type, text, event.payload(), key, event_id, metadata)
        # Long waits have many progress reports, and `event_process` has the present progress.
        return report.model_copy(update={"is_transient": step == ReportStep.PROGRESS})


def build_invalid_event_report(conf: object, run_id: str, error: Exception) -> Report:
    """Return the report that the events of a run are invalid."""
    event = dict(conf) if isinstance(conf, Mapping) else {}
    metadata = {"run_id": run_id, "step": ReportStep.REJECTED.value, "processes": []}
    key = f"{run_id}/rejected"
    return build_event_report(
        "FATAL", f"Event rejected: {mask_text(str(error))}", event, key, metadata=metadata
    )
