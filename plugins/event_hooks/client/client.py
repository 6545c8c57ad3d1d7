"""Client of the event API, for programs that submit events."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from event_hooks.client import endpoints
from event_hooks.client.auth import (
    LOGIN_PATH,
    TokenAuth,
    build_login_body,
    find_airflow_root,
    login_errors,
    read_token,
)
from event_hooks.client.endpoints import Event, Events, Pages, Polling
from event_hooks.client.http import HttpSession, Request, T

if TYPE_CHECKING:
    from event_hooks.client.results import (
        ActionResponse,
        BatchItemResponse,
        EventDetails,
        EventSummary,
        JobResponse,
        PlanComparison,
        PlanResponse,
        StopResponse,
        SubmitResponse,
    )

DEFAULT_URI = "http://localhost:8080/event-hooks"
TIMEOUT_SECONDS = 30

EventFilter = Literal["open", "failed", "complete"]
RetryMode = Literal["failed_jobs", "process", "event"]


class EventClient:
    """
    Submit events and follow them until they are finished.

    Every method raises ``RequestRejected`` if the API rejects the request (the message names the field), and
    ``ServerUnreachable`` if the API does not answer. Idempotent requests are retried up to three times,
    within a few seconds or after the delay that the server requests.

    As a context manager, the client closes its connections at the end.

    :param uri: address of the API, with or without a slash at its end.
    :param token: token of Airflow, as :func:`log_in` returns it; default: the result of :func:`load_token`,
        if there is no login.
    :param login: user and password of Airflow. The client logs in if it has no token, and again when its
        token has expired.
    :param timeout: seconds to connect, and to wait for each part of an answer.
    :raises ValueError: the address or the token is invalid.
    """

    def __init__(
        self,
        uri: str = DEFAULT_URI,
        token: str | None = None,
        *,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._http = HttpSession(uri, build_auth(uri, token, login), timeout)
        self.uri = self._http.root

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @overload
    def submit(self, events: Event, idempotency_key: str | None = None) -> SubmitResponse: ...

    @overload
    def submit(
        self, events: Sequence[Event], idempotency_key: str | None = None
    ) -> Sequence[BatchItemResponse]: ...

    def submit(self, events: Events, idempotency_key: str | None = None) -> Any:
        """
        Submit one event or a batch; the API accepts a batch completely or rejects it.

        An event with an ``event_id`` is processed once, however often it is submitted. A request without any
        ``event_id`` gets a random idempotency key unless one is passed, so it can be retried as well. A batch
        that mixes events with and without an ``event_id`` cannot have a key: it is sent once, and after an
        error it is unknown whether it arrived.
        """
        return self._send(endpoints.submit(events, idempotency_key))

    def plan(self, events: Events, idempotency_key: str | None = None) -> PlanResponse:
        """Return the jobs that these events would create; nothing is written."""
        return self._send(endpoints.plan(events, idempotency_key))

    def compare_plans(
        self,
        since: datetime | str,
        *,
        until: datetime | str | None = None,
        event_lookup: Mapping[str, Any] | None = None,
        process_lookup: Mapping[str, Any] | None = None,
    ) -> PlanComparison:
        """
        Return how the plans of the events of a period would differ under other lookups; nothing is written.

        :param since: beginning of the period; a text is in ISO 8601, or a duration before now, as in ``30d``.
        :param until: end of the period, in the same form; default: now.
        :param event_lookup: content of the other event lookup; default: the present one.
        :param process_lookup: the same for the process lookup; at least one of the two is required.
        :raises ValueError: a time has no time zone.
        """
        return self._send(endpoints.compare_plans(since, until, event_lookup, process_lookup))

    def event(self, event_id: int) -> EventDetails:
        """
        Return the state of an event.

        :param event_id: ``id`` in the result of :meth:`submit`.
        """
        return self._send(endpoints.event(event_id))

    def follow(
        self, event_ids: Iterable[int], *, interval: float = 2, timeout: float | None = None
    ) -> Iterator[EventSummary]:
        """
        Poll events until all are finished, and return each state; one request polls 100 events.

        :param event_ids: as for :meth:`event`.
        :param interval: seconds between two polls.
        :param timeout: seconds for the whole call; default: no limit.
        :return: the last state of each event is finished.
        :raises TimeoutError: the message names the unfinished events.
        """
        polling = Polling(event_ids, interval, timeout)
        while polling.unfinished:
            for request in polling.requests():
                yield from polling.take(self._http.send(request))
            time.sleep(polling.delay())

    def find_events(
        self,
        *,
        state: EventFilter | None = None,
        type: str | None = None,
        genome: str | None = None,
        since: datetime | str | None = None,
        limit: int | None = None,
    ) -> Iterator[EventSummary]:
        """
        Return the events that match all filters, newest first; one request per page.

        :param since: only events received since this time, in ISO 8601 or as a duration before now (``2h``).
        :param limit: maximum number of events; default: all.
        :raises ValueError: ``since`` has no time zone.
        """
        return self._list(endpoints.find_events(state, type, genome, since, limit), limit)

    def retry(
        self,
        event_ids: Iterable[int] | None = None,
        *,
        mode: RetryMode = "failed_jobs",
        process: str | None = None,
        state: EventFilter | None = None,
        type: str | None = None,
        genome: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        dry_run: bool = False,
        force: bool = False,
    ) -> ActionResponse:
        """
        Retry the failed processes of events, by their ids or by filters.

        :param mode: ``failed_jobs``: the failed and stopped jobs run again; ``process``: a new job of the
            process is submitted; ``event``: a new event with the same payload is submitted.
        :param process: only this process; default: all.
        :param genome: the whole genome; ``*`` stands for any text.
        :param since: only events received since this time, in ISO 8601 or as a duration before now (``2h``).
        :param until: only events received before this time, in the same form.
        :param dry_run: return what would happen, and change nothing.
        :param force: whether more than 100 events may be selected.
        :raises ValueError: a time has no time zone.
        """
        filters = {"state": state, "type": type, "genome": genome, "process": process, "mode": mode}
        flags = {"dry_run": dry_run, "force": force}
        return self._send(endpoints.act("retry", event_ids, since, until, {**filters, **flags}))

    def stop(
        self,
        event_ids: Iterable[int] | None = None,
        *,
        process: str | None = None,
        state: EventFilter | None = None,
        type: str | None = None,
        genome: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        dry_run: bool = False,
        force: bool = False,
    ) -> ActionResponse:
        """
        Stop the jobs of unfinished processes that have not started; parameters as :meth:`retry`.

        A process is stopped when its running jobs have ended.
        """
        filters = {"state": state, "type": type, "genome": genome, "process": process}
        flags = {"dry_run": dry_run, "force": force}
        return self._send(endpoints.act("stop", event_ids, since, until, {**filters, **flags}))

    def events(self) -> Sequence[str]:
        """Return the event types."""
        return self._send(endpoints.EVENT_TYPES)

    def processes(self) -> Sequence[str]:
        """Return the names of the processes."""
        return self._send(endpoints.PROCESSES)

    def list(self, process: str, *, limit: int | None = None) -> Iterator[JobResponse]:
        """
        Return the jobs of a process, newest first; one request per page.

        :param limit: maximum number of jobs; default: all.
        """
        return self._list(endpoints.list_jobs(process, limit), limit)

    def retrieve(self, process: str, job_id: int, email: str | None = None) -> JobResponse:
        """
        Return a job with the progress of its job tree.

        :param email: returned as ``email``, as in the old event app.
        """
        return self._send(endpoints.retrieve(process, job_id, email))

    def failures(self, process: str, job_id: int) -> dict[str, str]:
        """Return the error messages of the failed jobs in a job tree: ``{job id: message}``."""
        return self._send(endpoints.failures(process, job_id))

    def delete(self, process: str, job_id: int) -> StopResponse:
        """Stop the jobs of a job tree that are not started; running jobs continue, and nothing is deleted."""
        return self._send(endpoints.delete(process, job_id))

    def _send(self, request: Request[T]) -> T:
        return self._http.send(request).body

    def _list(self, request: Request[Sequence[T]], limit: int | None) -> Iterator[T]:
        pages = Pages(request, limit)
        while pages.request:
            yield from pages.take(self._http.send(pages.request))


def build_auth(uri: str, token: str | None, login: tuple[str, str] | None) -> TokenAuth:
    """Return the authentication of a client with these arguments."""
    return TokenAuth(uri, token or (None if login else load_token()), login)


def load_token() -> str | None:
    """Return the token in ``EVENT_HOOKS_TOKEN``, or in the file that ``EVENT_HOOKS_TOKEN_FILE`` names."""
    if token := os.environ.get("EVENT_HOOKS_TOKEN"):
        return token
    file = os.environ.get("EVENT_HOOKS_TOKEN_FILE")
    return Path(file).read_text("utf-8-sig") if file else None


def log_in(uri: str, user: str, password: str, *, timeout: float = TIMEOUT_SECONDS) -> str:
    """
    Log in to Airflow and return the token, which expires after a day, unless Airflow is set up otherwise.

    :param uri: address of the API; the part before ``/event-hooks`` is the address of Airflow.
    :param timeout: as for :class:`EventClient`.
    :raises RequestRejected: user or password is wrong, or the server is not Airflow.
    :raises ServerUnreachable: the server does not answer.
    """
    login: Request[Any] = Request("POST", LOGIN_PATH, body=build_login_body(user, password))
    with closing(HttpSession(find_airflow_root(uri), None, timeout)) as http, login_errors():
        return read_token(http.root, http.send(login).body)
