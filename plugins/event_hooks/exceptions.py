"""
Errors of event hooks.

* EventHooksError
  + LookupInvalid         a lookup file is not as it should be      mend the file
  + EventInvalid          an event is not as it should be           a retry cannot help
    - EventTypeUnknown    no process is named for it              a retry cannot help
    - UnsafeValue         a value that eHive would run as code      a retry cannot help
  + HiveUnreachable       no answer, or none in time                a retry may help
  + HiveRejected           the hive answered, and said no            a retry cannot help
    - AnalysisNotFound    the hive lacks the analysis
    - HiveTooOld          the hive's tables are of an early eHive
  + JobInOtherHive          the lookup changed after the submission   a retry cannot help
  + MetadataUnreachable   no answer, or none in time                a retry may help
  + EventServerUnreachable  no answer, or none that helps           a retry may help
  + EventRejected         the event server refuses an event         a retry cannot help
  + ReportNotPublished    the broker did not take a report          a retry may help
  + EventKeyConflict              another event came under this key         a retry cannot help
  + LedgerUnreachable     no answer, or none in time                a retry may help
    - LedgerNotMigrated        its tables are not those of this version  a retry helps once they are migrated

Where a retry cannot help, the class is also an AirflowFailException: Airflow fails the task at once.
"""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException, AirflowFailException


class EventHooksError(AirflowException):
    """Base of every error of this package."""

    @property
    def public_message(self) -> str:
        """What a caller of the API is told: no address, no user, no driver's words."""
        return str(self)


class LookupInvalid(EventHooksError):
    """A lookup file cannot be used; the message names file, key and what was expected."""

    def __init__(self, file: object, key: str, expected: str) -> None:
        self.file, self.key, self.expected = str(file), key or "the whole file", expected
        super().__init__(f"{self.file}: {self.key}: {expected}")


class EventInvalid(EventHooksError, AirflowFailException):
    """An event, or a batch of them, cannot be used; the message names the field and what was expected."""

    def __init__(self, field: str, expected: str) -> None:
        # It goes into logs: no line break of a sender begins a line of its own there
        text = f"{field}: {expected}"
        super().__init__("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text))


class EventTypeUnknown(EventInvalid):
    """The event lookup has no such type."""


class UnsafeValue(EventInvalid):
    """A value has no safe spelling in the Perl that eHive evaluates."""


class HiveUnreachable(EventHooksError):
    """The hive did not answer in time, or broke off."""

    def __init__(self, hive: str, reason: str) -> None:
        super().__init__(f"hive {hive!r} does not answer: {reason}")
        self.hive = hive

    @property
    def public_message(self) -> str:
        """What a caller of the API is told."""
        return f"hive {self.hive!r} does not answer now"


class HiveRejected(EventHooksError, AirflowFailException):
    """The hive answered, and what was asked is not possible there."""

    def __init__(self, hive: str, reason: str) -> None:
        super().__init__(f"hive {hive!r} refused: {reason}")
        self.hive = hive

    @property
    def public_message(self) -> str:
        """What a caller of the API is told."""
        return f"hive {self.hive!r} refused: the API server's log tells why"


class AnalysisNotFound(HiveRejected):
    """The hive has no analysis of this name."""

    def __init__(self, hive: str, analysis: str) -> None:
        super().__init__(hive, f"it has no analysis {analysis!r}")

    @property
    def public_message(self) -> str:
        """What a caller of the API is told."""
        return str(self)


class HiveTooOld(HiveRejected):
    """The hive's tables come from an eHive before version 2.5."""

    @property
    def public_message(self) -> str:
        """What a caller of the API is told."""
        return str(self)

    def __init__(self, hive: str, version: str | None, oldest: int) -> None:
        super().__init__(
            hive, f"its schema version is {version or 'not set'}, and {oldest} is the oldest supported"
        )


class JobInOtherHive(EventHooksError, AirflowFailException):
    """The job of an event is in another hive, or analysis, than the one that the run knows."""

    def __init__(self, process: str, job_id: int, hive: str, analysis: str) -> None:
        super().__init__(
            f"the job of {process} is in hive {hive!r} already, job {job_id} of {analysis}: the lookup has"
            " changed since, and it is not done twice. Stop that job, and send the event again with another"
            " event_id; or take the change back, and clear this task"
        )


class MetadataUnreachable(EventHooksError):
    """The ensembl_metadata database cannot be read now."""

    def __init__(self, conn_id: str, reason: str) -> None:
        super().__init__(f"ensembl_metadata, connection {conn_id!r}, cannot be read: {reason}")


class EventServerUnreachable(EventHooksError):
    """The event server does not answer, or cannot take events now."""

    def __init__(self, conn_id: str, reason: str) -> None:
        super().__init__(f"event server {conn_id!r} takes no events now: {reason}")


class EventRejected(EventHooksError):
    """The event server refuses an event; the message says why."""


class ReportNotPublished(EventHooksError):
    """The broker did not take a report."""

    @property
    def public_message(self) -> str:
        """What a caller of the API is told."""
        return "RabbitMQ cannot be used now: reports are owed"


class EventKeyConflict(EventHooksError):
    """
    An event with this key is known, and it says something else.

    :param position: of the event, among those that came together.
    """

    def __init__(self, position: int) -> None:
        super().__init__("another event came under this event_id or Idempotency-Key")
        self.position = position


class LedgerUnreachable(EventHooksError):
    """The ledger cannot be used now: nothing was written."""

    def __init__(self, conn_id: str, reason: str) -> None:
        super().__init__(f"ledger {conn_id!r} cannot be used: {reason}")

    @property
    def public_message(self) -> str:
        """What a caller of the API is told."""
        return "the ledger cannot be used now: nothing is known to be written"


class LedgerRejected(LedgerUnreachable):
    """The ledger does not take this value: the same again cannot help."""


class LedgerNotMigrated(LedgerUnreachable):
    """The ledger's tables are of another version than this code."""

    def __init__(self, conn_id: str, found: str | None, expected: str) -> None:
        super().__init__(
            conn_id,
            f"its tables are of version {found or 'none'}, and {expected} is needed: "
            "python -m event_hooks.ledger migrate",
        )
