"""The form of a report: its fields, routing key and message id."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, computed_field

from event_hooks.ledger.database import sanitize_text
from event_hooks.masking import mask_secrets, mask_text

PROCESS = "event_processing"
"""``process`` of the reports that a run makes. Source: the Flask app's Celery task."""

METADATA_KEY = "event_hooks"
"""
The only key of ``params`` that is not a field of the event.

Its value is ``{"run_id", "correlation_id", "step", "processes"}``. An event and its follow-up events share
one ``correlation_id``: the run and position of the first event.
"""

PROCESSES_FACT = "processes"
"""The fact with the names of processes, and their states: a process may have a name such as make_token."""

ReportType = Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]

_SEVERITY = {name: severity for severity, name in enumerate(get_args(ReportType))}


class Report(BaseModel):
    """
    A message in the form that the consumers of the Flask event app expect.

    Source: ensembl-prodinf-core's reporting and ensembl-prodinf-report's consumers. They read ``params``,
    unlike the published schema, and expect ``report_time`` in milliseconds and without a zone.
    """

    model_config = ConfigDict(frozen=True)

    report_type: ReportType = Field(description="The e-mail consumer sends mail for FATAL.")
    process: str = Field(description="event_handler for an intake of events, event_processing for a run.")
    resource: str | None = Field(description="The event's genome.")
    params: dict[str, Any] = Field(description="The event's fields, if any, and our metadata.")
    message: str
    host: str = Field(default_factory=socket.gethostname)
    report_time: str = Field(default_factory=lambda: _iso(datetime.now(UTC)), description="UTC.")
    key: str = Field(exclude=True, description="Identity: repeated reports have the same key.")
    event_id: int | None = Field(None, exclude=True, description="Id of the event in the ledger.")
    is_transient: bool = Field(False, exclude=True, description="Whether the ledger deletes it once sent.")

    @computed_field(description="Equal to report_type: the e-mail consumer builds its subject from it.")
    def level(self) -> str:
        """Return the report type, under the name that the e-mail consumer reads."""
        return self.report_type

    @property
    def routing_key(self) -> str:
        """Return ``report.<type in lower case>``."""
        return f"report.{self.report_type.lower()}"

    @property
    def body(self) -> str:
        """Return the report as JSON, as it is sent."""
        return self.model_dump_json()

    @property
    def message_id(self) -> str:
        """Return an id that only a repetition of this report shares."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"event-hooks:{self.key}"))


def _iso(instant: datetime) -> str:
    return instant.replace(tzinfo=None).isoformat(timespec="milliseconds")


def format_message(summary: str, facts: Mapping[str, Any]) -> str:
    """Return the text of a report: a fixed phrase, and the facts as JSON, with masked secrets."""
    masked = {key: value if key == PROCESSES_FACT else mask_secrets(value) for key, value in facts.items()}
    return f"{summary}: {json.dumps(masked, ensure_ascii=False)}"


def parse_message(message: str) -> tuple[str, dict[str, Any] | str]:
    """Return the phrase of a report's message, and its facts; as text if they are not a JSON object."""
    summary, _, text = message.partition(": ")
    try:
        facts = json.loads(text) if text else {}
    except ValueError:
        facts = None
    return summary, facts if isinstance(facts, dict) else text


def build_event_report(
    report_type: ReportType,
    message: str,
    event: dict[str, Any],
    key: str,
    event_id: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Report:
    """
    Return a report on an event of a run; without the event's fields if they cannot be sent.

    The secrets in the event's fields are masked.

    :param key: the report's identity: run, process, position and step.
    :param event_id: of the event in the ledger; ``None`` if the ledger does not have it under this run.
    :param metadata: added to ``params`` under :data:`METADATA_KEY`.
    """
    genome = event.get("genome")
    added = {METADATA_KEY: dict(metadata)} if metadata else {}
    report = Report(
        report_type=report_type,
        process=PROCESS,
        resource=mask_text(sanitize_text(genome)) if isinstance(genome, str) else None,
        params={**event, **added},
        message=sanitize_text(message),
        key=sanitize_text(key),
        event_id=event_id,
    )
    try:
        report.model_dump_json()
        fields = mask_secrets(event)
    except (ValueError, RecursionError):  # A rejected event may be nested too deeply, or not be Unicode.
        fields = {}
    return report.model_copy(update={"params": {**fields, **added}})


def is_at_least(report_type: str, minimum: str) -> bool:
    """Return whether a type of report is at least as severe as another one."""
    return _SEVERITY[report_type] >= _SEVERITY[minimum]
