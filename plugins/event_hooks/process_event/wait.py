"""The task `wait`: wait for the jobs of a process that the ledger names; record progress and outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from event_hooks.exceptions import EventHooksError
from event_hooks.hive.hook import HiveHook
from event_hooks.hive.reader import read_final_outcomes
from event_hooks.hive.sensor import DeferredSensor
from event_hooks.hive.trigger import build_end_event
from event_hooks.hive.wait_summary import WaitSummary
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run
from event_hooks.ledger.outcomes import start_attempt
from event_hooks.ledger.processes import load_process_statuses
from event_hooks.ledger.records import SUCCESS_STATES
from event_hooks.process_event import links, recording
from event_hooks.process_event.event_wait import EventWait, group_by_hive, is_waiting
from event_hooks.process_event.links import select_links
from event_hooks.process_event.planning import build_tokens
from event_hooks.process_event.stopping import select_by_position
from event_hooks.process_event.summaries import correct_summaries
from event_hooks.runtime import supervisor

if TYPE_CHECKING:
    from airflow.sdk import Context

    from event_hooks.ledger.records import ProcessStatus, RunEvents


MARKED_STATES = ("success", "skipped")
"""
States of a task that a user marked before its trigger started.

A trigger that starts its attempt after the task `report` has read the ledger would make the event unfinished.
If the user marked the task as failed, the trigger has to start, so that it stops the jobs.
"""


class EventJobSensor(DeferredSensor):
    """
    Wait for the jobs of one process of a run, which the ledger names, with all their descendants.

    The ledger has their outcomes before the task ends. The XCom ``return_value`` is a ``WaitSummary``.

    :param process: its name in the ledger.
    :param ready_timeout: seconds after which a READY job is stalled.
    :param emits: types of the follow-up events of a success.
    :param guihive: as in :class:`event_hooks.process_event.submit.EventSubmitOperator`.
    """

    def __init__(
        self,
        *,
        process: str,
        ready_timeout: float,
        emits: Sequence[str] = (),
        guihive: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            trigger_cls="event_hooks.process_event.wait.EventJobTrigger",
            trigger_kwargs={
                "process": process,
                "ready_timeout": ready_timeout,
                # The serialized DAG has these arguments for each process, so defaults are left out.
                **({"emits": list(emits)} if emits else {}),
                **({"guihive": guihive} if guihive else {}),
            },
            **kwargs,
        )
        self.process = process
        self.ready_timeout = ready_timeout
        self.emits = emits
        self.guihive = guihive
        self.operator_extra_links = select_links(guihive)

    def summarize_after_timeout(self, context: Context) -> WaitSummary:
        """Read the jobs once more, record their outcomes, and return the summary of the wait."""
        self.outlets = []  # the API server registers the asset events of completed processes
        ledger, attempt = Ledger(), str(context["ti"].id)
        run = load_run(ledger, context["dag_run"].run_id)
        statuses = load_process_statuses(ledger, run.run_id, self.process)
        event_ids = [status.event_id for status in statuses if not status.is_retry_requested]
        start_attempt(ledger, self.process, event_ids, attempt)
        statuses = load_process_statuses(ledger, run.run_id, self.process)
        waiting = [status for status in statuses if is_waiting(status) and not status.is_retry_requested]
        for hive, group in group_by_hive(waiting).items():
            self._record_final_outcomes(ledger, run, hive, group, attempt)
        correct_summaries(ledger, run.run_id, self.process)
        statuses = load_process_statuses(ledger, run.run_id, self.process)
        ledger.close()
        return _summarize(WaitSummary.start(attempt), statuses)

    def _record_final_outcomes(
        self, ledger: Ledger, run: RunEvents, hive: str, statuses: Sequence[ProcessStatus], attempt: str
    ) -> None:
        try:
            jobs = build_tokens(run.run_id, statuses)
            outcomes = read_final_outcomes(HiveHook(hive), jobs, self.timeout, self.ready_timeout)
        except EventHooksError as error:
            errors = dict.fromkeys(statuses, f"the wait reached its timeout, and {error}")
            recording.record_missing_outcomes(ledger, run, errors)
            return
        by_position = select_by_position(statuses, {outcome.job_id: outcome for outcome in outcomes})
        recording.record_outcomes(ledger, run, self.process, by_position, attempt, self.emits)


class EventJobTrigger(BaseTrigger):
    """
    Wait for the jobs of one process of a run, and record what their hives report.

    The trigger may run twice at the same time: what it records is idempotent. If the task was cleared after a
    wait, it resets failed jobs first. If a user marks the task as failed, it stops the jobs that have not
    started. Parameters as in :class:`EventJobSensor`.

    :param former_arguments: ignored; Airflow has them for waits that an earlier version started, and the
        ledger has the jobs of these as well.
    """

    def __init__(
        self,
        process: str,
        ready_timeout: float,
        emits: Sequence[str] = (),
        guihive: str | None = None,
        **former_arguments: Any,
    ) -> None:
        super().__init__()
        self.process = process
        self.ready_timeout = ready_timeout
        self.emits = emits
        self.guihive = guihive

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, from which Airflow rebuilds the trigger in another process."""
        names = ("process", "ready_timeout", "emits", "guihive")
        return "event_hooks.process_event.wait.EventJobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, after the ledger has the outcomes of all jobs."""
        xcoms = links.build_link_xcoms(self._run_id, self.guihive)
        summary = WaitSummary.start(self._attempt)
        state = await self._load_task_state()
        if state in MARKED_STATES:
            self.log.info("The task was marked as %s before its trigger started: no wait starts", state)
            yield build_end_event(summary, xcoms)
            return
        try:
            await self._store_xcoms({**xcoms, "return_value": summary.to_json()})
            wait = self._build_wait()
            await wait.wait()
            summary = _summarize(summary, await wait.load_statuses())
        except EventHooksError as error:
            self.log.error("Wait failed: %s", error)  # noqa: TRY400 (the message names the cause)
            summary = summary.finish((), [str(error)], is_success=False)
        yield build_end_event(summary, xcoms)

    async def on_kill(self) -> None:
        """Stop jobs that have not started if a user marked the task as failed; do nothing after a clear."""
        await supervisor.run_to_end(self._stop_if_failed())

    async def _stop_if_failed(self) -> None:
        if await self._load_task_state() == "failed":
            await self._build_wait().stop()

    async def _load_task_state(self) -> str | None:
        ids = supervisor.task_ids(self.task_instance)
        return await supervisor.load_task_state(**ids) if ids else None

    def _build_wait(self) -> EventWait:
        return EventWait(self._run_id, self.process, self._attempt, self.ready_timeout, self.emits, self.log)

    @property
    def _run_id(self) -> str:
        if self.task_instance is None:
            raise RuntimeError("a trigger without its task belongs to no run")
        return str(self.task_instance.run_id)

    @property
    def _attempt(self) -> str:
        return str(self.task_instance.id) if self.task_instance else ""

    async def _store_xcoms(self, xcoms: Mapping[str, Any]) -> None:
        for key, value in xcoms.items():
            await supervisor.store_xcom(key, value, **supervisor.task_ids(self.task_instance) or {})


def _summarize(summary: WaitSummary, statuses: Sequence[ProcessStatus]) -> WaitSummary:
    """Return the summary of a wait from the ledger: it succeeds if each event of the process has."""
    errors = [
        f"job {status.job_id} of event {status.event_id}: {status.error or status.state}"
        for status in statuses
        if status.state not in SUCCESS_STATES
    ]
    return summary.finish((status.state for status in statuses), errors, is_success=not errors)
