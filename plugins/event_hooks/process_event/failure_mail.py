"""A mail to people when a run has failed, through Airflow's SMTP provider; off unless a setting names who."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk.configuration import conf

from event_hooks import settings
from event_hooks.exceptions import EventHooksError
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import load_run_events
from event_hooks.ledger.processes import load_run_statuses
from event_hooks.ledger.records import BAD, ProcessStatus, State
from event_hooks.reports.builder import RETRY_ADVICE

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

SHOWN = 50
"""Failed processes that one mail tells of one by one."""


def on_failure() -> list[SmtpNotifier]:
    """Give what a DAG calls when a run of it has failed: nothing, or one mail."""
    people = settings.failure_mail_to()
    return [FailureMail(people)] if people else []


class FailureMail(SmtpNotifier):
    """Say which process of which genome has failed, why, and what to do."""

    def __init__(self, people: Sequence[str]) -> None:
        super().__init__(to=list(people))

    def notify(self, context: Context) -> None:
        """Write it from the ledger, and send it."""
        run = context["dag_run"]
        try:
            ledger = Ledger()
            events = {entry.position: entry.payload for entry in load_run_events(ledger, run.run_id)}
            failed = [one for one in load_run_statuses(ledger, run.run_id) if one.state in BAD]
            ledger.close()
            note = "" if failed else "No process has failed: the event was refused, or a report not sent."
        except EventHooksError as error:
            events, failed, note = {}, [], f"The ledger cannot tell more: {error}"
        address = f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{settings.DAG_ID}/runs/"
        # Set here, these are no templates: an event's {{ … }} stays what it is.
        self.subject = subject(run.run_id, events, failed)
        self.html_content = body(address + quote(run.run_id, safe=""), events, failed, note)
        super().notify(context)


def subject(run_id: str, events: Mapping[int, Mapping[str, Any]], failed: Sequence[ProcessStatus]) -> str:
    """Name the process and the genome of one failure, and count the others."""
    if not failed:
        return _line(f"[event hooks] run {run_id} failed")
    event = events.get(failed[0].position, {})
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    whose = f"{event.get('genome') or 'no genome'} ({event.get('type')})"
    return _line(f"[event hooks] {failed[0].process} {failed[0].state}: {whose}{more}")


def body(
    address: str, events: Mapping[int, Mapping[str, Any]], failed: Sequence[ProcessStatus], note: str = ""
) -> str:
    """Tell of each failure what, whose, where, why and what to do, as HTML."""
    told = [_paragraph(one, events.get(one.position, {})) for one in failed[:SHOWN]]
    if len(failed) > SHOWN:
        told.append(f"<p>… and {len(failed) - SHOWN} more.</p>")
    if note:
        told.append(f"<p>{html.escape(note)}</p>")
    link = html.escape(address)
    return f'{"".join(told)}<p>The run, with its logs: <a href="{link}">{link}</a></p>'


def _paragraph(one: ProcessStatus, event: Mapping[str, Any]) -> str:
    task = f"{one.process}.{'submit' if one.state == State.NOT_SUBMITTED else 'wait'}"
    facts = {
        "Genome": event.get("genome") or "none",
        "Event": f"{event.get('type')} {event.get('event_id') or ''}",
        "Process": f"{one.process}: {one.state}",
        "Job": f"{one.job_id or 'none'} of {one.analysis} in {one.hive}",
        "Error": one.error or "none was told",
        "To do": RETRY_ADVICE.format(task=task),
    }
    return f"<p>{'<br>'.join(f'<b>{name}</b>: {html.escape(str(text))}' for name, text in facts.items())}</p>"


def _line(text: str) -> str:
    """Keep an event's line breaks out of the mail's head."""
    return " ".join(text.split())[:200]
