"""What a person may write into the params of collect_events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from event_hooks.collect_events.params import PARAMS, asked

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ONE = datetime(2026, 11, 1, 13, tzinfo=UTC)


def context(**params: Any) -> dict[str, Any]:
    as_it_is = {name: param.value for name, param in PARAMS.items()}
    return {
        "params": {**as_it_is, **params},
        "data_interval_start": NOON,
        "data_interval_end": ONE,
    }


def test_without_params_it_is_the_data_interval() -> None:
    wanted = asked(context())
    assert (wanted.start, wanted.end, wanted.types, wanted.reprocess) == (
        NOON,
        ONE,
        (),
        "none",
    )


def test_a_time_without_a_zone_is_utc() -> None:
    assert asked(context(start="2026-11-01T11:00:00")).start == NOON.replace(hour=11)


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
def test_a_wrong_param_is_named_and_not_tried_again(params: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException) as caught:
        asked(context(**params))
    assert str(caught.value).startswith(message)
