"""A retry of the task ``collect``, and the task without RabbitMQ and without Airflow's API server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from event_hooks.collect_events.collect import collect_window, collect_windows
from event_hooks.collect_events.params import PARAMS, CollectParams
from event_hooks.collect_events.summary import CollectSummary
from event_hooks.events.lookups import Lookups
from event_hooks.exceptions import LedgerUnreachable
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.records import ProcessState
from event_hooks.ledger.reports import count_pending_reports, list_run_reports
from tests.integration.collect_events.stored import NOON, WINDOW, list_stored_events, store_states
from tests.support.practice_metadata import PracticeMetadata

RUN = "collect_events/manual"

Attempt = Callable[..., CollectSummary]


@pytest.fixture
def attempt(ledger: Ledger, event_lookups: Lookups) -> Attempt:
    """A function that makes an attempt of a run's task."""

    def attempt(
        params: CollectParams = WINDOW, run_id: str = RUN, start_run: Callable[[str], Any] = str
    ) -> CollectSummary:
        return collect_windows(ledger, params, event_lookups, run_id, start_run)

    return attempt


def crash(run_id: str) -> None:
    raise LedgerUnreachable("event_ledger", "for a test")


def crash_in_second_run(run_id: str) -> None:
    if "_0001_" in run_id:
        crash(run_id)


def reject_run(run_id: str) -> None:
    raise RuntimeError(f"run {run_id} could not be started")


def test_collecting_succeeds_without_rabbitmq_and_its_report_stays_pending(
    metadata: PracticeMetadata,
    attempt: Attempt,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    event_lookups: Lookups,
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    attempt(run_id="collect_events/earlier")
    monkeypatch.setenv("AIRFLOW_CONN_RABBITMQ_REPORTS", "amqp://127.0.0.1:1/%2F")
    context = {
        "dag": SimpleNamespace(dag_id="collect_events"),
        "dag_run": SimpleNamespace(run_type="manual"),
        "run_id": "manual",
        "params": {name: param.value for name, param in PARAMS.items()},
        "data_interval_start": WINDOW.start,
        "data_interval_end": WINDOW.end,
    }
    assert collect_window(context, event_lookups)["duplicates"] == 1
    assert count_pending_reports(ledger, RUN) == 1


def test_a_retry_reports_the_events_of_the_first_attempt_as_started(
    metadata: PracticeMetadata, attempt: Attempt, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EVENT_HOOKS__COLLECT_BATCH_SIZE", "4")
    metadata.add_collection(10, NOON)
    with pytest.raises(LedgerUnreachable):
        attempt(start_run=crash_in_second_run)
    summary = attempt()
    assert (summary.found, summary.started, summary.duplicates, summary.running) == (10, 10, 0, 10)
    assert sorted(summary.runs) == sorted({str(event.run_id) for event in list_stored_events(ledger)})
    (report,) = list_run_reports(ledger, RUN)
    assert '"started": 10' in report.body["message"]


def test_a_repeated_attempt_has_the_same_counts_and_no_second_report(
    metadata: PracticeMetadata, attempt: Attempt, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    assert attempt() == attempt()
    (event,) = list_stored_events(ledger)
    store_states(ledger, event, dump_peptide=ProcessState.COMPLETE)
    summary = attempt()
    assert (summary.started, summary.succeeded, summary.running) == (1, 1, 0)
    assert len(list_run_reports(ledger, RUN)) == 1


def test_another_run_of_the_same_window_reports_duplicates(
    metadata: PracticeMetadata, attempt: Attempt, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    attempt()
    summary = attempt(run_id="collect_events/other")
    assert (summary.started, summary.duplicates, summary.runs) == (0, 1, [])
    assert len(list_run_reports(ledger, "collect_events/other")) == 1


def test_runs_that_airflow_does_not_start_stay_in_the_ledger_and_fail_nothing(
    metadata: PracticeMetadata,
    attempt: Attempt,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    summary = attempt(start_run=reject_run)
    assert summary.started == 1
    assert summary.runs == [event.run_id for event in list_stored_events(ledger)]
    assert f"Run {summary.runs[0]} is pending until maintain_ledger starts it" in caplog.text


@pytest.mark.parametrize("reprocess", ["failed", "all"])
def test_a_retry_repeats_no_event_a_second_time_and_counts_the_repetitions(
    reprocess: str, metadata: PracticeMetadata, attempt: Attempt, ledger: Ledger
) -> None:
    metadata.add_event(metadata.add_genome("homo_sapiens"), created_at=NOON)
    attempt(run_id="collect_events/earlier")
    params = replace(WINDOW, reprocess=reprocess, reason="new software")
    (event,) = list_stored_events(ledger)
    store_states(ledger, event, dump_peptide=ProcessState.FAILED)
    with pytest.raises(LedgerUnreachable):
        attempt(params, start_run=crash)
    for event in list_stored_events(ledger):
        store_states(ledger, event, dump_peptide=ProcessState.FAILED)
    summary = attempt(params)
    assert (summary.started, summary.reprocessed, summary.duplicates) == (1, 1, 1)
    assert len(list_stored_events(ledger)) == 2
