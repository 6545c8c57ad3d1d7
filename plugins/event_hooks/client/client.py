"""
The client of the event API: what the programs use that announce changes.

It needs ``requests``, and nothing of Airflow.
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

URI = "http://localhost:8080/event-hooks"
API_PATH = "/event-hooks"
"""Where the API is below the root of Airflow."""

TIMEOUT = 30

Event = Mapping[str, Any]
Told = dict[str, Any]
Names = list[str]


class EventClient:
    """
    Submit events, and see what becomes of them.

    Every method raises ``RequestRejected`` if the API says no (the message names the field), and
    ``ServerUnreachable`` if it does not answer. What is harmless to repeat is tried four times, in some
    seconds, or after the pause that the server asks for.

    :param uri: of the API, with or without a slash at its end.
    :param token: of Airflow, as :func:`log_in` gives it; default what :func:`load_token` finds.
    :param timeout: seconds to connect, and to wait for each part of an answer.
    """

    def __init__(self, uri: str = URI, token: str | None = None, *, timeout: float = TIMEOUT) -> None:
        self._requester = HttpSession(uri, token or load_token(), timeout)
        self.uri = self._requester.root

    def submit(self, events: Event | Sequence[Event], idempotency_key: str | None = None) -> Any:
        """
        Have events done: one, or several that are taken in together or not at all.

        An event with an ``event_id`` is done once, however often it is sent. A request whose events have
        none gets a key of its own, unless one is given here, and so is repeated when no answer came. A mixed
        request cannot have a key: it is sent once, and after an error it is not known whether it arrived.

        :return: ``{"id", "event", "run_id", "job_id", "processes": [{"process", "job", "hive", "analysis",
            "state"[, "message"]}, …], "url", …}``; for several events, a list of that.
        """
        named = [_is_named(event) for event in ([events] if isinstance(events, Mapping) else events)]
        if idempotency_key is None and not any(named):
            idempotency_key = str(uuid4())
        is_idempotent = idempotency_key is not None or all(named)
        return self._post("/jobs", events, idempotency_key, is_idempotent)

    def plan(self, events: Event | Sequence[Event], idempotency_key: str | None = None) -> Told:
        """
        Ask what these events would do; nothing is written.

        :return: ``{"events": [{"event", "processes": [{"process", "hive", "analysis", "is_ready", "problem",
            "input", "perl"}, …], "others": [{"process", "reason"}, …]}, …]}``.
        """
        return dict(self._post("/plan", events, idempotency_key))

    def retrieve(self, process: str, job_id: int, email: str | None = None) -> Told:
        """
        Show a job, with what has grown from it.

        :param email: given back as ``email``, as the event app did.
        :return: ``{"id", "input", "status", "progress": {"complete", "total"[, "message"]}[,
            "when_completed", "output"]}``; ``status`` is complete, failed, submitted, running or incomplete.
        """
        asked = {"format": "email", "email": email} if email else None
        return dict(self._get(_job(process, job_id), params=asked))

    def failures(self, process: str, job_id: int) -> dict[str, str]:
        """Give the messages of what failed of a job: ``{job id: message}``."""
        return dict(self._get(_job(process, job_id), params={"format": "failures"}))

    def delete(self, process: str, job_id: int) -> Told:
        """
        Stop what has not begun of a job; nothing is deleted, and what runs, runs on.

        :return: ``{"id", "process", "stopped": [job id, …], "running": [job id, …]}``.
        """
        return dict(self._requester.ask("DELETE", _job(process, job_id))[0])

    def events(self) -> Names:
        """List the types of events."""
        return list(self._get("/events"))

    def processes(self) -> Names:
        """List the processes."""
        return list(self._get("/processes"))

    def event(self, event_id: int) -> Told:
        """
        Tell how an event is.

        :param event_id: the ``id`` that :meth:`submit` gave.
        :return: ``{"id", "event", "type", "genome", "state", "is_finished", "processes": [{"process", "state",
            "is_finished", "job", "done", "total", "failed", "message", "error", …}, …], …}``; ``state`` is
            waiting, running, complete or failed.
        """
        return dict(self._get(f"/events/{event_id}"))

    def follow(
        self, ids: Iterable[int], *, interval: float = 2, timeout: float | None = None
    ) -> Iterator[Told]:
        """
        Tell how events are, again and again, until all are over.

        :param ids: as :meth:`event` takes them.
        :param interval: seconds between two rounds.
        :param timeout: seconds for all of it; default none.
        :return: what :meth:`event` gives, each time it was asked; the last one of each event is over.
        :raises TimeoutError: names the events that are not over.
        """
        waiting, limit = list(dict.fromkeys(ids)), time.monotonic() + (inf if timeout is None else timeout)
        while True:
            for event_id in tuple(waiting):
                state = self.event(event_id)
                if state["is_finished"]:
                    waiting.remove(event_id)
                yield state
            if not waiting:
                return
            if time.monotonic() + interval > limit:
                raise TimeoutError(f"not over within {timeout:g} s: {', '.join(map(str, waiting))}")
            time.sleep(interval)

    def list(self, process: str) -> Iterator[Told]:
        """List the jobs of a process, the newest first, as :meth:`retrieve` gives them; page by page."""
        path = f"/jobs/{quote(process, safe='')}?limit=1000"
        while path:
            jobs, answer = self._requester.ask("GET", path)
            yield from jobs
            following = urlsplit(answer.links.get("next", {}).get("url", ""))
            # Its query alone: no answer leads us, and our token, elsewhere.
            path = f"{path.partition('?')[0]}?{following.query}" if following.query else ""

    def _get(self, path: str, **given: Any) -> Any:
        return self._requester.ask("GET", path, **given)[0]

    def _post(self, path: str, events: Any, key: str | None, is_idempotent: bool = True) -> Any:
        body = json.dumps(events, allow_nan=False).encode()
        headers = {
            "Content-Type": "application/json",
            **({"Idempotency-Key": key} if key is not None else {}),
        }
        return self._requester.ask("POST", path, is_idempotent=is_idempotent, data=body, headers=headers)[0]


def load_token() -> str | None:
    """Give the token in ``EVENT_HOOKS_TOKEN``, or in the file that ``EVENT_HOOKS_TOKEN_FILE`` names."""
    if token := os.environ.get("EVENT_HOOKS_TOKEN"):
        return token
    file = os.environ.get("EVENT_HOOKS_TOKEN_FILE")
    return Path(file).read_text() if file else None


def log_in(uri: str, user: str, password: str, *, timeout: float = TIMEOUT) -> str:
    """
    Log in to Airflow, and give the token.

    :param uri: of the API; Airflow's own is the part before ``/event-hooks``.
    :raises RequestRejected: user or password are wrong.
    :raises ServerUnreachable: no answer.
    """
    airflow = HttpSession(uri.rstrip("/").removesuffix(API_PATH), None, timeout)
    told, _ = airflow.ask("POST", "/auth/token", json={"username": user, "password": password})
    if not isinstance(told, dict) or "access_token" not in told:
        raise RequestRejected(200, f"{airflow.root} gives no token: is it Airflow?")
    return str(told["access_token"])


def _is_named(event: Any) -> bool:
    return isinstance(event, Mapping) and event.get("event_id") is not None


def _job(process: str, job_id: int) -> str:
    return f"/jobs/{quote(process, safe='')}/{job_id}"
