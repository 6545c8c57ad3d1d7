"""The API server registers the pending asset events of the ledger in Airflow's database."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from airflow.listeners import hookimpl
from airflow.listeners.listener import get_listener_manager
from sqlalchemy import create_engine, insert, select
from sqlalchemy.orm import sessionmaker

from event_hooks.api import asset_events
from event_hooks.api.asset_events import register_asset_events
from event_hooks.exceptions import AssetEventsNotRegistered
from event_hooks.ledger.asset_events import has_pending_asset_events
from event_hooks.ledger.database import Ledger
from event_hooks.ledger.processes import store_jobs
from event_hooks.ledger.records import ProcessState
from event_hooks.ledger.tables import asset_event
from event_hooks.runtime import asset_events as runtime
from event_hooks.runtime.asset_events import NewAssetEvent
from tests.integration.ledger.test_asset_events import RUN_ID, accept, finish, plan
from tests.support.airflow_assets import CONSUMER, AirflowAssets
from tools.ports import find_free_port

HOUR = timedelta(hours=1)


class Listener:
    """A listener of Airflow."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    @hookimpl
    def on_asset_event_emitted(self, asset_event: Any) -> None:
        self.events.append(asset_event)


def build_events(*ids: str, asset: str = "event/new_assembly") -> list[NewAssetEvent]:
    return [NewAssetEvent(asset, "process_event", RUN_ID, "route", {"id": event_id}) for event_id in ids]


def list_ids(assets: AirflowAssets) -> list[str]:
    return [event.extra["id"] for event in assets.list_events()]


def test_received_events_and_completed_processes_are_asset_events(
    ledger: Ledger, airflow_assets: AirflowAssets
) -> None:
    airflow_assets.add("event/new_assembly")
    airflow_assets.add("process/dump")
    (event_id,) = accept(ledger, 1)
    plan(ledger, [event_id])
    store_jobs(ledger, {(event_id, "dump"): 7})
    finish(ledger, event_id, ProcessState.COMPLETE)
    register_asset_events(ledger)
    received, completed = airflow_assets.list_events()
    common = {
        "event": event_id,
        "type": "new_assembly",
        "genome": "human",
        "event_id": 0,
        "run_id": RUN_ID,
    }
    assert (received.name, received.extra) == ("event/new_assembly", {"id": str(event_id), **common})
    process = {"process": "dump", "hive": "hive", "job_id": 7}
    assert completed.name == "process/dump"
    assert completed.extra == {"id": f"{event_id}/dump/7/try1", **common, **process}
    assert (received.source_dag_id, received.source_task_id) == ("process_event", "route")
    assert (completed.source_run_id, completed.source_task_id) == (RUN_ID, "dump.wait")
    assert set(airflow_assets.read_queue()) == {CONSUMER}
    assert not has_pending_asset_events(ledger)


def test_an_asset_event_is_not_registered_again_if_the_ledger_lost_its_registration(
    ledger: Ledger, airflow_assets: AirflowAssets
) -> None:
    """As after the loss of the ledger's transaction: the API server was killed after Airflow's commit."""
    airflow_assets.add("event/new_assembly")
    plan(ledger, accept(ledger, 2))
    rows = [row._asdict() for row in ledger.read(select(asset_event))]
    register_asset_events(ledger)
    with ledger.transaction() as connection:
        connection.execute(insert(asset_event), rows)
    register_asset_events(ledger)
    assert len(list_ids(airflow_assets)) == 2
    assert not has_pending_asset_events(ledger)


def test_two_api_servers_with_the_same_events_register_each_once(airflow_assets: AirflowAssets) -> None:
    airflow_assets.add("event/new_assembly")
    events, barrier = build_events(*map(str, range(50))), threading.Barrier(2)

    def register(ordered: Sequence[NewAssetEvent]) -> int:
        barrier.wait()
        return runtime.register(ordered, HOUR)

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(register, (events, events[::-1]))) == [0, 50]
    assert sorted(list_ids(airflow_assets), key=int) == [event.extra["id"] for event in events]


def test_the_next_run_of_a_dag_takes_all_events(airflow_assets: AirflowAssets) -> None:
    """Airflow itself leaves the events after the first one to a later run."""
    airflow_assets.add("event/new_assembly")
    runtime.register(build_events("1", "2"), HOUR)
    runtime.register(build_events("3", "4"), HOUR)
    queued_at = airflow_assets.read_queue()[CONSUMER]
    assert all(event.timestamp <= queued_at for event in airflow_assets.list_events())


def test_an_event_is_in_the_next_run_if_the_scheduler_takes_the_queue_meanwhile(
    airflow_assets: AirflowAssets,
) -> None:
    from airflow.models.asset import AssetDagRunQueue

    airflow_assets.add("event/new_assembly")
    runtime.register(build_events("1"), HOUR)
    table = AssetDagRunQueue.__table__
    with ThreadPoolExecutor(1) as pool:
        with airflow_assets.engine.begin() as scheduler:
            scheduler.execute(select(table).with_for_update(skip_locked=True))
            registration = pool.submit(runtime.register, build_events("2"), HOUR)
            with pytest.raises(TimeoutError):
                registration.result(0.5)
            scheduler.execute(table.delete())
        assert registration.result(10) == 1
    queued_at = airflow_assets.read_queue()[CONSUMER]
    assert queued_at >= airflow_assets.list_events()[-1].timestamp


def test_listeners_of_airflow_get_each_asset_event(airflow_assets: AirflowAssets) -> None:
    airflow_assets.add("event/new_assembly")
    listener = Listener()
    get_listener_manager().add_listener(listener)
    try:
        runtime.register(build_events("1", "2", "3"), HOUR)
    finally:
        get_listener_manager().clear()
    received = {(event.extra["id"], event.source_run_id, event.source_task_id) for event in listener.events}
    assert received == {(event_id, RUN_ID, "route") for event_id in ("1", "2", "3")}
    assert {event.asset.name for event in listener.events} == {"event/new_assembly"}


def test_an_event_of_an_asset_that_no_dag_names_is_dropped(
    ledger: Ledger, airflow_assets: AirflowAssets
) -> None:
    plan(ledger, accept(ledger, 1))
    register_asset_events(ledger)
    assert airflow_assets.list_events() == []
    assert not has_pending_asset_events(ledger)


def test_asset_events_stay_pending_while_airflows_database_is_unavailable(
    ledger: Ledger, airflow_assets: AirflowAssets, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow import settings

    airflow_assets.add("event/new_assembly")
    plan(ledger, accept(ledger, 1))
    with monkeypatch.context() as patch:
        url = f"postgresql+psycopg2://user:secret@127.0.0.1:{find_free_port()}/airflow"
        patch.setattr(settings, "Session", sessionmaker(create_engine(url)))
        with pytest.raises(AssetEventsNotRegistered, match="connection to server") as raised:
            register_asset_events(ledger)
    assert "secret" not in str(raised.value)
    register_asset_events(ledger)
    assert len(list_ids(airflow_assets)) == 1


def test_one_call_registers_a_limited_number(
    ledger: Ledger, airflow_assets: AirflowAssets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asset_events, "MAX_EVENTS", 2)
    airflow_assets.add("event/new_assembly")
    plan(ledger, accept(ledger, 3))
    register_asset_events(ledger)
    assert len(list_ids(airflow_assets)) == 2
    assert has_pending_asset_events(ledger)
