"""Events that flow all the time, from several sources."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.faults.changing_lookups import ANALYSES, TYPES
from tests.faults.patient_client import PatientClient
from tests.support.system import System
from tools.runs import DAG_PATH

PRACTICES: tuple[dict[str, Any], ...] = (
    {},
    {"seconds": 0.5},
    {"seconds": 3},
    {"seconds": 3, "parts": 4},
    {"fail": "entry"},
    {"fail": "child", "seconds": 1},
    {"fail_until_reset": "child"},
    {"fail_once": "entry", "seconds": 1},
)


@dataclass(frozen=True)
class SentEvent:
    """An event, and when its first request was sent."""

    genome: str
    type: str
    practice: dict[str, Any]
    sent_at: float

    @property
    def payload(self) -> dict[str, Any]:
        """Return the event as it is sent; with its ``event_id``, a request can be repeated."""
        return {
            "type": self.type,
            "genome": self.genome,
            "event_id": self.genome,
            "practice": self.practice,
        }

    def fails(self, analysis: str) -> bool | None:
        """Return whether its jobs of an analysis fail; None if they fail until they are reset."""
        if self.practice.get("only") not in (None, analysis):
            return False
        return None if "fail_until_reset" in self.practice else "fail" in self.practice


class EventFlow:
    """
    Send events in a thread, until it is stopped.

    :param name: prefix of the genomes.
    :param pause: lower and upper bound of the seconds between two requests.
    :ivar events: by genome; all of them were accepted.
    """

    def __init__(self, system: System, name: str, chance: random.Random, pause: tuple[float, float]) -> None:
        self._client = PatientClient(system)
        self._name = name
        self._chance = chance
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.events: dict[str, SentEvent] = {}
        self.errors: list[str] = []

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to send; the last request is finished first."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._send()
            except TimeoutError as error:
                self.errors.append(str(error))
            self._stop.wait(self._chance.uniform(*self._pause))

    def _send(self) -> None:
        send, count = self._chance.choice(
            [(self._post, 1), (self._post, 3), (self._trigger, 1), (self._trigger, 2)]
        )
        events = [self._make_event(len(self.events) + index) for index in range(count)]
        send(events)
        self.events |= {event.genome: event for event in events}

    def _make_event(self, number: int) -> SentEvent:
        practice = dict(self._chance.choice(PRACTICES))
        if self._chance.random() < 0.5:
            practice["only"] = self._chance.choice(ANALYSES)
        event_type = self._chance.choice(TYPES)
        return SentEvent(f"{self._name}_{number:04}", event_type, practice, time.monotonic())

    def _post(self, events: list[SentEvent]) -> None:
        payloads = [event.payload for event in events]
        body = payloads if len(payloads) > 1 else payloads[0]
        response = self._client.request("POST", "/event-hooks/jobs", json=body)
        if response.status_code not in (200, 201, 202):
            self.errors.append(f"{payloads}: {response.status_code} {response.text}")

    def _trigger(self, events: list[SentEvent]) -> None:
        payloads = [event.payload for event in events]
        conf = {"events": payloads} if len(payloads) > 1 else payloads[0]
        body = {"logical_date": None, "dag_run_id": f"run_{events[0].genome}", "conf": conf}
        response = self._client.request("POST", f"/api/v2{DAG_PATH}/dagRuns", json=body)
        if response.status_code not in (200, 409):  # 409: the first attempt of this request was accepted
            self.errors.append(f"{payloads}: {response.status_code} {response.text}")
