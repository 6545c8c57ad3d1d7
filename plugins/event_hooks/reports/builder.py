"""Each step of an event's way through a run, told as a report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from event_hooks.events.models import EventBatch, event_reference
from event_hooks.ledger.records import BAD, ProcessStatus, Progress, State
from event_hooks.reports.report import Report, ReportType, event_report, format_message

RETRY_ADVICE = "mend the cause, then clear {task} of the run with Downstream"
"""What to do for a process that has failed; what is done already is not done again."""


class Step(StrEnum):
    """What a report tells of; its ``params.event_hooks.step``."""

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
    EVENT_FINISHED = "event_finished"


class ReportBuilder:
    """
    What is told of the events of one run.

    The same step told again is the same report: it has the same ``message_id``.

    :param conf: of the run, or with some of its events that stand side by side.
    :param first: position of the first of them.
    :raises EventInvalid: if its events cannot be read.
    """

    def __init__(self, conf: object, run_id: str, *, first: int = 0) -> None:
        self.run_id = run_id
        events = EventBatch.from_conf(conf).events
        self.events = {at: event.payload() for at, event in enumerate(events, first)}

    def received(self, position: int, processes: Sequence[str], skipped: Sequence[str] = ()) -> Report:
        """Tell that an event is written down, what will be done for it, and what was done before."""
        facts = {**self._whose(position), "processes": list(processes)}
        if skipped:
            facts["skipped"] = list(skipped)
        text = format_message("Event received", facts)
        return self._report("INFO", text, Step.RECEIVED, position, processes)

    def duplicate(self, position: int, first_run: str) -> Report:
        """Tell that an event is known, and which run has it."""
        facts = {**self._whose(position), "status": "duplicate", "first_run": first_run}
        return self._report("DEBUG", format_message("Event ignored", facts), Step.DUPLICATE, position, ())

    def rejected(self, position: int, reason: str) -> Report:
        """Tell that nothing is done for an event, because of an error."""
        text = f"Event rejected: {reason}"
        return self._report("FATAL", text, Step.REJECTED, position, (), identity=text)

    def no_process(self, position: int, waiting: Sequence[str] = ()) -> Report:
        """
        Tell that nothing is to do for an event by itself.

        :param waiting: processes that wait for further events.
        """
        text = "No process reacts to this event"
        if waiting:
            facts = {**self._whose(position), "processes": list(waiting)}
            text = format_message("Event noted: these processes wait for others as well", facts)
        return self._report("INFO", text, Step.EVENT_FINISHED, position, ())

    def join_timed_out(
        self, position: int, process: str, types: Sequence[str], missing: Sequence[str], since: datetime
    ) -> Report:
        """Tell that a process has waited for too long, under the first event that it has waited with."""
        came = [name for name in types if name not in missing]
        facts = {**self._whose(position, process), "came": came, "missing": list(missing)}
        to_do = f"send what is missing: {process} waits again from the next of these events on"
        text = format_message("Join timed out", {**facts, "since": since.isoformat(), "to_do": to_do})
        return self._report("WARN", text, Step.JOIN_TIMED_OUT, position, [process], identity=text)

    def follow_up_rejected(self, position: int, process: str, event: Mapping[str, Any], error: str) -> Report:
        """Tell that an event that follows from a success cannot be handed on."""
        facts = {**self._whose(position, process), "event": dict(event), "error": error}
        to_do = "mend the cause, and send this event without follows, under another event_id"
        text = format_message("Follow-up event rejected", {**facts, "to_do": to_do})
        return self._report("FATAL", text, Step.FOLLOW_UP_REJECTED, position, [process], identity=text)

    def submitted(self, position: int, process: str, job_id: int) -> Report:
        """Tell that an event's job is in its hive."""
        text = format_message("Event submitted", {**self._whose(position, process), "id": job_id})
        return self._report("INFO", text, Step.SUBMITTED, position, [process])

    def progress(self, positions: Sequence[int], process: str, job_id: int, progress: Progress) -> Report:
        """Tell how far a process is with its events, under the first of them."""
        counts = {"done": progress.done, "total": progress.total, "failed": progress.failed}
        facts = {**self._whose(positions[0], process), "id": job_id, "status": "running", **counts}
        if progress.message:
            facts["message"] = progress.message
        if len(positions) > 1:
            facts["events"] = len(positions)
        text = format_message("Event in progress", facts)
        return self._report("INFO", text, Step.PROGRESS, positions[0], [process], identity=text)

    def stalled(
        self, positions: Sequence[int], process: str, job_id: int, status: str, reason: str, identity: str
    ) -> Report:
        """
        Tell what holds up jobs of a process, under the first of its events concerned.

        :param identity: of the trouble.
        """
        facts = {
            **self._whose(positions[0], process),
            "id": job_id,
            "status": status,
            "error": reason,
            "events": len(positions),
        }
        text = format_message("Event stalled", facts)
        return self._report("WARN", text, Step.STALLED, positions[0], [process], identity=identity)

    def late(self, position: int, process: str, job_id: int | None, count: int, seconds: float) -> Report:
        """
        Tell that a process takes longer than it should, under the first of its events that are not over.

        :param count: of these events.
        """
        facts = {**self._whose(position, process), "id": job_id, "status": "late", "events": count}
        to_do = "see on the event board what holds it up; if nothing does, its deadline is too short"
        text = format_message("Event late", {**facts, "seconds": seconds, "to_do": to_do})
        return self._report("WARN", text, Step.LATE, position, [process])

    def process_finished(
        self, position: int, process: str, outcome: Mapping[str, Any], attempt: str
    ) -> Report:
        """
        Tell how a job has ended: a success is told once, a failure once for each attempt.

        :param outcome: ``{"job_id", "state", "result", "error"}``, and ``"warning"`` if any.
        """
        facts = {**self._whose(position, process), "id": outcome["job_id"], "status": outcome["state"]}
        if outcome["state"] != State.COMPLETE:
            return self._failed(position, process, {**facts, "error": outcome["error"]}, attempt)
        doubt = {"warning": outcome["warning"]} if outcome.get("warning") else {}
        text = format_message("Event succeeded", {**facts, "output": outcome["result"], **doubt})
        kind: ReportType = "WARN" if doubt else "INFO"
        return self._report(kind, text, Step.PROCESS_FINISHED, position, [process], identity=text)

    def not_submitted(self, position: int, process: str, error: str) -> Report:
        """Tell that no job was made."""
        facts = {**self._whose(position, process), "status": State.NOT_SUBMITTED.value, "error": error}
        return self._failed(position, process, facts, error, task="submit")

    def outcome_unknown(
        self, position: int, process: str, job_id: int, error: str, attempt: str, *, is_wanted: bool
    ) -> Report:
        """Tell that nobody looked how a job ended; ``is_wanted`` if a person wanted it so."""
        facts = {
            **self._whose(position, process),
            "id": job_id,
            "status": State.UNKNOWN.value,
            "error": error,
        }
        if not is_wanted:
            return self._failed(position, process, facts, attempt)
        text = format_message("Outcome unknown", facts)
        return self._report("WARN", text, Step.PROCESS_FINISHED, position, [process], identity=attempt + text)

    def event_finished(self, position: int, standing: Sequence[ProcessStatus]) -> Report:
        """Tell that all processes of an event are over, and how."""
        states = {one.process: one.state for one in standing}
        complete, failed = (sum(one.state in kind for one in standing) for kind in ((State.COMPLETE,), BAD))
        facts = {**self._whose(position), "complete": complete, "failed": failed}
        text = format_message("Event finished", {**facts, "processes": states})
        attempts = [one.attempt for one in standing if one.state in BAD]
        identity = f"{text}{attempts}"
        return self._report("INFO", text, Step.EVENT_FINISHED, position, list(states), identity=identity)

    def _failed(
        self, position: int, process: str, facts: Mapping[str, Any], identity: str, task: str = "wait"
    ) -> Report:
        text = format_message(
            "Event failed", {**facts, "to_do": RETRY_ADVICE.format(task=f"{process}.{task}")}
        )
        return self._report("FATAL", text, Step.PROCESS_FINISHED, position, [process], identity=identity)

    def _whose(self, position: int, process: str | None = None) -> dict[str, Any]:
        facts = {"process": process} if process else {}
        return {**facts, "run": self.run_id, "genome": self.events[position].get("genome")}

    def _report(
        self,
        report_type: ReportType,
        text: str,
        step: Step,
        position: int,
        processes: Sequence[str],
        identity: str = "",
    ) -> Report:
        correlation_id = (self.events[position].get("follows") or {}).get("correlation_id")
        about = {
            "run_id": self.run_id,
            "correlation_id": correlation_id or event_reference(self.run_id, position),
            "step": step.value,
            "processes": list(processes),
        }
        of = "/".join(processes) if len(processes) == 1 else ""
        digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()
        key = f"{self.run_id}/{of}/{position}/{step}/{report_type}/{digest}"
        return event_report(report_type, text, self.events[position], key, position, about)


def invalid_event(conf: object, run_id: str, error: Exception) -> Report:
    """Tell that a run's events cannot be read."""
    event = dict(conf) if isinstance(conf, Mapping) else {}
    about = {"run_id": run_id, "step": Step.REJECTED.value, "processes": []}
    return event_report("FATAL", f"Event rejected: {error}", event, f"{run_id}/refused", about=about)
