"""What the pages of the event board say; how they look and move is tested in tests/system."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import store_outcomes, store_progress
from event_hooks.ledger.records import PendingReport as Owed
from event_hooks.ledger.records import ProcessOutcome, Progress
from event_hooks.ledger.reports import add_reports
from tests.integration.hives import PracticeHive


def submitted(api: TestClient, **event: Any) -> int:
    """Submit an event, and give its id in the ledger."""
    return int(
        api.post("/jobs", json={"type": "new_assembly", "genome": "homo_sapiens", **event}).json()["id"]
    )


def shown(page: str, section: str) -> list[int]:
    """Give the events of a section of the board, in their order."""
    (content,) = re.findall(rf'<section id="{section}".*?</section>', page, re.DOTALL) or [""]
    return [int(found) for found in re.findall(r'id="(?:event|urgent)-(\d+)"', content)]


def test_what_failed_comes_first_with_its_message(api: TestClient, ledger: Ledger) -> None:
    bad, good = submitted(api), submitted(api, genome="mus_musculus")
    store_outcomes(
        ledger, "dump_dna", [ProcessOutcome(bad, "failed", error="job 7 failed: no disk\nSTACK")], "1", []
    )
    page = api.get("/board").text
    assert (shown(page, "attention"), shown(page, "latest")) == ([bad], [good])
    assert "job 7 failed: no disk" in page
    assert "STACK" not in page
    assert "STACK" in api.get(f"/board/events/{bad}").text
    assert "clear dump_dna.wait of the run with Downstream" in api.get(f"/board/events/{bad}").text


def test_what_is_held_up_needs_attention(api: TestClient, ledger: Ledger) -> None:
    event_id = submitted(api)
    facts = {"process": "dump_dna", "status": "no_beekeeper", "error": "nobody works"}
    about = {"step": "stalled", "processes": ["dump_dna"]}
    body = json.dumps({"message": f"Event stalled: {json.dumps(facts)}", "params": {"event_hooks": about}})
    add_reports(ledger, [Owed("w", event_id, "run", "report.warn", body)])
    page = api.get("/board").text
    assert shown(page, "attention") == [event_id]
    assert "<strong>dump_dna no_beekeeper</strong> nobody works" in page
    assert "nobody works" in api.get(f"/board/events/{event_id}").text


def test_events_are_filtered_and_paged(api: TestClient) -> None:
    batch = [{"type": "nothing", "genome": f"g{n:02}"} for n in range(55)]
    ids = [one["id"] for one in api.post("/jobs", json=batch).json()]
    assert shown(api.get("/board?type=nothing").text, "latest") == ids[:4:-1]
    older = re.search(r'rel="next" href="([^"]*)"', api.get("/board?type=nothing").text)
    assert older
    assert shown(api.get(f"/board{older[1]}".replace("&amp;", "&")).text, "latest") == ids[4::-1]
    assert shown(api.get("/board?genome=g07&state=").text, "latest") == [ids[7]]
    assert "No event is like that" in api.get("/board?state=failed").text


def test_each_hive_says_what_waits_and_whether_its_beekeeper_lives(
    api: TestClient, first: PracticeHive, other: PracticeHive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "all that came is done" in api.get("/board").text
    api.post("/jobs", json={"type": "new_genebuild"})
    first.change("INSERT INTO beekeeper (meadow_host, meadow_user, process_id) VALUES ('hpc-1', 'me', '1')")
    monkeypatch.setenv(f"AIRFLOW_CONN_{other.conn_id.upper()}", "mysql://somebody:secret@127.0.0.1:1/hive")
    page = api.get("/board").text
    rows = dict(re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', page, re.DOTALL))
    assert re.search(r'Waiting">1<.*alive.*beekeeper 1 on hpc-1', rows[first.conn_id], re.DOTALL)
    assert re.search(r"unknown.*does not answer now", rows[other.conn_id], re.DOTALL)
    assert "secret" not in page


def test_a_page_tells_one_event_with_its_timeline(api: TestClient, ledger: Ledger) -> None:
    event_id = submitted(api, comment="from the test")
    store_progress(ledger, "dump_dna", [Progress(event_id, 1, 4, 0, "half way")])
    page = api.get(f"/board/events/{event_id}/").text
    for text in ("dump_peptide", "1 of 4 jobs", "half way", "first job running", "from the test"):
        assert text in page


def test_what_an_event_says_is_text_and_never_code(api: TestClient, ledger: Ledger) -> None:
    bad = "<script>alert(1)</script>\"'{{ 7 * 7 }}"
    event_id = submitted(api, genome=bad, comment=bad)
    store_outcomes(ledger, "dump_dna", [ProcessOutcome(event_id, "failed", error=bad)], "1", [])
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
        ("/board?before=0", 422, "before: "),
        ("/board/no_page", 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_a_page_as_well(api: TestClient, address: str, status: int, text: str) -> None:
    answer = api.get(address)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert text in answer.text


def test_a_ledger_that_is_away_is_said(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENT_LEDGER", "postgres://somebody:secret@127.0.0.1:1/ledger")
    answer = api.get("/board")
    assert answer.status_code == 503
    assert "secret" not in answer.text


def test_the_pages_need_no_address_outside(api: TestClient) -> None:
    event_id = submitted(api)
    files = {"/board/files/board.css", "/board/files/board.js"}
    for address in ("/board", f"/board/events/{event_id}"):
        page = api.get(address).text
        assert set(re.findall(r'(?:src|href)="([^"]*/files/[^"]*)"', page)) == files
        assert "//" not in re.sub(r"<(?:pre|!--).*?>", "", page).replace("</", "")
    for file in files:
        answer = api.get(file)
        assert answer.status_code == 200
        assert "http" not in answer.text
    assert api.get("/board/files/pages.py").status_code == 404
