"""Validation of the params of collect_events."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.sdk.exceptions import AirflowFailException

from event_hooks.collect_events.params import PARAMS, parse_params

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ONE_O_CLOCK = datetime(2026, 11, 1, 13, tzinfo=UTC)


def context(run_type: str = "manual", **params: Any) -> dict[str, Any]:
    defaults = {name: param.value for name, param in PARAMS.items()}
    return {
        "params": {**defaults, **params},
        "data_interval_start": NOON,
        "data_interval_end": ONE_O_CLOCK,
        "dag_run": SimpleNamespace(run_type=run_type),
    }


def test_the_default_window_is_the_data_interval() -> None:
    params = parse_params(context())
    assert (params.start, params.end, params.types, params.reprocess) == (NOON, ONE_O_CLOCK, (), "none")


def test_a_time_without_a_time_zone_is_utc() -> None:
    assert parse_params(context(start="2026-11-01T11:00:00")).start == NOON.replace(hour=11)


@pytest.mark.parametrize("run_type", list(DagRunType))
def test_only_a_scheduled_run_moves_the_high_water_mark(run_type: DagRunType) -> None:
    assert parse_params(context(run_type)).moves_mark == (run_type.value == "scheduled")


@pytest.mark.parametrize(
    "params",
    [
        {"source": "any"},
        {"division": "EnsemblPlants"},
        {"types": ["new_assembly"]},
        {"genome": "homo_*"},
        {"start": "2026-11-01T12:00:00Z"},
        {"end": "2026-11-01T13:00:00Z"},
        {"dry_run": True},
        {"reprocess": "failed"},
    ],
)
def test_a_run_with_params_does_not_move_the_high_water_mark(params: dict[str, Any]) -> None:
    assert not parse_params(context("scheduled", **params)).moves_mark


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"start": "yesterday"}, "start: expected a time, as in 2026-11-01T00:00:00Z, not 'yesterday'"),
        (
            {"start": "2026-11-01T14:00:00Z"},
            "start, end: expected two times, the first before the second",
        ),
        ({"sorce": "any"}, "sorce: expected a param out of source, division, types, genome, start, end, "),
        ({"reprocess": "all", "force": True}, "force, reason: expected both with reprocess: all"),
        ({"reprocess": "all", "reason": "new software"}, "force, reason: expected both with reprocess: all"),
    ],
)
def test_an_invalid_param_fails_without_retry_and_is_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException) as caught:
        parse_params(context(**params))
    assert str(caught.value).startswith(message)
