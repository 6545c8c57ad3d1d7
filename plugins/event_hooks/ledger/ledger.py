"""
Write down what was promised, and read what is owed.

Each function that writes is one transaction, and harmless to repeat: what is known stays as it is. So every
crash has the same cure, to do it again. All raise :class:`LedgerUnreachable` if nothing could be written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Engine, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from event_hooks import metrics
from event_hooks.ledger import database, once
from event_hooks.ledger.follow_ups import owe_events
from event_hooks.ledger.records import (
    OPEN,
    Arrival,
    Entry,
    KeptReport,
    Outcome,
    OwedEvent,
    OwedReport,
    Progress,
    Received,
    Standing,
    State,
)
from event_hooks.ledger.statements import (
    CHUNK,
    COUNTS,
    HOW_FAR,
    TAKEN,
    chunks,
    code_of,
    delete_events,
    entries,
    entry,
    event_row,
    insert_new,
    is_deadlock,
    is_one_of,
    one_of,
    owe,
    owed_report,
    owed_reports,
    refusal_of,
    states_of,
    text,
    update_many,
    waiting_since,
)
from event_hooks.ledger.tables import awaited, event, event_process, follow_up, report

if TYPE_CHECKING:
    from event_hooks.exceptions import KeyTaken

T = TypeVar("T")


class Ledger:
    """
    The ledger behind an Airflow connection.

    :param connection: what ``database.find_async`` gave, inside a trigger, which must not block.
    :raises LedgerUnreachable: if it does not answer.
    :raises LedgerBehind: if its tables are not those of this version.
    """

    def __init__(self, conn_id: str = database.CONN_ID, connection: Any = None) -> None:
        self.conn_id = conn_id
        self._engine: Engine = database.engine(conn_id, connection)
        database.check(self._engine, conn_id)

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def accept(
        self, received: Sequence[Received], run_id: str | None = None, positions: Sequence[int] | None = None
    ) -> list[Entry]:
        """
        Write events down, in their order; a known key is left as it is.

        :param run_id: of the run that brought them, if one did.
        :param positions: in that run; default 0, 1, …
        :return: an entry for each, of the first arrival where it is known. Whether that had the same payload
            is the caller's question.
        """
        now, intake = datetime.now(UTC), uuid4().hex
        rows = [
            event_row(one, now, intake, run_id, position)
            for position, one in zip(positions or range(len(received)), received, strict=True)
        ]
        rows.sort(key=itemgetter("event_key"))  # all in one order, so that two calls do not lock each other

        def write(connection: Connection) -> dict[str, Entry]:
            insert_new(connection, event, rows)
            return entries(connection, [one.key for one in received], intake)

        found = self.write(write)
        metrics.received(one for one in received if found[one.key].is_new)
        return [found[one.key] for one in received]

    def take(
        self, arrivals: Sequence[Arrival], run_id: str, first: int
    ) -> tuple[list[list[Entry] | KeyTaken], int]:
        """
        Write down what came in, in one transaction, with what will be done for it.

        New events get the run's positions from ``first`` on, without a gap. After an error, what is written
        is not known: go on with another run.

        :return: for each arrival its entries, of the first arrival where an event is known, or why nothing
            of it was written; and how many events are new.
        """

        def write(connection: Connection) -> tuple[list[list[Entry] | KeyTaken], list[Received]]:
            keys = [one.key for arrival in arrivals for one in arrival.events]
            keys += [arrival.unlike for arrival in arrivals if arrival.unlike]
            known = entries(connection, keys)
            new: dict[str, tuple[Received, Sequence[tuple[str, str, str]]]] = {}
            refusals: list[KeyTaken | None] = []
            for arrival in arrivals:
                seen = {key: entry.payload for key, entry in known.items()}
                seen |= {key: dict(one.payload) for key, (one, _) in new.items()}
                refusals.append(refusal_of(arrival, seen))
                if refusals[-1] is None:
                    for one, processes in zip(arrival.events, arrival.processes, strict=True):
                        if one.key not in seen:
                            new.setdefault(one.key, (one, processes))
            now, intake = datetime.now(UTC), uuid4().hex
            rows = [
                event_row(one, now, intake, run_id, position)
                for position, (one, _) in enumerate(new.values(), first)
            ]
            if rows:
                connection.execute(insert(event), rows)  # fails if another call was quicker with a key
                written = entries(connection, list(new), intake)
                claims = {
                    (written[one.key].id, process): claim
                    for arrival in arrivals
                    for (at, process), claim in arrival.claims.items()
                    if (one := arrival.events[at]).key in written
                }
                planned = [
                    Standing(written[key].id, written[key].position, *process)
                    for key, (_, processes) in new.items()
                    for process in processes
                ]
                once.add_planned(connection, planned, claims)
                known |= written
            answers = [
                refusal or [known[one.key] for one in arrival.events]
                for arrival, refusal in zip(arrivals, refusals, strict=True)
            ]
            return answers, [one for one, _ in new.values()]

        answers, new = self.write(
            write, lambda error: is_deadlock(error) or isinstance(error, IntegrityError)
        )
        metrics.received(new)
        return answers, len(new)

    def known(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Give the events that are there under these keys: ``{key: entry}``."""
        with self._transaction() as connection:
            return entries(connection, keys)

    def has_work(self) -> bool:
        """Tell, by one query, whether there is something that ``tend_ledger`` has to do."""
        is_owed = follow_up.c.sent_at.is_(None) & follow_up.c.error.is_(None)
        is_late = (awaited.c.open_mark == 1) & (awaited.c.closes_at <= datetime.now(UTC))
        whether = [
            select(event.c.id).where(event.c.routed_at.is_(None)).exists(),
            select(report.c.id).where(report.c.sent_at.is_(None)).exists(),
            select(follow_up.c.id).where(is_owed).exists(),
            select(awaited.c.id).where(is_late).exists(),
        ]
        return bool(self.read(select(or_(*whether)))[0][0])

    def without_run(self, limit: int, age: timedelta = timedelta(0)) -> list[Entry]:
        """Give the oldest accepted events that no run has, and that have waited for as long as ``age``."""
        return self._unrouted(event.c.run_id.is_(None), limit, age)

    def not_begun(self, prefix: str, limit: int, age: timedelta = timedelta(0)) -> list[Entry]:
        """Give the oldest events of runs named like that which have not planned them after ``age``."""
        return self._unrouted(event.c.run_id.startswith(prefix, autoescape=True), limit, age)

    def _unrouted(self, which: Any, limit: int, age: timedelta) -> list[Entry]:
        wanted = (
            select(event)
            .where(event.c.routed_at.is_(None), which, event.c.received_at <= datetime.now(UTC) - age)
            .order_by(event.c.id)
            .limit(limit)
        )
        found = sorted(self.read(wanted), key=lambda row: (row.received_at, row.position))
        return [entry(row) for row in found]

    def assign(self, run_id: str, event_ids: Sequence[int]) -> list[Entry]:
        """
        Let a run have events; one that another run has stays there.

        :return: all events of that run.
        """

        def write(connection: Connection) -> None:
            mine = (
                update(event)
                .where(event.c.id == bindparam("of"), event.c.run_id.is_(None))
                .values(run_id=run_id, position=bindparam("at"))
            )
            places = [{"of": event_id, "at": at} for at, event_id in enumerate(event_ids)]
            for some in chunks(places):
                connection.execute(mine, some)

        self.write(write)
        return self.events_of(run_id)

    def events_of(self, run_id: str) -> list[Entry]:
        """Give a run's events, in the order of their positions."""
        found = self.read(select(event).where(event.c.run_id == run_id))
        return sorted((entry(row) for row in found), key=lambda entry: entry.position)

    def entry(self, event_id: int) -> Entry | None:
        """Give an event."""
        found = self.read(select(event).where(event.c.id == event_id))
        return entry(found[0]) if found else None

    def standing(self, run_id: str) -> list[Standing]:
        """Give how each (process, event) of a run stands, in the order of positions."""
        return self._standing(event.c.run_id == run_id)

    def has_plan(self, run_id: str) -> bool:
        """Return whether ``route`` has planned the run, if only that no process reacts to its events."""
        is_planned = (event.c.run_id == run_id) & event.c.routed_at.is_not(None)
        return bool(self.read(select(event.c.id).where(is_planned).limit(1)))

    def planned(self, run_id: str) -> dict[int, list[str]]:
        """Give what is noted for a run's events, and not skipped: ``{position: processes}``."""
        noted: dict[int, list[str]] = {}
        for one in self.standing(run_id):
            names = noted.setdefault(one.position, [])
            if one.state != State.SKIPPED:
                names.append(one.process)
        return noted

    def standing_of(self, event_ids: Sequence[int]) -> list[Standing]:
        """Give how each process of some events stands."""
        return [one for some in chunks(event_ids) for one in self._standing(event.c.id.in_(some))]

    def _standing(self, whose: ColumnElement[bool]) -> list[Standing]:
        columns = event_process.c
        names = (columns.process, columns.hive, columns.analysis, columns.job_id)
        ended = (columns.state, columns.error, columns.attempt)
        joined = event.join(event_process, columns.event_id == event.c.id)
        wanted = select(event.c.id, event.c.position, *names, *ended).select_from(joined)
        found = self.read(wanted.where(whose))
        return sorted((Standing(*row) for row in found), key=lambda one: (one.position, one.process))

    def plan(
        self,
        run_id: str,
        planned: Sequence[Standing],
        claims: once.Wanted | None = None,
        reports: Callable[[Collection[tuple[int, str]]], Sequence[OwedReport]] = lambda _: (),
    ) -> set[tuple[int, str]]:
        """
        Note what a run will do for its events, together with the reports that are owed for it.

        :param claims: of what is done once for some values.
        :param reports: makes the reports; is given what this returns.
        :return: what is not done, because another event has it: ``{(event id, process), …}``.
        """
        routed = (
            update(event)
            .where(event.c.run_id == run_id, event.c.routed_at.is_(None))
            .values(routed_at=datetime.now(UTC))
        )

        def write(connection: Connection) -> set[tuple[int, str]]:
            states = states_of(connection, [one.event_id for one in planned])
            new = [one for one in planned if (one.event_id, one.process) not in states]
            states |= once.add_planned(connection, new, claims or {})
            connection.execute(routed)
            skipped = {key for key, state in states.items() if state == State.SKIPPED}
            owe(connection, reports(skipped))
            return skipped

        return self.write(write)

    def record_jobs(self, jobs: Mapping[tuple[int, str], int], reports: Sequence[OwedReport] = ()) -> None:
        """Note the job of each (event id, process) that waits for one, and reports of that."""
        now = datetime.now(UTC)
        rows = [
            {
                "of": of,
                "by": by,
                "job_id": job_id,
                "submitted_at": now,
                "state": State.SUBMITTED,
                "error": None,
                "ended_at": None,
            }
            for (of, by), job_id in sorted(jobs.items())
        ]
        mine = (event_process.c.event_id == bindparam("of")) & (event_process.c.process == bindparam("by"))
        waits = is_one_of(State.PLANNED, State.NOT_SUBMITTED)

        def write(connection: Connection) -> list[tuple[str, datetime]]:
            since = waiting_since(connection, list(jobs)) if metrics.are_on() else []
            update_many(connection, update(event_process).where(mine, waits), rows)
            owe(connection, reports)
            return since

        metrics.ready(self.write(write))

    def record_progress(
        self, process: str, progress: Sequence[Progress], reports: Sequence[OwedReport] = ()
    ) -> None:
        """Note how far trees are, and reports of that; of those that are over, the outcome stays."""
        now = datetime.now(UTC)
        rows = [
            {
                "of": one.event_id,
                "by": process,
                "done": one.done,
                "total": one.total,
                "failed": one.failed,
                "message": None if one.message is None else text(one.message),
                "started_at": now if one.is_begun else None,
                "now": now,
            }
            for one in progress
        ]

        def write(connection: Connection) -> None:
            for some in chunks(rows):
                connection.execute(HOW_FAR, some)
            owe(connection, reports)

        self.write(write)

    def record_outcomes(
        self,
        process: str,
        outcomes: Sequence[Outcome],
        attempt: str,
        reports: Sequence[OwedReport],
        follow_ups: Sequence[OwedEvent] = (),
    ) -> None:
        """
        Note how jobs have ended, together with the reports that are owed for it.

        Each attempt has one outcome, and a later attempt's goes before an earlier one's.

        :param attempt: the wait's task instance, whose ids sort by time; empty if there was no wait.
        :param reports: each with its event; left out if the event has an outcome of another attempt.
        :param follow_ups: events that have to be handed on now; left out in the same way.
        """
        now = datetime.now(UTC)
        columns = event_process.c
        rows = [
            {
                "of": one.event_id,
                "state": one.state,
                "result": json.dumps(one.result),
                "error": None if one.error is None else text(one.error),
                "ended_at": now,
                "attempt": attempt,
            }
            for one in outcomes
        ]
        counted = [
            {"of": one.event_id, **dict(zip(COUNTS, one.counts, strict=True))}
            for one in outcomes
            if one.counts is not None
        ]
        later = is_one_of(*OPEN) | (columns.attempt < attempt)
        known = select(columns.event_id).where(columns.process == process, columns.attempt == attempt)

        def write(connection: Connection) -> None:
            update_many(connection, one_of(process).where(later), counted)
            update_many(connection, one_of(process).where(later), rows)
            mine = {
                event_id
                for some in chunks([one.event_id for one in outcomes])
                for event_id in connection.execute(known.where(columns.event_id.in_(some))).scalars()
            }
            owe(connection, [one for one in reports if one.event_id in mine])
            owe_events(connection, [one for one in follow_ups if one.event_id in mine])

        self.write(write)

    def reopen(self, process: str, event_ids: Collection[int]) -> None:
        """Note that jobs which were over are waited for again."""
        closed = {"state": State.SUBMITTED, "result": None, "error": None, "ended_at": None}
        over = ~is_one_of(*OPEN, State.NOT_SUBMITTED, State.SKIPPED)
        self._rewrite(one_of(process).where(over), [{"of": event_id, **closed} for event_id in event_ids])

    def runs_since(self, since: datetime) -> list[str]:
        """Give the runs of the events that came since then, the oldest first."""
        wanted = select(event.c.run_id, event.c.id).where(event.c.received_at >= since)
        found = self.read(wanted.where(event.c.run_id.is_not(None)).order_by(event.c.id))
        return list(dict.fromkeys(row.run_id for row in found))

    def reports_of(self, run_id: str) -> list[KeptReport]:
        """Give a run's reports, in the order in which they are sent."""
        columns = (report.c.event_id, report.c.routing_key, report.c.body, report.c.owed_at, report.c.sent_at)
        found = self.read(select(report.c.id, *columns).where(report.c.run_id == run_id))
        return [KeptReport(*row[1:]) for row in sorted(found, key=lambda row: row.id)]

    def owe(self, reports: Sequence[OwedReport]) -> None:
        """Note reports that have to be sent; one with a known ``message_id`` is left as it is."""
        self.write(lambda connection: owe(connection, reports))

    def count_owed(self, run_id: str | None = None) -> int:
        """Count the reports not sent yet, of a run or of all; counts no further than 10,000."""
        wanted = select(report.c.id).where(report.c.sent_at.is_(None))
        if run_id is not None:
            wanted = wanted.where(report.c.run_id == run_id)
        return len(self.read(wanted.limit(10_000)))

    def send(
        self,
        publish: Callable[[Sequence[OwedReport]], Iterable[OwedReport]],
        *,
        run_id: str | None = None,
        limit: int = CHUNK,
    ) -> int:
        """
        Publish the oldest reports that are owed, in the order in which they were written down.

        Nobody else publishes them meanwhile: while somebody does, this sends nothing. One that was
        published and could not be noted any more is owed again, with the same ``message_id``.

        :param publish: yields each report once the broker has confirmed it. What it raises is passed on,
            after those before were noted.
        :return: how many there were.
        """
        with self._transaction() as connection:
            try:
                rows = connection.execute(owed_reports(run_id, limit)).all()
            except OperationalError as error:
                if code_of(error) in TAKEN:
                    return 0
                raise
            if not rows:
                return 0
            ids = {row.message_id: row.id for row in rows}
            sent: list[int] = []
            failure = None
            try:
                for one in publish([owed_report(row) for row in rows]):
                    sent.append(ids[one.message_id])
            except Exception as error:
                failure = error
            for some in chunks(sent):
                noted = update(report).where(report.c.id.in_(some)).values(sent_at=datetime.now(UTC))
                connection.execute(noted)
        metrics.reported(row.owed_at for row in rows if row.id in set(sent))
        if failure:
            raise failure
        return len(sent)

    def prune(self, older_than: timedelta, step: int = CHUNK) -> int:
        """
        Forget events received longer ago than that, with their outcomes and reports, in steps.

        An event without a run, or with a report that is owed, stays.

        :return: how many were forgotten.
        """
        cutoff = datetime.now(UTC) - older_than
        of_none = report.c.event_id.is_(None) & (report.c.sent_at < cutoff)
        self.write(lambda connection: connection.execute(delete(report).where(of_none)))
        owed = select(report.c.id).where(report.c.event_id == event.c.id, report.c.sent_at.is_(None))
        wanted = (
            select(event.c.id)
            .where(event.c.received_at < cutoff, event.c.run_id.is_not(None))
            .where(~owed.exists())
            .order_by(event.c.received_at)
            .limit(step)
        )
        count = 0
        while ids := [row.id for row in self.read(wanted)]:
            self.write(partial(_forget, ids))
            count += len(ids)
        closed = awaited.c.closed_at < cutoff
        self.write(lambda connection: connection.execute(delete(awaited).where(closed)))
        return count

    def _rewrite(
        self, rows_of: Any, rows: Sequence[dict[str, Any]], reports: Sequence[OwedReport] = ()
    ) -> None:
        def write(connection: Connection) -> None:
            update_many(connection, rows_of, rows)
            owe(connection, reports)

        self.write(write)

    def read(self, statement: Any) -> Sequence[Any]:
        """Give the rows of a SELECT."""
        with database.errors_named(self.conn_id), self._engine.connect() as connection:
            return connection.execute(statement).all()

    def write(
        self, write: Callable[[Connection], T], passes: Callable[[BaseException], bool] | None = None
    ) -> T:
        """Do it in a transaction, and again after a deadlock, or another error that passes."""
        with database.errors_named(self.conn_id):
            for attempt in Retrying(
                retry=retry_if_exception(passes or is_deadlock),
                stop=stop_after_attempt(5),
                wait=wait_random(0, 0.2),
                reraise=True,
            ):
                with attempt, self._engine.begin() as connection:
                    return write(connection)
        raise AssertionError("not reached")

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with database.errors_named(self.conn_id), self._engine.begin() as connection:
            yield connection


def _forget(event_ids: Sequence[int], connection: Connection) -> None:
    once.forget(connection, event_ids)
    delete_events(event_ids, connection)
