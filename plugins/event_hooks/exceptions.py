"""
Errors of event hooks.

* EventHooksError
  + LookupInvalid             a lookup file is invalid                    fix the file
  + EventInvalid [1]          an event is invalid                         a retry cannot help
    - EventTypeUnknown [1]    the event lookup lacks the event's type     a retry cannot help
    - UnsafeValue [1]         eHive would run a value as code             a retry cannot help
  + HiveUnreachable           the hive does not answer in time            a retry may help
    - StopUnconfirmed         the same, after it was asked to stop a job  check the job's status first
  + HiveRejected              the hive answers with an error              a retry may help
    - AnalysisNotFound        the hive lacks the analysis                 a retry may help, see there
    - HiveTooOld [1]          the hive's tables are of an early eHive     a retry cannot help
  + StopWithdrawn             a stop is no longer wanted                  nothing was stopped
  + MetadataUnreachable       ensembl_metadata does not answer in time    a retry may help
  + MetadataRejected          ensembl_metadata answers with an error      a retry helps after a fix
  + EventServerUnreachable    the event server accepts no events now      a retry may help
  + EventRejected             the event server rejects an event           a retry cannot help
  + ReportNotPublished        the broker did not accept a report          a retry may help
    - ReportRejected          no queue takes or stores a report           a retry helps after the fix
  + NotificationNotSent       a notifier failed                           a retry may help
  + AssetEventsNotRegistered  Airflow's database took no asset events     a retry may help
  + EventKeyConflict          another event has this key                  a retry cannot help
  + RunFailed [1]             something in a run failed                   fix the cause, clear the task
  + RunClosed                 the run takes no further events             store them in another run
  + LedgerUnreachable         the ledger does not answer in time          a retry may help
    - LedgerRejected          the ledger answers with an error            a retry helps after a fix
      . LedgerValueRejected   the ledger cannot store a value             a retry cannot help
    - LedgerNotMigrated       the ledger's tables have another version    a retry helps after the migration

[1] Also an AirflowFailException: Airflow fails the task without a retry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from event_hooks.field_path import FieldPath
from event_hooks.masking import mask_text


class EventHooksError(AirflowException):
    """Base class of all errors of this package."""

    @property
    def public_message(self) -> str:
        """The message for callers of the API: without addresses, users and messages of drivers."""
        return str(self)


class LookupInvalid(EventHooksError):
    """A lookup file is invalid; the message names file, key and the expected value."""

    def __init__(self, file: object, key: str, expected: str) -> None:
        self.file, self.key, self.expected = str(file), key or "the whole file", expected
        super().__init__(f"{self.file}: {self.key}: {expected}")

    @property
    def public_message(self) -> str:
        """The message without the folder of the file."""
        return f"{PurePath(self.file).name}: {self.key}: {self.expected}"


class EventInvalid(EventHooksError, AirflowFailException):
    """
    An event, or a batch of events, is invalid; the message names the first field and the expected value.

    :param field: the invalid field, or its name.
    :param expected: begins with ``expected``, and names the valid values.
    :param further: further invalid fields; their number is in the message.
    :ivar fields: all invalid fields.
    """

    def __init__(self, field: FieldPath | str, expected: str, further: Sequence[InvalidField] = ()) -> None:
        path = field if isinstance(field, FieldPath) else FieldPath().child(field)
        self.fields: list[InvalidField] = [(path, _escape_controls(mask_text(expected))), *further]
        more = f" (and {len(further)} more)" if further else ""
        super().__init__(f"{_escape_controls(str(path)) or 'event'}: {self.fields[0][1]}{more}")


InvalidField = tuple[FieldPath, str]
"""(field, what is expected)."""


def combine_invalid(errors: Sequence[EventInvalid]) -> EventInvalid:
    """Return one error for the fields of all errors: an ``EventTypeUnknown`` if all of them are."""
    if len(errors) == 1:
        return errors[0]
    are_unknown = all(isinstance(error, EventTypeUnknown) for error in errors)
    (path, expected), *further = (item for error in errors for item in error.fields)
    return (EventTypeUnknown if are_unknown else EventInvalid)(path, expected, further)


def _escape_controls(text: str) -> str:
    """Escape control characters: a line break in a value must not start a new line of the log."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class EventTypeUnknown(EventInvalid):
    """The event lookup lacks the type of an event."""


class UnsafeValue(EventInvalid):
    """A value cannot be written safely in the Perl that eHive evaluates."""


class TasksNotScheduled(EventHooksError):
    """A run does not have the tasks of some processes yet."""

    def __init__(self, processes: Sequence[str]) -> None:
        super().__init__(
            f"the run has no tasks yet for {', '.join(processes)}, which the process lookup has: Airflow adds"
            " them when the dag-processor has parsed the DAG file, and this task is retried until then"
        )


class RunFailed(EventHooksError, AirflowFailException):
    """Events or processes of a run failed; everything about them is recorded and reported."""

    MAX_SHOWN = 10

    def __init__(self, failures: Sequence[str]) -> None:
        shown = "\n".join(f"- {failure}" for failure in failures[: self.MAX_SHOWN])
        more = f"\n- and {len(failures) - self.MAX_SHOWN} more" if len(failures) > self.MAX_SHOWN else ""
        super().__init__(f"the run failed, and all its reports are sent:\n{shown}{more}")


class HiveUnreachable(EventHooksError):
    """The hive did not answer in time, or the connection to it broke."""

    def __init__(self, hive: str, reason: str) -> None:
        super().__init__(f"hive {hive!r} does not answer: {reason}")
        self.hive, self.reason = hive, reason

    @property
    def public_message(self) -> str:
        """The message without the driver's reason, which contains addresses."""
        return f"hive {self.hive!r} does not answer now"


