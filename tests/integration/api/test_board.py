"""The contents of the pages of the event board; tests/system tests them in a browser."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from event_hooks import settings
from event_hooks.api import security
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.outcomes import store_outcomes
from event_hooks.ledger.processes import reject_events
from event_hooks.ledger.progress import store_progress, store_stalls
from event_hooks.ledger.records import ProcessOutcome, ProgressUpdate
from event_hooks.ledger.tables import event
from tests.integration.hive.conftest import wait_until
from tests.integration.hives import PracticeHive


def submit_event(api: TestClient, **event: Any) -> int:
    """Submit an event, and return its id in the ledger."""
    return int(
        api.post("/jobs", json={"type": "new_assembly", "genome": "homo_sapiens", **event}).json()["id"]
    )


def list_shown_events(page: str, section: str) -> list[int]:
    """Return the ids of the events in a section of the board, in their order."""
    (content,) = re.findall(rf'<section id="{section}".*?</section>', page, re.DOTALL) or [""]
    return [int(event_id) for event_id in re.findall(r'id="event-(\d+)"', content)]


def test_failed_events_come_first_with_their_messages(api: TestClient, ledger: Ledger) -> None:
    failed_id, other_id = submit_event(api), submit_event(api, genome="mus_musculus")
    store_outcomes(
        ledger,
        "dump_dna",
        [ProcessOutcome(failed_id, "failed", error="job 7 failed: no disk\nSTACK")],
        "1",
        [],
    )
    page = api.get("/board").text
    assert (list_shown_events(page, "attention"), list_shown_events(page, "latest")) == (
        [failed_id],
        [other_id],
    )
    assert "job 7 failed: no disk" in page
    assert "STACK" not in page
    assert "STACK" in api.get(f"/board/events/{failed_id}").text
    assert "clear dump_dna.wait of the run with Downstream" in api.get(f"/board/events/{failed_id}").text


def test_the_next_step_of_a_removed_process_names_no_task(
    api: TestClient, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = submit_event(api)
    store_outcomes(ledger, "dump_dna", [ProcessOutcome(event_id, "failed", error="no disk")], "1", [])
    processes = json.loads(settings.process_lookup().read_text())
    del processes["dump_dna"]
    for name, content in {"PROCESS_LOOKUP": processes, "EVENT_LOOKUP": {"new_assembly": []}}.items():
        (tmp_path / name).write_text(json.dumps(content))
        monkeypatch.setenv(name, str(tmp_path / name))
        monkeypatch.delenv(f"AIRFLOW__EVENT_HOOKS__{name}", raising=False)
    page = api.get(f"/board/events/{event_id}").text
    assert "To do: dump_dna was removed from the process lookup" in page
    assert "clear dump_dna" not in page


def test_a_stalled_event_needs_attention(api: TestClient, ledger: Ledger) -> None:
    event_id = submit_event(api)
    stalls = {event_id: {"no_beekeeper: dna": "no beekeeper is alive"}}
    store_stalls(ledger, "dump_dna", [event_id], stalls, lambda _: ())
    page = api.get("/board").text
    assert list_shown_events(page, "attention") == [event_id]
    assert "<strong>dump_dna stalled</strong> no beekeeper is alive" in page
    assert "no beekeeper is alive" in api.get(f"/board/events/{event_id}").text


def test_a_rejected_event_shows_its_reason_and_the_next_step(api: TestClient, ledger: Ledger) -> None:
    (event,) = api.post("/jobs", json=[{"type": "nothing", "genome": "g"}]).json()
    reject_events(ledger, event["run_id"], {event["id"]: "no such type"}, ())
    assert list_shown_events(api.get("/board").text, "attention") == [event["id"]]
    page = api.get(f"/board/events/{event['id']}").text
    assert "<strong>Rejected</strong> no such type" in page
    assert "clear the task route of the run with Downstream" in page
    assert api.get(f"/events/{event['id']}").json()["rejected_reason"] == "no such type"
    assert api.get(f"/events/{event['id']}").json()["state"] == "rejected"


def test_events_are_filtered_and_paged(api: TestClient) -> None:
    batch = [{"type": "nothing", "genome": f"g{number:02}"} for number in range(55)]
    ids = [event["id"] for event in api.post("/jobs", json=batch).json()]
    assert list_shown_events(api.get("/board?type=nothing").text, "latest") == ids[:4:-1]
    next_link = re.search(r'rel="next" href="([^"]*)"', api.get("/board?type=nothing").text)
    assert next_link
    assert (
        list_shown_events(api.get(f"/board{next_link[1]}".replace("&amp;", "&")).text, "latest") == ids[4::-1]
    )
    assert list_shown_events(api.get("/board?genome=g07&state=").text, "latest") == [ids[7]]
    assert "No events match the filter" in api.get("/board?state=failed").text


def test_each_hive_shows_its_backlog_and_the_state_of_its_beekeeper(
    api: TestClient, first_hive: PracticeHive, other_hive: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No unfinished processes" in api.get("/board").text
    api.post("/jobs", json={"type": "new_genebuild"})
    first_hive.execute(
        "INSERT INTO beekeeper (beekeeper_id, meadow_host, meadow_user, process_id)"
        " VALUES (1, 'hpc-1', 'me', '1')"
    )
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{other_hive.conn_id.upper()}", "mysql://some_user:secret@127.0.0.1:1/hive"
    )
    page = api.get("/board").text
    rows = dict(re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', page, re.DOTALL))
    assert re.search(r'Waiting">1<.*alive.*beekeeper 1 on hpc-1', rows[first_hive.conn_id], re.DOTALL)
    assert re.search(r"unknown.*does not answer now", rows[other_hive.conn_id], re.DOTALL)
    assert "secret" not in page


def test_a_blocked_beekeeper_is_shown_as_blocked(api: TestClient, first_hive: PracticeHive) -> None:
    api.post("/jobs", json={"type": "new_genebuild"})
    first_hive.execute(
        "INSERT INTO beekeeper (beekeeper_id, meadow_host, meadow_user, process_id, is_blocked)"
        " VALUES (1, 'hpc-1', 'me', '1', 1)"
    )
    shown = re.compile(r'class="beekeeper dead">blocked<.*beekeeper 1 on hpc-1 is blocked')
    wait_until(lambda: shown.search(api.get("/board").text))  # a page does not wait for a slow hive


def test_the_page_of_an_event_has_its_timeline(api: TestClient, ledger: Ledger) -> None:
    event_id = submit_event(api, comment="from the test")
    store_progress(ledger, "dump_dna", [ProgressUpdate(event_id, 1, 4, 0, "half way")])
    page = api.get(f"/board/events/{event_id}/").text
    for text in ("dump_peptide", "1 of 4 jobs", "half way", "first job running", "from the test"):
        assert text in page


def test_values_of_an_event_are_escaped(api: TestClient, ledger: Ledger) -> None:
    code = "<script>alert(1)</script>\"'{{ 7 * 7 }}"
    event_id = submit_event(api, genome=code, comment=code)
    store_outcomes(ledger, "dump_dna", [ProcessOutcome(event_id, "failed", error=code)], "1", [])
    for address in ("/board", f"/board/events/{event_id}", "/board?genome=%3Cscript%3E"):
        page = api.get(address)
        assert "<script>alert" not in page.text
        assert "{{ 7 * 7 }}" in page.text or address.endswith("%3E")
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("address", "status", "text"),
    [
        ("/board/events/4711", 404, "the ledger has no such event"),
        ("/board/events/x", 422, "event_id: "),
        ("/board?state=odd", 422, "state: "),
        ("/board?genome=%00", 422, "genome: expected text without the character NUL"),
        ("/board?before=0", 422, "before: "),
        ("/board/no_page", 404, "Not Found"),
    ],
)
def test_an_error_is_a_page_as_well(api: TestClient, address: str, status: int, text: str) -> None:
    response = api.get(address)
    assert (response.status_code, response.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert text in response.text


def test_an_unavailable_ledger_is_an_error_page(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", "postgres://some_user:secret@127.0.0.1:1/ledger")
    response = api.get("/board")
    assert response.status_code == 503
    assert "secret" not in response.text


def test_the_pages_load_nothing_from_other_hosts(api: TestClient) -> None:
    event_id = submit_event(api)
    files = {f"/board/files/{name}" for name in ("board.css", "board.js", "actions.js")}
    for address in ("/board", f"/board/events/{event_id}"):
        page = api.get(address).text
        assert set(re.findall(r'(?:src|href)="([^"]*/files/[^"]*)"', page)) == files
        assert "//" not in re.sub(r"<(?:pre|!--).*?>", "", page).replace("</", "")
    for file in files:
        response = api.get(file)
        assert response.status_code == 200
        assert "http" not in response.text
    assert api.get("/board/files/pages.py").status_code == 404


def test_events_are_found_by_their_id_and_by_the_id_of_a_job(api: TestClient) -> None:
    first, second = submit_event(api), submit_event(api)
    wait_until(lambda: all(row["job"] for row in api.get(f"/events/{second}").json()["processes"]))
    job_id = api.get(f"/events/{second}").json()["processes"][0]["job"]
    assert list_shown_events(api.get(f"/board?number={first}").text, "latest") == [first]
    assert second in list_shown_events(api.get(f"/board?number=%20{job_id}").text, "latest")
    assert "No events match the filter" in api.get(f"/board?number={10**19}").text
    assert api.get("/board?number=x").status_code == 422


def test_the_board_counts_the_events_of_each_state(api: TestClient, ledger: Ledger) -> None:
    failed_id, _ = submit_event(api), submit_event(api, genome="mus_musculus")
    outcomes = [ProcessOutcome(failed_id, "failed", error="no disk")]
    store_outcomes(ledger, "dump_dna", outcomes, "1", [])
    count = lambda query: re.findall(  # noqa: E731
        r"<strong>(.*?)</strong> (open|failed|complete)", api.get(f"/board{query}").text
    )
    assert count("") == [("2", "open"), ("1", "failed"), ("0", "complete")]
    assert count("?genome=mus&state=failed") == [("1", "open"), ("0", "failed"), ("0", "complete")]


def test_the_board_filters_by_the_time_of_arrival(api: TestClient, ledger: Ledger) -> None:
    old, young = submit_event(api), submit_event(api)
    with ledger.transaction() as connection:
        before = datetime.now(UTC) - timedelta(hours=2)
        connection.execute(event.update().where(event.c.id == old).values(received_at=before))
    assert list_shown_events(api.get("/board?period=1h").text, "latest") == [young]
    assert list_shown_events(api.get("/board?period=24h").text, "latest") == [young, old]


def test_a_user_without_permission_sees_no_actions(app: FastAPI, api: TestClient) -> None:
    event_id = submit_event(api)
    pages = [f"/board/events/{event_id}", "/board"]
    assert all('data-action="stop"' in api.get(page).text for page in pages)
    app.dependency_overrides[security.can_edit] = lambda: False
    for page in pages:
        text = api.get(page).text
        assert not re.findall("data-action|data-select|actions.js|<dialog", text)


def test_the_first_page_says_how_to_send_an_event(api: TestClient) -> None:
    page = api.get("/board").text
    assert "No events yet. Send the first one:" in page
    assert "event-hooks submit --uri http://testserver --user NAME" in page


def test_a_page_lists_the_open_joins(api: TestClient) -> None:
    assert "No open joins: no process waits for further events." in api.get("/board/joins").text
    assert "No open joins for this genome." in api.get("/board/joins?genome=homo").text
