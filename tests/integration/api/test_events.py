"""Lists of events, and single events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import store_plan
from event_hooks.ledger.tables import event
from tests.integration.hive.conftest import wait_until
from tests.integration.hives import PracticeHive


def submit(api: TestClient, *events: dict[str, Any]) -> list[int]:
    """Submit events in one request, and return their ids."""
    return [item["id"] for item in api.post("/jobs", json=list(events)).json()]


def has_all_jobs(api: TestClient, event_id: int) -> bool:
    """Return whether the ledger has the jobs of all processes of an event."""
    return all(process["job"] for process in api.get(f"/events/{event_id}").json()["processes"])


def list_ids(api: TestClient, query: str) -> list[int]:
    """Return the ids in a list of events."""
    response = api.get(f"/events?{query}")
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()]


def test_without_parameters_the_types_are_listed(api: TestClient) -> None:
    assert api.get("/events").json() == api.get("/events/types").json()
    assert "new_assembly" in api.get("/events/").json()


def test_events_are_filtered_as_on_the_board(api: TestClient, ledger: Ledger) -> None:
    assembly, nothing = submit(
        api, {"type": "new_assembly", "genome": "homo_sapiens"}, {"type": "nothing", "genome": "homo_erectus"}
    )
    run_id = api.get(f"/events/{assembly}").json()["run_id"]
    store_plan(ledger, run_id, ())
    assert list_ids(api, "type=nothing") == [nothing]
    assert list_ids(api, "genome=homo_") == [nothing, assembly]
    assert list_ids(api, "genome=homo_s&limit=5") == [assembly]
    assert list_ids(api, "state=open") == [assembly]
    assert list_ids(api, "state=complete") == [nothing]
    assert list_ids(api, "state=failed") == []
    assert list_ids(api, f"run={run_id}") == [nothing, assembly]
    assert list_ids(api, "limit=1") == [nothing]


def test_events_are_filtered_by_the_time_of_their_arrival(api: TestClient, ledger: Ledger) -> None:
    old, young = submit(api, {"type": "nothing"}, {"type": "nothing"})
    before = datetime.now(UTC) - timedelta(hours=1)
    with ledger.transaction() as connection:
        statement = event.update().where(event.c.id == old)
        connection.execute(statement.values(received_at=before - timedelta(seconds=1)))
    assert list_ids(api, f"since={before:%Y-%m-%dT%H:%M:%SZ}") == [young]
    assert api.get("/events?since=2026-11-28T20:00:00").status_code == 422


def test_an_event_of_a_list_has_no_payload(api: TestClient) -> None:
    (event_id,) = submit(api, {"type": "new_assembly", "genome": "g", "comment": "x"})
    wait_until(lambda: has_all_jobs(api, event_id))  # the ids are stored after the response
    (listed,), shown = api.get("/events?genome=g").json(), api.get(f"/events/{event_id}").json()
    assert shown.pop("event") == {"type": "new_assembly", "genome": "g", "comment": "x"}
    assert listed == shown


def test_pages_are_linked_and_stable_while_events_arrive(api: TestClient) -> None:
    ids = submit(api, *({"type": "nothing", "genome": f"g{number}"} for number in range(5)))[::-1]
    pages, address = [], "/events?limit=2&genome=g"
    while address:
        page = api.get(address)
        pages.append([item["id"] for item in page.json()])
        address = page.links.get("next", {}).get("url", "")
        submit(api, {"type": "nothing", "genome": "g_new"})
    assert pages == [ids[:2], ids[2:4], ids[4:]]


def test_events_are_polled_by_their_ids(api: TestClient) -> None:
    first, _, third = submit(api, *({"type": "nothing"} for _ in range(3)))
    assert list_ids(api, f"id={first}&id={third}") == [third, first]
    unknown = api.get(f"/events?id={first}&id=4711")
    assert (unknown.status_code, unknown.json()["detail"]) == (
        404,
        "event 4711: the ledger has no such event",
    )
    assert api.get("/events?" + "&".join(["id=1"] * 101)).status_code == 422
    assert api.get("/events?id=1&type=nothing").json()["detail"] == "id: expected no further parameter"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "/events?status=failed",
            "status: unknown parameter; expected one of cursor, genome, id, limit, run,",
        ),
        ("/processes?limit=5", "limit: unknown parameter; expected no parameter"),
        ("/jobs/dump_dna?page=2", "page: unknown parameter; expected one of before, limit"),
        ("/events?state=lost", "state: "),
        ("/events?limit=101", "limit: "),
        ("/events?type=%00", "type: expected text without the character NUL"),
        ("/events?genome=homo%00", "genome: expected text without the character NUL"),
        ("/events?run=%00", "run: expected text without the character NUL"),
    ],
)
def test_an_unknown_or_invalid_parameter_is_rejected(api: TestClient, path: str, message: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.json()["detail"][: len(message)]) == (422, message)


def test_a_secret_of_an_event_is_in_its_job_and_in_no_response(
    api: TestClient, first_hive: PracticeHive
) -> None:
    fields = {"src_uri": "mysql://user:hunter2pw@host/db", "conf": {"password": "hunter2pw"}}
    event = {"type": "new_assembly", "genome": "homo_sapiens", **fields}
    planned, submitted = api.post("/plan", json=event), api.post("/jobs", json=event)
    event_id, job_id = submitted.json()["id"], submitted.json()["job_id"]
    addresses = (f"events/{event_id}", f"board/events/{event_id}", "jobs/dump_dna", f"jobs/dump_dna/{job_id}")
    shown = [planned, submitted, *(api.get(f"/{address}") for address in addresses)]
    assert [response.status_code for response in shown] == [200, 201, 200, 200, 200, 200]
    assert [str(response.url) for response in shown if "hunter2pw" in response.text] == []
    assert [str(response.url) for response in shown if "user:***@host/db" not in response.text] == []
    with first_hive.engine.connect() as connection:
        job_input = connection.exec_driver_sql(f"SELECT input_id FROM job WHERE job_id = {job_id}").scalar()
        if job_input.startswith("_extended"):
            job_input = connection.exec_driver_sql("SELECT data FROM analysis_data").scalar()
    assert r"mysql://user:hunter2pw\@host/db" in job_input


def test_the_error_of_an_invalid_event_contains_no_password(api: TestClient) -> None:
    long = "mysql://user:hunter2pw" + 100 * "x" + "@host/db"
    for invalid in ({"type": long}, {"type": "new_assembly", "force": long}):
        response = api.post("/jobs", json=invalid)
        assert response.status_code in (404, 422)
        assert "user:***" in response.text
        assert "hunter2pw" not in response.text
