"""Report how each process of a run ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import metrics, xcom
from event_hooks.exceptions import EventInvalid
from event_hooks.ledger import joins
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import load_run_statuses, store_outcomes, store_plan
from event_hooks.ledger.records import ProcessOutcome, ProcessStatus, State
from event_hooks.ledger.reports import add_reports, count_pending_reports
from event_hooks.process_event.recording import load_event_ids, record_outcomes
from event_hooks.reports.builder import ReportBuilder, invalid_event
from event_hooks.reports.outbox import send_pending_of_run, to_pending

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from event_hooks.reports.report import Report


@dataclass(frozen=True)
class Ended:
    """How the two tasks of one process ended."""

    positions: Sequence[int]
    """Which of the run's events it was for."""

    submit_error: str | None
    job_ids: Sequence[int] | None
    outcomes: Sequence[Mapping[str, Any]] | None
    """``{"job_id", "state", "result", "error"}`` of each job, in the order of ``positions``."""

    wait_error: str | None
    """Why the wait gave up before the jobs were over."""

    wait_state: str | None
    """Airflow's state of the wait, as in success, failed, upstream_failed."""

    attempt: str = ""
    """The task instance of that wait, if it ever began."""

    def by_position(self) -> dict[int, Mapping[str, Any]]:
        """Give each event's outcome that the wait left."""
        return dict(zip(self.positions, self.outcomes or (), strict=False))


class ReportOperator(BaseOperator):
    """
    See that each process and event has an outcome, and publish. Make it a teardown: it always runs.

    What the hives told, the waits have written down and reported as it came. This adds what they could not,
    and each event's summary. A broker that is down delays it, and a retry is harmless.

    :param plan: task and key of the XCom ``{process: [position of an event, …]}``. Each process is, or was
        when the run began, a task group with the tasks ``submit`` and ``wait``.
    :param emits: ``{process: types of the events that follow from its success}``.
    """

    def __init__(self, *, plan: tuple[str, str], emits: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.emits = emits

    def execute(self, context: Context) -> None:
        """Write down what nobody has yet, and publish what is owed."""
        ti, run = context["ti"], context["dag_run"]
        ledger = Ledger()
        ids = load_event_ids(ledger, run.run_id)
        try:
            story = ReportBuilder(run.conf, run.run_id)
        except EventInvalid as error:
            metrics.rejected("run")
            reports = [invalid_event(run.conf, run.run_id, error)]
        else:
            reports = self._settle(ti, ledger, story, ids)
        for report in reports:
            self.log.info("%s for %s: %s", report.routing_key, report.resource, report.message)
        add_reports(ledger, to_pending(reports, run.run_id, ids))
        self.log.info("%s reports are owed", count_pending_reports(ledger, run.run_id))
        self.log.info("%s reports are sent", send_pending_of_run(ledger, run.run_id))
        ledger.close()

    def _settle(self, ti: Any, ledger: Ledger, story: ReportBuilder, ids: Mapping[int, int]) -> list[Report]:
        """Write down outcomes that the waits could not, and give what else is to be told."""
        route, key = self.plan
        plan = ti.xcom_pull(task_ids=route, key=key)
        if plan is None:
            error = _why_no_plan(ti, route)
            self._give_up(ledger, story, ids, error)
            metrics.rejected("run", len(story.events))
            return [story.rejected(at, error) for at in range(len(story.events))]
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[story.run_id]).get(story.run_id, {})
        open_ones: dict[str, list[ProcessStatus]] = {}
        for process, places in plan.items():
            end = _ended(ti, process, places, states)
            emits = self.emits.get(process, ())
            record_outcomes(ledger, story, process, ids, end.by_position(), end.attempt, emits)
        for one in load_run_statuses(ledger, story.run_id):
            if not one.is_finished:
                open_ones.setdefault(one.process, []).append(one)
        for process, standing in open_ones.items():
            end = _ended(ti, process, plan.get(process, []), states)
            made = [(one, *resolve_missing_outcome(story, end, one)) for one in standing]
            store_outcomes(
                ledger,
                process,
                [ProcessOutcome(one.event_id, state, None, error) for one, state, error, _ in made],
                end.attempt,
                to_pending([report for *_, report in made], story.run_id, ids),
            )
        waiting: dict[int, list[str]] = {}
        for event_id, awaited in joins.waiting_for(ledger, list(ids.values())):
            waiting.setdefault(event_id, []).append(awaited.process)
        return list(build_summaries(story, load_run_statuses(ledger, story.run_id), ids, waiting))

    @staticmethod
    def _give_up(ledger: Ledger, story: ReportBuilder, ids: Mapping[int, int], error: str) -> None:
        """Give an outcome to what was planned, or submitted, before the run failed to plan."""
        for one in load_run_statuses(ledger, story.run_id):
            if not one.is_finished:
                end = Ended([], None if one.job_id else error, None, None, error, None)
                state, why, report = resolve_missing_outcome(story, end, one)
                outcome = ProcessOutcome(one.event_id, state, None, why)
                told = to_pending([report], story.run_id, ids)
                store_outcomes(ledger, one.process, [outcome], end.attempt, told)
        store_plan(ledger, story.run_id, ())


