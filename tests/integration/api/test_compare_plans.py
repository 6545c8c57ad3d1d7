"""The plans of received events under other lookups."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from event_hooks.api import compare_plans, middleware
from event_hooks.events.lookups import load_cached
from event_hooks.ledger import joins
from event_hooks.ledger.clock import load_time
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.events import accept_events, load_run_events
from event_hooks.ledger.history import ReceivedEvent
from event_hooks.ledger.overview import count_pending
from event_hooks.ledger.records import NewEvent, run_event_key
from event_hooks.ledger.tables import event, event_process
from event_hooks.process_event.plan_comparison import PlanComparison
from tests.integration.hives import PracticeHive
from tests.support.shapes import SHAPES, measure

PASSWORD = "secret_of_the_lookup"
URI = f"mysql://user:{PASSWORD}@localhost:3306/hive"
JOIN = {"process": "dump_other", "after": ["new_assembly", "new_genebuild"], "within": "6h", "then": "alert"}

ONCE = [{"process": "dump_dna", "once_per": ["genome"]}, "dump_peptide"]

MAX_CPU_SECONDS = 2.0
"""CPU time of a request, which other processes do not increase."""

Store = Callable[..., list[int]]
Compare = Callable[..., dict[str, Any]]


@pytest.fixture
def lookups(lookup_files: dict[str, Path]) -> dict[str, Any]:
    """The content of the present lookups."""
    return {name: json.loads(file.read_text()) for name, file in lookup_files.items()}


@pytest.fixture
def store(ledger: Ledger, lookup_files: dict[str, Path]) -> Store:
    """Stores events without a plan, and returns their ids; ``days`` is their age."""

    def store_event(payload: dict[str, Any], days: float, counts_for_joins: bool) -> int:
        run_id = f"run_{len(ledger.read(select(event.c.id)))}"
        key, genome = run_event_key(run_id, 0), payload.get("genome")
        new = NewEvent(key, payload["type"], genome, payload, "api", counts_for_joins)
        (stored,) = accept_events(ledger, [new], run_id)
        received_at = load_time(ledger) - timedelta(days=days)
        with ledger.transaction() as connection:
            connection.execute(update(event).where(event.c.id == stored.id).values(received_at=received_at))
        return stored.id

    def store_events(*payloads: dict[str, Any], days: float = 0, counts_for_joins: bool = True) -> list[int]:
        return [store_event(payload, days, counts_for_joins) for payload in payloads]

    return store_events


@pytest.fixture
def compare(api: TestClient) -> Compare:
    """Compares the plans of the last day under other lookups."""

    def send(**body: Any) -> dict[str, Any]:
        response = api.post("/plan/compare", json={"since": "1d", **body})
        assert response.status_code == 200, response.text
        return dict(response.json())

    return send


def human(event_type: str, **fields: Any) -> dict[str, Any]:
    return {"type": event_type, "genome": "homo_sapiens", **fields}


def count_by_process(comparison: dict[str, Any]) -> dict[tuple[str, str], tuple[int, int]]:
    return {
        (difference["type"], difference["process"]): (difference["now"], difference["then"])
        for difference in comparison["differences"]
    }


def test_processes_that_react_no_longer_or_also_are_counted(
    store: Store, compare: Compare, lookups: dict[str, Any], first_hive: PracticeHive, ledger: Ledger
) -> None:
    ids = store(*[human("new_assembly")] * 7, human("new_genebuild"), human("nothing"))
    changed = {**lookups["event_lookup"], "new_assembly": ["dump_dna"], "nothing": ["dump_dna"]}
    pending = count_pending(ledger)
    comparison = compare(event_lookup=changed)
    place = f"{first_hive.conn_id}/event_dump_peptide"
    assert comparison["differences"][0] == {
        **{"type": "new_assembly", "process": "dump_peptide", "now": 7, "then": 0},
        **{"place_now": place, "place_then": None, "is_moved": False, "join_now": None, "join_then": None},
        "event_ids": ids[:5],
    }
    assert count_by_process(comparison)["nothing", "dump_dna"] == (0, 1)
    assert len(comparison["differences"]) == 2
    assert (comparison["events"], comparison["unchanged"], comparison["rejected"]) == (9, 1, [])
    assert (ledger.read(select(event_process)), count_pending(ledger)) == ([], pending)
    assert load_cached().rules.process_names["nothing"] == ()


def test_equal_lookups_have_no_difference(store: Store, compare: Compare, lookups: dict[str, Any]) -> None:
    store(human("new_assembly"), human("half_wrong"))
    comparison = compare(**lookups)
    assert (comparison["differences"], comparison["events"], comparison["unchanged"]) == ([], 2, 2)


def test_a_process_that_moves_is_a_difference(
    store: Store, compare: Compare, lookups: dict[str, Any], other_hive: PracticeHive
) -> None:
    store(human("new_genebuild"))
    moved = {"analysis": "event_dump_peptide", "hive_conn_id": other_hive.conn_id}
    comparison = compare(process_lookup={**lookups["process_lookup"], "dump_peptide": moved})
    (difference,) = comparison["differences"]
    assert (difference["now"], difference["then"], difference["is_moved"]) == (1, 1, True)
    assert difference["place_then"] == f"{other_hive.conn_id}/event_dump_peptide"
    assert difference["place_now"] != difference["place_then"]
    assert comparison["unchanged"] == 0


@pytest.mark.parametrize(
    ("uri", "is_moved"),
    [(URI, False), (URI.replace(PASSWORD, "new_secret"), False), (URI.replace("localhost", "new"), True)],
    ids=["same", "password", "host"],
)
def test_another_database_of_a_hive_uri_is_a_difference_without_a_secret(
    uri: str,
    is_moved: bool,
    store: Store,
    api: TestClient,
    lookup_files: dict[str, Path],
    lookups: dict[str, Any],
) -> None:
    present = {**lookups["process_lookup"], "dump_dna": {"analysis": "event_dump_dna", "hive_uri": URI}}
    lookup_files["process_lookup"].write_text(json.dumps(present))
    store(human("new_assembly"))
    changed = {**present, "dump_dna": {"analysis": "event_dump_dna", "hive_uri": uri}}
    response = api.post("/plan/compare", json={"since": "1d", "process_lookup": changed})
    assert [difference["is_moved"] for difference in response.json()["differences"]] == [True] * is_moved
    assert "secret" not in response.text
    assert "localhost" not in response.text


def test_a_type_that_the_other_lookups_reject_has_a_reason(
    store: Store, compare: Compare, lookups: dict[str, Any]
) -> None:
    removed, _, unknown = store(human("new_genebuild"), human("nothing"), human("gone"))
    changed = {name: rule for name, rule in lookups["event_lookup"].items() if name != "new_genebuild"}
    comparison = compare(event_lookup=changed)
    gone, genebuild = comparison["rejected"]
    assert (gone["type"], gone["now"], gone["then"], gone["event_ids"]) == ("gone", 1, 1, [unknown])
    assert (genebuild["type"], genebuild["now"], genebuild["then"]) == ("new_genebuild", 0, 1)
    expected = "type: expected one of half_wrong, new_assembly, nothing, not 'new_genebuild'"
    assert (genebuild["reason"], genebuild["event_ids"]) == (expected, [removed])
    assert count_by_process(comparison) == {
        ("new_genebuild", "dump_other"): (1, 0),
        ("new_genebuild", "dump_peptide"): (1, 0),
    }
    assert comparison["unchanged"] == 2
    accepted = compare(event_lookup={**lookups["event_lookup"], "gone": []})
    assert (accepted["rejected"], accepted["differences"], accepted["unchanged"]) == ([], [], 2)


def test_a_process_that_runs_once_counts_the_first_event_with_the_same_values(
    store: Store, compare: Compare, lookups: dict[str, Any]
) -> None:
    forced = human("new_assembly", force=True, reason="new software")
    mouse = {"type": "new_assembly", "genome": "mus_musculus"}
    without_genome = {"type": "new_assembly"}
    ids = store(*[human("new_assembly")] * 3, forced, mouse, without_genome)
    comparison = compare(event_lookup={**lookups["event_lookup"], "new_assembly": ONCE, "half_wrong": []})
    assert count_by_process(comparison) == {
        ("new_assembly", "dump_dna"): (6, 3),
        ("new_assembly", "dump_peptide"): (6, 5),
    }
    assert comparison["differences"][0]["event_ids"] == [ids[1], ids[2], ids[5]]
    (rejected,) = comparison["rejected"]
    assert rejected["reason"] == "genome: expected a value, or null: dump_dna runs once per genome"
    assert comparison["unchanged"] == 3


def test_values_are_claimed_once_in_all_batches(
    store: Store, compare: Compare, lookups: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_plans, "BATCH_SIZE", 2)
    store(*[human("new_assembly")] * 5)
    comparison = compare(event_lookup={**lookups["event_lookup"], "new_assembly": ONCE, "half_wrong": []})
    assert (comparison["events"], count_by_process(comparison)) == (5, {("new_assembly", "dump_dna"): (5, 1)})


def test_an_event_counts_for_a_join_that_is_not_simulated(
    store: Store, compare: Compare, lookups: dict[str, Any], other_hive: PracticeHive
) -> None:
    store(*[human("new_genebuild")] * 2, human("new_assembly"))
    changed = {
        **lookups["event_lookup"],
        "new_assembly": ["dump_dna", "dump_peptide", JOIN],
        "new_genebuild": ["dump_peptide", JOIN],
    }
    comparison = compare(event_lookup=changed)
    assert count_by_process(comparison) == {
        ("new_assembly", "dump_other"): (0, 1),
        ("new_genebuild", "dump_other"): (2, 2),
    }
    _, genebuild = comparison["differences"]
    assert genebuild["join_now"] is None
    assert genebuild["join_then"] == {"after": JOIN["after"], "within": 21600, "then": "alert"}
    assert genebuild["place_now"] == genebuild["place_then"] == f"{other_hive.conn_id}/event_dump_dna"
    assert not genebuild["is_moved"]


def test_joined_events_and_partial_repetitions_are_excluded(
    store: Store, compare: Compare, ledger: Ledger, lookup_files: dict[str, Path], lookups: dict[str, Any]
) -> None:
    present = {**lookups["event_lookup"], "new_assembly": [JOIN], "new_genebuild": [JOIN]}
    lookup_files["event_lookup"].write_text(json.dumps(present))
    store(human("new_assembly"), human("new_genebuild"))
    stored = [*load_run_events(ledger, "run_0"), *load_run_events(ledger, "run_1")]
    assert len(joins.record_join_events(ledger, stored, load_cached().rules.joins, "joined__")) == 1
    store(human("new_assembly"), counts_for_joins=False)
    comparison = compare(event_lookup=lookups["event_lookup"])
    assert (comparison["events"], comparison["excluded"]) == (2, 2)


def test_only_events_of_the_period_are_read(
    store: Store, compare: Compare, ledger: Ledger, lookups: dict[str, Any]
) -> None:
    for days in (40, 20, 0.1):
        store(human("nothing"), days=days)
    now = load_time(ledger)
    count = lambda **period: compare(**period, event_lookup=lookups["event_lookup"])["events"]  # noqa: E731
    assert [count(since=since) for since in ("60d", "30d", "240.5h", "45m")] == [3, 2, 1, 0]
    assert count(since="60d", until="10d") == 2
    assert count(since=(now - timedelta(days=30)).isoformat(), until=f"{now:%Y-%m-%dT%H:%M:%S}Z") == 2
    assert count(since="2000-01-01T00:00:00+01:00") == 3


@pytest.mark.parametrize("ledger_server", ["postgresql", "mysql", "sqlite"])
def test_each_database_server_reads_a_period(
    store: Store, compare: Compare, lookups: dict[str, Any], ledger_server: str
) -> None:
    store(human("nothing"), days=40)
    store(human("nothing"), human("new_assembly"), days=20)
    changed = {**lookups["event_lookup"], "new_assembly": ["dump_dna"]}
    comparison = compare(since="0001-01-01T00:00:00Z", until="30d", event_lookup=changed)
    assert (comparison["events"], comparison["differences"]) == (1, [])
    comparison = compare(since="30d", event_lookup=changed)
    assert count_by_process(comparison) == {("new_assembly", "dump_peptide"): (1, 0)}


EVENTS = {"new_assembly": ["dump_dna"]}
PROCESSES = {"dump_dna": {"analysis": "event_dump_dna", "hive_conn_id": "hive"}}
TIME = "expected a time in ISO 8601 with a time zone, or a duration such as 45m, 12h or 30d before now"


@pytest.mark.parametrize(
    ("body", "message", "pointer"),
    [
        ([], "body: expected an object with since, until, event_lookup, process_lookup", ""),
        ({"event_lookup": EVENTS}, f"since: {TIME}, but it is missing", "/since"),
        ({"since": 5, "event_lookup": EVENTS}, f"since: {TIME}", "/since"),
        ({"since": "yesterday", "event_lookup": EVENTS}, f"since: {TIME}, not 'yesterday'", "/since"),
        ({"since": "999999d", "event_lookup": EVENTS}, f"since: {TIME}, not '999999d'", "/since"),
        (
            {"since": "2026-11-01T00:00:00", "event_lookup": EVENTS},
            f"since: {TIME}, not '2026-11-01T00:00:00'",
            "/since",
        ),
        (
            {"since": "0001-01-01T00:00:00+14:00", "event_lookup": EVENTS},
            f"since: {TIME}, not '0001-01-01T00:00:00+14:00'",
            "/since",
        ),
        ({"since": "1d", "until": "later", "event_lookup": EVENTS}, f"until: {TIME}, not 'later'", "/until"),
        ({"since": "1d", "until": "2d", "event_lookup": EVENTS}, "since: expected a time before ", "/since"),
        ({"since": "1d"}, "event_lookup: expected an object, here or in process_lookup", "/event_lookup"),
        ({"since": "1d", "event_lookup": []}, "event_lookup: expected an object or null", "/event_lookup"),
        ({"since": "1d", "event_lokup": {}}, "event_lokup: unknown field; expected one of", "/event_lokup"),
        (
            {"since": "1d", "event_lookup": {}},
            "event_lookup: the whole file: expected at least one entry",
            "/event_lookup",
        ),
        (
            {"since": "1d", "event_lookup": {"x": "dump_dna"}},
            "event_lookup: x: expected array, not str",
            "/event_lookup",
        ),
        (
            {"since": "1d", "event_lookup": {"x": ["dump_dna", "dump_dna"]}},
            "event_lookup: x: expected each entry once",
            "/event_lookup",
        ),
        (
            {"since": "1d", "event_lookup": {"x": ["dump_rna"]}},
            "event_lookup: x[0]: expected a process of the process lookup, not 'dump_rna'",
            "/event_lookup",
        ),
        (
            {"since": "1d", "process_lookup": PROCESSES},
            "process_lookup: event_lookup: new_assembly[1]: expected a process of the process lookup",
            "/process_lookup",
        ),
        (
            {
                "since": "1d",
                "event_lookup": EVENTS,
                "process_lookup": {"dump_dna": {**PROCESSES["dump_dna"], "emits": ["new_assembly"]}},
            },
            "process_lookup: dump_dna.emits: expected no loop",
            "/process_lookup",
        ),
        (
            {
                "since": "1d",
                "process_lookup": {"dump_dna": {"analysis": "a", "hive_uri": f"mysql://u:{PASSWORD}@h/"}},
            },
            "process_lookup: dump_dna.hive_uri: expected mysql://user:",
            "/process_lookup",
        ),
    ],
)
def test_an_invalid_body_names_the_field(api: TestClient, body: object, message: str, pointer: str) -> None:
    response = api.post("/plan/compare", json=body)
    problem = response.json()
    assert response.status_code == 422, response.text
    assert problem["error"].startswith(message)
    assert problem["errors"][0]["pointer"] == pointer
    assert PASSWORD not in response.text


def test_all_invalid_fields_are_named(api: TestClient) -> None:
    response = api.post("/plan/compare", json={"until": 1, "event_lookup": 2})
    assert [error["pointer"] for error in response.json()["errors"]] == ["/since", "/until", "/event_lookup"]


def test_too_many_events_are_rejected(
    store: Store, api: TestClient, lookups: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_plans, "MAX_EVENTS", 2)
    store(*[human("nothing")] * 3)
    response = api.post("/plan/compare", json={"since": "1d", "event_lookup": lookups["event_lookup"]})
    expected = "since: expected a period with at most 2 events, found more"
    assert (response.status_code, response.json()["error"]) == (422, expected)


def test_a_comparison_ends_after_the_time_limit(
    store: Store, api: TestClient, lookups: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store(*[human("nothing")] * 200)
    body = {"since": "1d", "event_lookup": lookups["event_lookup"]}
    batches: list[object] = []

    def add_slowly(comparison: PlanComparison, events: list[ReceivedEvent]) -> None:
        batches.append(events)
        time.sleep(0.01)

    with monkeypatch.context() as patch:
        patch.setattr(PlanComparison, "add", add_slowly)
        patch.setattr(compare_plans, "BATCH_SIZE", 1)
        patch.setattr(middleware, "REQUEST_SECONDS", 0.5)
        response = api.post("/plan/compare", json=body)
    assert (response.status_code, response.json()["error"][:20]) == (503, "no result within 0.5")
    assert api.post("/plan/compare", json=body).json()["events"] == 200
    assert 0 < len(batches) < 100


def test_concurrent_comparisons_have_the_same_result(
    store: Store, compare: Compare, lookups: dict[str, Any]
) -> None:
    store(*[human("new_assembly")] * 3)
    changed = {**lookups["event_lookup"], "new_assembly": []}
    with ThreadPoolExecutor(4) as pool:
        comparisons = list(pool.map(lambda _: compare(event_lookup=changed), range(8)))
    assert [comparison["differences"] for comparison in comparisons] == [comparisons[0]["differences"]] * 8


def test_invalid_files_without_a_valid_copy_are_unavailable(
    api: TestClient, lookup_files: dict[str, Path]
) -> None:
    lookup_files["process_lookup"].write_text("{")
    response = api.post("/plan/compare", json={"since": "1d", "event_lookup": EVENTS})
    assert (response.status_code, response.json()["error"][:14]) == (503, "processes.json")


LOOKUP_SHAPES: dict[str, Any] = {
    **{description: {"new_assembly": shape} for description, shape in SHAPES.items()},
    "many objects": {"new_assembly": [{"process": f"p{number}"} for number in range(40_000)]},
    "many equal objects": {"new_assembly": [{"process": "dump_dna"}] * 40_000},
    "many types": {f"t{number}": ["dump_dna"] for number in range(40_000)},
    "many errors": {"new_assembly": [{"process": "dump_dna", "x": number} for number in range(30_000)]},
}


@pytest.mark.parametrize("name", ["event_lookup", "process_lookup"])
@pytest.mark.parametrize("shape", LOOKUP_SHAPES)
def test_a_lookup_of_any_shape_takes_little_time(api: TestClient, name: str, shape: str) -> None:
    body = json.dumps({"since": "1d", name: LOOKUP_SHAPES[shape]}, separators=(",", ":"))
    responses = []
    headers = {"Content-Type": "application/json"}
    post = lambda: api.post("/plan/compare", content=body, headers=headers)  # noqa: E731
    assert measure(lambda: responses.append(post())) < MAX_CPU_SECONDS
    assert responses[0].status_code in (200, 413, 422)


@pytest.mark.parametrize("levels", [100, 400, 900])
def test_a_lookup_of_many_levels_is_rejected(api: TestClient, levels: int) -> None:
    nested = "[" * levels + "]" * levels
    body = f'{{"since": "1d", "event_lookup": {{"new_assembly": [{nested}, {nested}]}}}}'
    response = api.post("/plan/compare", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
