"""A mail about each failed run, with Airflow's SMTP provider; disabled without `failure_mail_to`."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import conf

from event_hooks import settings
from event_hooks.exceptions import EventHooksError
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import FAILURE_STATES, ProcessState, ProcessStatus
from event_hooks.masking import mask_text
from event_hooks.reports.advice import build_retry_advice

if TYPE_CHECKING:
    from airflow.sdk import Context

MAX_SHOWN = 50
"""Failed processes that one mail shows in full."""

MAX_SUBJECT_LENGTH = 200
"""Characters of a mail's subject."""


def build_failure_callbacks() -> list[SmtpNotifier]:
    """Return the ``on_failure_callback`` of a DAG: one notifier, or an empty list if the mail is disabled."""
    recipients = settings.failure_mail_to()
    return [FailureMail(recipients)] if recipients else []


@dataclass(frozen=True)
class RunFailure:
    """The failed processes of a run."""

    run_id: str
    events: Mapping[int, Mapping[str, Any]]
    """Payload of each event, by its position in the run."""

    failed: Sequence[ProcessStatus]
    note: str = ""
    """A sentence below the failed processes."""


class FailureMail(SmtpNotifier):
    """Mail the failed processes of a run, with genome, error and the next step of each."""

    def __init__(self, recipients: Sequence[str]) -> None:
        super().__init__(to=list(recipients))

    def notify(self, context: Context) -> None:
        """Build the mail from the ledger, and send it; an unavailable ledger is a note in the mail."""
        failure = load_failure(context["dag_run"].run_id)
        # Attributes that are set here are not rendered as templates: an event's {{ … }} stays as it is.
        self.subject = build_subject(failure)
        self.html_content = build_body(failure)
        super().notify(context)


def load_failure(run_id: str) -> RunFailure:
    """Load the failed processes of a run from the ledger."""
    try:
        ledger = Ledger()
        stored = load_run_events(ledger, run_id)
        events = {event.position: event.payload for event in stored}
        failed = [status for status in load_run_statuses(ledger, run_id) if status.state in FAILURE_STATES]
        ledger.close()
    except EventHooksError as error:
        return RunFailure(run_id, {}, [], f"No details from the ledger: {error}")
    rejected = [event for event in stored if event.rejected_reason]
    note = "" if failed else "No process has failed: the event was rejected, or a report was not sent."
    if rejected:
        first = f"event {rejected[0].id}: {rejected[0].rejected_reason}"
        note = f"{len(rejected)} events were rejected, and no process runs for them. The first is {first}"
    return RunFailure(run_id, events, failed, note)


def build_subject(failure: RunFailure) -> str:
    """Return the subject: process and genome of the first failure, and the number of further failures."""
    if not failure.failed:
        return _join_lines(f"[event hooks] run {failure.run_id} failed")
    first = failure.failed[0]
    event = failure.events.get(first.position, {})
    more = f" and {len(failure.failed) - 1} more" if len(failure.failed) > 1 else ""
    genome = f"{event.get('genome') or 'no genome'} ({event.get('type')})"
    return _join_lines(f"[event hooks] {first.process} {first.state}: {genome}{more}")


def _join_lines(text: str) -> str:
    """Remove line breaks, so that an event cannot add a header to the mail."""
    return mask_text(" ".join(text.split()))[:MAX_SUBJECT_LENGTH]


def build_body(failure: RunFailure) -> str:
    """Return the HTML: genome, event, process, job, error and next step of each failure, and a link."""
    paragraphs = [
        _build_paragraph(status, failure.events.get(status.position, {}))
        for status in failure.failed[:MAX_SHOWN]
    ]
    if len(failure.failed) > MAX_SHOWN:
        paragraphs.append(f"<p>… and {len(failure.failed) - MAX_SHOWN} more.</p>")
    if failure.note:
        paragraphs.append(f"<p>{html.escape(failure.note)}</p>")
    base_url = conf.get("api", "base_url", fallback="").rstrip("/")
    url = html.escape(f"{base_url}/dags/{settings.DAG_ID}/runs/{quote(failure.run_id, safe='')}")
    return f'{"".join(paragraphs)}<p>The run, with its logs: <a href="{url}">{url}</a></p>'


def _build_paragraph(status: ProcessStatus, event: Mapping[str, Any]) -> str:
    task = "submit" if status.state == ProcessState.NOT_SUBMITTED else "wait"
    facts = {
        "Genome": event.get("genome") or "not given",
        "Event": f"{event.get('type')} {event.get('event_id') or ''}",
        "Process": f"{status.process}: {status.state}",
        "Job": f"{status.job_id or 'no job'} of {status.analysis} in {status.hive}",
        "Error": status.error or "no error message",
        "To do": build_retry_advice(status.process, task),
    }
    lines = (f"<b>{name}</b>: {html.escape(mask_text(str(text)))}" for name, text in facts.items())
    return f"<p>{'<br>'.join(lines)}</p>"