def _why_no_plan(ti: Any, route: str) -> str:
    told = ti.xcom_pull(task_ids=route, key=xcom.ERROR_KEY)
    return told or f"the task {route} ended and left no plan: its log tells why"


def _ended(ti: Any, process: str, positions: Sequence[int], states: Mapping[str, str | None]) -> Ended:
    submit, wait = f"{process}.submit", f"{process}.wait"
    left = xcom.decoded(ti.xcom_pull(task_ids=wait)) or {}
    return Ended(
        positions=positions,
        submit_error=ti.xcom_pull(task_ids=submit, key=xcom.ERROR_KEY),
        job_ids=ti.xcom_pull(task_ids=submit),
        outcomes=left.get("outcomes"),
        wait_error=left.get("error"),
        wait_state=states.get(wait),
        attempt=left.get("ti") or "",
    )


def resolve_missing_outcome(
    story: ReportBuilder, end: Ended, one: ProcessStatus
) -> tuple[State, str, Report]:
    """
    Say what a (process, event) has come to that has no outcome, though its run is over.

    Only what was read from the hive is a success: that a task is green, as a person may mark it, is not.
    """
    # The API server may have submitted a job, too, of a process that the run does not know any more.
    job_id = dict(zip(end.positions, end.job_ids or (), strict=False)).get(one.position, one.job_id)
    if end.submit_error or job_id is None:
        error = end.submit_error or "no job was submitted: the log of the task submit tells why"
        return State.NOT_SUBMITTED, error, story.not_submitted(one.position, one.process, error)
    is_wanted = end.wait_state == "success"
    if is_wanted:
        error = "the wait was marked as success by a person: nobody looked how the job ended"
    else:
        error = end.wait_error or _why_not_awaited(end.wait_state)
    report = story.outcome_unknown(one.position, one.process, job_id, error, end.attempt, is_wanted=is_wanted)
    return State.UNKNOWN, error, report


def build_summaries(
    story: ReportBuilder,
    standing: Sequence[ProcessStatus],
    ids: Mapping[int, int],
    waiting: Mapping[int, Sequence[str]] | None = None,
) -> Iterator[Report]:
    """
    Tell of each event of the run that is the run's own how it has ended in all.

    :param waiting: ``{event id: processes that wait with it for others}``.
    """
    of: dict[int, list[ProcessStatus]] = {at: [] for at in sorted(ids)}
    for one in standing:
        of[one.position].append(one)
    for at, processes in of.items():
        if processes:
            yield story.event_finished(at, processes)
        else:
            yield story.no_process(at, (waiting or {}).get(ids[at], ()))


def _why_not_awaited(wait_state: str | None) -> str:
    if wait_state in (None, "removed"):
        return "the process left the lookup while its job ran, so that nobody waited for it: look in its hive"
    return f"the wait ended as {wait_state} before its job did, by a person: its log says what was stopped"