class StopUnconfirmed(HiveUnreachable):
    """The hive did not confirm in time that it stopped a job tree; it may still do so."""

    def __init__(self, hive: str, process: str, job_id: int, reason: str) -> None:
        super().__init__(hive, reason)
        self.process, self.job_id = process, job_id

    @property
    def public_message(self) -> str:
        """The message without the driver's reason, which contains addresses."""
        return (
            f"hive {self.hive!r} has not confirmed the stop of job {self.job_id}, which may still happen:"
            f" check the status with GET /jobs/{self.process}/{self.job_id}, and repeat the request if needed"
        )


class HiveRejected(EventHooksError):
    """
    The hive answered with an error: the request is not possible there now.

    A hive also rejects requests for a while: during a failover it is read-only, during a restore it lacks
    tables, and during a change of passwords it accepts none of ours.

    :param public_reason: the reason without addresses and users.
    """

    def __init__(self, hive: str, reason: str, public_reason: str | None = None) -> None:
        super().__init__(f"hive {hive!r} rejected the request: {reason}")
        self.hive, self.public_reason = hive, public_reason

    @property
    def public_message(self) -> str:
        """The message without a driver's reason that contains addresses and users."""
        reason = f": {self.public_reason}" if self.public_reason else ""
        return f"hive {self.hive!r} rejected the request{reason}; see the API server log"


class AnalysisNotFound(HiveRejected):
    """The hive has no analysis of this name: the name is wrong, or the hive is being created."""

    def __init__(self, hive: str, analysis: str) -> None:
        super().__init__(hive, f"it has no analysis {analysis!r}")

    @property
    def public_message(self) -> str:
        """The complete message, which contains nothing secret."""
        return str(self)


class HiveTooOld(HiveRejected, AirflowFailException):
    """The hive's tables were created by an eHive before version 2.5."""

    def __init__(self, hive: str, version: str, oldest_version: int) -> None:
        super().__init__(
            hive,
            f"its schema version is {version or 'not set'}, and {oldest_version} is the oldest supported",
        )

    @property
    def public_message(self) -> str:
        """The complete message, which contains nothing secret."""
        return str(self)


class MetadataUnreachable(EventHooksError):
    """The ensembl_metadata database is unavailable."""

    def __init__(self, conn_id: str, reason: str) -> None:
        super().__init__(f"ensembl_metadata, connection {conn_id!r}, is unavailable: {reason}")


class MetadataRejected(EventHooksError):
    """The ensembl_metadata database answered with an error, such as a missing table or permission."""

    def __init__(self, conn_id: str, reason: str) -> None:
        super().__init__(f"ensembl_metadata, connection {conn_id!r}, rejected the request: {reason}")


class EventServerUnreachable(EventHooksError):
    """The event server does not answer, or cannot accept events now."""

    def __init__(self, conn_id: str, reason: str) -> None:
        super().__init__(f"event server {conn_id!r} is unavailable: {reason}")


class EventRejected(EventHooksError):
    """The event server rejects an event; the message contains its reason."""


class ReportNotPublished(EventHooksError):
    """The broker did not accept a report."""

    @property
    def public_message(self) -> str:
        """The message without the broker's address."""
        return "RabbitMQ is unavailable: reports stay pending"


class ReportRejected(ReportNotPublished):
    """
    The broker returned or rejected some reports, and confirmed the others.

    :ivar reasons: ``{message_id: reason}`` of the returned and rejected reports.
    """

    def __init__(self, message: str, reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reasons = reasons


class NotificationNotSent(EventHooksError):
    """A notifier failed; its notifications stay pending."""


class AssetEventsNotRegistered(EventHooksError):
    """Airflow's database did not take asset events."""


class EventKeyConflict(EventHooksError):
    """
    Another event, with other content, has the same key.

    :param position: index of the rejected event in its batch.
    :param field: field of the key.
    """

    def __init__(self, position: int, field: FieldPath | None = None) -> None:
        self.position, self.field = position, field or FieldPath("event_id or Idempotency-Key")
        super().__init__(f"{self.field}: expected a new key: another event, with other content, has this one")


class RunClosed(EventHooksError):
    """A run has read its events, so it takes no further events."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} has read its events already; store the events in another run")
        self.run_id = run_id


class StopWithdrawn(EventHooksError):
    """A stop waited in a hive, and the task was cleared meanwhile: nothing was stopped."""

    def __init__(self, hive: str) -> None:
        super().__init__(f"the task was cleared before hive {hive!r} stopped its jobs: none was stopped")


class LedgerUnreachable(EventHooksError):
    """The ledger is unavailable."""

    _problem = "is unavailable"

    def __init__(self, conn_id: str, reason: str) -> None:
        super().__init__(f"ledger {conn_id!r} {self._problem}: {reason}")

    @property
    def public_message(self) -> str:
        """The message without the driver's reason, which contains addresses and users."""
        return "the ledger is unavailable now, and did not confirm that anything was stored"


class LedgerRejected(LedgerUnreachable):
    """The ledger answered with an error, such as a missing permission: nothing was stored."""

    _problem = "rejected the request"

    @property
    def public_message(self) -> str:
        """The message without the driver's reason, which contains addresses and users."""
        return "the ledger rejected the request, and stored nothing; see the API server log for the reason"


class LedgerValueRejected(LedgerRejected):
    """The ledger cannot store a value; a retry with the same value cannot help."""

    _problem = "rejected a value"


class LedgerNotMigrated(LedgerUnreachable):
    """The ledger's tables are of another version than this code."""

    def __init__(self, conn_id: str, version: str | None, expected_version: str) -> None:
        super().__init__(
            conn_id,
            f"its tables have version {version or 'none'}, and {expected_version} is needed: "
            "run python -m event_hooks.ledger migrate",
        )
