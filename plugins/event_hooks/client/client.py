"""
Client of the event API, for programs that submit events.

It needs ``requests``, but not Airflow.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from event_hooks.client.http import HttpSession, RequestRejected

DEFAULT_URI = "http://localhost:8080/event-hooks"
API_PATH = "/event-hooks"
"""Path of the event API below the root of Airflow."""

TIMEOUT_SECONDS = 30
PAGE_SIZE = 1000
"""Jobs that one request lists."""

JsonObject = dict[str, Any]


class EventClient:
    """
    Submit events and follow them until they are finished.

    Every method raises ``RequestRejected`` if the API rejects the request (the message names the field), and
    ``ServerUnreachable`` if the API does not answer. Idempotent requests are retried up to three times,
    within a few seconds or after the delay that the server requests.

    :param uri: address of the API, with or without a slash at its end.
    :param token: token of Airflow, as :func:`log_in` returns it; default: the result of :func:`load_token`.
    :param timeout: seconds to connect, and to wait for each part of an answer.
    :raises ValueError: the address or the token is invalid.
    """

    def __init__(
        self, uri: str = DEFAULT_URI, token: str | None = None, *, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._http = HttpSession(uri, token or load_token(), timeout)
        self.uri = self._http.root

    def submit(
        self, events: Mapping[str, Any] | Sequence[Mapping[str, Any]], idempotency_key: str | None = None
    ) -> Any:
        """
        Submit one event or a batch; the API accepts a batch completely or rejects it.

        An event with an ``event_id`` is processed once, however often it is submitted. A request without any
        ``event_id`` gets a random idempotency key unless one is passed, so it can be retried as well. A batch
        that mixes events with and without an ``event_id`` cannot have a key: it is sent once, and after an
        error it is unknown whether it arrived.

        :return: ``{"id", "event", "run_id", "job_id", "processes": [{"process", "job", "hive", "analysis",
            "state"[, "message"]}, …], "url", …}``; for a batch, a list of these.
        """
        has_id = [_has_event_id(event) for event in ([events] if isinstance(events, Mapping) else events)]
        if idempotency_key is None and not any(has_id):
            idempotency_key = str(uuid4())
        is_idempotent = idempotency_key is not None or all(has_id)
        return self._post("/jobs", events, idempotency_key, is_idempotent)

    def plan(
        self, events: Mapping[str, Any] | Sequence[Mapping[str, Any]], idempotency_key: str | None = None
    ) -> JsonObject:
        """
        Return the jobs that these events would create; nothing is written.

        :return: ``{"events": [{"event", "perl", "processes": [{"process", "hive", "analysis", "is_ready",
            "problem"}, …], "others": [{"process", "reason"}, …]}, …], "not_reacting": {type: [{"process",
            "reason"}, …]}}``.
        """
        return dict(self._post("/plan", events, idempotency_key))

    def retrieve(self, process: str, job_id: int, email: str | None = None) -> JsonObject:
        """
        Return a job with the progress of its job tree.

        :param email: returned as ``email``, as in the old event app.
        :return: ``{"id", "input", "status", "progress": {"complete", "total"[, "message"]}[,
            "when_completed", "output"]}``; ``status`` is complete, failed, submitted, running or incomplete.
        """
        params = {"format": "email", "email": email} if email else None
        return dict(self._get(_job_path(process, job_id), params=params))

    def failures(self, process: str, job_id: int) -> dict[str, str]:
        """Return the error messages of the failed jobs in a job tree: ``{job id: message}``."""
        return dict(self._get(_job_path(process, job_id), params={"format": "failures"}))

    def delete(self, process: str, job_id: int) -> JsonObject:
        """
        Stop the jobs of a job tree that are not started; running jobs continue, and nothing is deleted.

        :return: ``{"id", "process", "stopped": [job id, …], "running": [job id, …]}``.
        """
        return dict(self._http.request("DELETE", _job_path(process, job_id))[0])

    def events(self) -> Sequence[str]:
        """Return the event types."""
        return list(self._get("/events"))

    def processes(self) -> Sequence[str]:
        """Return the names of the processes."""
        return list(self._get("/processes"))

    def event(self, event_id: int) -> JsonObject:
        """
        Return the state of an event.

        :param event_id: ``id`` in the result of :meth:`submit`.
        :return: ``{"id", "event", "type", "genome", "state", "is_finished", "processes": [{"process",
            "state", "is_finished", "job", "done", "total", "failed", "message", "error", …}, …], …}``;
            ``state`` is waiting, running, complete or failed.
        """
        return dict(self._get(f"/events/{event_id}"))

    def follow(
        self, event_ids: Iterable[int], *, interval: float = 2, timeout: float | None = None
    ) -> Iterator[JsonObject]:
        """
        Poll events until all are finished, and return each state.

        :param event_ids: as for :meth:`event`.
        :param interval: seconds between two polls of the same event.
        :param timeout: seconds for the whole call; default: no limit.
        :return: results of :meth:`event`; the last result of each event is finished.
        :raises TimeoutError: the message names the unfinished events.
        """
        unfinished = list(dict.fromkeys(event_ids))
        deadline = time.monotonic() + (inf if timeout is None else timeout)
        while True:
            for event_id in tuple(unfinished):
                event = self.event(event_id)
                if event["is_finished"]:
                    unfinished.remove(event_id)
                yield event
            if not unfinished:
                return
            if time.monotonic() + interval > deadline:
                names = ", ".join(map(str, unfinished))
                raise TimeoutError(f"events not finished within {timeout:g} s: {names}")
            time.sleep(interval)

    def list(self, process: str) -> Iterator[JsonObject]:
        """Return the jobs of a process as :meth:`retrieve` does, newest first; one request per page."""
        path = f"/jobs/{quote(process, safe='')}?limit={PAGE_SIZE}"
        while path:
            jobs, response = self._http.request("GET", path)
            yield from jobs
            next_page = urlsplit(response.links.get("next", {}).get("url", ""))
            # Only the query is used, so no answer can redirect the client, and its token, to another server.
            path = f"{path.partition('?')[0]}?{next_page.query}" if next_page.query else ""

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self._http.request("GET", path, params=params)[0]

    def _post(self, path: str, events: Any, idempotency_key: str | None, is_idempotent: bool = True) -> Any:
        body = json.dumps(events, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return self._http.request("POST", path, is_idempotent=is_idempotent, data=body, headers=headers)[0]


def load_token() -> str | None:
    """Return the token in ``EVENT_HOOKS_TOKEN``, or in the file that ``EVENT_HOOKS_TOKEN_FILE`` names."""
    if token := os.environ.get("EVENT_HOOKS_TOKEN"):
        return token
    file = os.environ.get("EVENT_HOOKS_TOKEN_FILE")
    return Path(file).read_text() if file else None


def log_in(uri: str, user: str, password: str, *, timeout: float = TIMEOUT_SECONDS) -> str:
    """
    Log in to Airflow and return the token.

    :param uri: address of the API; the part before ``/event-hooks`` is the address of Airflow.
    :param timeout: as for :class:`EventClient`.
    :raises RequestRejected: user or password is wrong, or the server is not Airflow.
    :raises ServerUnreachable: the server does not answer.
    """
    http = HttpSession(uri.rstrip("/").removesuffix(API_PATH), None, timeout)
    answer, _ = http.request("POST", "/auth/token", json={"username": user, "password": password})
    if not isinstance(answer, dict) or "access_token" not in answer:
        raise RequestRejected(200, f"{http.root} returns no token: check that it is the address of Airflow")
    return str(answer["access_token"])


def _has_event_id(event: Any) -> bool:
    return isinstance(event, Mapping) and event.get("event_id") is not None


def _job_path(process: str, job_id: int) -> str:
    return f"/jobs/{quote(process, safe='')}/{job_id}"
