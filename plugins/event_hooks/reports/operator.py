"""Report how each process of a run ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from event_hooks import metrics, reason, xcom
from event_hooks.exceptions import EventInvalid
from event_hooks.ledger import joins
from event_hooks.ledger.ledger import Ledger
from event_hooks.ledger.records import Outcome, Standing, State
from event_hooks.reports.outbox import owed, positions, send_all_of, settle
from event_hooks.reports.story import Story, unreadable

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
        ids = positions(ledger, run.run_id)
        try:
            story = Story(run.conf, run.run_id)
        except EventInvalid as error:
            metrics.refused("run")
            reports = [unreadable(run.conf, run.run_id, error)]
        else:
            reports = self._settle(ti, ledger, story, ids)
        for report in reports:
            self.log.info("%s for %s: %s", report.routing_key, report.resource, report.message)
        ledger.owe(owed(reports, run.run_id, ids))
        self.log.info("%s reports are owed", ledger.count_owed(run.run_id))
        self.log.info("%s reports are sent", send_all_of(ledger, run.run_id))
        ledger.close()

    def _settle(self, ti: Any, ledger: Ledger, story: Story, ids: Mapping[int, int]) -> list[Report]:
        """Write down outcomes that the waits could not, and give what else is to be told."""
        route, key = self.plan
        plan = ti.xcom_pull(task_ids=route, key=key)
        if plan is None:
            error = _why_no_plan(ti, route)
            self._give_up(ledger, story, ids, error)
            metrics.refused("run", len(story.events))
            return [story.refused(at, error) for at in range(len(story.events))]
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[story.run_id]).get(story.run_id, {})
        open_ones: dict[str, list[Standing]] = {}
        for process, places in plan.items():
            end = _ended(ti, process, places, states)
            emits = self.emits.get(process, ())
            settle(ledger, story, process, ids, end.by_position(), end.attempt, emits)
        for one in ledger.standing(story.run_id):
            if not one.is_over:
                open_ones.setdefault(one.process, []).append(one)
        for process, standing in open_ones.items():
            end = _ended(ti, process, plan.get(process, []), states)
            made = [(one, *last_word(story, end, one)) for one in standing]
            ledger.record_outcomes(
                process,
                [Outcome(one.event_id, state, None, error) for one, state, error, _ in made],
                end.attempt,
                owed([report for *_, report in made], story.run_id, ids),
            )
        waiting: dict[int, list[str]] = {}
        for event_id, awaited in joins.waiting_for(ledger, list(ids.values())):
            waiting.setdefault(event_id, []).append(awaited.process)
        return list(summaries(story, ledger.standing(story.run_id), ids, waiting))

    @staticmethod
    def _give_up(ledger: Ledger, story: Story, ids: Mapping[int, int], error: str) -> None:
        """Give an outcome to what was planned, or submitted, before the run failed to plan."""
        for one in ledger.standing(story.run_id):
            if not one.is_over:
                end = Ended([], None if one.job_id else error, None, None, error, None)
                state, why, report = last_word(story, end, one)
                outcome = Outcome(one.event_id, state, None, why)
                told = owed([report], story.run_id, ids)
                ledger.record_outcomes(one.process, [outcome], end.attempt, told)
        ledger.plan(story.run_id, ())


def _why_no_plan(ti: Any, route: str) -> str:
    told = ti.xcom_pull(task_ids=route, key=reason.XCOM)
    return told or f"the task {route} ended and left no plan: its log tells why"


def _ended(ti: Any, process: str, positions: Sequence[int], states: Mapping[str, str | None]) -> Ended:
    submit, wait = f"{process}.submit", f"{process}.wait"
    left = xcom.decoded(ti.xcom_pull(task_ids=wait)) or {}
    return Ended(
        positions=positions,
        submit_error=ti.xcom_pull(task_ids=submit, key=reason.XCOM),
        job_ids=ti.xcom_pull(task_ids=submit),
        outcomes=left.get("outcomes"),
        wait_error=left.get("error"),
        wait_state=states.get(wait),
        attempt=left.get("ti") or "",
    )


def last_word(story: Story, end: Ended, one: Standing) -> tuple[State, str, Report]:
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
    report = story.not_awaited(one.position, one.process, job_id, error, end.attempt, is_wanted=is_wanted)
    return State.UNKNOWN, error, report


def summaries(
    story: Story,
    standing: Sequence[Standing],
    ids: Mapping[int, int],
    waiting: Mapping[int, Sequence[str]] | None = None,
) -> Iterator[Report]:
    """
    Tell of each event of the run that is the run's own how it has ended in all.

    :param waiting: ``{event id: processes that wait with it for others}``.
    """
    of: dict[int, list[Standing]] = {at: [] for at in sorted(ids)}
    for one in standing:
        of[one.position].append(one)
    for at, processes in of.items():
        if processes:
            yield story.finished(at, processes)
        else:
            yield story.unconcerned(at, (waiting or {}).get(ids[at], ()))


def _why_not_awaited(wait_state: str | None) -> str:
    if wait_state in (None, "removed"):
        return "the process left the lookup while its job ran, so that nobody waited for it: look in its hive"
    return f"the wait ended as {wait_state} before its job did, by a person: its log says what was stopped"
