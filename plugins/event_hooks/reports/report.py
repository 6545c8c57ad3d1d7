"""What a report says, and under which key."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, computed_field

PROCESS = "event_processing"
"""``process`` of the reports that a run makes. Source: the Flask app's Celery task."""

METADATA_KEY = "event_hooks"
"""
The one key of ``params`` that is not the event's: ``{"run_id", "correlation_id", "step", "processes"}``.

``correlation_id`` is the same for all events that follow from one: the run and position of that one.
"""

ReportType = Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]

_ORDER = {name: order for order, name in enumerate(get_args(ReportType))}


class Report(BaseModel):
    """
    One message to the organisation, in the form that the consumers of the Flask event app know.

    Source: ensembl-prodinf-core's reporting and ensembl-prodinf-report's consumers. They read ``params``,
    whatever the published schema says, and expect ``report_time`` with three digits and no zone.
    """

    model_config = ConfigDict(frozen=True)

    report_type: ReportType = Field(description="FATAL is what reaches people's mail.")
    process: str = Field(description="event_handler at the intake, event_processing in a run.")
    resource: str | None = Field(description="The genome.")
    params: dict[str, Any] = Field(description="The event, {} if there is none.")
    message: str
    host: str = Field(default_factory=socket.gethostname)
    report_time: str = Field(default_factory=lambda: _iso(datetime.now(UTC)), description="UTC.")
    key: str = Field(exclude=True, description="What makes this report the same as a repeated one.")
    position: int | None = Field(None, exclude=True, description="Of the event in its run, from 0.")

    @computed_field(description="Equal to report_type: the e-mail consumer builds its subject from it.")
    def level(self) -> str:
        """Give the report type under the name that the e-mail consumer reads."""
        return self.report_type

    @property
    def routing_key(self) -> str:
        """Give ``report.<type in lower case>``."""
        return f"report.{self.report_type.lower()}"

    @property
    def body(self) -> str:
        """Give the report as it is sent, JSON."""
        return self.model_dump_json()

    @property
    def message_id(self) -> str:
        """Give an id that a repetition of this report has as well, and no other report."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"event-hooks:{self.key}"))


def _iso(instant: datetime) -> str:
    return instant.replace(tzinfo=None).isoformat(timespec="milliseconds")


def format_message(verdict: str, facts: Mapping[str, Any]) -> str:
    """Give the text of a report: a phrase that people know, and the facts as JSON."""
    return f"{verdict}: {json.dumps(facts, ensure_ascii=False)}"


def event_report(
    report_type: ReportType,
    message: str,
    event: dict[str, Any],
    key: str,
    position: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> Report:
    """
    Report on an event of a run.

    :param key: names run, process, position and step: the report's identity.
    :param position: of the event in its run; None if it could not be read.
    :param about: what we add to ``params``, under :data:`METADATA_KEY`.
    """
    genome = event.get("genome")
    added = {METADATA_KEY: dict(about)} if about else {}
    report = Report(
        report_type=report_type,
        process=PROCESS,
        resource=_sendable(genome) if isinstance(genome, str) else None,
        params={**event, **added},
        message=_sendable(message),
        key=_sendable(key),
        position=position,
    )
    try:
        report.model_dump_json()
    except (ValueError, RecursionError):  # too deep, or no Unicode: an event like that was refused
        return report.model_copy(update={"params": added})
    return report


def is_at_least(report_type: str, least: str) -> bool:
    """Tell whether a type of report is at least as important as another one."""
    return _ORDER[report_type] >= _ORDER[least]


def _sendable(text: str) -> str:
    """Replace lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()
